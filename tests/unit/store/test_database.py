"""The database under bad conditions: other versions, damage, forks, no permission."""

import _sqlite3
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from moldar.errors import CorruptData, HostTrouble, Unsupported
from moldar.store.database import SCHEMA, VERSION, Database, WrongVersion
from moldar.store.home import Home


@pytest.fixture
def home(root: Path) -> Home:
    return Home.open(str(root / "home"))


def test_a_database_of_another_version_is_left_alone(home: Home) -> None:
    Database(home).rows("SELECT 1")
    connection = _sqlite3.connect(home.database)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    with pytest.raises(WrongVersion) as caught:
        Database(home).rows("SELECT 1")
    assert caught.value.version == VERSION + 1


def test_a_database_of_an_older_version_is_brought_up_with_all_it_holds(home: Home) -> None:
    connection = _sqlite3.connect(home.database, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute("INSERT INTO layers VALUES ('old', 7)")
    connection.execute("PRAGMA user_version=1")
    connection.close()
    Database(home).rows("SELECT * FROM cache_inputs")
    new = Database(Home.open(str(Path(home.root).parent / "new")))
    names = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    assert Database(home).rows(names) == new.rows(names)
    assert Database(home).rows("SELECT * FROM layers") == [("old", 7)]
    assert Database(home).row("PRAGMA user_version") == (VERSION,)


def test_a_damaged_database_is_told(home: Home) -> None:
    database = Database(home)
    database.write_many("INSERT INTO layers VALUES (?, 1)", [(f"layer {number}",) for number in range(5000)])
    database.close()
    with open(home.database, "r+b") as file:
        file.seek(4096)
        file.write(os.urandom(100_000))
    with pytest.raises(CorruptData, match=r"moldar\.db"):
        Database(home).rows("SELECT count(*), max(diff_id) FROM layers")


def test_what_is_no_database_is_told(home: Home) -> None:
    Path(home.database).write_text("no database " * 500)
    with pytest.raises(CorruptData, match=r"moldar\.db"):
        Database(home).rows("SELECT 1")


def test_a_transaction_is_all_or_nothing(home: Home) -> None:
    database = Database(home)
    with pytest.raises(KeyError), database.transaction():
        database.write("INSERT INTO layers VALUES ('a', 1)")
        with database.transaction():
            database.write("INSERT INTO layers VALUES ('b', 1)")
        raise KeyError
    assert database.rows("SELECT * FROM layers") == []
    with database.transaction():
        database.write("INSERT INTO layers VALUES ('a', 1)")
    assert database.row("SELECT * FROM layers") == ("a", 1)


def test_a_forked_child_has_a_connection_of_its_own(home: Home) -> None:
    database = Database(home)
    database.write("INSERT INTO layers VALUES ('parent', 1)")
    with database.transaction():
        child = os.fork()
        if not child:
            os._exit(0 if database.row("SELECT count(*) FROM layers") == (1,) else 1)
        assert os.waitpid(child, 0)[1] == 0
        database.write("INSERT INTO layers VALUES ('later', 1)")
    child = os.fork()
    if not child:
        database.write("INSERT INTO layers VALUES ('child', 1)")
        database.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert database.row("SELECT count(*) FROM layers") == (3,)


def test_threads_write_at_once(home: Home) -> None:
    database = Database(home)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for count in range(50):
                with database.transaction():
                    database.write("INSERT INTO layers VALUES (?, 1)", (f"{number}-{count}",))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert database.row("SELECT count(*) FROM layers") == (400,)


def test_a_place_where_no_store_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostTrouble, match="file"):
        Home.open(str(tmp_path / "file" / "home"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(Unsupported, match="other"):
        Home.open(str(tmp_path / "other"))


def test_a_layout_of_another_tool_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}\n')
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    home = Home.open(str(tmp_path))
    Database(home).rows("SELECT 1")


def test_the_store_imports_little() -> None:
    """A cached build pays for every import."""
    program = """
import sys
before = set(sys.modules)
import moldar.store.blobs, moldar.store.database, moldar.store.home, moldar.store.images, moldar.store.layers
import moldar.store.cache, moldar.store.stat_index, moldar.store.leases, moldar.store.builds, moldar.store.layout
heavy = set(
    "sqlite3 dataclasses pathlib tempfile subprocess shutil inspect asyncio urllib concurrent.futures ssl http isal "
    "zstandard tarfile logging ctypes uuid random datetime".split()
)
print(*sorted((set(sys.modules) - before) & heavy))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"

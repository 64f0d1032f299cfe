"""The hub's database: connections, transactions, and a number that tells when anything changed.

The services are plain synchronous functions over SQLAlchemy's core. SQLite answers a point query in tens of
microseconds, less than a hop to another thread costs, so the server reads inline and writes in threads; a database
across a network would be read in threads too, through the same services. Writes take turns: a lock within the
process, `BEGIN IMMEDIATE` between processes.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError

from moldar.errors import CorruptData, HostTrouble

_BUSY_SECONDS = 30


class Database:
    """One database of a hub. Threads may share it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _make_engine(url)
        self._turn = threading.Lock()
        self._observer: sqlite3.Connection | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view for the length of the block."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """A transaction, committed when the block ends well and undone when it raises.

        `durable`: it also survives a loss of power; without, it survives the death of the process, and becomes
        durable together with the next transaction that is. Raises HostTrouble when the disk is full.
        """
        with self._turn, self.engine.connect() as connection:
            connection = connection.execution_options(moldar_writes=True, moldar_durable=durable)
            try:
                with connection.begin():
                    yield connection
            except OperationalError as error:
                raise _translated(error) from error

    def generation(self) -> int:
        """A number that differs from an earlier one when anything was committed in between, by any process."""
        if self._observer is None:
            self._observer = _open_observer(self.engine)
        row = self._observer.execute("PRAGMA data_version").fetchone()
        return int(row[0])

    def close(self) -> None:
        if self._observer is not None:
            self._observer.close()
            self._observer = None
        self.engine.dispose()


def _make_engine(url: str) -> Engine:
    engine = create_engine(url, pool_size=8, max_overflow=32)
    if engine.dialect.name != "sqlite":
        return engine
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _record: Any) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={_BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "cache_size=-16384",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("moldar_writes"):
        connection.exec_driver_sql("BEGIN")
        return
    # In WAL, FULL adds one fsync to the commit, which also carries every earlier commit to the disk.
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('moldar_durable') else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_observer(engine: Engine) -> sqlite3.Connection:
    if engine.dialect.name != "sqlite" or not engine.url.database:
        raise HostTrouble("only SQLite can be watched for changes yet")
    connection = sqlite3.connect(engine.url.database, check_same_thread=False, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000}")
    return connection


def _translated(error: OperationalError) -> Exception:
    if isinstance(error.orig, sqlite3.OperationalError):
        name = getattr(error.orig, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            return HostTrouble("no space left for the hub's database")
        if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
            return CorruptData("the hub's database is damaged")
    return error


def new_id(result: CursorResult[Any]) -> int:
    """The number that an insert was given."""
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def make_private_directory(path: str) -> None:
    """Makes `path`, readable by its owner only; HostTrouble when that cannot be."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostTrouble(f"cannot make the directory {path}: {error.strerror}") from error

"""The database as one SQLite file, for one server and the commands beside it.

SQLite answers a point query in tens of microseconds, less than a hop to another thread costs, so the server reads
inline and writes in threads. Writes take turns: a lock within the process, `BEGIN IMMEDIATE` between processes.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import OperationalError

from moldar.errors import CorruptData, HostTrouble
from moldar.hub.data.database import Database

_BUSY_SECONDS = 30


class SqliteDatabase(Database):
    """See Database. Every writer is alone here."""

    is_remote = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.engine = _make_engine(url)
        self._turn = threading.Lock()
        self._observer: sqlite3.Connection | None = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True, alone: bool = True) -> Iterator[Connection]:
        with self._turn, self.engine.connect() as connection:
            connection = connection.execution_options(moldar_writes=True, moldar_durable=durable)
            try:
                with connection.begin():
                    yield connection
            except OperationalError as error:
                raise _translated(error) from error

    def generation(self) -> int:
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
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: DBAPIConnection, _record: Any) -> None:
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


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("moldar_writes"):
        connection.exec_driver_sql("BEGIN")
        return
    # In WAL, FULL adds one fsync to the commit, which also carries every earlier commit to the disk.
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get('moldar_durable') else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_observer(engine: Engine) -> sqlite3.Connection:
    if not engine.url.database:
        raise HostTrouble("a database in memory cannot be watched for changes")
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

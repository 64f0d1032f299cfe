"""The one SQLite database: connection, schema, versions. What the rows mean is each table module's business.

WAL lets readers and one writer work at once; synchronous=NORMAL loses at most the last commits when the power
fails, never consistency. `_sqlite3` is imported and not `sqlite3`: the latter is the same module with date adapters
in Python around it, which pull in `datetime` and take 1.7 ms more of a start-up (13.2 against 14.9 ms, the bare
interpreter 8.6). It has been there, under this name, in every Python 3.
"""

import _sqlite3
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from moldar.errors import CorruptData, HostTrouble, Unsupported
from moldar.store.home import Home

BUSY_SECONDS = 60.0
SCHEMA = """
CREATE TABLE images (
    id TEXT PRIMARY KEY, created REAL NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE tags (
    name TEXT PRIMARY KEY, repository TEXT NOT NULL, tag TEXT NOT NULL, image TEXT NOT NULL, manifest TEXT,
    updated REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX tags_image ON tags (image);
CREATE TABLE manifests (
    digest TEXT PRIMARY KEY, image TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX manifests_image ON manifests (image);
CREATE TABLE repository_digests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, image TEXT NOT NULL, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX repository_digests_image ON repository_digests (image);
CREATE TABLE layers (diff_id TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    level INTEGER NOT NULL, PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID;
CREATE INDEX layer_blobs_digest ON layer_blobs (digest);
CREATE TABLE snapshots (key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, created REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE cache (
    key TEXT PRIMARY KEY, step TEXT NOT NULL, layers TEXT NOT NULL, identity TEXT NOT NULL, parts TEXT NOT NULL,
    created REAL NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_step ON cache (step, created);
CREATE TABLE files (
    device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL, digest BLOB NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (device, inode)
) WITHOUT ROWID;
CREATE TABLE downloads (
    url TEXT PRIMARY KEY, digest TEXT NOT NULL, etag TEXT NOT NULL, last_modified TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL, created REAL NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE builds (
    id TEXT PRIMARY KEY, started REAL NOT NULL, ended REAL, context TEXT NOT NULL, target TEXT NOT NULL,
    image TEXT NOT NULL, error TEXT NOT NULL, document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX builds_started ON builds (started);
CREATE TABLE leases (lease TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (lease, kind, key))
    WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
"""Version 1. What came later is in MIGRATIONS."""
MIGRATIONS = (
    """
CREATE INDEX cache_identity ON cache (identity);
CREATE TABLE cache_inputs (digest TEXT PRIMARY KEY, kind TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE evictions (
    key TEXT PRIMARY KEY, evicted REAL NOT NULL, cause TEXT NOT NULL, amount REAL NOT NULL
) WITHOUT ROWID;
""",
    """
CREATE TABLE read_sets (
    step TEXT NOT NULL, record TEXT NOT NULL, data BLOB NOT NULL, used REAL NOT NULL, PRIMARY KEY (step, record)
) WITHOUT ROWID;
CREATE INDEX read_sets_record ON read_sets (record);
""",
)
"""MIGRATIONS[n] leads from version n + 1 to version n + 2. What has been released is never changed, only added to."""
VERSION = 1 + len(MIGRATIONS)


class WrongVersion(Unsupported):
    """The database was written by another version of this program."""

    def __init__(self, path: str, version: int) -> None:
        super().__init__(
            f"{path} is of version {version}, and this program knows version {VERSION}",
            hint="use the program that wrote it, or another MOLDAR_HOME",
        )
        self.version = version


class Database:
    """Connections to the database of one home, one for each thread that asks, opened when first needed.

    A forked child opens its own: SQLite's connections do not survive a fork. Every method raises HostTrouble when the
    machine fails us (no space, no permission, locked for a minute), CorruptData when the file is damaged.
    """

    def __init__(self, home: Home) -> None:
        self._path = home.database
        self._local = threading.local()
        self._inherited: list[Any] = []  # a parent's connections, which a forked child must not even close

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with _translated(self._path):
            rows: list[tuple[Any, ...]] = self._connection().execute(sql, parameters).fetchall()
            return rows

    def row(self, sql: str, parameters: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        with _translated(self._path):
            row: tuple[Any, ...] | None = self._connection().execute(sql, parameters).fetchone()
            return row

    def write(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """One statement in its own transaction; the number of rows that it changed."""
        with _translated(self._path):
            return int(self._connection().execute(sql, parameters).rowcount)

    def write_many(self, sql: str, parameters: Sequence[Sequence[object]]) -> None:
        """One statement for each of `parameters`, in one transaction."""
        with self.transaction(), _translated(self._path):
            self._connection().executemany(sql, parameters)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several statements of this thread, all or none. Takes the write lock at once; may be nested."""
        connection = self._connection()
        if connection.in_transaction:
            yield
            return
        with _translated(self._path):
            connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with _translated(self._path):
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk makes SQLite roll back by itself
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            if self._local.process == os.getpid():
                connection.close()

    def _connection(self) -> Any:
        local = self._local
        connection = getattr(local, "connection", None)
        if connection is None or local.process != os.getpid():
            if connection is not None:
                self._inherited.append(connection)
            with _translated(self._path):
                connection = local.connection = _connect(self._path)
            local.process = os.getpid()
        return connection


def _connect(path: str) -> Any:
    connection = _sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < VERSION:
            _upgrade(connection, path)
        elif version > VERSION:
            raise WrongVersion(path, version)
        connection.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _upgrade(connection: Any, path: str) -> None:
    """Bring a new or older database to our version, in one transaction.

    One process does it, because SQLite does not wait for a lock while it changes to WAL.
    """
    with open(f"{path}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < VERSION:  # else another process was quicker
            for script in (SCHEMA, *MIGRATIONS)[version:]:
                for statement in script.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except _sqlite3.OperationalError as error:
        full = error.sqlite_errorname == "SQLITE_FULL"
        hint = "free some space: `moldar system df` shows what the store holds" if full else ""
        raise HostTrouble(f"cannot use the database {path}: {error}", hint=hint) from error
    except OSError as error:
        raise HostTrouble(f"cannot use the database {path}: {error.strerror}") from error
    except _sqlite3.DatabaseError as error:
        if isinstance(error, _sqlite3.IntegrityError):
            raise
        raise CorruptData(f"the database {path} is damaged: {error}") from error

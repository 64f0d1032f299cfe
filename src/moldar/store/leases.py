"""Leases: what a running process needs is safe from the garbage collector.

A lease is a file in `leases/` that its process holds locked, and rows that name what it protects. The kernel lets
go of the lock when the process ends in whatever way, so a lease never outlives its process (nor the children that it
forked). It protects in two ways. Whatever came into the store since the oldest living lease began is never collected,
so a process takes its lease before it writes anything. And for what was there before, rows are written before the
process relies on it; the collector decides inside a write transaction, so it either sees the row or has removed the
thing before the process looks.
"""

import fcntl
import os
import time
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from moldar.errors import HostTrouble
from moldar.store.database import Database
from moldar.store.home import Home

FOREVER = 1 << 63
"""A time that nothing is newer than."""
_NEW = ".new-"
_NEW_SECONDS = 60.0


class Lease:
    """The lease of this process; a context manager. Methods may be called from any thread."""

    def __init__(self, home: Home, database: Database) -> None:
        self._database = database
        self._process = os.getpid()
        self.id = f"{self._process}-{os.urandom(6).hex()}"
        self._path = f"{home.leases}/{self.id}"
        unlocked = f"{home.leases}/{_NEW}{self.id}"
        try:
            self._fd = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            os.rename(unlocked, self._path)  # nobody sees it under its name before it is locked
        except OSError as error:
            raise HostTrouble(f"cannot write {unlocked}: {error.strerror}") from error

    def protect(self, kind: str, keys: Iterable[str]) -> None:
        """Keep `keys` from now on. `kind`: blob, snapshot, layer (a diff ID in all its forms) or image (with
        all that it is made of). HostTrouble.
        """
        rows = [(self.id, kind, key) for key in keys]
        if len(rows) == 1:
            self._database.write("INSERT OR IGNORE INTO leases VALUES (?, ?, ?)", rows[0])
        elif rows:
            self._database.write_many("INSERT OR IGNORE INTO leases VALUES (?, ?, ?)", rows)

    def release(self) -> None:
        """Give everything back."""
        if self._fd < 0:
            return
        if self._process != os.getpid():  # a forked child leaves it to its parent
            os.close(self._fd)
            self._fd = -1
            return
        try:
            if self._database.row("SELECT 1 FROM leases WHERE lease = ? LIMIT 1", (self.id,)):
                self._database.write("DELETE FROM leases WHERE lease = ?", (self.id,))
        except HostTrouble:
            pass  # the disk is full: without its file the rows mean nothing, and the collector forgets them
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # somebody removed the whole store
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Leases(NamedTuple):
    """The leases of running processes, with when they began, and the names of those whose process is gone.

    Times are in nanoseconds since the epoch, by the clock of the store's file system.
    """

    began: Mapping[str, int]
    dead: frozenset[str]

    @property
    def alive(self) -> Collection[str]:
        return self.began.keys()


def survey(home: Home) -> Leases:
    """All leases of the home as they are now."""
    began: dict[str, int] = {}
    dead: set[str] = set()
    for name in _settled(os.listdir(home.leases)):
        try:
            fd = os.open(f"{home.leases}/{name}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not name.startswith(_NEW) or os.fstat(fd).st_mtime < time.time() - _NEW_SECONDS:
                dead.add(name)  # else it is about to be locked
        except BlockingIOError:
            began[name] = os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)
    return Leases(began, frozenset(dead))


def _settled(names: list[str]) -> list[str]:
    """The names, and after each unfinished one the name that it may have got since it was listed."""
    return names + [name.removeprefix(_NEW) for name in names if name.startswith(_NEW)]


def living(home: Home) -> tuple[set[str], set[str]]:
    """The leases of running processes, and those whose process is gone."""
    leases = survey(home)
    return set(leases.alive), set(leases.dead)

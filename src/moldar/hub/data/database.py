"""The hub's database: connections, transactions, and a number that tells when anything changed.

The services are plain synchronous functions over SQLAlchemy's core. What they may rely on is said here and holds for
SQLite and PostgreSQL alike: a transaction that writes is alone, unless it says that it need not be.
"""

import os
import threading
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Connection, CursorResult, Table
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from moldar.errors import HostTrouble


class Database(ABC):
    """One database of a hub. Threads may share it.

    `is_remote`: its answers come over a network, so that the server should not wait for them, and other hubs may
    serve the same registry.
    """

    is_remote: bool

    def __init__(self, url: str) -> None:
        self.url = url
        self._held: set[str] = set()
        self._holding = threading.Lock()

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """A consistent view for the length of the block."""

    @abstractmethod
    def writing(self, *, durable: bool = True, alone: bool = True) -> AbstractContextManager[Connection]:
        """A transaction, committed when the block ends well and undone when it raises.

        `durable`: it also survives a loss of power; without, it survives the death of the process, and becomes
        durable together with the next transaction that is. `alone`: no other transaction writes meanwhile, in any
        process; False for changes that need not be kept apart from others, only from those that are alone.
        Raises HostTrouble when the disk is full.
        """

    @abstractmethod
    def generation(self) -> int:
        """A number that differs from an earlier one when anything was committed in between, by any process."""

    @abstractmethod
    def close(self) -> None: ...

    async def close_in_loop(self) -> None:  # noqa: B027 - most have nothing to do
        """Gives back what belongs to the running event loop."""

    def try_hold(self, name: str) -> bool:
        """Takes hold of `name` among all processes that share the database; False while somebody else has it.

        A hold ends with `let_go` or the process.
        """
        with self._holding:
            if name in self._held:
                return False
            self._held.add(name)
            return True

    def let_go(self, name: str) -> None:
        with self._holding:
            self._held.discard(name)


def inserting(connection: Connection, table: Table) -> Any:
    """An INSERT that may say what to do about a row that is there (`on_conflict_…`): each dialect has its own."""
    return (postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert)(table)


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

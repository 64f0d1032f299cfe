"""The database on PostgreSQL, which several hubs share.

Writers take turns as they do on SQLite, so that the services need not know the difference: an advisory lock of the
transaction, taken alone or shared. A request on the event loop has connections of its own kind, for which it waits
in its greenlet (see `hub.waiting`); threads have theirs.

What changed is told by PostgreSQL's own snapshot: two equal ones see the same transactions, whoever committed them.
A hub asks for it once for all requests that came in meanwhile, and every request asks: what one hub commits counts at
once for whatever the others are asked afterwards.
"""

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as NoFreeConnection

from moldar.errors import HostTrouble
from moldar.hub.data.database import Database
from moldar.hub.refusals import Unavailable
from moldar.hub.waiting import may_leave, this_request, wait_for

_CONNECTIONS = 8
_MORE_CONNECTIONS = 8
_CONNECT_SECONDS = 5
_JUDGED_SECONDS = 1.0
_TURN = "(19788, 1)"
"""The advisory lock of writers: any two numbers that nobody else uses in this database."""
_SNAPSHOT = "SELECT pg_current_snapshot()::text"
_SESSION = {
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",  # a hub that froze gives the writers' lock back
    "tcp_keepalives_idle": "30",  # and one whose machine is gone its holds
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_FULL = "53100"
_BUSY = ("40001", "40P01", "53200", "53300", "55P03")


class PostgresDatabase(Database):
    """See Database."""

    is_remote = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        engine = create_engine(url, connect_args=_connect_arguments(), **_POOL)
        self._threads = _Engines(engine)
        self._loop: _Engines | None = None
        self._watch = _Watch(url)
        self._numbers = _Numbers()
        self._judged: WeakKeyDictionary[Any, tuple[float, int]] = WeakKeyDictionary()
        self._holder: Any = None
        self._held_keys: set[int] = set()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with _translating(), self._engines().reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = True, alone: bool = True) -> Iterator[Connection]:
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        lazily = "" if durable else ", set_config('synchronous_commit', 'off', true)"
        with _translating(), self._engines().writer.connect() as connection, connection.begin():
            connection.exec_driver_sql(f"SELECT {lock}{_TURN}{lazily}")
            yield connection

    def generation(self) -> int:
        request = this_request()
        if request is None:
            with _translating(), self._threads.asker.connect() as connection:
                return self._numbers.number(str(connection.exec_driver_sql(_SNAPSHOT).scalar_one()))
        now = time.monotonic()
        judged = self._judged.get(request)
        if judged is None or now - judged[0] > _JUDGED_SECONDS:
            judged = (now, self._numbers.number(wait_for(self._watch.snapshot())))
            self._judged[request] = judged
        return judged[1]

    def try_hold(self, name: str) -> bool:
        if not super().try_hold(name):
            return False
        try:
            with self._holding, _translating():
                if self._lock(_key(name)):
                    return True
        except BaseException:
            super().let_go(name)
            raise
        super().let_go(name)
        return False

    def let_go(self, name: str) -> None:
        with self._holding:
            self._held_keys.discard(_key(name))
            try:
                if self._holder is not None:
                    self._holder.execute("SELECT pg_advisory_unlock(%s)", (_key(name),))
            except _driver().Error:  # the connection is gone, and the lock with it
                self._holder.close()
        super().let_go(name)

    def close(self) -> None:
        self._threads.writer.dispose()
        with self._holding:
            if self._holder is not None:
                self._holder.close()

    async def close_in_loop(self) -> None:
        await self._watch.close()
        if self._loop is not None:
            engine, self._loop = self._loop.asynchronous, None
            await engine.dispose()

    def _engines(self) -> "_Engines":
        if not may_leave():
            return self._threads
        if self._loop is None:
            from sqlalchemy.ext.asyncio import create_async_engine

            engine = create_async_engine(self.url, connect_args=_connect_arguments(), **_POOL)
            self._loop = _Engines(engine.sync_engine, engine)
        return self._loop

    def _lock(self, key: int) -> bool:
        """Takes the session's lock `key`. After a broken connection, those first that were held before."""
        try:
            taken = self._lock_here(key)
        except _driver().OperationalError:  # the server may have restarted
            if self._holder is not None:
                self._holder.close()
            taken = self._lock_here(key)
        if taken:
            self._held_keys.add(key)
        return taken

    def _lock_here(self, key: int) -> bool:
        if self._holder is None or self._holder.closed:
            self._holder = _driver().connect(**_driver_arguments(self.url), autocommit=True)
            for held in self._held_keys:
                self._holder.execute("SELECT pg_try_advisory_lock(%s)", (held,))
        row = self._holder.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
        return bool(row and row[0])


class _Engines:
    """One pool of connections, for those who write, who read, and who ask for a snapshot."""

    def __init__(self, engine: Engine, asynchronous: Any = None) -> None:
        self.asynchronous = asynchronous
        self.writer = engine
        self.reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.asker = engine.execution_options(isolation_level="AUTOCOMMIT")
        event.listen(engine, "before_cursor_execute", _without_nul, retval=True)


class _Numbers:
    """A number for each snapshot that differs from the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = ""
        self._number = 0

    def number(self, snapshot: str) -> int:
        with self._lock:
            if snapshot != self._last:
                self._last = snapshot
                self._number += 1
            return self._number


class _Watch:
    """Asks for snapshots on the event loop: one question for all who came while the last one was on its way."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None
        self._running: asyncio.Task[str] | None = None
        self._next: asyncio.Task[str] | None = None

    async def snapshot(self) -> str:
        """A snapshot taken after the call. Raises Unavailable."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._ask_after(self._running))
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def _ask_after(self, running: asyncio.Task[str] | None) -> str:
        if running is not None:
            await asyncio.wait({running})
        self._running, self._next = self._next, None  # who comes from now on needs a later answer
        try:
            return await self._ask()
        except _driver().Error:
            await self.close()
        try:
            return await self._ask()
        except _driver().Error as error:
            raise _unavailable() from error

    async def _ask(self) -> str:
        if self._connection is None or self._connection.closed:
            arguments = _driver_arguments(self._url)
            self._connection = await _driver().AsyncConnection.connect(**arguments, autocommit=True)
        cursor = await self._connection.execute(_SNAPSHOT)
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0])


_POOL: dict[str, Any] = {
    "pool_size": _CONNECTIONS,
    "max_overflow": _MORE_CONNECTIONS,
    "pool_pre_ping": True,  # the server may have restarted; a round trip is cheaper than an error
}


def _driver() -> Any:
    """psycopg, imported when it is needed: a hub on SQLite does without its time and memory."""
    import psycopg

    return psycopg


def _connect_arguments() -> dict[str, Any]:
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    return {"connect_timeout": _CONNECT_SECONDS, "options": options}


def _driver_arguments(url: str) -> dict[str, Any]:
    parsed = make_url(url)
    dialect = parsed.get_dialect()()
    _, arguments = dialect.create_connect_args(parsed)
    return {**arguments, **_connect_arguments()}


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _without_nul(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> Any:
    """What clients send may hold a NUL, which PostgreSQL's text cannot."""
    rows = [_clean(row) for row in parameters] if many else _clean(parameters)
    return statement, rows


def _clean(row: Any) -> Any:
    if isinstance(row, dict):
        return {name: _clean_value(value) for name, value in row.items()}
    return type(row)(_clean_value(value) for value in row) if isinstance(row, (tuple, list)) else row


def _clean_value(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except NoFreeConnection as error:
        raise Unavailable("the hub's database is busy") from error
    except DBAPIError as error:
        translated = _translated(error.orig, error.connection_invalidated)
        if translated is None:
            raise
        raise translated from error
    except _driver().Error as error:
        translated = _translated(error, False)
        if translated is None:
            raise
        raise translated from error


def _translated(error: BaseException | None, is_gone: bool) -> HostTrouble | None:
    if not isinstance(error, _driver().Error):
        return _unavailable() if is_gone else None
    state = error.sqlstate or ""
    if state == _FULL:
        return HostTrouble("no space left for the hub's database")
    if state in _BUSY:
        return Unavailable("the hub's database is busy")
    if is_gone or state.startswith(("57P", "08", "25P")) or state == "25006":
        return _unavailable()
    if isinstance(error, _driver().OperationalError) and not state:
        return _unavailable()
    return None


def _unavailable() -> Unavailable:
    return Unavailable("the hub's database does not answer")

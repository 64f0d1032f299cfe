"""Lets plain functions wait for a network without holding up the event loop that calls them.

The services are synchronous. On SQLite and files that is the fastest way, because nothing waits. A database or a
storage across a network does wait, and then every request runs in a greenlet: where a service waits, the greenlet is
left until the answer is there, and other requests go on. Nothing between the server and the place that waits, neither
handlers nor services, needs to know. It is how SQLAlchemy's own asyncio extension works, with one more step: not a
function but the whole coroutine of a request is driven within the greenlet.

Two rules follow. No lock of a thread may be held where a service waits. And what one request read may have changed
after any call of a service, not only after an `await`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor
from typing import Any, TypeVar

from greenlet import getcurrent
from sqlalchemy.util.concurrency import await_only, greenlet_spawn, in_greenlet

from moldar.hub.exchange import Receive, Scope, Send

T = TypeVar("T")
Application = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


def waiting_requests(application: Application) -> Application:
    """`application`, with each of its requests in a greenlet."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await greenlet_spawn(_drive, application(scope, receive, send))

    return wrapped


def may_leave() -> bool:
    """Whether the caller runs in a request's greenlet on an event loop, and not in a thread of its own."""
    return bool(in_greenlet())


def this_request() -> object | None:
    """Something that stands for the request whose greenlet calls; None elsewhere."""
    return getcurrent() if in_greenlet() else None


def wait_for(awaitable: Awaitable[T]) -> T:
    """The result of `awaitable`; other requests go on meanwhile. Only where `may_leave`."""
    return await_only(awaitable)


def aside(executor: Executor, function: Callable[..., T], *args: Any) -> T:
    """What `function` returns: called in a thread of `executor` when a request's greenlet asks, at once elsewhere."""
    if not may_leave():
        return function(*args)
    return wait_for(asyncio.get_running_loop().run_in_executor(executor, function, *args))


class _PassedOn:
    """Hands to the event loop what a driven coroutine waits for."""

    def __init__(self, waited_for: Any) -> None:
        self._waited_for = waited_for

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._waited_for)


def _drive(coroutine: Coroutine[Any, Any, None]) -> None:
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            waited_for = step(value)
        except StopIteration:
            return
        try:
            value, step = await_only(_PassedOn(waited_for)), coroutine.send
        except BaseException as error:  # also a cancellation: it belongs to the coroutine
            value, step = error, coroutine.throw

"""Plain functions that wait in the greenlet of a request: others go on, and errors arrive where they belong."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from moldar.hub.exchange import Receive, Scope, Send
from moldar.hub.waiting import aside, may_leave, this_request, waiting_requests


async def nothing(*_: object) -> dict[str, str]:
    return {"type": "http.request"}


def slowly(seconds: float, value: int) -> int:
    time.sleep(seconds)
    if value < 0:
        raise ValueError(value)
    return value


def test_requests_wait_side_by_side() -> None:
    threads = ThreadPoolExecutor(8)
    seen: list[int] = []
    places: set[object] = set()

    def service(number: int) -> Iterator[int]:
        for part in range(3):
            yield aside(threads, slowly, 0.05, number + part)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert may_leave()
        places.add(this_request())
        await receive()
        async with asyncio.timeout(5):
            seen.append(sum(service(scope["number"])))
        await asyncio.sleep(0)

    async def run() -> None:
        wrapped = waiting_requests(application)
        await asyncio.gather(*(wrapped({"number": number}, nothing, nothing) for number in range(8)))

    started = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started < 0.9  # one after the other it would take 1.2 seconds
    assert sorted(seen) == [3 * number + 3 for number in range(8)]
    assert len(places) == 8
    assert not may_leave()
    assert aside(threads, slowly, 0, 7) == 7
    threads.shutdown()


def test_errors_and_cancellations() -> None:
    threads = ThreadPoolExecutor(1)
    ended: list[str] = []

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            aside(threads, slowly, 0, -1)
        except ValueError:
            ended.append("caught")
        raise KeyError("ours")

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["by"] == "awaiting":
                await asyncio.sleep(30)
            aside(threads, slowly, 0.3, 1)
        finally:
            ended.append(scope["by"])

    async def run() -> None:
        with pytest.raises(KeyError):
            await waiting_requests(failing)({}, nothing, nothing)
        for by in ("awaiting", "aside"):
            task = asyncio.ensure_future(waiting_requests(long)({"by": by}, nothing, nothing))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert ended == ["caught", "awaiting", "aside"]
    threads.shutdown()

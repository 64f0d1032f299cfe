"""Sends what the outbox holds: claims, sends, writes down how it went, tries again later, and keeps the log short.

A claim moves a delivery's `due` into the future, in a transaction: of several processes one gets it, and when that
one dies the delivery comes due again. So every event is delivered at least once, and a receiver may see one twice,
with the same delivery id. A hook gets one delivery at a time, so that a slow receiver holds up nobody else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError

from moldar.errors import MoldarError
from moldar.hub.addresses import Network
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database
from moldar.hub.data.schema import WEBHOOK_DELIVERIES, WEBHOOKS
from moldar.hub.metrics import Metrics
from moldar.hub.registry.events import DELIVERED, FAILED, WAITING, Outbox
from moldar.hub.webhooks.sending import Letter, Outcome, send

ATTEMPTS = 7
LOG_LENGTH = 50
"""How many ended deliveries of a hook are kept."""
BACKLOG = 1000
"""How many deliveries of a hook may wait; the oldest ones beyond that fail."""
_LONGEST_PAUSE = 6 * 3600
_AT_ONCE = 8
_POLL_SECONDS = 2.0
_GONE = 410
_LOG = logging.getLogger("moldar.hub")
InThread = Callable[..., Awaitable[Any]]


class Claimed(NamedTuple):
    """A delivery that is ours to make. `attempts`: this one included."""

    id: int
    hook: int
    attempts: int
    letter: Letter


class Courier:
    """Delivers for one process, within its event loop. `in_thread`: how to call what waits for the database."""

    def __init__(
        self, database: Database, outbox: Outbox, clock: Clock, metrics: Metrics, *, in_thread: InThread
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock
        self._metrics = metrics
        self._in_thread = in_thread
        self._sending: dict[asyncio.Task[None], Claimed] = {}

    async def run(self, networks: Sequence[Network], *, timeout: float, pause: int) -> None:
        """Delivers until cancelled. `timeout` for each try and the first `pause` between two, in seconds."""
        news = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._outbox.on_event = lambda: _wake(loop, news)
        try:
            while True:
                news.clear()
                if not await self._start(networks, timeout, pause, news):
                    await _either(news, _POLL_SECONDS)
        finally:
            unsent = list(self._sending.values())
            for task in self._sending:
                task.cancel()
            self._give_back(unsent)

    async def _start(self, networks: Sequence[Network], timeout: float, pause: int, news: asyncio.Event) -> bool:
        """Starts sending what is due; whether there was anything."""
        busy = [claimed.hook for claimed in self._sending.values()]
        if len(busy) >= _AT_ONCE:
            return False
        try:
            found = await self._in_thread(self._claim, busy, _AT_ONCE - len(busy), int(timeout) + 5)
        except (MoldarError, SQLAlchemyError) as error:
            _LOG.error("cannot look for webhook deliveries: %s", error)
            return False
        for claimed in found:
            task = asyncio.create_task(self._deliver(claimed, networks, timeout, pause))
            self._sending[task] = claimed
            task.add_done_callback(lambda done: self._ended(done, news))
        return bool(found)

    def _ended(self, task: asyncio.Task[None], news: asyncio.Event) -> None:
        self._sending.pop(task, None)
        news.set()

    async def _deliver(self, claimed: Claimed, networks: Sequence[Network], timeout: float, pause: int) -> None:
        outcome = await send(claimed.letter, networks, timeout)
        try:
            await self._in_thread(self._write_down, claimed, outcome, pause)
        except (MoldarError, SQLAlchemyError) as error:  # it comes due again, and the receiver sees it twice
            _LOG.error("cannot note webhook delivery %s: %s", claimed.letter.key, error)

    def _claim(self, busy: Sequence[int], limit: int, lease: int) -> list[Claimed]:
        now = self._clock()
        rows = WEBHOOK_DELIVERIES.c
        first = (
            select(func.min(rows.id))
            .where(rows.state == WAITING, rows.due <= now, rows.webhook_id.not_in(busy))
            .group_by(rows.webhook_id)
            .order_by(func.min(rows.due))
            .limit(limit)
        )
        with self._database.reading() as connection:  # an idle hub writes nothing
            due = list(connection.execute(first).scalars())
        if not due:
            return []
        query = (
            select(WEBHOOK_DELIVERIES, WEBHOOKS.c.url, WEBHOOKS.c.secret)
            .join(WEBHOOKS, WEBHOOKS.c.id == rows.webhook_id)
            .where(rows.id.in_(due), rows.state == WAITING, rows.due <= now)
            .with_for_update(of=WEBHOOK_DELIVERIES, skip_locked=True)
        )
        with self._database.writing(durable=False) as connection:
            found = [
                Claimed(
                    row.id,
                    row.webhook_id,
                    row.attempts + 1,
                    Letter(row.url, row.secret, row.event, row.uuid, row.payload.encode()),
                )
                for row in connection.execute(query)
            ]
            values = {"due": now + lease, "attempts": rows.attempts + 1}
            ours = rows.id.in_([claimed.id for claimed in found])
            connection.execute(update(WEBHOOK_DELIVERIES).where(ours).values(values))
        return found

    def _write_down(self, claimed: Claimed, outcome: Outcome, pause: int) -> None:
        now = self._clock()
        values: dict[str, Any] = outcome._asdict()
        if not outcome.error:
            values["state"] = DELIVERED
        elif claimed.attempts >= ATTEMPTS or outcome.status == _GONE:
            values["state"] = FAILED
        else:
            values["due"] = now + min(pause * 6 ** (claimed.attempts - 1), _LONGEST_PAUSE)
        this = WEBHOOK_DELIVERIES.c.id == claimed.id
        with self._database.writing(durable=False) as connection:
            connection.execute(update(WEBHOOK_DELIVERIES).where(this).values(values))
            for statement in shortening(claimed.hook):
                connection.execute(statement)
        self._metrics.count("webhook_deliveries", values.get("state", "retried"))

    def _give_back(self, unsent: Sequence[Claimed]) -> None:
        """Deliveries that a stopping hub did not end are due at once for the next one."""
        if not unsent:
            return
        rows = WEBHOOK_DELIVERIES.c
        these = rows.id.in_([claimed.id for claimed in unsent]) & (rows.state == WAITING)
        values = {"due": self._clock(), "attempts": rows.attempts - 1}
        with self._database.writing(durable=False) as connection:
            connection.execute(update(WEBHOOK_DELIVERIES).where(these).values(values))


def shortening(hook: int) -> tuple[Any, Any]:
    """Statements that keep a hook's log and backlog within their bounds."""
    rows = WEBHOOK_DELIVERIES.c
    waits = rows.state == WAITING

    def beyond(condition: Any, kept: int) -> Any:
        newest = select(rows.id).where(rows.webhook_id == hook, condition).order_by(rows.id.desc())
        return newest.offset(kept).limit(1).scalar_subquery()

    ended = WEBHOOK_DELIVERIES.delete().where(rows.webhook_id == hook, ~waits, rows.id <= beyond(~waits, LOG_LENGTH))
    late = (
        update(WEBHOOK_DELIVERIES)
        .where(rows.webhook_id == hook, waits, rows.id <= beyond(waits, BACKLOG))
        .values(state=FAILED, error="too many deliveries wait")
    )
    return ended, late


def _wake(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(news.set)


async def _either(news: asyncio.Event, seconds: float) -> None:
    """Waits for news, for `seconds` at most."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return

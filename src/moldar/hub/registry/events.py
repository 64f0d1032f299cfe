"""What happened to repositories, for webhooks: a row for each hook that asked, in the transaction of the change.

So an event is there exactly when what it tells of is, and a kill loses neither. `webhooks/courier.py` sends the rows.
The payload speaks two languages that receivers know: `events` is the envelope of distribution's notifications,
`push_data` and `repository` are what Docker Hub's webhooks say.
"""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, or_, select

from moldar.hub.clock import Clock
from moldar.hub.data.schema import REPOSITORIES, WEBHOOK_DELIVERIES, WEBHOOKS
from moldar.remote.wire import manifest_path

PUSH = "push"
DELETE = "delete"
PING = "ping"
EVENTS = (PUSH, DELETE)
"""What a hook may ask for; a ping is sent by hand."""
WAITING = "waiting"
DELIVERED = "delivered"
FAILED = "failed"


class Event(NamedTuple):
    """Something that happened. `actor`: an account's name, or empty; `tag`, `digest`: empty where there is none."""

    kind: str
    actor: str = ""
    tag: str = ""
    digest: str = ""
    media_type: str = ""
    size: int = 0


class Outbox:
    """Writes events down. `on_event`: to be called, from any thread, after a commit that wrote some."""

    def __init__(self, clock: Clock, external_url: str) -> None:
        self._clock = clock
        self._external_url = external_url.rstrip("/")
        self.on_event: Callable[[], None] = _nobody_listens

    def announce(self, connection: Connection, number: int, repository: str, events: Sequence[Event]) -> bool:
        """Writes rows for the hooks of a repository, by number and name, that want `events`; whether any does."""
        owned = or_(WEBHOOKS.c.repository_id == number, WEBHOOKS.c.namespace == repository.partition("/")[0])
        query = select(WEBHOOKS.c.id, WEBHOOKS.c.events).where(owned, WEBHOOKS.c.is_active.is_(True))
        wishes = [
            (hook, event)
            for hook, wanted in connection.execute(query)
            for event in events
            if event.kind in wanted.split(",")
        ]
        if not wishes:
            return False
        is_public = connection.execute(
            select(REPOSITORIES.c.is_public).where(REPOSITORIES.c.id == number)
        ).scalar_one()
        rows = [self._row(hook, event, repository, is_public) for hook, event in wishes]
        connection.execute(insert(WEBHOOK_DELIVERIES), rows)
        return True

    def announce_ping(self, connection: Connection, hook: int, place: str, actor: str) -> str:
        """A delivery that tells of nothing, to try the hook; gives its UUID."""
        row = self._row(hook, Event(PING, actor), place, True)
        connection.execute(insert(WEBHOOK_DELIVERIES), row)
        return str(row["uuid"])

    def _row(self, hook: int, event: Event, repository: str, is_public: bool) -> dict[str, Any]:
        now = self._clock()
        key = str(uuid.uuid4())
        return {
            "webhook_id": hook,
            "uuid": key,
            "event": event.kind,
            "payload": json.dumps(payload(event, repository, is_public, (key, now), self._external_url)),
            "created": now,
            "state": WAITING,
            "due": now,
            "attempts": 0,
            "status": 0,
            "error": "",
            "milliseconds": 0,
        }


def payload(
    event: Event, repository: str, is_public: bool, stamp: tuple[str, int], external_url: str = ""
) -> dict[str, Any]:
    """What a receiver gets. `stamp`: the delivery's UUID and time; `external_url`: where the hub is, or empty."""
    key, now = stamp
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    namespace, _, short = repository.rpartition("/")
    document: dict[str, Any] = {
        "delivery": key,
        "event": event.kind,
        "time": moment,
        "actor": {"name": event.actor},
        "repository": {
            "name": short,
            "namespace": namespace,
            "repo_name": repository,
            "is_private": not is_public,
            **({"repo_url": f"{external_url}/r/{repository}"} if external_url else {}),
        },
    }
    if event.kind == PING:
        return document
    target: dict[str, Any] = {"repository": repository}
    if event.digest:
        target |= {"digest": event.digest, "mediaType": event.media_type}
        if event.size:
            target |= {"size": event.size, "length": event.size}
        if external_url:
            target["url"] = external_url + manifest_path(repository, event.digest)
    if event.tag:
        target["tag"] = event.tag
    document["events"] = [
        {"id": key, "timestamp": moment, "action": event.kind, "target": target, "actor": {"name": event.actor}}
    ]
    if event.kind == PUSH:
        document["push_data"] = {
            "pushed_at": now,
            "pusher": event.actor,
            "tag": event.tag,
            "digest": event.digest,
            "media_type": event.media_type,
        }
    return document


def _nobody_listens() -> None:
    """No courier runs in this process; another one's finds the rows."""

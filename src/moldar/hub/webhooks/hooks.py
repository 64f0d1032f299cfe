"""The webhooks of one hub: making, listing, changing and trying them, and what became of their deliveries."""

import secrets
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, false, func, insert, or_, select, true, update

from moldar.errors import NotFound, UserMistake
from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, new_id
from moldar.hub.data.schema import REPOSITORIES, WEBHOOK_DELIVERIES, WEBHOOKS
from moldar.hub.registry.events import EVENTS, WAITING, Outbox
from moldar.hub.webhooks.targets import parse_target

HOOKS_LIMIT = 20
"""How many hooks one repository or namespace may have."""
SECRET_LIMIT = 200


class Hook(NamedTuple):
    """A webhook. `place`: whose events it gets, `alice/app`, or `alice/*` for all repositories below alice."""

    id: int
    place: str
    url: str
    secret: str
    events: tuple[str, ...]
    is_active: bool
    created: int


class Delivery(NamedTuple):
    """A delivery. `state`: waiting, delivered or failed; `status`: of the last answer, 0 without one.

    `due`: when it is sent next, of interest while it waits. Times are seconds since 1970.
    """

    uuid: str
    event: str
    state: str
    created: int
    due: int
    attempts: int
    status: int
    error: str
    milliseconds: int


class InvalidHook(UserMistake):
    """A webhook cannot be made so. `problem`: "url", "events", "place", "secret", "many"."""

    MESSAGES: ClassVar = {
        "url": "a webhook needs an http or https URL",
        "events": f"a webhook asks for at least one of {', '.join(EVENTS)}",
        "place": "a webhook is for a repository, alice/app, or for a whole namespace, alice/*",
        "secret": "a secret has at most 200 printable characters",
        "many": f"a place has at most {HOOKS_LIMIT} webhooks",
    }

    def __init__(self, problem: str) -> None:
        super().__init__(self.MESSAGES[problem])
        self.problem = problem


class Hooks:
    """The webhooks of one hub. Who may do this is decided by the caller."""

    def __init__(self, database: Database, outbox: Outbox, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock

    def create(
        self, place: str, url: str, events: Collection[str], secret: str = "", *, by: Actor | None = None
    ) -> Hook:
        """A new hook; without a `secret` it gets a random one. InvalidHook; NotFound for the repository."""
        values = {"url": url, "events": _events(events), "secret": secret or secrets.token_urlsafe(32)}
        _check(url, values["secret"])
        with self._database.writing() as connection:
            owner = _owner(connection, place)
            mine = [WEBHOOKS.c[column] == value for column, value in owner.items()]
            if connection.execute(select(func.count()).where(*mine)).scalar_one() >= HOOKS_LIMIT:
                raise InvalidHook("many")
            row = {"repository_id": None, "namespace": "", "is_active": True, "created": self._clock()}
            number = new_id(connection.execute(insert(WEBHOOKS).values({**row, **owner, **values})))
            record(connection, self._clock(), by, audit.SETTINGS_CHANGED, place, detail="webhook added")
            return _hook(connection.execute(_hooks().where(WEBHOOKS.c.id == number)).one())

    def find(self, number: int) -> Hook | None:
        with self._database.reading() as connection:
            row = connection.execute(_hooks().where(WEBHOOKS.c.id == number)).first()
        return _hook(row) if row else None

    def search(
        self, patterns: Iterable[Iterable[str]], *, place: str = "", offset: int = 0, limit: int | None = None
    ) -> list[Hook]:
        """Hooks whose place matches a pattern of each of `patterns` (see `manageable`), by place.

        `place`: only those that are there.
        """
        query = _hooks().order_by(_place(), WEBHOOKS.c.id).offset(offset).limit(limit)
        for any_of in patterns:
            query = query.where(or_(false(), *(_named_by(pattern) for pattern in any_of)))
        if place:
            query = query.where(_place() == place)
        with self._database.reading() as connection:
            return [_hook(row) for row in connection.execute(query)]

    def change(
        self,
        number: int,
        *,
        url: str | None = None,
        events: Collection[str] | None = None,
        secret: str | None = None,
        is_active: bool | None = None,
    ) -> bool:
        """Changes what is not None; False when there is no such hook. Raises InvalidHook."""
        _check(url, secret)
        values = {
            "url": url,
            "events": None if events is None else _events(events),
            "secret": secret,
            "is_active": is_active,
        }
        changed = {key: value for key, value in values.items() if value is not None}
        if not changed:
            return self.find(number) is not None
        with self._database.writing() as connection:
            return connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == number).values(changed)).rowcount > 0

    def remove(self, number: int, *, by: Actor | None = None) -> bool:
        """Also forgets its deliveries."""
        with self._database.writing() as connection:
            row = connection.execute(_hooks().where(WEBHOOKS.c.id == number)).first()
            if row is None:
                return False
            connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.id == number))
            record(connection, self._clock(), by, audit.SETTINGS_CHANGED, _hook(row).place, detail="webhook deleted")
            return True

    def ping(self, hook: Hook, actor: str) -> str:
        """Sends an event that tells of nothing; gives the delivery's UUID."""
        with self._database.writing() as connection:
            key = self._outbox.announce_ping(connection, hook.id, hook.place, actor)
        self._outbox.on_event()
        return key

    def deliveries(self, number: int, limit: int = 50) -> list[Delivery]:
        """The last deliveries of a hook, newest first."""
        columns = [WEBHOOK_DELIVERIES.c[name] for name in Delivery._fields]
        query = select(*columns).where(WEBHOOK_DELIVERIES.c.webhook_id == number)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(WEBHOOK_DELIVERIES.c.id.desc()).limit(limit))
            return [Delivery(*row) for row in rows]

    def last_deliveries(self, numbers: Collection[int]) -> dict[int, Delivery]:
        """The last delivery of each hook that has any, by the hook's number."""
        rows = WEBHOOK_DELIVERIES.c
        newest = select(func.max(rows.id)).where(rows.webhook_id.in_(numbers)).group_by(rows.webhook_id)
        query = select(rows.webhook_id, *(rows[name] for name in Delivery._fields)).where(rows.id.in_(newest))
        with self._database.reading() as connection:
            return {row[0]: Delivery(*row[1:]) for row in connection.execute(query)}

    def redeliver(self, number: int, key: str) -> bool:
        """Sends a delivery that has ended once more; False when the hook has none such."""
        this = (WEBHOOK_DELIVERIES.c.webhook_id == number) & (WEBHOOK_DELIVERIES.c.uuid == key)
        again = {"state": WAITING, "due": self._clock(), "attempts": 0}
        with self._database.writing() as connection:
            ended = this & (WEBHOOK_DELIVERIES.c.state != WAITING)
            if not connection.execute(update(WEBHOOK_DELIVERIES).where(ended).values(again)).rowcount:
                return connection.execute(select(WEBHOOK_DELIVERIES.c.id).where(this)).first() is not None
        self._outbox.on_event()
        return True


def _hooks() -> Select[Any]:
    joined = WEBHOOKS.outerjoin(REPOSITORIES, REPOSITORIES.c.id == WEBHOOKS.c.repository_id)
    return select(WEBHOOKS, REPOSITORIES.c.name.label("repository")).select_from(joined)


def _place() -> ColumnElement[str]:
    """A hook's place, as people write it."""
    return func.coalesce(REPOSITORIES.c.name, WEBHOOKS.c.namespace + "/*")


def _named_by(pattern: str) -> ColumnElement[bool]:
    if pattern == "*":
        return true()
    return _place().startswith(pattern[:-1], autoescape=True) if pattern.endswith("*") else _place() == pattern


def _hook(row: Row[Any]) -> Hook:
    place = row.repository or f"{row.namespace}/*"
    return Hook(row.id, place, row.url, row.secret, tuple(row.events.split(",")), row.is_active, row.created)


def _owner(connection: Connection, place: str) -> dict[str, Any]:
    if place.endswith("/*"):
        if "/" in place[:-2] or place == "/*":
            raise InvalidHook("place")
        return {"namespace": place[:-2]}
    number = connection.execute(select(REPOSITORIES.c.id).where(REPOSITORIES.c.name == place)).scalar()
    if number is None:
        raise NotFound(f"no repository {place}")
    return {"repository_id": int(number)}


def _events(events: Collection[str]) -> str:
    if not events or not set(events) <= set(EVENTS):
        raise InvalidHook("events")
    return ",".join(event for event in EVENTS if event in events)


def _check(url: str | None, secret: str | None) -> None:
    if url is not None and parse_target(url) is None:
        raise InvalidHook("url")
    if secret is not None and not (1 <= len(secret) <= SECRET_LIMIT and secret.isprintable()):
        raise InvalidHook("secret")

"""The audit log: who did what, from where and when.

A line is written in the transaction of the change that it tells of, so there is never one without the other. Lines
hold names, not numbers, and go after the days that the hub's settings say.
"""

from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, insert, or_, select

from moldar.hub.clock import Clock
from moldar.hub.data.database import Database
from moldar.hub.data.pruning import prune
from moldar.hub.data.schema import ACCOUNTS, AUDIT

SIGNED_IN = "signed-in"
SIGN_IN_FAILED = "sign-in-failed"
SIGNED_UP = "signed-up"
PASSWORD_SET = "password-set"
TOKEN_MADE = "token-made"
TOKEN_REVOKED = "token-revoked"
PUSHED = "pushed"
DELETED = "deleted"
VISIBILITY_CHANGED = "visibility-changed"
SETTINGS_CHANGED = "settings-changed"
REPOSITORY_DELETED = "repository-deleted"
ORGANISATION_MADE = "organisation-made"
ORGANISATION_DELETED = "organisation-deleted"
MEMBER_INVITED = "member-invited"
MEMBER_JOINED = "member-joined"
MEMBER_LEFT = "member-left"
OWNER_CHANGED = "owner-changed"
TEAM_MADE = "team-made"
TEAM_DELETED = "team-deleted"
TEAM_CHANGED = "team-changed"
ROLE_GIVEN = "role-given"
ROLE_TAKEN = "role-taken"
ROBOT_MADE = "robot-made"
ROBOT_DELETED = "robot-deleted"
ACCOUNT_DISABLED = "account-disabled"
ACCOUNT_ENABLED = "account-enabled"
ACCOUNT_DELETED = "account-deleted"
GARBAGE_COLLECTED = "garbage-collected"
DEEDS = (
    *(SIGNED_IN, SIGN_IN_FAILED, SIGNED_UP, PASSWORD_SET, TOKEN_MADE, TOKEN_REVOKED, PUSHED, DELETED),
    *(VISIBILITY_CHANGED, SETTINGS_CHANGED, REPOSITORY_DELETED, ORGANISATION_MADE, ORGANISATION_DELETED),
    *(MEMBER_INVITED, MEMBER_JOINED, MEMBER_LEFT, OWNER_CHANGED, TEAM_MADE, TEAM_DELETED, TEAM_CHANGED),
    *(
        ROLE_GIVEN,
        ROLE_TAKEN,
        ROBOT_MADE,
        ROBOT_DELETED,
        ACCOUNT_DISABLED,
        ACCOUNT_ENABLED,
        ACCOUNT_DELETED,
        GARBAGE_COLLECTED,
    ),
)
_LONGEST = 300


class Actor(NamedTuple):
    """Who does something, and from which address. An empty name: nobody who signed in."""

    name: str = ""
    address: str = ""


COMMAND_LINE = Actor("(command line)")
UNKNOWN = "(unknown)"
"""In place of a name that no account has: people type passwords into the wrong field."""


class Line(NamedTuple):
    """One line. `at`: seconds since 1970; `action`: one of DEEDS; `namespace`: whose owners may read it."""

    id: int
    at: int
    actor: str
    address: str
    action: str
    namespace: str
    target: str
    detail: str


class Filter(NamedTuple):
    """Which lines. `namespace`: None for every one; `text`: in the actor's, the target's or the address's."""

    namespace: str | None = None
    action: str = ""
    text: str = ""


def record(
    connection: Connection,
    now: int,
    by: Actor | None,
    action: str,
    target: str,
    *,
    detail: str = "",
    namespace: str | None = None,
) -> None:
    """Writes a line within the transaction of the change; nothing when `by` is None.

    `namespace` is the target's first component when it is not given.
    """
    if by is None:
        return
    row = {
        "at": now,
        "actor": by.name[:100],
        "address": by.address[:64],
        "action": action,
        "namespace": (target.partition("/")[0] if namespace is None else namespace)[:255],
        "target": target[:_LONGEST],
        "detail": detail[:_LONGEST],
    }
    connection.execute(insert(AUDIT).values(row))


def record_failed_sign_in(connection: Connection, now: int, name: str, address: str) -> None:
    """A line about a wrong password or token. The name is kept only when somebody has it."""
    known = connection.execute(select(ACCOUNTS.c.name).where(ACCOUNTS.c.name == name)).scalar()
    namespace = str(known or "").partition("+")[0]
    record(connection, now, Actor(known or UNKNOWN, address), SIGN_IN_FAILED, known or "", namespace=namespace)


class AuditLog:
    """The audit log of one hub."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def lines(self, wanted: Filter, *, before: int = 0, limit: int = 50) -> list[Line]:
        """The newest lines first; `before`: only those older than the line with that number."""
        query = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if wanted.namespace is not None:
            query = query.where(AUDIT.c.namespace == wanted.namespace)
        if wanted.action:
            query = query.where(AUDIT.c.action == wanted.action)
        if wanted.text:
            columns = (AUDIT.c.actor, AUDIT.c.target, AUDIT.c.address)
            query = query.where(or_(*(column.contains(wanted.text, autoescape=True) for column in columns)))
        if before:
            query = query.where(AUDIT.c.id < before)
        with self._database.reading() as connection:
            return [_line(row) for row in connection.execute(query)]

    def note(self, by: Actor, action: str, target: str, *, detail: str = "", namespace: str | None = None) -> None:
        """A line about something that had no transaction of its own."""
        with self._database.writing(durable=False) as connection:
            record(connection, self._clock(), by, action, target, detail=detail, namespace=namespace)

    def prune(self, days: int) -> int:
        """Deletes what is older; gives how many lines went."""
        return prune(self._database, AUDIT, self._clock() - days * 24 * 3600)


def _line(row: Row[Any]) -> Line:
    return Line(**row._mapping)

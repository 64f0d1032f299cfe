"""From an account to a principal: with the organisations, roles and the robot's namespace that decisions look at."""

from typing import NamedTuple

from sqlalchemy import Connection, or_, select

from moldar.hub.access.accounts import ROBOT, Account
from moldar.hub.access.decisions import Grant, Membership, Principal, Role
from moldar.hub.data.database import Database
from moldar.hub.data.remembering import Remembered
from moldar.hub.data.schema import ACCOUNTS, MEMBERS, ROBOTS, ROLES, TEAM_MEMBERS


class Rights(NamedTuple):
    """What the database says of an account beyond its row."""

    memberships: tuple[Membership, ...] = ()
    roles: tuple[Role, ...] = ()
    robot_of: str = ""


class Principals:
    """Makes the principals of one hub. Rights are remembered until anything changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: Remembered[int, Rights] = Remembered(database.generation, 4096)

    def of(
        self, account: Account, scheme: str, grants: tuple[Grant, ...] | None = None, token_id: int = 0
    ) -> Principal:
        """`account` with its rights, limited to `grants` when they are not None."""
        memberships, roles, robot_of = self._rights(account)
        if robot_of:
            return Principal(account.name, account.id, False, grants or (), scheme, token_id, robot_of=robot_of)
        return Principal(account.name, account.id, account.is_admin, grants, scheme, token_id, memberships, roles)

    def _rights(self, account: Account) -> Rights:
        generation = self._known.current()
        found = self._known.get(account.id)
        if found is None:
            with self._database.reading() as connection:
                if account.kind == ROBOT:
                    found = Rights(robot_of=_namespace(connection, account.id))
                else:
                    found = Rights(_memberships(connection, account.id), _roles(connection, account.id))
            self._known.put(account.id, found, generation)
        return found


def _namespace(connection: Connection, robot: int) -> str:
    query = (
        select(ACCOUNTS.c.name)
        .join(ROBOTS, ROBOTS.c.owner_id == ACCOUNTS.c.id)
        .where(ROBOTS.c.account_id == robot, ACCOUNTS.c.is_disabled.is_(False))
    )
    return str(connection.execute(query).scalar() or "(nothing)")


def _memberships(connection: Connection, account: int) -> tuple[Membership, ...]:
    query = (
        select(ACCOUNTS.c.name, MEMBERS.c.is_owner)
        .join(MEMBERS, MEMBERS.c.organisation_id == ACCOUNTS.c.id)
        .where(MEMBERS.c.account_id == account, MEMBERS.c.joined.is_not(None))
        .order_by(ACCOUNTS.c.name)
    )
    return tuple(Membership(str(name), bool(is_owner)) for name, is_owner in connection.execute(query))


def _roles(connection: Connection, account: int) -> tuple[Role, ...]:
    teams = select(TEAM_MEMBERS.c.team_id).where(TEAM_MEMBERS.c.account_id == account)
    query = select(ROLES.c.pattern, ROLES.c.level).where(
        or_(ROLES.c.account_id == account, ROLES.c.team_id.in_(teams))
    )
    return tuple(dict.fromkeys(Role(str(pattern), str(level)) for pattern, level in connection.execute(query)))

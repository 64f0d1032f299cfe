"""From an account to a principal: with the organisations, roles and the robot's namespace that decisions look at."""

from sqlalchemy import Connection, or_, select

from moldar.hub.access.accounts import ROBOT, Account
from moldar.hub.access.decisions import Grant, Membership, Principal, Role
from moldar.hub.data.database import Database
from moldar.hub.data.schema import ACCOUNTS, MEMBERS, ROBOTS, ROLES, TEAM_MEMBERS


class Principals:
    """Makes the principals of one hub."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(
        self, account: Account, scheme: str, grants: tuple[Grant, ...] | None = None, token_id: int = 0
    ) -> Principal:
        """`account` with its rights, limited to `grants` when they are not None."""
        plain = Principal(account.name, account.id, account.is_admin, grants, scheme, token_id)
        with self._database.reading() as connection:
            if account.kind == ROBOT:
                return plain._replace(
                    is_admin=False, robot_of=_namespace(connection, account.id), grants=grants or ()
                )
            return plain._replace(
                memberships=_memberships(connection, account.id), roles=_roles(connection, account.id)
            )


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

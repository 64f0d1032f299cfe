"""Teams of organisations, and the roles that teams and single accounts have in repositories of a namespace.

A role is given by the pattern of its repositories, which lies within the namespace. In an organisation only members
can have one; a person gives roles in repositories of his own to whom he likes.
"""

from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Connection, Select, delete, insert, select
from sqlalchemy.exc import IntegrityError

from moldar.errors import NotFound, UserMistake
from moldar.hub.access import audit
from moldar.hub.access.accounts import ORGANISATION, PERSON, Account
from moldar.hub.access.audit import Actor, record
from moldar.hub.access.decisions import LEVELS, is_within, matches, robot_name_problem
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, new_id
from moldar.hub.data.schema import ACCOUNTS, MEMBERS, ROLES, TEAM_MEMBERS, TEAMS


class Team(NamedTuple):
    """A team with the names of its members."""

    id: int
    name: str
    members: tuple[str, ...] = ()


class GivenRole(NamedTuple):
    """A role: one of `team` and `account` is the name of who has it, the other is empty."""

    id: int
    team: str
    account: str
    pattern: str
    level: str


class RoleRefused(UserMistake):
    """A team or role cannot be made so. `problem` is a key of MESSAGES."""

    MESSAGES: ClassVar = {
        "name": "a team's name has 1 to 39 lower-case letters and digits, with single . - _ between them",
        "taken": "there is a team of this name already",
        "member": "there is no such member",
        "pattern": "a role names repositories of this namespace, as acme/app or acme/*",
        "level": "a role is read, write or admin",
    }

    def __init__(self, problem: str) -> None:
        super().__init__(self.MESSAGES[problem])
        self.problem = problem


class Teams:
    """The teams and roles of one hub."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    # --- Teams ------------------------------------------------------------------------------------------------

    def create(self, organisation: Account, name: str, by: Actor | None = None) -> Team:
        """Raises RoleRefused."""
        if robot_name_problem(name):
            raise RoleRefused("name")
        row = {"organisation_id": organisation.id, "name": name, "created": self._clock()}
        try:
            with self._database.writing() as connection:
                number = new_id(connection.execute(insert(TEAMS).values(row)))
                record(connection, self._clock(), by, audit.TEAM_MADE, organisation.name, detail=name)
        except IntegrityError as error:
            raise RoleRefused("taken") from error
        return Team(number, name)

    def delete(self, organisation: Account, name: str, by: Actor | None = None) -> None:
        """With its roles. Raises NotFound."""
        with self._database.writing() as connection:
            number = _team(connection, organisation, name)
            connection.execute(delete(TEAMS).where(TEAMS.c.id == number))
            record(connection, self._clock(), by, audit.TEAM_DELETED, organisation.name, detail=name)

    def add(self, organisation: Account, name: str, member: str, by: Actor | None = None) -> None:
        """Puts a member into a team; no matter if he is there. Raises NotFound, RoleRefused."""
        with self._database.writing() as connection:
            number = _team(connection, organisation, name)
            account = _holder(connection, organisation, member)
            this = (TEAM_MEMBERS.c.team_id == number) & (TEAM_MEMBERS.c.account_id == account)
            if connection.execute(select(TEAM_MEMBERS).where(this)).first():
                return
            connection.execute(insert(TEAM_MEMBERS).values(team_id=number, account_id=account))
            record(connection, self._clock(), by, audit.TEAM_CHANGED, organisation.name, detail=f"{name}: + {member}")

    def take_out(self, organisation: Account, name: str, member: str, by: Actor | None = None) -> None:
        """Raises NotFound."""
        with self._database.writing() as connection:
            number = _team(connection, organisation, name)
            account = select(ACCOUNTS.c.id).where(ACCOUNTS.c.name == member).scalar_subquery()
            this = (TEAM_MEMBERS.c.team_id == number) & (TEAM_MEMBERS.c.account_id == account)
            if not connection.execute(delete(TEAM_MEMBERS).where(this)).rowcount:
                raise NotFound(f"{member} is not in team {name}")
            record(connection, self._clock(), by, audit.TEAM_CHANGED, organisation.name, detail=f"{name}: - {member}")

    def of(self, organisation: Account) -> list[Team]:
        """By name, each with its members."""
        query = (
            select(TEAMS.c.id, TEAMS.c.name, ACCOUNTS.c.name)
            .outerjoin(TEAM_MEMBERS, TEAM_MEMBERS.c.team_id == TEAMS.c.id)
            .outerjoin(ACCOUNTS, ACCOUNTS.c.id == TEAM_MEMBERS.c.account_id)
            .where(TEAMS.c.organisation_id == organisation.id)
            .order_by(TEAMS.c.name, ACCOUNTS.c.name)
        )
        found: dict[int, Team] = {}
        with self._database.reading() as connection:
            for number, name, member in connection.execute(query):
                team = found.setdefault(number, Team(number, name))
                if member is not None:
                    found[number] = team._replace(members=(*team.members, member))
        return list(found.values())

    # --- Roles ------------------------------------------------------------------------------------------------

    def give(
        self,
        namespace: Account,
        *,
        pattern: str,
        level: str,
        team: str = "",
        account: str = "",
        by: Actor | None = None,
    ) -> None:
        """Gives a role to a team or an account, in place of its earlier one for the pattern.

        Raises RoleRefused, NotFound.
        """
        if level not in LEVELS:
            raise RoleRefused("level")
        if not is_within(pattern, namespace.name):
            raise RoleRefused("pattern")
        with self._database.writing() as connection:
            if team:
                holder = {"team_id": _team(connection, namespace, team), "account_id": None}
                this = ROLES.c.team_id == holder["team_id"]
            else:
                holder = {"team_id": None, "account_id": _holder(connection, namespace, account)}
                this = ROLES.c.account_id == holder["account_id"]
            earlier = this & (ROLES.c.namespace_id == namespace.id) & (ROLES.c.pattern == pattern)
            connection.execute(delete(ROLES).where(earlier))
            row = {"namespace_id": namespace.id, "pattern": pattern, "level": level, "created": self._clock()}
            connection.execute(insert(ROLES).values(**row, **holder))
            detail = f"{_called(team, account)}: {level}"
            record(connection, self._clock(), by, audit.ROLE_GIVEN, pattern, detail=detail)

    def take(self, namespace: Account, number: int, *, repository: str = "", by: Actor | None = None) -> None:
        """Takes a role away; with `repository` only one that names just that. Raises NotFound."""
        with self._database.writing() as connection:
            query = _given().where(ROLES.c.namespace_id == namespace.id, ROLES.c.id == number)
            if repository:
                query = query.where(ROLES.c.pattern == repository)
            row = connection.execute(query).first()
            if row is None:
                raise NotFound("no such role")
            role = GivenRole(*row)
            connection.execute(delete(ROLES).where(ROLES.c.id == number))
            detail = f"{_called(role.team, role.account)}: {role.level}"
            record(connection, self._clock(), by, audit.ROLE_TAKEN, role.pattern, detail=detail)

    def roles(self, namespace: Account) -> list[GivenRole]:
        """All roles in a namespace, by pattern."""
        query = _given().where(ROLES.c.namespace_id == namespace.id).order_by(ROLES.c.pattern, ROLES.c.id)
        with self._database.reading() as connection:
            return [GivenRole(*row) for row in connection.execute(query)]

    def roles_in(self, namespace: Account, repository: str) -> list[GivenRole]:
        """The roles that say something about one repository."""
        return [role for role in self.roles(namespace) if matches(role.pattern, repository)]


def _given() -> Select[Any]:
    team, account = TEAMS.c.name, ACCOUNTS.c.name
    return (
        select(ROLES.c.id, team.label("team"), account.label("account"), ROLES.c.pattern, ROLES.c.level)
        .outerjoin(TEAMS, TEAMS.c.id == ROLES.c.team_id)
        .outerjoin(ACCOUNTS, ACCOUNTS.c.id == ROLES.c.account_id)
    )


def _called(team: str, account: str) -> str:
    return f"team {team}" if team else account


def _team(connection: Connection, organisation: Account, name: str) -> int:
    query = select(TEAMS.c.id).where(TEAMS.c.organisation_id == organisation.id, TEAMS.c.name == name)
    number = connection.execute(query).scalar()
    if number is None:
        raise NotFound(f"{organisation.name} has no team {name}")
    return int(number)


def _holder(connection: Connection, namespace: Account, name: str) -> int:
    """An account that may have a role: in an organisation one of its members. Raises RoleRefused."""
    query = select(ACCOUNTS.c.id).where(ACCOUNTS.c.name == name, ACCOUNTS.c.kind == PERSON)
    if namespace.kind == ORGANISATION:
        query = query.join(MEMBERS, MEMBERS.c.account_id == ACCOUNTS.c.id).where(
            MEMBERS.c.organisation_id == namespace.id, MEMBERS.c.joined.is_not(None)
        )
    number = connection.execute(query).scalar()
    if number is None or number == namespace.id:
        raise RoleRefused("member")
    return int(number)

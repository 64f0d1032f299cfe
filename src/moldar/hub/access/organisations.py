"""Organisations and their members. An organisation is an account that nobody signs in to: it has a namespace.

Somebody who is invited is a member once he says yes. An organisation always keeps an owner: every change takes its
row's lock first, so two owners who leave at once cannot both succeed.
"""

from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from moldar.errors import NotFound, UserMistake
from moldar.hub.access import audit
from moldar.hub.access.accounts import ORGANISATION, PERSON, Account, InvalidAccount
from moldar.hub.access.audit import Actor, record
from moldar.hub.access.decisions import account_name_problem
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, new_id
from moldar.hub.data.schema import ACCOUNTS, MEMBERS, REPOSITORIES, ROBOTS, ROLES, TEAM_MEMBERS, TEAMS

OWNED_LIMIT = 50


class Member(NamedTuple):
    """A member, or who is invited (`joined` is None then)."""

    account_id: int
    name: str
    is_owner: bool
    invited: int
    joined: int | None


class Belonging(NamedTuple):
    """An organisation as one of its members, or one who is invited, sees it."""

    name: str
    is_owner: bool
    joined: int | None


class MemberRefused(UserMistake):
    """A membership cannot be changed so. `problem` is a key of MESSAGES."""

    MESSAGES: ClassVar = {
        "unknown": "there is no such user",
        "already": "this user is a member or invited already",
        "last owner": "an organisation keeps at least one owner",
        "too many": "you own too many organisations",
        "repositories": "delete the organisation's repositories first",
    }

    def __init__(self, problem: str) -> None:
        super().__init__(self.MESSAGES[problem])
        self.problem = problem


class Organisations:
    """The organisations of one hub."""

    def __init__(self, database: Database, clock: Clock, reserved: frozenset[str] = frozenset()) -> None:
        self._database = database
        self._clock = clock
        self._reserved = reserved

    def create(self, name: str, owner: Account, by: Actor | None = None) -> Account:
        """An organisation with `owner` as its first member. Raises InvalidAccount, MemberRefused."""
        problem = account_name_problem(name) or ("reserved" if name in self._reserved else "")
        if problem:
            raise InvalidAccount(problem)
        now = self._clock()
        values: dict[str, Any] = {"name": name, "password_hash": "", "is_admin": False, "is_disabled": False}
        values |= {"created": now, "kind": ORGANISATION}
        try:
            with self._database.writing() as connection:
                condition = (MEMBERS.c.account_id == owner.id) & MEMBERS.c.is_owner.is_(True)
                owned = connection.execute(select(func.count()).select_from(MEMBERS).where(condition)).scalar_one()
                if owned >= OWNED_LIMIT:
                    raise MemberRefused("too many")
                number = new_id(connection.execute(insert(ACCOUNTS).values(values)))
                row = {"organisation_id": number, "account_id": owner.id, "is_owner": True}
                connection.execute(insert(MEMBERS).values(**row, invited=now, joined=now))
                record(connection, now, by, audit.ORGANISATION_MADE, name)
        except IntegrityError as error:
            raise InvalidAccount("taken") from error
        return Account(id=number, **values)

    def delete(self, name: str, by: Actor | None = None) -> None:
        """Deletes an organisation that has no repositories. Raises NotFound, MemberRefused."""
        with self._database.writing() as connection:
            number = _locked(connection, name)
            below = REPOSITORIES.c.name.startswith(name + "/", autoescape=True)
            if connection.execute(select(REPOSITORIES.c.id).where(below).limit(1)).first():
                raise MemberRefused("repositories")
            robots = select(ROBOTS.c.account_id).where(ROBOTS.c.owner_id == number)
            connection.execute(delete(ACCOUNTS).where(ACCOUNTS.c.id.in_(robots)))
            connection.execute(delete(ACCOUNTS).where(ACCOUNTS.c.id == number))
            record(connection, self._clock(), by, audit.ORGANISATION_DELETED, name)

    def find(self, name: str) -> Account | None:
        query = select(ACCOUNTS).where(ACCOUNTS.c.name == name, ACCOUNTS.c.kind == ORGANISATION)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return Account(*row) if row else None

    def of(self, account_id: int) -> list[Belonging]:
        """The organisations of an account, and those that invite it, by name."""
        query = (
            select(ACCOUNTS.c.name, MEMBERS.c.is_owner, MEMBERS.c.joined)
            .join(MEMBERS, MEMBERS.c.organisation_id == ACCOUNTS.c.id)
            .where(MEMBERS.c.account_id == account_id)
            .order_by(ACCOUNTS.c.name)
        )
        with self._database.reading() as connection:
            return [Belonging(str(row[0]), bool(row[1]), row[2]) for row in connection.execute(query)]

    def invitations(self, account_id: int) -> int:
        """How many organisations wait for an answer."""
        waiting = (MEMBERS.c.account_id == account_id) & MEMBERS.c.joined.is_(None)
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(MEMBERS).where(waiting)).scalar_one()

    def members(self, organisation: Account) -> list[Member]:
        """Owners first, then by name."""
        query = (
            select(ACCOUNTS.c.id, ACCOUNTS.c.name, MEMBERS.c.is_owner, MEMBERS.c.invited, MEMBERS.c.joined)
            .join(MEMBERS, MEMBERS.c.account_id == ACCOUNTS.c.id)
            .where(MEMBERS.c.organisation_id == organisation.id)
            .order_by(MEMBERS.c.is_owner.desc(), ACCOUNTS.c.name)
        )
        with self._database.reading() as connection:
            return [Member(*row) for row in connection.execute(query)]

    def invite(self, organisation: Account, name: str, *, is_owner: bool = False, by: Actor | None = None) -> None:
        """Raises MemberRefused."""
        with self._database.writing() as connection:
            query = select(ACCOUNTS.c.id).where(ACCOUNTS.c.name == name, ACCOUNTS.c.kind == PERSON)
            account = connection.execute(query).scalar()
            if account is None:
                raise MemberRefused("unknown")
            if connection.execute(select(MEMBERS).where(_member(organisation.id, account))).first():
                raise MemberRefused("already")
            now = self._clock()
            row = {"organisation_id": organisation.id, "account_id": account, "is_owner": is_owner}
            connection.execute(insert(MEMBERS).values(**row, invited=now, joined=None))
            record(connection, now, by, audit.MEMBER_INVITED, organisation.name, detail=_as(name, is_owner))

    def join(self, organisation: Account, account: Account, by: Actor | None = None) -> None:
        """Says yes to an invitation. Raises NotFound."""
        waiting = _member(organisation.id, account.id) & MEMBERS.c.joined.is_(None)
        with self._database.writing() as connection:
            if not connection.execute(update(MEMBERS).where(waiting).values(joined=self._clock())).rowcount:
                raise NotFound("no invitation")
            record(connection, self._clock(), by, audit.MEMBER_JOINED, organisation.name, detail=account.name)

    def remove(self, organisation: Account, name: str, by: Actor | None = None) -> None:
        """Ends a membership (by either side), or an invitation, with every role. Raises NotFound, MemberRefused."""
        with self._database.writing() as connection:
            _locked(connection, organisation.name)
            member = _find(connection, organisation, name)
            if member.is_owner and member.joined is not None:
                _require_another_owner(connection, organisation.id, member.account_id)
            connection.execute(delete(MEMBERS).where(_member(organisation.id, member.account_id)))
            teams = select(TEAMS.c.id).where(TEAMS.c.organisation_id == organisation.id)
            in_teams = (TEAM_MEMBERS.c.account_id == member.account_id) & TEAM_MEMBERS.c.team_id.in_(teams)
            connection.execute(delete(TEAM_MEMBERS).where(in_teams))
            own = (ROLES.c.namespace_id == organisation.id) & (ROLES.c.account_id == member.account_id)
            connection.execute(delete(ROLES).where(own))
            record(connection, self._clock(), by, audit.MEMBER_LEFT, organisation.name, detail=name)

    def set_owner(self, organisation: Account, name: str, is_owner: bool, by: Actor | None = None) -> None:
        """Raises NotFound, MemberRefused."""
        with self._database.writing() as connection:
            _locked(connection, organisation.name)
            member = _find(connection, organisation, name)
            if not is_owner and member.is_owner and member.joined is not None:
                _require_another_owner(connection, organisation.id, member.account_id)
            this = _member(organisation.id, member.account_id)
            connection.execute(update(MEMBERS).where(this).values(is_owner=is_owner))
            record(connection, self._clock(), by, audit.OWNER_CHANGED, organisation.name, detail=_as(name, is_owner))


def _member(organisation: int, account: int) -> Any:
    return (MEMBERS.c.organisation_id == organisation) & (MEMBERS.c.account_id == account)


def _as(name: str, is_owner: bool) -> str:
    return f"{name}: {'owner' if is_owner else 'member'}"


def _locked(connection: Connection, name: str) -> int:
    """The organisation's number, its row held until the transaction ends (SQLite's writers take turns anyway)."""
    query = select(ACCOUNTS.c.id).where(ACCOUNTS.c.name == name, ACCOUNTS.c.kind == ORGANISATION).with_for_update()
    number = connection.execute(query).scalar()
    if number is None:
        raise NotFound(f"no organisation {name}")
    return int(number)


def _find(connection: Connection, organisation: Account, name: str) -> Member:
    query = (
        select(ACCOUNTS.c.id, ACCOUNTS.c.name, MEMBERS.c.is_owner, MEMBERS.c.invited, MEMBERS.c.joined)
        .join(MEMBERS, MEMBERS.c.account_id == ACCOUNTS.c.id)
        .where(MEMBERS.c.organisation_id == organisation.id, ACCOUNTS.c.name == name)
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"{organisation.name} has no member {name}")
    return Member(*row)


def _require_another_owner(connection: Connection, organisation: int, account: int) -> None:
    """Another owner who has joined and can sign in. Raises MemberRefused."""
    query = (
        select(MEMBERS.c.account_id)
        .join(ACCOUNTS, ACCOUNTS.c.id == MEMBERS.c.account_id)
        .where(MEMBERS.c.organisation_id == organisation, MEMBERS.c.account_id != account)
        .where(MEMBERS.c.is_owner.is_(True), MEMBERS.c.joined.is_not(None), ACCOUNTS.c.is_disabled.is_(False))
    )
    if connection.execute(query.limit(1)).first() is None:
        raise MemberRefused("last owner")

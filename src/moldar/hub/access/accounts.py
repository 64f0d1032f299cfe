"""Accounts, sessions of the pages, and personal access tokens.

What a session or a token is proved by is a random secret; only its SHA-256 is stored. (A slow hash protects
passwords because people choose them; nobody guesses 160 random bits.)
"""

import hashlib
import secrets
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from moldar.errors import NotFound, UserMistake
from moldar.hub.access import audit
from moldar.hub.access.audit import Actor, record
from moldar.hub.access.decisions import ACTIONS, Grant, account_name_problem, valid_pattern
from moldar.hub.access.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH, Passwords
from moldar.hub.access.rates import address_key
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, new_id
from moldar.hub.data.schema import ACCESS_TOKENS, ACCOUNTS, MEMBERS, ROBOTS, SESSIONS, WEBHOOKS

TOKEN_PREFIX = "mdl_"
PERSON = "person"
ORGANISATION = "organisation"
ROBOT = "robot"
_LAST_USED_STEP = 600
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Account(NamedTuple):
    """One who has a name here. Only a person may sign in; an organisation holds repositories, a robot a token.

    `created`: seconds since 1970.
    """

    id: int
    name: str
    password_hash: str
    is_admin: bool
    is_disabled: bool
    created: int
    kind: str = PERSON


class AccessToken(NamedTuple):
    """A personal access token without its secret. `hint`: its last characters; None times: never."""

    id: int
    account_id: int
    name: str
    hint: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...]
    created: int
    expires: int | None
    last_used: int | None

    def grants(self) -> tuple[Grant, ...]:
        return tuple(Grant(pattern, self.actions) for pattern in self.repositories or ("*",))


class InvalidAccount(UserMistake):
    """An account cannot be made so. `problem`: "length", "characters", "reserved", "taken", "password"."""

    MESSAGES: ClassVar = {
        "length": "a user name has 2 to 39 characters",
        "characters": "a user name has lower-case letters and digits, with single . - _ between them",
        "reserved": "this user name is reserved",
        "taken": "this user name is taken",
        "password": f"a password has at least {MINIMUM_LENGTH} characters",
    }

    def __init__(self, problem: str) -> None:
        super().__init__(self.MESSAGES[problem])
        self.problem = problem


class InvalidToken(UserMistake):
    """A personal access token cannot be made so. `problem`: "name", "actions", "repositories"."""

    MESSAGES: ClassVar = {
        "name": "a token needs a name of at most 100 characters",
        "actions": f"a token allows at least one of {', '.join(ACTIONS)}",
        "repositories": "a token names repositories as alice/app, alice/* or *",
    }

    def __init__(self, problem: str) -> None:
        super().__init__(self.MESSAGES[problem])
        self.problem = problem


class OnlyOwner(UserMistake):
    """An account cannot go that owns an organisation alone."""

    def __init__(self, name: str, organisation: str) -> None:
        super().__init__(
            f"{name} is the only owner of the organisation {organisation}",
            hint="make somebody else an owner, or delete the organisation, first",
        )


class Accounts:
    """The accounts of one hub. Everything here is synchronous and may take as long as a password's hash."""

    def __init__(
        self, database: Database, passwords: Passwords, clock: Clock, reserved: frozenset[str] = frozenset()
    ) -> None:
        self._reserved = reserved
        self._database = database
        self._passwords = passwords
        self._clock = clock

    # --- Accounts ---------------------------------------------------------------------------------------------

    def create(self, name: str, password: str, *, is_admin: bool = False, by: Actor | None = None) -> Account:
        """Raises InvalidAccount."""
        problem = account_name_problem(name)
        if is_admin and problem == "reserved" and name != "library":
            problem = ""
        problem = problem or ("reserved" if name in self._reserved else password_problem(password))
        if problem:
            raise InvalidAccount(problem)
        values: dict[str, Any] = {
            "name": name,
            "password_hash": self._passwords.hash(password),
            "is_admin": is_admin,
            "is_disabled": False,
            "created": self._clock(),
            "kind": PERSON,
        }
        try:
            with self._database.writing() as connection:
                result = connection.execute(insert(ACCOUNTS).values(values))
                record(connection, self._clock(), by, audit.SIGNED_UP, name)
                return Account(id=new_id(result), **values)
        except IntegrityError as error:
            raise InvalidAccount("taken") from error

    def find(self, name: str) -> Account | None:
        with self._database.reading() as connection:
            row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.name == name)).first()
        return Account(*row) if row else None

    def list_all(self) -> list[Account]:
        """Everyone who may sign in."""
        people = select(ACCOUNTS).where(ACCOUNTS.c.kind == PERSON).order_by(ACCOUNTS.c.name)
        with self._database.reading() as connection:
            return [Account(*row) for row in connection.execute(people)]

    def set_password(self, name: str, password: str, *, by: Actor | None = None) -> None:
        """Also ends the account's sessions. Raises NotFound, InvalidAccount."""
        if password_problem(password):
            raise InvalidAccount("password")
        hashed = self._passwords.hash(password)
        with self._database.writing() as connection:
            account_id = connection.execute(select(ACCOUNTS.c.id).where(_person(name))).scalar()
            if account_id is None:
                raise NotFound(f"no user {name}")
            connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.id == account_id).values(password_hash=hashed))
            connection.execute(delete(SESSIONS).where(SESSIONS.c.account_id == account_id))
            record(connection, self._clock(), by, audit.PASSWORD_SET, name)

    def set_disabled(self, name: str, is_disabled: bool, *, by: Actor | None = None) -> None:
        """Raises NotFound."""
        with self._database.writing() as connection:
            result = connection.execute(update(ACCOUNTS).where(_person(name)).values(is_disabled=is_disabled))
            if not result.rowcount:
                raise NotFound(f"no user {name}")
            deed = audit.ACCOUNT_DISABLED if is_disabled else audit.ACCOUNT_ENABLED
            record(connection, self._clock(), by, deed, name)

    def set_admin(self, name: str, is_admin: bool, *, by: Actor | None = None) -> None:
        """Raises NotFound."""
        with self._database.writing() as connection:
            changed = connection.execute(update(ACCOUNTS).where(_person(name)).values(is_admin=is_admin))
            if not changed.rowcount:
                raise NotFound(f"no user {name}")
            detail = "administrator" if is_admin else "no administrator"
            record(connection, self._clock(), by, audit.SETTINGS_CHANGED, name, detail=detail)

    def check_removable(self, name: str) -> None:
        """Raises NotFound, and OnlyOwner when an organisation would be left to nobody."""
        with self._database.reading() as connection:
            _check_removable(connection, name)

    def remove(self, name: str, *, by: Actor | None = None) -> None:
        """Deletes the account with its sessions, tokens, stars, robots and its namespace's webhooks.

        Raises NotFound, OnlyOwner. Its repositories stay, and would belong to the next account of that name.
        """
        with self._database.writing() as connection:
            number = _check_removable(connection, name)
            robots = select(ROBOTS.c.account_id).where(ROBOTS.c.owner_id == number)
            connection.execute(delete(ACCOUNTS).where(ACCOUNTS.c.id.in_(list(connection.execute(robots).scalars()))))
            connection.execute(delete(ACCOUNTS).where(ACCOUNTS.c.id == number))
            connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.namespace == name))
            record(connection, self._clock(), by, audit.ACCOUNT_DELETED, name)

    def count(self) -> int:
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(ACCOUNTS)).scalar_one()

    def with_password(self, name: str, password: str) -> Account | None:
        """The account, when the password is its own. Takes as long when there is no such account."""
        account = self.find(name)
        right = self._passwords.verify(account.password_hash if account else None, password)
        return account if right and account and account.kind == PERSON and not account.is_disabled else None

    # --- Sessions ---------------------------------------------------------------------------------------------

    def open_session(self, account: Account, lifetime: int, *, by: Actor | None = None) -> str:
        """The secret of a new session; `lifetime` in seconds."""
        secret = secrets.token_urlsafe(32)
        now = self._clock()
        with self._database.writing(durable=False) as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires <= now))
            connection.execute(
                insert(SESSIONS).values(
                    token_hash=_hashed(secret),
                    account_id=account.id,
                    created=now,
                    expires=now + lifetime,
                    address=address_key(by.address)[:64] if by else "",
                )
            )
            record(connection, now, by, audit.SIGNED_IN, account.name)
        return secret

    def with_session(self, secret: str) -> Account | None:
        query = (
            select(ACCOUNTS)
            .join(SESSIONS, SESSIONS.c.account_id == ACCOUNTS.c.id)
            .where(SESSIONS.c.token_hash == _hashed(secret), SESSIONS.c.expires > self._clock())
            .where(ACCOUNTS.c.is_disabled.is_(False))
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return Account(*row) if row else None

    def close_session(self, secret: str) -> None:
        with self._database.writing(durable=False) as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.token_hash == _hashed(secret)))

    # --- Personal access tokens -------------------------------------------------------------------------------

    def create_token(
        self,
        account: Account,
        name: str,
        *,
        actions: tuple[str, ...] = (ACTIONS[0], ACTIONS[1]),
        repositories: tuple[str, ...] = (),
        lifetime: int | None = None,
        by: Actor | None = None,
    ) -> tuple[AccessToken, str]:
        """The token and its secret, which cannot be had again. `lifetime` in seconds. Raises InvalidToken."""
        check_token(name, actions, repositories)
        with self._database.writing() as connection:
            made = insert_token(
                connection,
                self._clock(),
                account.id,
                name,
                actions=actions,
                repositories=repositories,
                lifetime=lifetime,
            )
            detail = token_detail(made[0])
            record(connection, self._clock(), by, audit.TOKEN_MADE, account.name, detail=detail)
        return made

    def list_tokens(self, account_id: int) -> list[AccessToken]:
        query = select(ACCESS_TOKENS).where(ACCESS_TOKENS.c.account_id == account_id)
        with self._database.reading() as connection:
            return [token_from(row) for row in connection.execute(query.order_by(ACCESS_TOKENS.c.id.desc()))]

    def revoke_token(self, account_id: int, token_id: int, *, by: Actor | None = None) -> bool:
        condition = (ACCESS_TOKENS.c.account_id == account_id) & (ACCESS_TOKENS.c.id == token_id)
        with self._database.writing() as connection:
            name = connection.execute(select(ACCESS_TOKENS.c.name).where(condition)).scalar()
            if name is None:
                return False
            connection.execute(delete(ACCESS_TOKENS).where(condition))
            owner = connection.execute(select(ACCOUNTS.c.name).where(ACCOUNTS.c.id == account_id)).scalar_one()
            record(connection, self._clock(), by, audit.TOKEN_REVOKED, owner, detail=name)
            return True

    def with_token(self, secret: str) -> tuple[Account, AccessToken] | None:
        """Account and token of a secret that is neither expired nor revoked."""
        return self._with_token(ACCESS_TOKENS.c.token_hash == _hashed(secret))

    def with_token_id(self, token_id: int) -> tuple[Account, AccessToken] | None:
        return self._with_token(ACCESS_TOKENS.c.id == token_id)

    def touch_token(self, token: AccessToken) -> None:
        """Notes that the token was used, at most once in ten minutes."""
        now = self._clock()
        if token.last_used is None or token.last_used < now - _LAST_USED_STEP:
            with self._database.writing(durable=False) as connection:
                connection.execute(update(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == token.id).values(last_used=now))

    def _with_token(self, condition: Any) -> tuple[Account, AccessToken] | None:
        with self._database.reading() as connection:
            row = connection.execute(select(ACCESS_TOKENS).where(condition)).first()
            if row is None or (row.expires is not None and row.expires <= self._clock()):
                return None
            account = Account(*connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == row.account_id)).one())
            alive = not account.is_disabled and (account.kind != ROBOT or _works(connection, account.id))
        return (account, token_from(row)) if alive else None


def password_problem(password: str) -> str:
    """ "password" when it cannot be one, else empty."""
    return "" if MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH else "password"


def new_token_secret() -> str:
    """A secret of 190 random bits with a prefix by which scanners find leaked ones."""
    return TOKEN_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def check_token(name: str, actions: tuple[str, ...], repositories: tuple[str, ...]) -> None:
    """Raises InvalidToken."""
    problem = ""
    if not 1 <= len(name.strip()) <= 100:
        problem = "name"
    elif not actions or not set(actions) <= set(ACTIONS):
        problem = "actions"
    elif not all(valid_pattern(pattern) for pattern in repositories):
        problem = "repositories"
    if problem:
        raise InvalidToken(problem)


def insert_token(
    connection: Connection,
    now: int,
    account_id: int,
    name: str,
    *,
    actions: tuple[str, ...],
    repositories: tuple[str, ...],
    lifetime: int | None,
) -> tuple[AccessToken, str]:
    """A token of an account, within a transaction, and its secret."""
    secret = new_token_secret()
    values: dict[str, Any] = {
        "account_id": account_id,
        "name": name.strip(),
        "token_hash": _hashed(secret),
        "hint": secret[-4:],
        "actions": ",".join(action for action in ACTIONS if action in actions),
        "repositories": " ".join(dict.fromkeys(repositories)),
        "created": now,
        "expires": now + lifetime if lifetime else None,
        "last_used": None,
    }
    token_id = new_id(connection.execute(insert(ACCESS_TOKENS).values(values)))
    return token_from(connection.execute(select(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == token_id)).one()), secret


def token_detail(token: AccessToken) -> str:
    """What the audit log says of a new token."""
    return f"{token.name}: {','.join(token.actions)} {' '.join(token.repositories) or '*'}"


def _check_removable(connection: Connection, name: str) -> int:
    """The account's number."""
    number = connection.execute(select(ACCOUNTS.c.id).where(_person(name))).scalar()
    if number is None:
        raise NotFound(f"no user {name}")
    others = MEMBERS.alias()
    another = exists().where(
        others.c.organisation_id == MEMBERS.c.organisation_id,
        others.c.account_id != number,
        others.c.is_owner.is_(True),
        others.c.joined.is_not(None),
    )
    alone = (MEMBERS.c.account_id == number) & MEMBERS.c.is_owner.is_(True) & MEMBERS.c.joined.is_not(None) & ~another
    query = select(ACCOUNTS.c.name).join(MEMBERS, MEMBERS.c.organisation_id == ACCOUNTS.c.id).where(alone)
    organisation = connection.execute(query.limit(1)).scalar()
    if organisation is not None:
        raise OnlyOwner(name, organisation)
    return int(number)


def _person(name: str) -> Any:
    return (ACCOUNTS.c.name == name) & (ACCOUNTS.c.kind == PERSON)


def _works(connection: Connection, robot: int) -> bool:
    """Whether the owner of a robot is still there and not disabled."""
    query = (
        select(ACCOUNTS.c.id)
        .join(ROBOTS, ROBOTS.c.owner_id == ACCOUNTS.c.id)
        .where(ROBOTS.c.account_id == robot, ACCOUNTS.c.is_disabled.is_(False))
    )
    return connection.execute(query).first() is not None


def token_from(row: Row[Any]) -> AccessToken:
    """The token of a row of ACCESS_TOKENS."""
    return AccessToken(
        row.id,
        row.account_id,
        row.name,
        row.hint,
        tuple(row.actions.split(",")),
        tuple(row.repositories.split()),
        row.created,
        row.expires,
        row.last_used,
    )


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

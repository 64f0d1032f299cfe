"""Accounts, sessions of the pages, and personal access tokens.

What a session or a token is proved by is a random secret; only its SHA-256 is stored. (A slow hash protects
passwords because people choose them; nobody guesses 160 random bits.)
"""

import hashlib
import secrets
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from moldar.errors import NotFound, UserMistake
from moldar.hub.access.decisions import ACTIONS, Grant, Principal, account_name_problem, valid_pattern
from moldar.hub.access.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH, Passwords
from moldar.hub.clock import Clock
from moldar.hub.data.database import Database, new_id
from moldar.hub.data.schema import ACCESS_TOKENS, ACCOUNTS, SESSIONS, WEBHOOKS

TOKEN_PREFIX = "mdl_"
_LAST_USED_STEP = 600
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Account(NamedTuple):
    """One who may sign in. `created`: seconds since 1970."""

    id: int
    name: str
    password_hash: str
    is_admin: bool
    is_disabled: bool
    created: int

    def principal(self, scheme: str) -> Principal:
        return Principal(self.name, self.id, self.is_admin, None, scheme)


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


class Accounts:
    """The accounts of one hub. Everything here is synchronous and may take as long as a password's hash."""

    def __init__(self, database: Database, passwords: Passwords, clock: Clock) -> None:
        self._database = database
        self._passwords = passwords
        self._clock = clock

    # --- Accounts ---------------------------------------------------------------------------------------------

    def create(self, name: str, password: str, *, is_admin: bool = False) -> Account:
        """Raises InvalidAccount."""
        problem = account_name_problem(name)
        if is_admin and problem == "reserved" and name != "library":
            problem = ""
        problem = problem or password_problem(password)
        if problem:
            raise InvalidAccount(problem)
        values: dict[str, Any] = {
            "name": name,
            "password_hash": self._passwords.hash(password),
            "is_admin": is_admin,
            "is_disabled": False,
            "created": self._clock(),
        }
        try:
            with self._database.writing() as connection:
                result = connection.execute(insert(ACCOUNTS).values(values))
                return Account(id=new_id(result), **values)
        except IntegrityError as error:
            raise InvalidAccount("taken") from error

    def find(self, name: str) -> Account | None:
        with self._database.reading() as connection:
            row = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.name == name)).first()
        return Account(*row) if row else None

    def list_all(self) -> list[Account]:
        with self._database.reading() as connection:
            return [Account(*row) for row in connection.execute(select(ACCOUNTS).order_by(ACCOUNTS.c.name))]

    def set_password(self, name: str, password: str) -> None:
        """Also ends the account's sessions. Raises NotFound, InvalidAccount."""
        if password_problem(password):
            raise InvalidAccount("password")
        hashed = self._passwords.hash(password)
        with self._database.writing() as connection:
            account_id = connection.execute(select(ACCOUNTS.c.id).where(ACCOUNTS.c.name == name)).scalar()
            if account_id is None:
                raise NotFound(f"no user {name}")
            connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.id == account_id).values(password_hash=hashed))
            connection.execute(delete(SESSIONS).where(SESSIONS.c.account_id == account_id))

    def set_disabled(self, name: str, is_disabled: bool) -> None:
        """Raises NotFound."""
        with self._database.writing() as connection:
            result = connection.execute(
                update(ACCOUNTS).where(ACCOUNTS.c.name == name).values(is_disabled=is_disabled)
            )
            if not result.rowcount:
                raise NotFound(f"no user {name}")

    def set_admin(self, name: str, is_admin: bool) -> None:
        """Raises NotFound."""
        with self._database.writing() as connection:
            changed = connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.name == name).values(is_admin=is_admin))
            if not changed.rowcount:
                raise NotFound(f"no user {name}")

    def remove(self, name: str) -> None:
        """Deletes the account with its sessions, tokens, stars and its namespace's webhooks. Raises NotFound.

        Its repositories stay, and would belong to the next account of that name.
        """
        with self._database.writing() as connection:
            if not connection.execute(delete(ACCOUNTS).where(ACCOUNTS.c.name == name)).rowcount:
                raise NotFound(f"no user {name}")
            connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.namespace == name))

    def count(self) -> int:
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(ACCOUNTS)).scalar_one()

    def with_password(self, name: str, password: str) -> Account | None:
        """The account, when the password is its own. Takes as long when there is no such account."""
        account = self.find(name)
        right = self._passwords.verify(account.password_hash if account else None, password)
        return account if right and account and not account.is_disabled else None

    # --- Sessions ---------------------------------------------------------------------------------------------

    def open_session(self, account: Account, lifetime: int) -> str:
        """The secret of a new session; `lifetime` in seconds."""
        secret = secrets.token_urlsafe(32)
        now = self._clock()
        with self._database.writing(durable=False) as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.expires <= now))
            connection.execute(
                insert(SESSIONS).values(
                    token_hash=_hashed(secret), account_id=account.id, created=now, expires=now + lifetime
                )
            )
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
    ) -> tuple[AccessToken, str]:
        """The token and its secret, which cannot be had again. `lifetime` in seconds. Raises InvalidToken."""
        problem = _token_problem(name, actions, repositories)
        if problem:
            raise InvalidToken(problem)
        secret = new_token_secret()
        now = self._clock()
        values: dict[str, Any] = {
            "account_id": account.id,
            "name": name.strip(),
            "token_hash": _hashed(secret),
            "hint": secret[-4:],
            "actions": ",".join(action for action in ACTIONS if action in actions),
            "repositories": " ".join(dict.fromkeys(repositories)),
            "created": now,
            "expires": now + lifetime if lifetime else None,
            "last_used": None,
        }
        with self._database.writing() as connection:
            result = connection.execute(insert(ACCESS_TOKENS).values(values))
            token_id = new_id(result)
            row = connection.execute(select(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == token_id)).one()
        return _token(row), secret

    def list_tokens(self, account_id: int) -> list[AccessToken]:
        query = select(ACCESS_TOKENS).where(ACCESS_TOKENS.c.account_id == account_id)
        with self._database.reading() as connection:
            return [_token(row) for row in connection.execute(query.order_by(ACCESS_TOKENS.c.id.desc()))]

    def revoke_token(self, account_id: int, token_id: int) -> bool:
        condition = (ACCESS_TOKENS.c.account_id == account_id) & (ACCESS_TOKENS.c.id == token_id)
        with self._database.writing() as connection:
            return connection.execute(delete(ACCESS_TOKENS).where(condition)).rowcount > 0

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
            owner = connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.id == row.account_id)).one()
        account = Account(*owner)
        return None if account.is_disabled else (account, _token(row))


def password_problem(password: str) -> str:
    """ "password" when it cannot be one, else empty."""
    return "" if MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH else "password"


def new_token_secret() -> str:
    """A secret of 190 random bits with a prefix by which scanners find leaked ones."""
    return TOKEN_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def _token_problem(name: str, actions: tuple[str, ...], repositories: tuple[str, ...]) -> str:
    if not 1 <= len(name.strip()) <= 100:
        return "name"
    if not actions or not set(actions) <= set(ACTIONS):
        return "actions"
    return "" if all(valid_pattern(pattern) for pattern in repositories) else "repositories"


def _token(row: Row[Any]) -> AccessToken:
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

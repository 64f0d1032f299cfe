"""What the command line does to a hub's data directory, also while a server runs on it.

Each function opens the database, does one thing in one transaction and closes it; the server notices by itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from moldar.errors import NotFound
from moldar.hub.access.accounts import PERSON, AccessToken, Account, Accounts
from moldar.hub.access.audit import COMMAND_LINE
from moldar.hub.access.passwords import Passwords
from moldar.hub.clock import system_clock
from moldar.hub.registry.garbage import Collected
from moldar.hub.services import Hub, open_database
from moldar.hub.settings import HubSettings

DAY = 24 * 3600


def add_user(data: str, name: str, password: str, *, is_admin: bool = False) -> Account:
    """Makes the data directory too when it is missing. Raises InvalidAccount."""
    os.makedirs(data, mode=0o700, exist_ok=True)
    with _accounts(data) as accounts:
        return accounts.create(name, password, is_admin=is_admin, by=COMMAND_LINE)


def list_users(data: str) -> list[Account]:
    with _accounts(data) as accounts:
        return accounts.list_all()


def set_password(data: str, name: str, password: str) -> None:
    """Raises NotFound, InvalidAccount."""
    with _accounts(data) as accounts:
        accounts.set_password(name, password, by=COMMAND_LINE)


def set_disabled(data: str, name: str, is_disabled: bool) -> None:
    """A disabled account keeps its repositories and cannot sign in. Raises NotFound."""
    with _accounts(data) as accounts:
        accounts.set_disabled(name, is_disabled, by=COMMAND_LINE)


def create_token(
    data: str,
    user: str,
    name: str,
    *,
    actions: tuple[str, ...] = ("pull", "push"),
    repositories: tuple[str, ...] = (),
    days: int | None = None,
) -> tuple[AccessToken, str]:
    """A personal access token and its secret, which is shown this once. Raises NotFound, InvalidToken."""
    with _accounts(data) as accounts:
        lifetime = days * DAY if days else None
        return accounts.create_token(
            _account(accounts, user),
            name,
            actions=actions,
            repositories=repositories,
            lifetime=lifetime,
            by=COMMAND_LINE,
        )


def list_tokens(data: str, user: str) -> list[AccessToken]:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        return accounts.list_tokens(_account(accounts, user).id)


def revoke_token(data: str, user: str, token_id: int) -> None:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        if not accounts.revoke_token(_account(accounts, user).id, token_id, by=COMMAND_LINE):
            raise NotFound(f"user {user} has no token {token_id}")


def collect_garbage(data: str, *, grace: int = DAY, dry_run: bool = False) -> Collected:
    """Collects garbage, also beside a server; with `dry_run` only says what that would do. Raises NotFound."""
    _require(data)
    settings = HubSettings(data, gc_grace=grace)
    hub = Hub(settings)
    try:
        if dry_run:
            return hub.collector.preview(grace, settings.upload_lifetime)
        return hub.collect_garbage()
    finally:
        hub.close()


def _account(accounts: Accounts, name: str) -> Account:
    account = accounts.find(name)
    if account is None or account.kind != PERSON:
        raise NotFound(f"no user {name}")
    return account


@contextmanager
def _accounts(data: str) -> Iterator[Accounts]:
    _require(data)
    database = open_database(HubSettings(data))
    try:
        yield Accounts(database, Passwords(system_clock), system_clock)
    finally:
        database.close()


def _require(data: str) -> None:
    if not os.path.isdir(data):
        raise NotFound(f"no hub in {data}", hint="moldar hub serve makes one")

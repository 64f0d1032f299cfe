"""What the command line does to a hub, also while servers run on it.

Each function opens the database, does one thing in one transaction and closes it; the server notices by itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from moldar.errors import NotFound
from moldar.hub.access.accounts import AccessToken, Account, Accounts
from moldar.hub.access.passwords import Passwords
from moldar.hub.clock import system_clock
from moldar.hub.data.database import make_private_directory
from moldar.hub.registry.checking import Checked, Checker
from moldar.hub.registry.garbage import Collected
from moldar.hub.services import Hub, open_database
from moldar.hub.settings import Where, settings_of

DAY = 24 * 3600


def add_user(data: Where, name: str, password: str, *, is_admin: bool = False) -> Account:
    """Makes the data directory too when it is missing. Raises InvalidAccount."""
    make_private_directory(settings_of(data).data)
    with _accounts(data) as accounts:
        return accounts.create(name, password, is_admin=is_admin)


def list_users(data: Where) -> list[Account]:
    with _accounts(data) as accounts:
        return accounts.list_all()


def set_password(data: Where, name: str, password: str) -> None:
    """Raises NotFound, InvalidAccount."""
    with _accounts(data) as accounts:
        accounts.set_password(name, password)


def set_disabled(data: Where, name: str, is_disabled: bool) -> None:
    """A disabled account keeps its repositories and cannot sign in. Raises NotFound."""
    with _accounts(data) as accounts:
        accounts.set_disabled(name, is_disabled)


def create_token(
    data: Where,
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
            _account(accounts, user), name, actions=actions, repositories=repositories, lifetime=lifetime
        )


def list_tokens(data: Where, user: str) -> list[AccessToken]:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        return accounts.list_tokens(_account(accounts, user).id)


def revoke_token(data: Where, user: str, token_id: int) -> None:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        if not accounts.revoke_token(_account(accounts, user).id, token_id):
            raise NotFound(f"user {user} has no token {token_id}")


def collect_garbage(data: Where, *, grace: int = DAY, dry_run: bool = False) -> Collected:
    """Collects garbage, also beside a server; with `dry_run` only says what that would do. Raises NotFound."""
    _require(data)
    settings = replace(settings_of(data), gc_grace=grace)
    hub = Hub(settings)
    try:
        if dry_run:
            return hub.collector.preview(grace, settings.upload_lifetime)
        return hub.collect_garbage()
    finally:
        hub.close()


def check(data: Where, *, quick: bool = False) -> Checked:
    """Verifies all content, also beside a server; `quick` compares sizes only. Raises NotFound."""
    _require(data)
    hub = Hub(settings_of(data))
    try:
        return Checker(hub.database, hub.storage).check(quick=quick)
    finally:
        hub.close()


def _account(accounts: Accounts, name: str) -> Account:
    account = accounts.find(name)
    if account is None:
        raise NotFound(f"no user {name}")
    return account


@contextmanager
def _accounts(data: Where) -> Iterator[Accounts]:
    _require(data)
    database = open_database(settings_of(data))
    try:
        yield Accounts(database, Passwords(system_clock), system_clock)
    finally:
        database.close()


def _require(data: Where) -> None:
    settings = settings_of(data)
    if not settings.database_url and not os.path.isdir(settings.data):
        raise NotFound(f"no hub in {settings.data}", hint="moldar hub serve makes one")

"""What the command line does to a hub's data directory, also while a server runs on it.

Each function opens the database, does one thing in one transaction and closes it; the server notices by itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from moldar.errors import NotFound, UserMistake
from moldar.hub.access.accounts import AccessToken, Account, Accounts
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
        return accounts.create(name, password, is_admin=is_admin)


def list_users(data: str) -> list[Account]:
    with _accounts(data) as accounts:
        return accounts.list_all()


def set_password(data: str, name: str, password: str) -> None:
    """Raises NotFound, InvalidAccount."""
    with _accounts(data) as accounts:
        accounts.set_password(name, password)


def set_disabled(data: str, name: str, is_disabled: bool) -> None:
    """A disabled account keeps its repositories and cannot sign in. Raises NotFound."""
    with _accounts(data) as accounts:
        accounts.set_disabled(name, is_disabled)


def set_admin(data: str, name: str, is_admin: bool) -> None:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        accounts.set_admin(name, is_admin)


def remove_user(data: str, name: str, *, with_repositories: bool = False) -> list[str]:
    """Deletes an account and its repositories, of which it gives the names. Raises NotFound.

    An account with repositories is refused unless `with_repositories`: left behind, they would be the next one's who
    takes the name. It is disabled first, so that it pushes no other one meanwhile.
    """
    _require(data)
    hub = Hub(HubSettings(data))
    try:
        _account(hub.accounts, name)
        gone = hub.repositories.below(name)
        if gone and not with_repositories:
            raise UserMistake(
                f"{name} has {len(gone)} {'repository' if len(gone) == 1 else 'repositories'}",
                hint="--repositories deletes them, too; hub user disable keeps everything",
            )
        hub.accounts.set_disabled(name, True)
        for repository in gone:
            hub.manifests.remove_repository(repository)
        hub.accounts.remove(name)
        return gone
    finally:
        hub.close()


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
            _account(accounts, user), name, actions=actions, repositories=repositories, lifetime=lifetime
        )


def list_tokens(data: str, user: str) -> list[AccessToken]:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        return accounts.list_tokens(_account(accounts, user).id)


def revoke_token(data: str, user: str, token_id: int) -> None:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        if not accounts.revoke_token(_account(accounts, user).id, token_id):
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
    if account is None:
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

"""What the command line does to a hub, also while servers run on it.

Each function opens the database, does one thing in one transaction and closes it; the server notices by itself.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from moldar.errors import NotFound, UserMistake
from moldar.hub.access.accounts import PERSON, AccessToken, Account, Accounts
from moldar.hub.access.audit import COMMAND_LINE
from moldar.hub.access.passwords import Passwords
from moldar.hub.clock import system_clock
from moldar.hub.data.database import Database, make_private_directory
from moldar.hub.registry.checking import Checked, Checker
from moldar.hub.registry.garbage import Collected
from moldar.hub.registry.quotas import Quotas, Usage
from moldar.hub.registry.retaining import Retention
from moldar.hub.registry.retention import Going, Rule
from moldar.hub.services import Hub, open_database
from moldar.hub.settings import Where, settings_of

DAY = 24 * 3600


def add_user(data: Where, name: str, password: str, *, is_admin: bool = False) -> Account:
    """Makes the data directory too when it is missing. Raises InvalidAccount."""
    make_private_directory(settings_of(data).data)
    with _accounts(data) as accounts:
        return accounts.create(name, password, is_admin=is_admin, by=COMMAND_LINE)


def list_users(data: Where) -> list[Account]:
    with _accounts(data) as accounts:
        return accounts.list_all()


def set_password(data: Where, name: str, password: str) -> None:
    """Raises NotFound, InvalidAccount."""
    with _accounts(data) as accounts:
        accounts.set_password(name, password, by=COMMAND_LINE)


def set_disabled(data: Where, name: str, is_disabled: bool) -> None:
    """A disabled account keeps its repositories and cannot sign in. Raises NotFound."""
    with _accounts(data) as accounts:
        accounts.set_disabled(name, is_disabled, by=COMMAND_LINE)


def set_admin(data: Where, name: str, is_admin: bool) -> None:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        accounts.set_admin(name, is_admin, by=COMMAND_LINE)


def remove_user(data: Where, name: str, *, with_repositories: bool = False) -> list[str]:
    """Deletes an account and its repositories, of which it gives the names. Raises NotFound.

    An account with repositories is refused unless `with_repositories`: left behind, they would be the next one's who
    takes the name. It is disabled first, so that it pushes no other one meanwhile.
    """
    _require(data)
    hub = Hub(settings_of(data))
    try:
        _account(hub.accounts, name)
        hub.accounts.check_removable(name)
        gone = hub.repositories.below(name)
        if gone and not with_repositories:
            raise UserMistake(
                f"{name} has {len(gone)} {'repository' if len(gone) == 1 else 'repositories'}",
                hint="--repositories deletes them, too; hub user disable keeps everything",
            )
        hub.accounts.set_disabled(name, True, by=COMMAND_LINE)
        for repository in gone:
            hub.manifests.remove_repository(repository, by=COMMAND_LINE)
        hub.accounts.remove(name, by=COMMAND_LINE)
        return gone
    finally:
        hub.close()


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
            _account(accounts, user),
            name,
            actions=actions,
            repositories=repositories,
            lifetime=lifetime,
            by=COMMAND_LINE,
        )


def list_tokens(data: Where, user: str) -> list[AccessToken]:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        return accounts.list_tokens(_account(accounts, user).id)


def revoke_token(data: Where, user: str, token_id: int) -> None:
    """Raises NotFound."""
    with _accounts(data) as accounts:
        if not accounts.revoke_token(_account(accounts, user).id, token_id, by=COMMAND_LINE):
            raise NotFound(f"user {user} has no token {token_id}")


def collect_garbage(data: Where, *, grace: int = DAY, dry_run: bool = False) -> Collected:
    """Collects garbage, also beside a server; with `dry_run` only says what that would do. Raises NotFound."""
    _require(data)
    settings = replace(settings_of(data), gc_grace=grace, proxy_keep=0)  # how long copies are kept, the server knows
    hub = Hub(settings)
    try:
        if dry_run:
            found = hub.collector.preview(grace, settings.upload_lifetime)
            going = [one for name in hub.retention.repositories() for one in hub.retention.preview(name)]
            tags = sum(1 for one in going if one.tag)
            return found._replace(tags=tags, manifests=len(going) - tags)
        return hub.collect_garbage()
    finally:
        hub.close()


def apply_retention(data: Where, repository: str = "", *, dry_run: bool = False) -> list[tuple[str, Going]]:
    """Lets go of what the retention rules (of one repository, or all) do not keep; with `dry_run` only says what.

    Gives repositories with what went, or would go. Also beside a server. Raises NotFound.
    """
    with _database(data) as database:
        retention = Retention(database, system_clock)
        names = [name for name in retention.repositories() if not repository or name == repository]
        if repository and not names:
            raise NotFound(f"no rule is about {repository}", hint="its settings page on the hub makes one")
        going = [(name, one) for name in names for one in retention.preview(name)]
        if not dry_run:
            for name in names:
                retention.apply(name, retention.rule_for(name) or Rule())
        return going


def set_quota(data: Where, namespace: str, limit: int | None) -> None:
    """How many bytes a namespace may hold: 0 for no limit, None for the server's default. Raises NotFound."""
    with _database(data) as database:
        Quotas(database).set_limit(namespace, limit)


def list_quotas(data: Where, namespace: str = "") -> list[Usage]:
    """The namespaces with a quota of their own, or one, with what they use. Raises NotFound."""
    with _database(data) as database:
        quotas = Quotas(database)
        return [quotas.usage(namespace)] if namespace else list(quotas.own_limits())


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
    if account is None or account.kind != PERSON:
        raise NotFound(f"no user {name}")
    return account


@contextmanager
def _accounts(data: Where) -> Iterator[Accounts]:
    with _database(data) as database:
        yield Accounts(database, Passwords(system_clock), system_clock)


@contextmanager
def _database(data: Where) -> Iterator[Database]:
    _require(data)
    database = open_database(settings_of(data))
    try:
        yield database
    finally:
        database.close()


def _require(data: Where) -> None:
    settings = settings_of(data)
    if not settings.database_url and not os.path.isdir(settings.data):
        raise NotFound(f"no hub in {settings.data}", hint="moldar hub serve makes one")

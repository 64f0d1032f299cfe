"""The hub's verbs: serve it, and administer its accounts beside a running server. They need no engine."""

import os
from collections.abc import Sequence

from moldar.errors import UserMistake
from moldar.hub import administration
from moldar.hub.access.accounts import AccessToken, Account
from moldar.hub.registry.garbage import Collected
from moldar.hub.settings import HubSettings, parse_listen


def serve(
    *,
    listen: str,
    data: str,
    allow_anonymous_push: bool = False,
    private_by_default: bool = False,
    public_url: str = "",
    allow_sign_up: bool = True,
    allow_sparse: bool = False,
    tls: str = "",
    tls_certificate: str = "",
    tls_key: str = "",
    gc_minutes: int = 60,
    gc_grace_hours: int = 24,
    access_log: str = "none",
    metrics: str = "local",
    webhook_networks: Sequence[str] = (),
) -> int:
    """Run the hub until a signal ends it; 0. HostTrouble when the address is taken.

    `access_log`: none, plain or json; `metrics`: local, token, public or off; UserMistake for another word.
    """
    from moldar.hub.server import serve as run

    if tls not in ("", "self-signed"):
        raise UserMistake(f"unknown --tls {tls!r}", hint="--tls self-signed, or --tls-cert and --tls-key")
    host, port = parse_listen(listen)
    run(
        HubSettings(
            data=data,
            host=host,
            port=port,
            external_url=public_url,
            new_repositories_public=not private_by_default,
            allow_anonymous_push=allow_anonymous_push,
            allow_sign_up=allow_sign_up,
            allow_sparse=allow_sparse,
            tls_self_signed=tls == "self-signed",
            tls_certificate=tls_certificate and os.path.abspath(tls_certificate),
            tls_key=tls_key and os.path.abspath(tls_key),
            gc_interval=gc_minutes * 60,
            gc_grace=gc_grace_hours * 3600,
            access_log=access_log,
            metrics=metrics,
            webhook_networks=tuple(webhook_networks),
        )
    )
    return 0


def collect_garbage(data: str, *, grace_hours: int = 24, dry_run: bool = False) -> Collected:
    """Free what nothing needs any more, also beside a running hub; `dry_run` only tells. NotFound."""
    return administration.collect_garbage(data, grace=grace_hours * 3600, dry_run=dry_run)


def add_user(data: str, name: str, password: str, *, admin: bool = False) -> None:
    """Make an account; UserMistake when the name or password will not do."""
    administration.add_user(data, name, password, is_admin=admin)


def users(data: str) -> Sequence[Account]:
    """All accounts of the hub in `data`."""
    return administration.list_users(data)


def set_password(data: str, name: str, password: str) -> None:
    """Change an account's password; NotFound."""
    administration.set_password(data, name, password)


def set_disabled(data: str, name: str, is_disabled: bool) -> None:
    """Keep an account out, or let it in again; NotFound."""
    administration.set_disabled(data, name, is_disabled)


def set_admin(data: str, name: str, is_admin: bool) -> None:
    """Make an account an administrator, or no longer; NotFound."""
    administration.set_admin(data, name, is_admin)


def remove_user(data: str, name: str, *, with_repositories: bool = False) -> Sequence[str]:
    """Delete an account, and its repositories, whose names are given; UserMistake when they were not asked for."""
    return administration.remove_user(data, name, with_repositories=with_repositories)


def tokens(data: str, user: str) -> Sequence[AccessToken]:
    """The personal access tokens of an account; NotFound."""
    return administration.list_tokens(data, user)


def revoke_token(data: str, user: str, number: int) -> None:
    """End a token; NotFound."""
    administration.revoke_token(data, user, number)


def create_token(
    data: str,
    user: str,
    *,
    description: str,
    days: int = 0,
    read_only: bool = False,
    may_delete: bool = False,
    repositories: Sequence[str] = (),
) -> str:
    """A new personal access token's secret, shown this once; NotFound.

    `repositories`: `alice/app` or `alice/*`; none means every repository that the account may use.
    """
    actions = (("pull",) if read_only else ("pull", "push")) + (("delete",) if may_delete else ())
    return administration.create_token(
        data, user, description, actions=actions, repositories=tuple(repositories), days=days or None
    )[1]

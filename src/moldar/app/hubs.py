"""The hub's verbs: serve it, and administer its accounts beside a running server. They need no engine."""

import os
from collections.abc import Sequence
from dataclasses import replace

from moldar.errors import UserMistake
from moldar.hub import administration, backups
from moldar.hub.access.accounts import AccessToken, Account
from moldar.hub.backups import BackedUp
from moldar.hub.registry.checking import Checked
from moldar.hub.registry.garbage import Collected
from moldar.hub.registry.quotas import Usage
from moldar.hub.registry.retention import Going
from moldar.hub.settings import HubSettings, Where, parse_listen, settings_of


def where(
    data: str,
    *,
    database: str = "",
    storage: str = "",
    endpoint: str = "",
    region: str = "",
    key_id: str = "",
    secret: str = "",
    session_token: str = "",
) -> HubSettings:
    """The hub that a command means. Empty: SQLite, and files, in the directory `data`."""
    return HubSettings(
        os.path.abspath(data),
        database_url=database,
        storage=storage,
        s3_endpoint=endpoint,
        s3_region=region,
        s3_key_id=key_id,
        s3_secret=secret,
        s3_session_token=session_token,
    )


def serve(
    *,
    listen: str,
    data: Where,
    allow_anonymous_push: bool = False,
    private_by_default: bool = False,
    public_url: str = "",
    allow_sign_up: bool = True,
    allow_sparse: bool = False,
    tls: str = "",
    tls_certificate: str = "",
    tls_key: str = "",
    redirect_blobs: bool = False,
    gc_minutes: int = 60,
    gc_grace_hours: int = 24,
    access_log: str = "none",
    audit_days: int = 180,
    metrics: str = "local",
    webhook_networks: Sequence[str] = (),
    proxies: Sequence[str] = (),
    mirror_of: str = "",
    proxy_credentials: str = "",
    proxy_pull: str = "",
    proxy_fresh_seconds: int = 300,
    proxy_keep_days: int = 30,
    proxy_via: Sequence[str] = ("", "", ""),
    quota: int = 0,
    rate_pulls: str = "",
    rate_pushes: str = "",
    rate_tokens: str = "",
    rate_logins: str = "",
) -> int:
    """Run the hub until a signal ends it; 0. HostTrouble when the address is taken.

    `access_log`: none, plain or json; `metrics`: local, token, public or off; UserMistake for another word. A hub
    that is the `mirror_of` another registry lets nobody sign up.
    """
    from moldar.hub.server import serve as run

    if tls not in ("", "self-signed"):
        raise UserMistake(f"unknown --tls {tls!r}", hint="--tls self-signed, or --tls-cert and --tls-key")
    host, port = parse_listen(listen)
    run(
        replace(
            settings_of(data),
            host=host,
            port=port,
            external_url=public_url,
            new_repositories_public=not private_by_default,
            allow_anonymous_push=allow_anonymous_push,
            allow_sign_up=allow_sign_up and not mirror_of,
            allow_sparse=allow_sparse,
            tls_self_signed=tls == "self-signed",
            tls_certificate=tls_certificate and os.path.abspath(tls_certificate),
            tls_key=tls_key and os.path.abspath(tls_key),
            redirect_blobs=redirect_blobs,
            gc_interval=gc_minutes * 60,
            gc_grace=gc_grace_hours * 3600,
            access_log=access_log,
            audit_days=audit_days,
            metrics=metrics,
            webhook_networks=tuple(webhook_networks),
            proxies=tuple(proxies),
            mirror_of=mirror_of,
            proxy_credentials=proxy_credentials and os.path.abspath(proxy_credentials),
            proxy_pull=proxy_pull,
            proxy_fresh=proxy_fresh_seconds,
            proxy_keep=proxy_keep_days * 86400,
            proxy_via=tuple(proxy_via),
            quota=quota,
            rate_pulls=rate_pulls,
            rate_pushes=rate_pushes,
            rate_tokens=rate_tokens,
            rate_logins=rate_logins,
        )
    )
    return 0


def collect_garbage(data: Where, *, grace_hours: int = 24, dry_run: bool = False) -> Collected:
    """Free what nothing needs any more, also beside a running hub; `dry_run` only tells. NotFound."""
    return administration.collect_garbage(data, grace=grace_hours * 3600, dry_run=dry_run)


def apply_retention(data: Where, repository: str = "", *, dry_run: bool = False) -> Sequence[tuple[str, Going]]:
    """Let go of what the retention rules do not keep: repositories with what goes; `dry_run` only tells. NotFound."""
    return administration.apply_retention(data, repository, dry_run=dry_run)


def set_quota(data: Where, namespace: str, limit: int | None) -> None:
    """How many bytes a namespace may hold: 0 for no limit, None for the server's default; NotFound."""
    administration.set_quota(data, namespace, limit)


def quotas(data: Where, namespace: str = "") -> Sequence[Usage]:
    """What one namespace, or all with a quota of their own, use and may use; NotFound."""
    return administration.list_quotas(data, namespace)


def check(data: Where, *, quick: bool = False) -> Checked:
    """Verify that all content of the hub is there and unharmed; `quick` compares sizes only. NotFound."""
    return administration.check(data, quick=quick)


def back_up(data: Where, target: str) -> BackedUp:
    """Copy the hub into the directory `target`, also while it serves. NotFound, UserMistake, CorruptData."""
    return backups.back_up(settings_of(data), os.path.abspath(target))


def restore(data: Where, source: str) -> BackedUp:
    """Make the hub `data` from a backup. NotFound, UserMistake, CorruptData."""
    return backups.restore(settings_of(data), os.path.abspath(source))


def add_user(data: Where, name: str, password: str, *, admin: bool = False) -> None:
    """Make an account; UserMistake when the name or password will not do."""
    administration.add_user(data, name, password, is_admin=admin)


def users(data: Where) -> Sequence[Account]:
    """All accounts of the hub in `data`."""
    return administration.list_users(data)


def set_password(data: Where, name: str, password: str) -> None:
    """Change an account's password; NotFound."""
    administration.set_password(data, name, password)


def set_disabled(data: Where, name: str, is_disabled: bool) -> None:
    """Keep an account out, or let it in again; NotFound."""
    administration.set_disabled(data, name, is_disabled)


def set_admin(data: Where, name: str, is_admin: bool) -> None:
    """Make an account an administrator, or no longer; NotFound."""
    administration.set_admin(data, name, is_admin)


def remove_user(data: Where, name: str, *, with_repositories: bool = False) -> Sequence[str]:
    """Delete an account, and its repositories, whose names are given; UserMistake when they were not asked for."""
    return administration.remove_user(data, name, with_repositories=with_repositories)


def tokens(data: Where, user: str) -> Sequence[AccessToken]:
    """The personal access tokens of an account; NotFound."""
    return administration.list_tokens(data, user)


def revoke_token(data: Where, user: str, number: int) -> None:
    """End a token; NotFound."""
    administration.revoke_token(data, user, number)


def create_token(
    data: Where,
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

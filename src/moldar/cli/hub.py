"""Commands of the hub: serve, accounts, tokens."""

import sys
from typing import Any

from moldar.cli import environment
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.questions import ask_secret
from moldar.errors import UserMistake


def hub_meant(arguments: Arguments) -> Any:
    """The hub that a command means, by its flags and the environment."""
    import os

    from moldar.app import hubs

    def given(flag: str, *variables: str) -> str:
        if arguments.has(flag) and arguments.text(flag):
            return arguments.text(flag)
        return next(filter(None, map(environment.variable, variables)), "")

    return hubs.where(
        arguments.text("data") or os.path.join(environment.home(), "hub"),
        database=given("database", "MOLDAR_HUB_DATABASE"),
        storage=given("storage", "MOLDAR_HUB_STORAGE"),
        endpoint=given("s3-endpoint", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        region=given("s3-region", "AWS_REGION", "AWS_DEFAULT_REGION"),
        key_id=environment.variable("AWS_ACCESS_KEY_ID") or "",
        secret=environment.variable("AWS_SECRET_ACCESS_KEY") or "",
        session_token=environment.variable("AWS_SESSION_TOKEN") or "",
    )


def serve(arguments: Arguments) -> int:
    from moldar.app import hubs

    return hubs.serve(
        listen=arguments.text("listen"),
        data=hub_meant(arguments),
        allow_anonymous_push=arguments.on("allow-anonymous-push"),
        private_by_default=arguments.on("private"),
        public_url=arguments.text("url"),
        allow_sign_up=not arguments.on("no-sign-up"),
        allow_sparse=arguments.on("allow-sparse"),
        tls=arguments.text("tls"),
        tls_certificate=arguments.text("tls-cert"),
        tls_key=arguments.text("tls-key"),
        redirect_blobs=arguments.on("redirect-blobs"),
        gc_minutes=arguments.number("gc-interval"),
        gc_grace_hours=arguments.number("gc-grace"),
        access_log=arguments.text("access-log"),
        audit_days=arguments.number("audit-days"),
        metrics=arguments.text("metrics"),
        webhook_networks=tuple(arguments.many("webhook-allow")),
        proxies=tuple(arguments.many("proxy")),
        mirror_of=arguments.text("mirror-of"),
        proxy_credentials=arguments.text("proxy-credentials"),
        proxy_pull=arguments.text("proxy-pull"),
        proxy_fresh_seconds=arguments.number("proxy-fresh"),
        proxy_keep_days=arguments.number("proxy-keep"),
        proxy_via=tuple(environment.either_case(name) for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")),
        quota=_size(arguments.text("quota"), "--quota"),
        rate_pulls=arguments.text("rate-pulls"),
        rate_pushes=arguments.text("rate-pushes"),
        rate_tokens=arguments.text("rate-tokens"),
        rate_logins=arguments.text("rate-logins"),
    )


def collect_garbage(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    dry_run = arguments.on("dry-run")
    found = hubs.collect_garbage(hub_meant(arguments), grace_hours=arguments.number("gc-grace"), dry_run=dry_run)
    rows = [
        ("Tags let go by retention rules", str(found.tags)),
        ("Manifests let go", str(found.manifests)),
        ("Expired uploads", str(found.uploads)),
        ("Blobs let go by repositories", str(found.holds)),
        ("Blobs deleted", str(found.blobs)),
        ("Space freed", tables.size(found.size)),
        ("Files without an owner", str(found.strays)),
    ]
    print(tables.table(("WOULD BE COLLECTED" if dry_run else "COLLECTED", ""), rows))
    return 0


def check(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    found = hubs.check(hub_meant(arguments), quick=arguments.on("quick"))
    rows = [
        ("Blobs", str(found.blobs)),
        ("Bytes", tables.size(found.size)),
        ("Manifests", str(found.manifests)),
        ("Files without an owner", str(found.strays)),
        ("Problems", str(len(found.problems))),
    ]
    print(tables.table(("CHECKED", ""), rows))
    for problem in found.problems:
        print(f"{problem.kind}: {problem.digest}" + (f" of {problem.holders}" if problem.holders else ""))
    return 1 if found.problems else 0


def back_up(arguments: Arguments) -> int:
    from moldar.app import hubs

    _say_copied(hubs.back_up(hub_meant(arguments), arguments.positional[0]))
    return 0


def restore(arguments: Arguments) -> int:
    from moldar.app import hubs

    _say_copied(hubs.restore(hub_meant(arguments), arguments.positional[0]))
    return 0


def _say_copied(found: Any) -> None:
    from moldar.cli import tables

    print(f"{found.blobs} blobs, {tables.size(found.size)}; {found.copied} of them copied")


def retention(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    name = arguments.positional[0] if arguments.positional else ""
    dry_run = arguments.on("dry-run")
    going = hubs.apply_retention(hub_meant(arguments), name, dry_run=dry_run)
    rows = [
        (
            f"{repository}:{one.tag}" if one.tag else f"{repository}@{one.digest[:19]}",
            tables.ago(one.seen),
            tables.ago(one.pulled) if one.pulled else "never",
            one.reason,
        )
        for repository, one in going
    ]
    print(tables.table(("WOULD GO" if dry_run else "GONE", "PUSHED", "PULLED", "WHY"), rows))
    return 0


def quota(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    name, *rest = (*arguments.positional, "") if not arguments.positional else arguments.positional
    if rest and rest[0]:
        limit = {"default": None, "none": 0}.get(rest[0], -1)
        hubs.set_quota(hub_meant(arguments), name, _size(rest[0], "the quota") if limit == -1 else limit)
    rows = [
        (usage.namespace, tables.size(usage.used), tables.size(usage.limit) if usage.limit else "no limit of its own")
        for usage in hubs.quotas(hub_meant(arguments), name)
    ]
    print(tables.table(("NAMESPACE", "USES", "MAY USE"), rows))
    return 0


def _size(text: str, what: str) -> int:
    from moldar.cli.build_options import size_in_bytes

    return size_in_bytes(text, what) if text else 0


def add_user(arguments: Arguments) -> int:
    from moldar.app import hubs

    hubs.add_user(hub_meant(arguments), arguments.positional[0], _password(arguments), admin=arguments.on("admin"))
    print(f"User {arguments.positional[0]} added")
    return 0


def set_password(arguments: Arguments) -> int:
    from moldar.app import hubs

    hubs.set_password(hub_meant(arguments), arguments.positional[0], _password(arguments))
    print(f"Password of {arguments.positional[0]} changed")
    return 0


def create_token(arguments: Arguments) -> int:
    from moldar.app import hubs

    token = hubs.create_token(
        hub_meant(arguments),
        arguments.positional[0],
        description=arguments.text("description"),
        days=arguments.number("days"),
        read_only=arguments.on("read-only"),
        may_delete=arguments.on("delete"),
        repositories=tuple(arguments.many("repository")),
    )
    print(token)
    return 0


def _password(arguments: Arguments) -> str:
    if arguments.on("password-stdin"):
        return sys.stdin.readline().rstrip("\r\n")
    first = ask_secret("Password: ")
    if sys.stdin.isatty() and ask_secret("Again: ") != first:
        raise UserMistake("the two passwords differ")
    return first


DATA = Flag("data", "", "string", value="DIR", help="Where the hub keeps everything (default MOLDAR_HOME/hub)")
DATABASE = Flag("database", "", "string", value="URL", help="postgresql://… (default SQLite in --data)")
STORAGE = (
    Flag("storage", "", "string", value="PLACE", help="s3://BUCKET/PREFIX or a directory for blobs (default --data)"),
    Flag("s3-endpoint", "", "string", value="URL", help="Where S3 is, when it is not Amazon's"),
    Flag("s3-region", "", "string", value="NAME", help="Region of the bucket"),
)
STDIN = Flag("password-stdin", "", "bool", help="Take the password from stdin")
GRACE = Flag("gc-grace", "", "int", "24", "HOURS", "How long a blob that nothing refers to is kept")
PROXY = (
    Flag("proxy", "", "list", value="NAME[=URL]", help="Keep copies of a registry below its name (docker.io)"),
    Flag("mirror-of", "", "string", value="NAME", help="Also look there for names that are not here; no sign-up"),
    Flag("proxy-credentials", "", "string", value="FILE", help="Our accounts there, as docker login writes them"),
    Flag("proxy-pull", "", "string", value="WHO", help="Who may pull through: everyone, signed-in"),
    Flag("proxy-fresh", "", "int", "300", "SECONDS", "How long a tag is believed before asking again"),
    Flag("proxy-keep", "", "int", "30", "DAYS", "How long copies are kept that nobody pulls; 0 for ever"),
)
LIMITS = (
    Flag("quota", "", "string", value="SIZE", help="How much each namespace may hold (10g); others by hub quota"),
    Flag("rate-pulls", "", "string", value="RATE", help="Pulls of an account or address: 100/6h"),
    Flag("rate-pushes", "", "string", value="RATE", help="Uploads and pushes of an account or address: 60/m"),
    Flag("rate-tokens", "", "string", value="RATE", help="Requests for tokens of an account or address"),
    Flag("rate-logins", "", "string", value="RATE", help="Sign-ins from an address"),
)
COMMANDS = (
    Command(
        ("hub", "serve"),
        "[OPTIONS]",
        "Run our registry and hub",
        serve,
        (
            Flag("listen", "", "string", "127.0.0.1:5050", "HOST:PORT", "Address to listen on"),
            DATA,
            DATABASE,
            *STORAGE,
            Flag("redirect-blobs", "", "bool", help="Send those who pull blobs to S3 itself"),
            Flag("private", "", "bool", help="New repositories are private"),
            Flag("allow-anonymous-push", "", "bool", help="Anybody may push (closed networks only)"),
            Flag("url", "", "string", value="URL", help="Address under which people reach the hub"),
            Flag("no-sign-up", "", "bool", help="Only you make accounts (hub user add)"),
            Flag("allow-sparse", "", "bool", help="Manifests may refer to content that is not here"),
            Flag("tls", "", "string", value="self-signed", help="Speak TLS with a certificate that the hub makes"),
            Flag("tls-cert", "", "string", value="FILE", help="Speak TLS with this certificate (PEM)"),
            Flag("tls-key", "", "string", value="FILE", help="Key of --tls-cert (PEM)"),
            Flag("gc-interval", "", "int", "60", "MINUTES", "Pause between garbage collections; 0 for none"),
            GRACE,
            Flag("audit-days", "", "int", "180", "DAYS", "How long the audit log is kept; 0 for ever"),
            Flag("metrics", "", "string", "local", "READERS", "Who may read /metrics: local, token, public, off"),
            Flag("webhook-allow", "", "list", value="NETWORK", help="Webhooks may point there, though not public"),
            Flag("access-log", "", "string", "none", "FORMAT", "A line per request on stderr: none, plain, json"),
            *PROXY,
            *LIMITS,
        ),
        0,
        0,
    ),
    Command(
        ("hub", "gc"),
        "[OPTIONS]",
        "Free the space of what nothing refers to, also beside a running hub",
        collect_garbage,
        (DATA, DATABASE, *STORAGE, GRACE, Flag("dry-run", "", "bool", help="Only say what would be collected")),
        0,
        0,
    ),
    Command(
        ("hub", "retention"),
        "[OPTIONS] [REPOSITORY]",
        "Let go of what the retention rules do not keep, also beside a running hub",
        retention,
        (DATA, DATABASE, Flag("dry-run", "", "bool", help="Only say what would go, and why")),
        0,
        1,
    ),
    Command(
        ("hub", "quota"),
        "[OPTIONS] [NAMESPACE [SIZE|none|default]]",
        "Show or set how much a namespace may hold",
        quota,
        (DATA, DATABASE),
        0,
        2,
    ),
    Command(
        ("hub", "check"),
        "[OPTIONS]",
        "Verify that everything the hub promises is there, also beside a running hub",
        check,
        (DATA, DATABASE, *STORAGE, Flag("quick", "", "bool", help="Compare sizes only, without reading")),
        0,
        0,
    ),
    Command(
        ("hub", "backup"),
        "[OPTIONS] DIR",
        "Copy a hub on SQLite and files into a directory, also while it runs",
        back_up,
        (DATA, DATABASE, *STORAGE),
        1,
        1,
    ),
    Command(
        ("hub", "restore"),
        "[OPTIONS] DIR",
        "Make a hub from a backup",
        restore,
        (DATA, DATABASE, *STORAGE),
        1,
        1,
    ),
    Command(
        ("hub", "user", "add"),
        "[OPTIONS] NAME",
        "Add an account to the hub",
        add_user,
        (DATA, DATABASE, STDIN, Flag("admin", "", "bool", help="The account may administer everything")),
        1,
        1,
    ),
    Command(
        ("hub", "user", "passwd"),
        "[OPTIONS] NAME",
        "Set an account's password",
        set_password,
        (DATA, DATABASE, STDIN),
        1,
        1,
    ),
    Command(
        ("hub", "token", "create"),
        "[OPTIONS] USER",
        "Make a personal access token",
        create_token,
        (
            DATA,
            DATABASE,
            Flag("description", "", "string", "command line", help="What the token is for"),
            Flag("days", "", "int", "0", help="Days until it expires; 0 means never"),
            Flag("read-only", "", "bool", help="The token may only pull"),
            Flag("delete", "", "bool", help="The token may delete, too"),
            Flag("repository", "", "list", value="NAME", help="Limit the token to alice/app or alice/*"),
        ),
        1,
        1,
    ),
)

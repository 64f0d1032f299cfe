"""Commands of the hub: serve, accounts, tokens."""

import sys
from typing import Any

from moldar.cli import environment
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.questions import ask_secret
from moldar.errors import UserMistake


def _data(arguments: Arguments) -> Any:
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
        data=_data(arguments),
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
    )


def collect_garbage(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    dry_run = arguments.on("dry-run")
    found = hubs.collect_garbage(_data(arguments), grace_hours=arguments.number("gc-grace"), dry_run=dry_run)
    rows = [
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

    found = hubs.check(_data(arguments), quick=arguments.on("quick"))
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

    _say_copied(hubs.back_up(_data(arguments), arguments.positional[0]))
    return 0


def restore(arguments: Arguments) -> int:
    from moldar.app import hubs

    _say_copied(hubs.restore(_data(arguments), arguments.positional[0]))
    return 0


def _say_copied(found: Any) -> None:
    from moldar.cli import tables

    print(f"{found.blobs} blobs, {tables.size(found.size)}; {found.copied} of them copied")


def add_user(arguments: Arguments) -> int:
    from moldar.app import hubs

    hubs.add_user(_data(arguments), arguments.positional[0], _password(arguments), admin=arguments.on("admin"))
    print(f"User {arguments.positional[0]} added")
    return 0


def list_users(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    rows = [
        (user.name, "yes" if user.is_admin else "", tables.ago(user.created)) for user in hubs.users(_data(arguments))
    ]
    print(tables.table(("NAME", "ADMIN", "CREATED"), rows))
    return 0


def set_password(arguments: Arguments) -> int:
    from moldar.app import hubs

    hubs.set_password(_data(arguments), arguments.positional[0], _password(arguments))
    print(f"Password of {arguments.positional[0]} changed")
    return 0


def create_token(arguments: Arguments) -> int:
    from moldar.app import hubs

    token = hubs.create_token(
        _data(arguments),
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
            Flag("access-log", "", "string", "none", "FORMAT", "A line per request on stderr: none, plain, json"),
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
    Command(("hub", "user", "ls"), "[OPTIONS]", "List the hub's accounts", list_users, (DATA, DATABASE), 0, 0),
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

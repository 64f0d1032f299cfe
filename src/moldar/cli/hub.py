"""Commands of the hub: serve, accounts, tokens."""

import sys

from moldar.cli import environment
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.questions import ask_secret
from moldar.errors import UserMistake


def data_directory(arguments: Arguments) -> str:
    import os

    return os.path.abspath(arguments.text("data") or os.path.join(environment.home(), "hub"))


def serve(arguments: Arguments) -> int:
    from moldar.app import hubs

    return hubs.serve(
        listen=arguments.text("listen"),
        data=data_directory(arguments),
        allow_anonymous_push=arguments.on("allow-anonymous-push"),
        private_by_default=arguments.on("private"),
        public_url=arguments.text("url"),
        allow_sign_up=not arguments.on("no-sign-up"),
        allow_sparse=arguments.on("allow-sparse"),
        tls=arguments.text("tls"),
        tls_certificate=arguments.text("tls-cert"),
        tls_key=arguments.text("tls-key"),
        gc_minutes=arguments.number("gc-interval"),
        gc_grace_hours=arguments.number("gc-grace"),
        access_log=arguments.text("access-log"),
        metrics=arguments.text("metrics"),
        webhook_networks=tuple(arguments.many("webhook-allow")),
    )


def collect_garbage(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    dry_run = arguments.on("dry-run")
    found = hubs.collect_garbage(data_directory(arguments), grace_hours=arguments.number("gc-grace"), dry_run=dry_run)
    rows = [
        ("Expired uploads", str(found.uploads)),
        ("Blobs let go by repositories", str(found.holds)),
        ("Blobs deleted", str(found.blobs)),
        ("Space freed", tables.size(found.size)),
        ("Files without an owner", str(found.strays)),
    ]
    print(tables.table(("WOULD BE COLLECTED" if dry_run else "COLLECTED", ""), rows))
    return 0


def add_user(arguments: Arguments) -> int:
    from moldar.app import hubs

    hubs.add_user(
        data_directory(arguments), arguments.positional[0], _password(arguments), admin=arguments.on("admin")
    )
    print(f"User {arguments.positional[0]} added")
    return 0


def set_password(arguments: Arguments) -> int:
    from moldar.app import hubs

    hubs.set_password(data_directory(arguments), arguments.positional[0], _password(arguments))
    print(f"Password of {arguments.positional[0]} changed")
    return 0


def create_token(arguments: Arguments) -> int:
    from moldar.app import hubs

    token = hubs.create_token(
        data_directory(arguments),
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
            Flag("metrics", "", "string", "local", "READERS", "Who may read /metrics: local, token, public, off"),
            Flag("webhook-allow", "", "list", value="NETWORK", help="Webhooks may point there, though not public"),
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
        (DATA, GRACE, Flag("dry-run", "", "bool", help="Only say what would be collected")),
        0,
        0,
    ),
    Command(
        ("hub", "user", "add"),
        "[OPTIONS] NAME",
        "Add an account to the hub",
        add_user,
        (DATA, STDIN, Flag("admin", "", "bool", help="The account may administer everything")),
        1,
        1,
    ),
    Command(
        ("hub", "user", "passwd"), "[OPTIONS] NAME", "Set an account's password", set_password, (DATA, STDIN), 1, 1
    ),
    Command(
        ("hub", "token", "create"),
        "[OPTIONS] USER",
        "Make a personal access token",
        create_token,
        (
            DATA,
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

"""Commands that talk to registries: login, logout, pull, push."""

import sys

from moldar.cli import environment
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.questions import ask, ask_secret
from moldar.errors import UserMistake


def login(arguments: Arguments) -> int:
    from moldar.app import registries

    host = arguments.positional[0] if arguments.positional else ""
    user, password = _account(arguments)
    for warning in registries.login(engine(as_root=False), host, user, password):
        print(f"WARNING: {warning}", file=sys.stderr)
    print("Login Succeeded")
    return 0


def _account(arguments: Arguments) -> tuple[str, str]:
    user, password = arguments.text("username"), arguments.text("password")
    if arguments.on("password-stdin"):
        if password:
            raise UserMistake("--password and --password-stdin are mutually exclusive")
        if not user:
            raise UserMistake("must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    elif password:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
    user = user or ask("Username: ").strip()
    password = password or ask_secret("Password: ")
    if not user or not password:
        raise UserMistake("a user name and a password (or access token) are needed to log in")
    return user, password


def logout(arguments: Arguments) -> int:
    from moldar.app import registries

    host = arguments.positional[0] if arguments.positional else ""
    name = registries.logout(engine(as_root=False), host)
    print(f"Removing login credentials for {name}")
    return 0


def pull(arguments: Arguments) -> int:
    from moldar.app import registries
    from moldar.cli.progress.transfers import choose

    quiet = arguments.on("quiet")
    drawing = choose(quiet=quiet, terminal=environment.stdout_is_terminal())
    references = registries.references_to_pull(engine(), arguments.positional[0], every_tag=arguments.on("all-tags"))
    for reference in references:
        if not quiet:
            print(f"{reference.tag or reference.digest}: Pulling from {reference.repository}")
        with drawing:
            pulled = registries.pull(
                engine(), str(reference), platform=arguments.text("platform"), progress=drawing.pulling
            )
        if quiet:
            print(pulled.reference)
            continue
        status = "Downloaded newer image" if pulled.changed else "Image is up to date"
        print(f"Digest: {pulled.digest}\nStatus: {status} for {pulled.familiar}\n{pulled.reference}")
    return 0


def push(arguments: Arguments) -> int:
    from moldar.app import registries
    from moldar.cli.progress.transfers import choose

    quiet = arguments.on("quiet")
    drawing = choose(quiet=quiet, terminal=environment.stdout_is_terminal())
    references = registries.references_to_push(engine(), arguments.positional[0], every_tag=arguments.on("all-tags"))
    if not quiet:
        print(f"The push refers to repository [{references[0].name}]")
    for reference in references:
        with drawing:
            pushed = registries.push(engine(), str(reference), progress=drawing.pushing)
        print(str(reference) if quiet else f"{reference.tag}: digest: {pushed.digest} size: {pushed.size}")
    return 0


QUIET = Flag("quiet", "q", "bool", help="Print only the reference")
COMMANDS = (
    Command(
        ("login",),
        "[OPTIONS] [SERVER]",
        "Log in to a registry",
        login,
        (
            Flag("username", "u", "string", help="User name"),
            Flag("password", "p", "string", help="Password or personal access token"),
            Flag("password-stdin", "", "bool", help="Take the password from stdin"),
        ),
        0,
        1,
    ),
    Command(("logout",), "[SERVER]", "Log out from a registry", logout, (), 0, 1),
    Command(
        ("image", "pull"),
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        pull,
        (
            Flag("all-tags", "a", "bool", help="Download all tags of the repository"),
            Flag("platform", "", "string", help="Choose the platform of a multi-platform image, such as linux/arm64"),
            Flag("disable-content-trust", "", "bool", default=True, help="Accepted for compatibility"),
            QUIET,
        ),
        1,
        1,
    ),
    Command(
        ("image", "push"),
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        push,
        (
            Flag("all-tags", "a", "bool", help="Push all tags of the repository"),
            Flag("disable-content-trust", "", "bool", default=True, help="Accepted for compatibility"),
            QUIET,
        ),
        1,
        1,
    ),
)

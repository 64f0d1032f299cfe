"""Commands that list and change the hub's accounts and tokens, also while a server runs."""

from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.hub import DATA, DATABASE, hub_meant
from moldar.cli.questions import confirmed
from moldar.errors import UserMistake

FORMAT = Flag("format", "", "string", "text", help="text or json")


def list_users(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    rows = [
        {
            "name": user.name,
            "admin": user.is_admin,
            "state": "disabled" if user.is_disabled else "active",
            "created": user.created,
        }
        for user in hubs.users(hub_meant(arguments))
    ]
    if _wants_json(arguments):
        return _print_json(rows)
    shown = [
        (str(row["name"]), "yes" if row["admin"] else "", str(row["state"]), tables.ago(float(row["created"])))
        for row in rows
    ]
    print(tables.table(("NAME", "ADMIN", "STATE", "CREATED"), shown))
    return 0


def disable(arguments: Arguments) -> int:
    return _set_disabled(arguments, True)


def enable(arguments: Arguments) -> int:
    return _set_disabled(arguments, False)


def set_admin(arguments: Arguments) -> int:
    from moldar.app import hubs

    name, is_admin = arguments.positional[0], not arguments.on("off")
    hubs.set_admin(hub_meant(arguments), name, is_admin)
    print(f"User {name} is {'an' if is_admin else 'no longer an'} administrator")
    return 0


def remove_user(arguments: Arguments) -> int:
    from moldar.app import hubs

    name, with_repositories = arguments.positional[0], arguments.on("repositories")
    warning = f"WARNING! This deletes the user {name} and all repositories below {name}/."
    if with_repositories and not arguments.on("force") and not confirmed(warning):
        return 1
    gone = hubs.remove_user(hub_meant(arguments), name, with_repositories=with_repositories)
    for repository in gone:
        print(f"Repository {repository} deleted")
    print(f"User {name} deleted")
    return 0


def list_tokens(arguments: Arguments) -> int:
    from moldar.app import hubs
    from moldar.cli import tables

    found = hubs.tokens(hub_meant(arguments), arguments.positional[0])
    if _wants_json(arguments):
        return _print_json([{k: v for k, v in token._asdict().items() if k != "account_id"} for token in found])
    rows = [
        (
            str(token.id),
            token.name,
            f"…{token.hint}",
            ",".join(token.actions),
            " ".join(token.repositories) or "*",
            _day(token.expires),
            tables.ago(token.last_used) if token.last_used else "never",
        )
        for token in found
    ]
    print(tables.table(("ID", "NAME", "ENDS IN", "ACTIONS", "REPOSITORIES", "EXPIRES", "LAST USED"), rows))
    return 0


def revoke_token(arguments: Arguments) -> int:
    from moldar.app import hubs

    user, text = arguments.positional
    if not text.isascii() or not text.isdigit():
        raise UserMistake(f"{text!r} is no token's ID", hint=f"moldar hub token ls {user} shows them")
    hubs.revoke_token(hub_meant(arguments), user, int(text))
    print(f"Token {text} of {user} revoked")
    return 0


def _set_disabled(arguments: Arguments, is_disabled: bool) -> int:
    from moldar.app import hubs

    name = arguments.positional[0]
    hubs.set_disabled(hub_meant(arguments), name, is_disabled)
    print(f"User {name} {'disabled' if is_disabled else 'enabled'}")
    return 0


def _wants_json(arguments: Arguments) -> bool:
    form = arguments.text("format")
    if form not in ("text", "json"):
        raise UserMistake(f"unknown format {form!r}", hint="text or json")
    return form == "json"


def _print_json(rows: object) -> int:
    import json

    print(json.dumps(rows, indent=2))
    return 0


def _day(seconds: int | None) -> str:
    import time

    return time.strftime("%Y-%m-%d", time.gmtime(seconds)) if seconds else "never"


COMMANDS = (
    Command(
        ("hub", "user", "ls"), "[OPTIONS]", "List the hub's accounts", list_users, (DATA, DATABASE, FORMAT), 0, 0
    ),
    Command(
        *(("hub", "user", "disable"), "[OPTIONS] NAME", "Keep an account out; everything of it stays", disable),
        *((DATA, DATABASE), 1, 1),
    ),
    Command(
        ("hub", "user", "enable"), "[OPTIONS] NAME", "Let a disabled account in again", enable, (DATA, DATABASE), 1, 1
    ),
    Command(
        *(("hub", "user", "admin"), "[OPTIONS] NAME", "Make an account an administrator, or no longer", set_admin),
        *((DATA, DATABASE, Flag("off", "", "bool", help="No longer")), 1, 1),
    ),
    Command(
        ("hub", "user", "rm"),
        "[OPTIONS] NAME",
        "Delete an account",
        remove_user,
        (
            DATA,
            DATABASE,
            Flag("repositories", "", "bool", help="Delete its repositories, too"),
            Flag("force", "f", "bool", help="Do not ask"),
        ),
        1,
        1,
    ),
    Command(
        *(("hub", "token", "ls"), "[OPTIONS] USER", "List a user's personal access tokens", list_tokens),
        *((DATA, DATABASE, FORMAT), 1, 1),
    ),
    Command(
        *(
            ("hub", "token", "rm"),
            "[OPTIONS] USER ID",
            "Revoke a personal access token",
            revoke_token,
            (DATA, DATABASE),
            2,
            2,
        )
    ),
)

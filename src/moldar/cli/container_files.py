"""Commands on the files of containers: cp, export."""

import sys

from moldar.cli import environment, tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.errors import UserMistake


def copy(arguments: Arguments) -> int:
    from moldar.app import copies

    source, target = arguments.positional
    if not source or not target:
        raise UserMistake(f"{'source' if not source else 'destination'} can not be empty")
    container, path = _split(source)
    other, other_path = _split(target)
    if container and other:
        raise UserMistake("copying between containers is not supported")
    if not container and not other:
        raise UserMistake("must specify at least one container source", hint="write CONTAINER:PATH for one of them")
    follow, archive = arguments.on("follow-link"), arguments.on("archive")
    if container and target == "-":
        copies.archive_from(engine(), container, path, sys.stdout.fileno(), follow=follow)
        return 0
    if container:
        size = copies.copy_from(engine(), container, path, target, follow=follow, archive=archive)
    elif source == "-":
        size = copies.archive_to(engine(), other, sys.stdin.fileno(), other_path)
    else:
        size = copies.copy_to(engine(), other, source, other_path, follow=follow, archive=archive)
    if not arguments.on("quiet") and environment.stdout_is_terminal():
        print(f"Successfully copied {tables.size(size)} to {target}", file=sys.stderr)
    return 0


def _split(word: str) -> tuple[str, str]:
    """The container and the path in it; no container for a path of the host, which may hold a colon after a / or ."""
    container, colon, path = word.partition(":")
    if not colon or word.startswith(("/", ".")) or "/" in container:
        return "", word
    return container, path


def export(arguments: Arguments) -> int:
    from moldar.app import copies

    output = arguments.text("output")
    if not output and environment.stdout_is_terminal():
        raise UserMistake(
            "cowardly refusing to write an archive to a terminal", hint="use -o FILE or redirect stdout"
        )
    copies.export(engine(), arguments.positional[0], output or sys.stdout.fileno())
    return 0


COMMANDS = (
    Command(
        ("container", "cp"),
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tmoldar cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files between a container and the host",
        copy,
        (
            Flag("archive", "a", "bool", help="Keep owners: without it files belong to root inside, to you outside"),
            Flag("follow-link", "L", "bool", help="Follow a symbolic link in SRC_PATH"),
            Flag("quiet", "q", "bool", help="Do not tell what was copied; nothing is told without a terminal"),
        ),
        2,
        2,
    ),
    Command(
        ("container", "export"),
        "[OPTIONS] CONTAINER",
        "Write a container's file system as a tar archive",
        export,
        (Flag("output", "o", "string", value="file", help="Write to a file instead of stdout"),),
        1,
        1,
    ),
)

"""Commands on the files of containers: cp, diff, commit, export; and import, which makes an image of such a file."""

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


def diff(arguments: Arguments) -> int:
    from moldar.app import commits

    for change in commits.diff(engine(), arguments.positional[0]):
        print(change.kind, change.path)
    return 0


def commit(arguments: Arguments) -> int:
    from moldar.app import commits

    container, *names = arguments.positional
    image = commits.commit(
        engine(),
        container,
        names[0] if names else "",
        author=arguments.text("author"),
        message=arguments.text("message"),
        changes=arguments.many("change"),
        pause=arguments.on("pause") and not arguments.on("no-pause"),
        created=_epoch(),
    )
    print(image)
    return 0


def import_tar(arguments: Arguments) -> int:
    from moldar.app import commits

    source, *names = arguments.positional
    if source == "-" and sys.stdin.isatty():
        raise UserMistake("requested import from stdin, which is a terminal", hint="redirect stdin, or name a file")
    image = commits.import_tar(
        engine(),
        sys.stdin.fileno() if source == "-" else source,
        names[0] if names else "",
        message=arguments.text("message"),
        changes=arguments.many("change"),
        platform=arguments.text("platform"),
        created=_epoch(),
    )
    print(image)
    return 0


def _epoch() -> float | None:
    """SOURCE_DATE_EPOCH, which makes the image the same whenever it is made."""
    text = environment.variable("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isdecimal():
        raise UserMistake(f"invalid SOURCE_DATE_EPOCH: {text}", hint="expected a number of seconds since 1970")
    return float(text)


CHANGE = Flag("change", "c", "list", help="Apply a Dockerfile instruction, such as 'CMD [\"sh\"]', to the image")
COMMANDS = (
    Command(
        ("container", "commit"),
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create an image from a container's changes",
        commit,
        (
            Flag("author", "a", "string", help="Author, such as 'Ada <ada@example.org>'"),
            CHANGE,
            Flag("message", "m", "string", help="Commit message"),
            Flag("no-pause", "", "bool", help="Let the container go on during the commit"),
            Flag("pause", "p", "bool", default=True, help="Pause the container during the commit"),
        ),
        1,
        2,
    ),
    Command(
        ("container", "diff"),
        "CONTAINER",
        "Show what a container changed in its files: A added, C changed, D deleted",
        diff,
        (),
        1,
        1,
    ),
    Command(
        ("image", "import"),
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Create an image from a tar archive of a file system",
        import_tar,
        (
            CHANGE,
            Flag("message", "m", "string", help="Commit message"),
            Flag("platform", "", "string", help="Platform of the image; by default this host's"),
        ),
        1,
        2,
    ),
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

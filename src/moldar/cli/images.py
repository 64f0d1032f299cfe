"""Commands that change or move images: tag, rm, save, load, prune."""

import sys

from moldar.cli import environment, tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.listings import name_value_filters
from moldar.cli.questions import confirmed
from moldar.errors import MoldarError, UserMistake


def tag(arguments: Arguments) -> int:
    from moldar.app import images

    source, target = arguments.positional
    images.tag(engine(), source, target)
    return 0


def remove(arguments: Arguments) -> int:
    from moldar.app import images

    store = engine()
    first_error: MoldarError | None = None
    for name in arguments.positional:
        try:
            for removed in images.remove(store, name, force=arguments.on("force")):
                print(removed)
        except MoldarError as error:
            if first_error is not None:
                print(f"ERROR: {error.message}", file=sys.stderr)
            first_error = first_error or error
    if first_error is not None:
        raise first_error
    return 0


def save(arguments: Arguments) -> int:
    from moldar.app import images

    output = arguments.text("output")
    if not output and environment.stdout_is_terminal():
        raise UserMistake(
            "cowardly refusing to write an archive to a terminal", hint="use -o FILE or redirect stdout"
        )
    images.save(engine(), arguments.positional, output or sys.stdout.fileno())
    return 0


def load(arguments: Arguments) -> int:
    from moldar.app import images

    source = arguments.text("input")
    if not source and sys.stdin.isatty():
        raise UserMistake("requested load from stdin, but stdin is empty", hint="use -i FILE or redirect stdin")
    for name in images.load(engine(), source or sys.stdin.fileno()):
        kind = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
        print(f"{kind}: {name}")
    return 0


def prune(arguments: Arguments) -> int:
    from moldar.app import images

    everything = arguments.on("all")
    filters = name_value_filters(arguments.many("filter"))
    what = "all images without at least one container associated to them" if everything else "all dangling images"
    if not arguments.on("force") and not confirmed(f"WARNING! This will remove {what}."):
        return 0
    pruned = images.prune(engine(), everything=everything, filters=filters)
    if pruned.removed:
        print("Deleted Images:", *pruned.lines, "", sep="\n")
    print(f"Total reclaimed space: {tables.size(pruned.freed)}")
    return 0


FORCE = Flag("force", "f", "bool", help="Do not prompt for confirmation")
COMMANDS = (
    Command(
        ("image", "tag"),
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag that refers to an image",
        tag,
        (),
        2,
        2,
    ),
    Command(
        ("image", "rm"),
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        remove,
        (
            Flag("force", "f", "bool", help="Remove the image even if stopped containers or several tags use it"),
            Flag("no-prune", "", "bool", help="Accepted for compatibility"),
        ),
        1,
    ),
    Command(
        ("image", "save"),
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save images to a tar archive or stdout",
        save,
        (Flag("output", "o", "string", value="file", help="Write to a file instead of stdout"),),
        1,
    ),
    Command(
        ("image", "load"),
        "[OPTIONS]",
        "Load images from a tar archive or stdin",
        load,
        (
            Flag("input", "i", "string", value="file", help="Read from a file or an OCI layout directory"),
            Flag("quiet", "q", "bool", help="Suppress the progress"),
        ),
        0,
        0,
    ),
    Command(
        ("image", "prune"),
        "[OPTIONS]",
        "Remove unused images",
        prune,
        (
            Flag("all", "a", "bool", help="Remove all unused images, not just dangling ones"),
            Flag("filter", "", "list", value="filter", help="Filter by until=, label= or label!="),
            FORCE,
        ),
        0,
        0,
    ),
)

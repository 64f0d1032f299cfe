"""Commands about the whole store and this host: prune, check, info, version."""

from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.listings import name_value_filters
from moldar.cli.questions import confirmed

DOCKERS_NAMES = frozenset({"Driver", "DockerRootDir", "DefaultRuntime", "ServerVersion", "OSType"})
"""What `info` has under a name of its own already, so that only --format shows it."""


def prune(arguments: Arguments) -> int:
    from moldar.app import systems

    everything = arguments.on("all")
    words = arguments.many("filter")
    warning = [
        "WARNING! This will remove:",
        "  - all stopped containers",
        *(["  - all anonymous volumes not used by at least one container"] if arguments.on("volumes") else []),
        "  - all images without at least one container associated to them"
        if everything
        else "  - all dangling images",
        "  - all build cache" if everything else "  - unused build cache",
        *(["", "  Items to be pruned will be filtered with:", *(f"  - {word}" for word in words)] if words else []),
        "",
    ]
    if not arguments.on("force") and not confirmed("\n".join(warning)):
        return 0
    pruned = systems.prune(
        engine(), everything=everything, volumes=arguments.on("volumes"), filters=name_value_filters(words)
    )
    for heading, names in pruned.sections:
        if names:
            print(heading + ":", *names, "", sep="\n")
    print(f"Total reclaimed space: {tables.size(pruned.freed)}")
    return 0


def prune_cache(arguments: Arguments) -> int:
    from moldar.app import systems

    if not arguments.on("force") and not confirmed("WARNING! This will remove the build cache."):
        return 0
    filters = name_value_filters(arguments.many("filter"))
    freed = systems.prune_cache(engine(), everything=arguments.on("all"), filters=filters)
    print(f"Total:\t{tables.size(freed)}")
    return 0


def check(arguments: Arguments) -> int:
    from moldar.app import systems

    report = systems.check(engine(), contents=not arguments.on("quick"))
    for finding in report.findings:
        print(finding)
    print(report.summary)
    return 0 if report.sound else 1


def info(arguments: Arguments) -> int:
    from moldar.app import systems

    facts = systems.info(engine())
    if template := arguments.text("format"):
        from moldar.cli.templates import render

        print(render(template, facts))
    else:
        print("\n".join(f"{name}: {value}" for name, value in facts.items() if name not in DOCKERS_NAMES))
    return 0


def version(arguments: Arguments) -> int:
    from moldar.app import systems

    facts = systems.version()
    if template := arguments.text("format"):
        from moldar.cli.templates import render

        print(render(template, facts))
    else:
        print(f"moldar version {facts['Version']}")
    return 0


FORMAT = Flag("format", "f", "string", value="string", help="Print with a Go template, or 'json'")
FORCE = Flag("force", "f", "bool", help="Do not prompt for confirmation")
ALL = Flag("all", "a", "bool", help="Remove all that is unused, not just what dangles")
COMMANDS = (
    Command(
        ("system", "prune"),
        "[OPTIONS]",
        "Remove unused data",
        prune,
        (
            ALL,
            Flag("filter", "", "list", value="filter", help="Filter by until=, label= or label!="),
            FORCE,
            Flag("volumes", "", "bool", help="Prune anonymous volumes too"),
        ),
        0,
        0,
    ),
    Command(
        ("builder", "prune"),
        "[OPTIONS]",
        "Remove build cache",
        prune_cache,
        (ALL, Flag("filter", "", "list", value="filter", help="Filter by until="), FORCE),
        0,
        0,
    ),
    Command(
        ("system", "check"),
        "[OPTIONS]",
        "Verify everything in the store",
        check,
        (Flag("quick", "", "bool", help="Do not read the contents of blobs"),),
        0,
        0,
    ),
    Command(("system", "info"), "[OPTIONS]", "Show how this host serves Moldar", info, (FORMAT,), 0, 0),
    Command(
        ("version",),
        "[OPTIONS]",
        "Show the version",
        version,
        (FORMAT, Flag("short", "", "bool", help="Accepted for compatibility")),
        0,
        0,
    ),
)

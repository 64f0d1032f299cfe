"""Commands about the whole store and this host: df, prune, check, info, version."""

import json
from typing import Any

from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.questions import confirmed


def disk_usage(arguments: Arguments) -> int:
    from moldar.app import systems

    rows = [
        {
            "Type": row.kind,
            "TotalCount": str(row.total),
            "Active": str(row.active),
            "Size": tables.size(row.size),
            "Reclaimable": _share(row.reclaimable, row.size),
        }
        for row in systems.usage(engine())
    ]
    headings = {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    }
    if template := arguments.text("format"):
        from moldar.cli.templates import rows as render_rows

        text = (
            "\n".join(json.dumps(row) for row in rows)
            if template == "json"
            else render_rows(template, rows, headings)
        )
        print(text)
    else:
        print(tables.table(list(headings.values()), (list(row.values()) for row in rows)))
    return 0


def _share(part: int, whole: int) -> str:
    return f"{tables.size(part)} ({100 * part // whole}%)" if whole else tables.size(part)


def prune(arguments: Arguments) -> int:
    from moldar.app import systems

    everything = arguments.on("all")
    warning = [
        "WARNING! This will remove:",
        "  - all stopped containers",
        *(["  - all anonymous volumes not used by at least one container"] if arguments.on("volumes") else []),
        "  - all images without at least one container associated to them"
        if everything
        else "  - all dangling images",
        "  - all build cache" if everything else "  - unused build cache",
        "",
    ]
    if not arguments.on("force") and not confirmed("\n".join(warning)):
        return 0
    pruned = systems.prune(engine(), everything=everything, volumes=arguments.on("volumes"))
    for heading, names in pruned.sections:
        if names:
            print(heading + ":", *names, "", sep="\n")
    print(f"Total reclaimed space: {tables.size(pruned.freed)}")
    return 0


def prune_cache(arguments: Arguments) -> int:
    from moldar.app import systems

    if not arguments.on("force") and not confirmed("WARNING! This will remove the build cache."):
        return 0
    freed = systems.prune_cache(engine(), everything=arguments.on("all"))
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
        print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    return 0


def version(arguments: Arguments) -> int:
    from moldar import __version__

    facts: dict[str, Any] = {"Version": __version__}
    if template := arguments.text("format"):
        from moldar.cli.templates import render

        print(render(template, {"Client": facts, **facts}))
    else:
        print(f"moldar version {__version__}")
    return 0


FORMAT = Flag("format", "f", "string", value="string", help="Print with a Go template, or 'json'")
FORCE = Flag("force", "f", "bool", help="Do not prompt for confirmation")
ALL = Flag("all", "a", "bool", help="Remove all that is unused, not just what dangles")
COMMANDS = (
    Command(
        ("system", "df"),
        "[OPTIONS]",
        "Show disk usage",
        disk_usage,
        (FORMAT._replace(short=""), Flag("verbose", "v", "bool", help="Accepted for compatibility")),
        0,
        0,
    ),
    Command(
        ("system", "prune"),
        "[OPTIONS]",
        "Remove unused data",
        prune,
        (ALL, FORCE, Flag("volumes", "", "bool", help="Prune anonymous volumes too")),
        0,
        0,
    ),
    Command(("builder", "prune"), "[OPTIONS]", "Remove build cache", prune_cache, (ALL, FORCE), 0, 0),
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

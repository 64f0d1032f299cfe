"""Commands about past builds: ls, show, open, rm and logs."""

import json
import sys
import time

from moldar.app import builds
from moldar.app.builds import BuildRow, StepHistory, steps_of
from moldar.cli import environment, tables
from moldar.cli.argv import Arguments, Command, Flag, UsageError
from moldar.cli.engine import engine

HEADINGS = {
    "ID": "BUILD ID",
    "Context": "CONTEXT",
    "Status": "STATUS",
    "Created": "CREATED",
    "Duration": "DURATION",
    "Image": "IMAGE",
}


def list_builds(arguments: Arguments) -> int:
    rows = builds.all_builds(engine())
    if arguments.on("quiet"):
        for row in rows:
            print(row.id)
        return 0
    shown = [
        {
            "ID": row.id,
            "Context": row.context + (f" ({row.target})" if row.target else ""),
            "Status": _status(row),
            "Created": tables.ago(row.started),
            "Duration": _seconds(None if row.ended is None else row.ended - row.started),
            "Image": tables.short_id(row.image),
        }
        for row in rows
    ]
    if template := arguments.text("format"):
        from moldar.cli.templates import rows as render_rows

        text = "\n".join(map(json.dumps, shown)) if template == "json" else render_rows(template, shown, HEADINGS)
        if text:
            print(text)
    else:
        print(tables.table(list(HEADINGS.values()), (list(row.values()) for row in shown)))
    return 0


def show(arguments: Arguments) -> int:
    row = builds.find_build(engine(), _name(arguments))
    facts = {
        "ID": row.id,
        "Context": row.context,
        "Target": row.target,
        "Status": _status(row),
        "Started": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(row.started)),
        "Image": row.image,
        "Error": row.error,
    }
    print("\n".join(f"{name + ':':<9} {value}" for name, value in facts.items() if value))
    print()
    steps = steps_of(row)
    rows = [
        (f"#{number}", f"{max(0.0, step.started - row.started):.1f}s", _outcome(step), step.name)
        for number, step in enumerate(steps, 1)
    ]
    table, *lines = tables.table(["STEP", "START", "RESULT", "NAME"], rows).split("\n")
    print(table)
    for line, step in zip(lines, steps, strict=True):
        print(line)
        if step.reason:
            print(f"      {step.reason}")
    return 0


def open_page(arguments: Arguments) -> int:
    opened = engine()
    path = builds.write_page(opened, builds.find_build(opened, _name(arguments)), arguments.text("output"))
    print(path, flush=True)
    if environment.has_display() and not arguments.text("output"):
        import webbrowser

        webbrowser.open(f"file://{path}")
    return 0


def remove(arguments: Arguments) -> int:
    opened = engine()
    if arguments.on("all") == bool(arguments.positional):
        raise UsageError("'moldar build history rm' requires build IDs or --all", "moldar build history rm")
    names = arguments.positional
    rows = builds.all_builds(opened) if arguments.on("all") else [builds.find_build(opened, name) for name in names]
    for row in rows:
        builds.remove_build(opened, row)
        print(row.id)
    return 0


def logs(arguments: Arguments) -> int:
    opened = engine()
    number = arguments.number("step")
    if "step" in arguments.given and number < 1:
        raise UsageError("--step counts from 1", "moldar build logs")
    found = builds.build_logs(opened, builds.find_build(opened, _name(arguments)), number)
    for log in found:
        if not number:
            print(f"#{log.number} {log.step.name}", flush=True)
        sys.stdout.buffer.write(log.data)
        if not number:
            sys.stdout.buffer.write(b"\n" if log.data.endswith(b"\n") else b"\n\n")
        sys.stdout.buffer.flush()
    return 0


def _name(arguments: Arguments) -> str:
    return arguments.positional[0] if arguments.positional else ""


def _status(row: BuildRow) -> str:
    if row.error:
        return "Error"
    return "Completed" if row.ended is not None else "Running or killed"


def _outcome(step: StepHistory) -> str:
    if step.error:
        return "ERROR"
    return "CACHED" if step.cached else _seconds(step.seconds)


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}s"


COMMANDS = (
    Command(
        ("build", "history", "ls"),
        "[OPTIONS]",
        "List past builds",
        list_builds,
        (
            Flag("format", "", "string", value="string", help="Print with a Go template, or 'json'"),
            Flag("quiet", "q", "bool", help="Only print build IDs"),
        ),
        0,
        0,
    ),
    Command(
        ("build", "history", "show"),
        "[BUILD]",
        "Show the steps of a past build: how long each took, and what was cached",
        show,
        (),
        0,
        1,
    ),
    Command(
        ("build", "history", "open"),
        "[OPTIONS] [BUILD]",
        "Show a past build as a page: its timeline, why steps ran, and their logs",
        open_page,
        (Flag("output", "o", "string", value="file", help="Write the page to this file and open no browser"),),
        0,
        1,
    ),
    Command(
        ("build", "history", "rm"),
        "[OPTIONS] [BUILD...]",
        "Forget past builds and their logs",
        remove,
        (Flag("all", "a", "bool", help="Forget all builds"),),
    ),
    Command(
        ("build", "logs"),
        "[OPTIONS] [BUILD]",
        "Show what the steps of a build printed (default: the latest build)",
        logs,
        (Flag("step", "", "int", value="number", help="Only this step, as numbered by --progress=plain"),),
        0,
        1,
    ),
)

"""`moldar advise`: what would make builds quicker and images smaller, measured; and writing the safe part of it."""

from typing import Any

from moldar.cli.argv import Arguments, Command, Flag, UsageError
from moldar.cli.engine import engine


def advise(arguments: Arguments) -> int:
    """0 whether there is advice or not; with --fix 1 when a rewrite was not written."""
    from moldar.app.advising import advise_request, request_for

    form = arguments.text("format") or "text"
    if form not in ("text", "json"):
        raise UsageError(f"--format is text or json, not {form!r}", "moldar advise")
    opened = engine()
    name = arguments.positional[0] if arguments.positional else ""
    advised = advise_request(opened, request_for(opened, name, arguments.text("file")))
    if arguments.on("fix"):
        return _fix(opened, advised, agreed=arguments.on("yes"))
    if form == "json":
        _print_json(advised)
    else:
        _print_text(advised)
    return 0


def _print_json(advised: Any) -> None:
    import json

    document = {
        "dockerfile": advised.path,
        "builds": advised.builds,
        "advice": [
            {**advice._asdict(), "seconds": round(advice.seconds, 3), "lines": list(advice.lines)}
            for advice in advised.advice
        ],
    }
    print(json.dumps(document, indent=2))


def _print_text(advised: Any) -> None:
    for advice in advised.advice:
        place = f"line {advice.line}" if advice.line else "context"
        print(f"{advice.kind} ({place}): {advice.message}")
        for line in advice.lines:
            print(f"    {line}")
    if not advised.advice:
        print("Nothing to advise.")
    elif advised.after != advised.before:
        print(
            "`moldar advise --fix` rewrites the Dockerfile, and shows what that changes before anything is written."
        )


def _fix(opened: Any, advised: Any, *, agreed: bool) -> int:
    import difflib
    import sys

    from moldar.app.advice_trial import try_out
    from moldar.app.checking import Fixing, write_fixed
    from moldar.cli.questions import ask

    if advised.after == advised.before:
        print("Nothing to rewrite.")
        return 0
    before, after = (
        data.decode(errors="replace").splitlines(keepends=True) for data in (advised.before, advised.after)
    )
    for line in difflib.unified_diff(before, after, advised.path, advised.path):
        print(line.rstrip("\r\n"))
    trial = try_out(opened, advised, lambda text: print(text, file=sys.stderr, flush=True))
    print(
        f"Rebuild after an edit of {trial.edited}, exact caching:"
        f" {trial.before:.2f} s before, {trial.after:.2f} s after."
    )
    if not trial.same:
        print("Nothing written: the image would not be the same.")
        for path in trial.different[:10]:
            print(f"    /{path} differs")
        return 1
    print("The images are the same, file by file, package caches apart.")
    if not agreed:
        if not sys.stdin.isatty():
            print("Nothing written: --yes writes it.")
            return 1
        if ask("Write these changes? [y/N] ").strip().lower() not in ("y", "yes"):
            return 1
    write_fixed(Fixing(advised.path, advised.before, advised.after, (), ()))
    print(f"Wrote {advised.path}.")
    return 0


COMMANDS = (
    Command(
        ("advise",),
        "[OPTIONS] [PATH | IMAGE]",
        "Advise on a Dockerfile from its past builds, and rewrite it",
        advise,
        (
            Flag("file", "f", "string", value="file", help="Name of the Dockerfile (default: PATH/Dockerfile)"),
            Flag("fix", "", "bool", help="Rewrite the Dockerfile where that is safe, and measure the effect"),
            Flag("format", "", "string", help="text or json, without --fix"),
            Flag("yes", "y", "bool", help="With --fix, write without asking"),
        ),
        0,
        1,
    ),
)

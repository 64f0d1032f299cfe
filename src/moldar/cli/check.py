"""`moldar check`: what the rules find in a Dockerfile, and mending it."""

from moldar.app.requests import BuildRequest
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine


def check(arguments: Arguments) -> int:
    """1 when findings are left."""
    from moldar.cli.build_options import pairs

    request = BuildRequest(
        context=arguments.positional[0] if arguments.positional else ".",
        file=arguments.text("file"),
        build_args=tuple(pairs(arguments.many("build-arg"), "--build-arg", from_environment=True)),
        platforms=tuple(arguments.many("platform")),
    )
    if arguments.on("fix"):
        return _fix(request, asking=not arguments.on("yes"))
    from moldar.cli.checks import call

    return call("check", request, arguments.text("format"))


def _fix(request: BuildRequest, *, asking: bool) -> int:
    import difflib
    import sys

    from moldar.app.checking import mend_request, write_fixed
    from moldar.cli.questions import ask

    fixing = mend_request(engine(), request)
    before, after = (
        data.decode(errors="replace").splitlines(keepends=True) for data in (fixing.before, fixing.after)
    )
    for line in difflib.unified_diff(before, after, fixing.path, fixing.path):
        print(line.rstrip("\r\n"))
    for finding in fixing.left:
        print(f"left: {finding.rule} (line {finding.line}): {finding.message}")
    if not fixing.mended:
        print("Nothing to mend.")
        return 1 if fixing.left else 0
    if asking and sys.stdin.isatty() and ask("Write these changes? [y/N] ").strip().lower() not in ("y", "yes"):
        return 1
    write_fixed(fixing)
    count = len(fixing.mended)
    print(f"Mended {count} finding{'s' if count > 1 else ''} in {fixing.path}.")
    return 1 if fixing.left else 0


COMMANDS = (
    Command(
        ("check",),
        "[OPTIONS] [PATH]",
        "Check a Dockerfile, and mend it",
        check,
        (
            Flag("build-arg", "", "list", value="name=value", help="Set a build argument"),
            Flag("file", "f", "string", value="file", help="Name of the Dockerfile (default: PATH/Dockerfile)"),
            Flag("fix", "", "bool", help="Show what can be mended safely as a diff, and write it"),
            Flag("format", "", "string", help="text or json, without --fix"),
            Flag("platform", "", "list", value="platform", help="Target platform, such as linux/arm64"),
            Flag("yes", "y", "bool", help="With --fix at a terminal, do not ask before writing"),
        ),
        0,
        1,
    ),
)

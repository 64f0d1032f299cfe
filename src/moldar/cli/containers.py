"""Commands on containers that are there: start, stop, exec, logs, rm and their kin."""

import sys
from collections.abc import Callable

from moldar.app.engine import Engine
from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.questions import confirmed
from moldar.errors import MoldarError, UserMistake


def each(arguments: Arguments, work: Callable[[Engine, str], object]) -> int:
    """Do the same to every container named, go on after a failure, and fail at the end, as Docker does."""
    store = engine()
    failed: MoldarError | None = None
    for name in arguments.positional:
        try:
            work(store, name)
            print(name)
        except MoldarError as error:
            if failed is not None:
                print(f"ERROR: {failed.message}", file=sys.stderr)
            failed = error
    if failed is not None:
        raise failed
    return 0


def start(arguments: Arguments) -> int:
    from moldar.app import containers

    if arguments.on("attach") or arguments.on("interactive"):
        if len(arguments.positional) != 1:
            raise UserMistake("you cannot start and attach multiple containers at once")
        return containers.start_attached(engine(), arguments.positional[0], interactive=arguments.on("interactive"))
    return each(arguments, containers.start)


def attach(arguments: Arguments) -> int:
    from moldar.app import containers

    return containers.attach(engine(), arguments.positional[0], interactive=not arguments.on("no-stdin"))


def stop(arguments: Arguments) -> int:
    from moldar.app import containers

    seconds, signal = _seconds(arguments), arguments.text("signal")
    return each(arguments, lambda store, name: containers.stop(store, name, timeout=seconds, signal=signal))


def _seconds(arguments: Arguments) -> int | None:
    """How long to wait before killing; Docker renamed --time to --timeout and takes both."""
    given = [name for name in ("timeout", "time") if name in arguments.given]
    return arguments.number(given[0]) if given else None


def restart(arguments: Arguments) -> int:
    from moldar.app import containers

    seconds, signal = _seconds(arguments), arguments.text("signal")
    return each(arguments, lambda store, name: containers.restart(store, name, timeout=seconds, signal=signal))


def kill(arguments: Arguments) -> int:
    from moldar.app import containers

    return each(arguments, lambda store, name: containers.kill(store, name, arguments.text("signal") or "KILL"))


def remove(arguments: Arguments) -> int:
    from moldar.app import containers

    return each(
        arguments,
        lambda store, name: containers.remove(
            store, name, force=arguments.on("force"), volumes=arguments.on("volumes")
        ),
    )


def rename(arguments: Arguments) -> int:
    from moldar.app import containers

    containers.rename(engine(), *arguments.positional)
    return 0


def wait(arguments: Arguments) -> int:
    from moldar.app import containers

    store = engine()
    for name in arguments.positional:
        print(containers.wait(store, name))
    return 0


def logs(arguments: Arguments) -> int:
    from moldar.app import containers

    tail = arguments.text("tail")
    if tail not in ("", "all") and not tail.isdecimal():
        raise UserMistake(f"invalid value {tail!r} for --tail", hint="expected a number or all")
    lines = containers.logs(
        engine(),
        arguments.positional[0],
        follow=arguments.on("follow"),
        tail=int(tail) if tail.isdecimal() else None,
        since=arguments.text("since"),
        until=arguments.text("until"),
    )
    for line in lines:
        out = sys.stderr.buffer if line.stream == "stderr" else sys.stdout.buffer
        out.write(f"{line.time} ".encode() + line.data if arguments.on("timestamps") else line.data)
        out.flush()
    return 0


def execute(arguments: Arguments) -> int:
    from moldar.app import containers
    from moldar.cli.run import environment_words

    name, *command = arguments.positional
    tty = arguments.on("tty")
    if tty and not sys.stdin.isatty():
        raise UserMistake("the input device is not a TTY", hint="leave out -t, or run it in a terminal")
    return containers.execute(
        engine(),
        name,
        command,
        interactive=arguments.on("interactive"),
        tty=tty,
        detach=arguments.on("detach"),
        env=environment_words(arguments),
        user=arguments.text("user"),
        workdir=arguments.text("workdir"),
        privileged=arguments.on("privileged"),
    )


def prune(arguments: Arguments) -> int:
    from moldar.app import containers
    from moldar.cli.listings import name_value_filters

    filters = name_value_filters(arguments.many("filter"))
    if not arguments.on("force") and not confirmed("WARNING! This will remove all stopped containers."):
        return 0
    pruned = containers.prune(engine(), filters)
    if pruned.removed:
        print("Deleted Containers:", *pruned.removed, "", sep="\n")
    print(f"Total reclaimed space: {tables.size(pruned.freed)}")
    return 0


ENDING = (
    Flag("signal", "s", "string", help="Signal to send instead of the container's stop signal"),
    Flag("time", "", "int", help="The same as --timeout"),
    Flag("timeout", "t", "int", help="Seconds to wait before killing it"),
)
ENV = Flag("env", "e", "list", help="Set environment variables")
COMMANDS = (
    Command(
        ("container", "attach"),
        "[OPTIONS] CONTAINER",
        "Attach to a running container",
        attach,
        (Flag("no-stdin", "", "bool", help="Do not attach stdin"),),
        1,
        1,
    ),
    Command(
        ("container", "start"),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        start,
        (
            Flag("attach", "a", "bool", help="Show its output and forward signals"),
            Flag("interactive", "i", "bool", help="Attach stdin too"),
        ),
        1,
    ),
    Command(
        ("container", "stop"),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        stop,
        ENDING,
        1,
    ),
    Command(
        ("container", "restart"),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        restart,
        ENDING,
        1,
    ),
    Command(
        ("container", "kill"),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        kill,
        (Flag("signal", "s", "string", "KILL", help="Signal to send"),),
        1,
    ),
    Command(
        ("container", "rm"),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        remove,
        (
            Flag("force", "f", "bool", help="Kill a running container first"),
            Flag("volumes", "v", "bool", help="Remove its anonymous volumes too"),
        ),
        1,
    ),
    Command(("container", "rename"), "CONTAINER NEW_NAME", "Rename a container", rename, (), 2, 2),
    Command(
        ("container", "wait"),
        "CONTAINER [CONTAINER...]",
        "Block until containers stop, then print their exit codes",
        wait,
        (),
        1,
    ),
    Command(
        ("container", "logs"),
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        logs,
        (
            Flag("follow", "f", "bool", help="Keep on showing new output"),
            Flag("since", "", "string", help="Show from a time on (2024-01-02T13:23:37Z) or a while ago (42m)"),
            Flag("tail", "n", "string", "all", help="Number of lines to show from the end"),
            Flag("timestamps", "t", "bool", help="Show times"),
            Flag("until", "", "string", help="Show up to a time or a while ago"),
        ),
        1,
        1,
    ),
    Command(
        ("container", "exec"),
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        execute,
        (
            Flag("detach", "d", "bool", help="Run in the background"),
            ENV,
            Flag("env-file", "", "list", help="Read a file of environment variables"),
            Flag("interactive", "i", "bool", help="Keep stdin open"),
            Flag("privileged", "", "bool", help="Give extended privileges"),
            Flag("tty", "t", "bool", help="Give the process a terminal"),
            Flag("user", "u", "string", help="User name or UID, with :group or :GID"),
            Flag("workdir", "w", "string", help="Working directory"),
        ),
        2,
        interspersed=False,
    ),
    Command(
        ("container", "prune"),
        "[OPTIONS]",
        "Remove all stopped containers",
        prune,
        (
            Flag("filter", "", "list", value="filter", help="Filter by until=, label= or label!="),
            Flag("force", "f", "bool", help="Do not prompt for confirmation"),
        ),
        0,
        0,
    ),
)

"""Commands on running containers by their processes: pause, unpause, top, stats, update."""

from typing import Any

from moldar.cli import environment, tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.containers import each
from moldar.cli.engine import engine
from moldar.cli.listings import listing
from moldar.errors import UserMistake

HEADINGS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_CLEAR, _HOME, _REST = "\033[2J\033[H", "\033[H", "\033[J"
_ERASE_LINE = "\033[K"


def pause(arguments: Arguments) -> int:
    from moldar.app import supervising

    return each(arguments, supervising.pause)


def unpause(arguments: Arguments) -> int:
    from moldar.app import supervising

    return each(arguments, supervising.unpause)


def top(arguments: Arguments) -> int:
    from moldar.app import supervising

    name, *options = arguments.positional
    shown = supervising.top(engine(), name, options)
    print(tables.table(shown.titles, shown.lines))
    return 0


def stats(arguments: Arguments) -> int:
    from moldar.app import supervising

    live = environment.stdout_is_terminal() and not arguments.on("no-stream")
    first = True
    for shown in supervising.stats(engine(), arguments.positional, everything=arguments.on("all")):
        rows = [_row(each, full=arguments.on("no-trunc")) for each in shown]
        text = listing(arguments.text("format"), rows, HEADINGS, COLUMNS)
        if live:
            lines = "".join(f"{line}{_ERASE_LINE}\n" for line in text.splitlines())
            text = (_CLEAR if first else _HOME) + lines + _REST
        print(text, end="", flush=True)
        first = False
        if arguments.on("no-stream"):
            return 0
    return 0


def _row(shown: Any, *, full: bool) -> dict[str, str]:
    figures, sample = shown.figures, shown.figures.sample
    identity = shown.id if full else shown.id[:12]
    return {
        "Container": identity,
        "ID": identity,
        "Name": shown.name,
        "CPUPerc": f"{figures.cpu:.2f}%",
        "MemUsage": f"{tables.binary_size(sample.memory)} / {tables.binary_size(sample.limit)}",
        "MemPerc": f"{figures.memory_share:.2f}%",
        "NetIO": f"{tables.size(sample.received)} / {tables.size(sample.sent)}",
        "BlockIO": f"{tables.size(sample.read)} / {tables.size(sample.written)}",
        "PIDs": str(sample.pids),
    }


def update(arguments: Arguments) -> int:
    from moldar.app import supervising

    if not arguments.given:
        raise UserMistake("you must provide one or more flags when using this command")
    wish = supervising.Wish(
        restart=arguments.text("restart") if "restart" in arguments.given else None,
        memory=_bytes(arguments, "memory"),
        memory_swap=_bytes(arguments, "memory-swap"),
        cpus=_cpus(arguments) if "cpus" in arguments.given else None,
        pids=arguments.number("pids-limit") if "pids-limit" in arguments.given else None,
    )
    return each(arguments, lambda store, name: supervising.update(store, name, wish))


def _bytes(arguments: Arguments, name: str) -> int | None:
    from moldar.cli.build_options import size_in_bytes

    if name not in arguments.given:
        return None
    text = arguments.text(name)
    return -1 if text == "-1" else size_in_bytes(text, f"--{name}")


def _cpus(arguments: Arguments) -> float:
    try:
        return max(float(arguments.text("cpus")), 0.0)
    except ValueError as error:
        raise UserMistake(
            f"invalid value {arguments.text('cpus')!r} for --cpus", hint="expected a number such as 1.5"
        ) from error


COMMANDS = (
    Command(
        ("container", "pause"),
        "CONTAINER [CONTAINER...]",
        "Pause all processes within containers",
        pause,
        (),
        1,
    ),
    Command(
        ("container", "unpause"),
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within containers",
        unpause,
        (),
        1,
    ),
    Command(
        ("container", "top"),
        "CONTAINER [ps OPTIONS]",
        "Show the running processes of a container",
        top,
        (),
        1,
        interspersed=False,
    ),
    Command(
        ("container", "stats"),
        "[OPTIONS] [CONTAINER...]",
        "Show what containers use, as it changes",
        stats,
        (
            Flag("all", "a", "bool", help="Show all containers, not just running ones"),
            Flag("format", "", "string", value="string", help="Print with a Go template, 'table TEMPLATE' or 'json'"),
            Flag("no-stream", "", "bool", help="Show it once"),
            Flag("no-trunc", "", "bool", help="Do not shorten the output"),
        ),
        0,
    ),
    Command(
        ("container", "update"),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Change limits and restart policy of containers",
        update,
        (
            Flag("cpus", "", "string", value="decimal", help="Number of CPUs; 0 for no limit"),
            Flag("memory", "m", "string", value="bytes", help="Memory limit"),
            Flag("memory-swap", "", "string", value="bytes", help="Limit of memory and swap together; -1 for none"),
            Flag("pids-limit", "", "int", help="Most processes; -1 for no limit"),
            Flag("restart", "", "string", help="Restart policy: no, on-failure[:max], always, unless-stopped"),
        ),
        1,
    ),
)

"""Verbs on containers that run, by their processes: pause, top, stats; and update, which may change their limits."""

import os
import shutil
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from moldar.containers.definition import Definition, decode_definition, encode_definition
from moldar.containers.figures import Figures, Sample, compare, take_sample
from moldar.containers.limits import NoCgroups, apply_limits
from moldar.containers.options import parse_restart
from moldar.containers.pausing import pause, unpause
from moldar.containers.processes import Process, container_pids, look_at, user_name
from moldar.containers.service import DEFINITION, NotRunning
from moldar.containers.status import Status, read_status
from moldar.errors import HostTrouble, UserMistake
from moldar.sandbox.spawning import Command, output_of
from moldar.store.containers import ContainerRow
from moldar.store.home import Home

COLUMNS = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Records(Protocol):
    """The store's container records, as far as this needs them."""

    def find(self, text: str) -> ContainerRow: ...
    def update(self, container: str, state: str) -> None: ...


class Table(NamedTuple):
    """Titles and lines of cells, as many in each line."""

    titles: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


class Wish(NamedTuple):
    """What `update` shall change; None leaves it. Sizes in bytes, -1 for no limit; `restart` as for `run`."""

    restart: str | None = None
    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    pids: int | None = None


class Supervision:
    """The containers of one store, as far as their processes go."""

    def __init__(self, home: Home, records: Records) -> None:
        self._home = home
        self._records = records

    def pause(self, name: str) -> None:
        """Let none of the container's processes run; NotRunning, UserMistake when it is paused, HostTrouble."""
        row, status = self._running(name)
        if status.paused:
            raise UserMistake(f"container {name} is already paused")
        pause(self._directory(row.id), row.id, status.process)

    def unpause(self, name: str) -> None:
        """Let a paused container go on; NotRunning, UserMistake when it is not paused."""
        row, status = self._running(name)
        if not status.paused:
            raise UserMistake(f"container {name} is not paused")
        unpause(self._directory(row.id), row.id, status.process)

    def top(self, name: str, options: Sequence[str] = ()) -> Table:
        """The container's processes, by `ps -ef`'s columns or by what the host's `ps` shows with `options`.

        NotRunning; UserMistake when `ps` refuses the options or does not show pids with them.
        """
        row, status = self._running(name)
        pids = container_pids(status.process.pid, row.id)
        if options:
            return _by_ps(options, set(pids))
        now = time.time()
        return Table(COLUMNS, tuple(_line(process, now) for process in look_at(pids)))

    def sample(self, name: str) -> Sample:
        """What a container uses now; nothing when it does not run."""
        row = self._records.find(name)
        status = read_status(self._directory(row.id))
        if not status.running or not status.process.alive:
            return Sample()
        own_network = decode_definition(row.state).network != "host"
        return take_sample(status.process.pid, row.id, own_network=own_network)

    def figures(self, before: Sample, name: str) -> tuple[Figures, Sample]:
        """What it uses since `before`, and the sample to compare with next time."""
        after = self.sample(name)
        return compare(before if before.moment else after, after), after

    def update(self, name: str, wish: Wish, *, cgroups: bool) -> None:
        """Change a container's limits and restart policy, at once if it runs. NoCgroups, UserMistake, HostTrouble.

        `cgroups` tells whether the runtime can set limits here.
        """
        row = self._records.find(name)
        before = decode_definition(row.state)
        after = _wished(before, wish)
        status = read_status(self._directory(row.id))
        if _limits(after) != _limits(before):
            if not cgroups:
                raise NoCgroups
            if status.running:
                apply_limits(status.process.pid, before, after)
        text = encode_definition(after)
        path = f"{self._directory(row.id)}/{DEFINITION}"
        with open(f"{path}.{os.getpid()}", "w") as file:
            file.write(text)
        os.replace(f"{path}.{os.getpid()}", path)
        self._records.update(row.id, text)

    def _running(self, name: str) -> tuple[ContainerRow, Status]:
        row = self._records.find(name)
        status = read_status(self._directory(row.id))
        if not status.running or not status.process.alive:
            raise NotRunning(name)
        return row, status

    def _directory(self, identity: str) -> str:
        return f"{self._home.containers}/{identity}"


def _limits(definition: Definition) -> tuple[float, ...]:
    return definition.memory, definition.memory_swap, definition.cpus, definition.pids


def _wished(before: Definition, wish: Wish) -> Definition:
    after = before
    if wish.restart is not None:
        if before.auto_remove:
            raise UserMistake("restart policy cannot be updated because AutoRemove is enabled for the container")
        policy, most = parse_restart(wish.restart)
        after = after._replace(restart=policy, restart_most=most)
    if wish.memory is not None:
        after = after._replace(memory=max(wish.memory, 0))
    if wish.memory_swap is not None:
        after = after._replace(memory_swap=wish.memory_swap)
    if wish.cpus is not None:
        after = after._replace(cpus=wish.cpus)
    if wish.pids is not None:
        after = after._replace(pids=max(wish.pids, 0))
    if 0 < after.memory_swap < after.memory:
        raise UserMistake(
            "the memory limit is above that of memory and swap together",
            hint="give --memory-swap at the same time, or -1 for no limit of swap",
        )
    return after


def _line(process: Process, now: float) -> tuple[str, ...]:
    seconds = int(process.cpu)
    lived = max(now - process.started, 1.0)
    day = time.strftime("%H:%M" if now - process.started < 86400 else "%b%d", time.localtime(process.started))
    return (
        user_name(process.user),
        str(process.pid),
        str(process.parent),
        str(int(process.cpu * 100 / lived)),
        day,
        _terminal(process.terminal),
        f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}",
        process.command,
    )


def _terminal(number: int) -> str:
    """A terminal's name from tty_nr (proc_pid_stat(5)): ptys have the majors 136 to 143."""
    if 136 <= os.major(number) <= 143:
        return f"pts/{os.minor(number) + 256 * (os.major(number) - 136)}"
    return f"tty{os.minor(number)}" if number else "?"


def _by_ps(options: Sequence[str], pids: set[int]) -> Table:
    program = shutil.which("ps", path=_PATH)
    if program is None:
        raise HostTrouble("this host has no ps", hint="apt-get install procps, or leave the options out")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "COLUMNS": "4096"}
        code, output = output_of(Command(program, tuple(options), (null,), environment))
    finally:
        os.close(null)
    lines = output.decode(errors="backslashreplace").splitlines()
    if code or not lines:
        raise UserMistake(f"ps refused the options: {lines[0] if lines else f'exit code {code}'}")
    titles = lines[0].split()
    if "PID" not in titles:
        raise UserMistake(
            "couldn't find PID field in ps output", hint="let the options show pids, as -o pid,cmd does"
        )
    place, last = titles.index("PID"), len(titles) - 1
    rows = [line.split(None, last) for line in lines[1:]]
    shown = [(*row, *[""] * (last + 1 - len(row))) for row in rows if _pid(row, place) in pids]
    return Table(tuple(titles), tuple(shown))


def _pid(row: Sequence[str], place: int) -> int:
    return int(row[place]) if len(row) > place and row[place].isdecimal() else -1

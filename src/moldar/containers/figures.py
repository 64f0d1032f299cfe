"""What a running container uses: processor, memory, network, block devices, processes.

From its cgroup's files where it has one, else from its processes in /proc, summed. Sources: cgroup-v2.rst,
cgroup-v1/{memory,cpuacct,blkio-controller}.rst, proc(5).
"""

import time
from typing import NamedTuple

from moldar.containers.cgroups import Cgroups, cgroups_of
from moldar.containers.processes import container_pids, look_at

_NO_LIMIT = 1 << 60


class Sample(NamedTuple):
    """A look at a container. `moment` is on the monotonic clock, `cpu` in seconds used so far, the rest in bytes."""

    moment: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    limit: int = 0
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    pids: int = 0


class Figures(NamedTuple):
    """What `stats` shows. Shares in percent: of one processor, and of the memory that there may be."""

    cpu: float
    memory_share: float
    sample: Sample


def take_sample(init: int, identity: str, *, own_network: bool) -> Sample:
    """Look at the container whose first process is `init`. `own_network`: it has interfaces of its own."""
    received, sent = _network(init) if own_network else (0, 0)
    sample = measure(cgroups_of(init, identity), container_pids(init, identity))
    return sample._replace(received=received, sent=sent)


def measure(groups: Cgroups, pids: list[int]) -> Sample:
    """What these processes use, by their cgroups where these tell it; nothing of the network."""
    limit = groups.read("memory", "memory.limit_in_bytes", "memory.max").strip()
    whole = _memory_of_host()
    read, written = _blocks(groups, pids)
    return Sample(
        time.monotonic(),
        _cpu(groups, pids),
        _memory(groups, pids),
        min(int(limit), whole) if limit.isdecimal() and int(limit) < _NO_LIMIT else whole,
        read=read,
        written=written,
        pids=len(pids),
    )


def compare(before: Sample, after: Sample) -> Figures:
    """The figures of the time between two samples."""
    seconds = after.moment - before.moment
    cpu = max(after.cpu - before.cpu, 0.0) / seconds * 100 if seconds > 0 else 0.0
    return Figures(cpu, after.memory / after.limit * 100 if after.limit else 0.0, after)


def _cpu(groups: Cgroups, pids: list[int]) -> float:
    if text := groups.read("cpuacct", "cpuacct.usage", ""):
        return int(text) / 10**9
    if usage := _table(groups.read("", "", "cpu.stat")).get("usage_usec"):
        return usage / 10**6
    return sum(process.cpu for process in look_at(pids))


def _memory(groups: Cgroups, pids: list[int]) -> int:
    """Without the file cache that could go at once, as Docker counts."""
    used = groups.read("memory", "memory.usage_in_bytes", "memory.current")
    if used:
        table = _table(groups.read("memory", "memory.stat", "memory.stat"))
        return max(int(used) - table.get("total_inactive_file", table.get("inactive_file", 0)), 0)
    return sum(_own_memory(pid) for pid in pids)


def _own_memory(pid: int) -> int:
    """What is resident, with its share of what several processes have in common."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return _table(file.read().replace(":", " ")).get("Pss", 0) * 1024
    except OSError:
        return sum(process.resident for process in look_at((pid,)))


def _network(init: int) -> tuple[int, int]:
    received = sent = 0
    try:
        with open(f"/proc/{init}/net/dev") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return 0, 0
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            fields = numbers.split()
            received, sent = received + int(fields[0]), sent + int(fields[8])
    return received, sent


def _blocks(groups: Cgroups, pids: list[int]) -> tuple[int, int]:
    text = groups.read("blkio", "blkio.throttle.io_service_bytes", "io.stat")
    if text or groups.file("blkio", "blkio.throttle.io_service_bytes", "io.stat"):
        return _count(text, "Read", "rbytes"), _count(text, "Write", "wbytes")
    read = written = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/io") as file:
                table = _table(file.read().replace(":", " "))
        except OSError:
            continue
        read, written = read + table.get("read_bytes", 0), written + table.get("write_bytes", 0)
    return read, written


def _count(text: str, version1: str, version2: str) -> int:
    """Sums `8:0 Read 4096` of version 1, or `8:0 rbytes=4096 …` of version 2."""
    total = 0
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] == version1:
            total += int(fields[2])
        total += sum(int(field.partition("=")[2]) for field in fields if field.startswith(version2 + "="))
    return total


def _table(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}


def _memory_of_host() -> int:
    with open("/proc/meminfo") as file:
        return _table(file.read().replace(":", " "))["MemTotal"] * 1024

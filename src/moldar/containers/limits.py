"""Changing the limits of a container that runs, in its cgroup."""

from moldar.containers.cgroups import UNIFIED, Cgroups, cgroups_of, write
from moldar.containers.definition import Definition
from moldar.errors import Unsupported

_PERIOD = 100_000


class NoCgroups(Unsupported):
    """There is nothing that a limit could be set in."""

    def __init__(self) -> None:
        super().__init__(
            "limits cannot be changed: cgroups cannot be used on this host",
            hint="the restart policy can be changed; `moldar system info` tells what this host offers",
        )


def apply_limits(init: int, before: Definition, after: Definition) -> None:
    """Set what differs between the two for the container whose first process is `init`; NoCgroups, HostTrouble."""
    groups = cgroups_of(init, after.id)
    if (before.memory, before.memory_swap) != (after.memory, after.memory_swap):
        _set_memory(groups, before, after)
    if before.cpus != after.cpus:
        quota = int(after.cpus * _PERIOD)
        if UNIFIED in dict(groups.directories) and groups.file("", "", "cpu.max"):
            _set(groups, "", "", "cpu.max", f"{quota or 'max'} {_PERIOD}")
        else:
            _set(groups, "cpu", "cpu.cfs_period_us", "", str(_PERIOD))
            _set(groups, "cpu", "cpu.cfs_quota_us", "", str(quota or -1))
    if before.pids != after.pids:
        _set(groups, "pids", "pids.max", "pids.max", str(after.pids) if after.pids > 0 else "max")


def _set_memory(groups: Cgroups, before: Definition, after: Definition) -> None:
    """Version 1 refuses a limit above that of memory and swap together, so the larger one goes first."""
    swap = after.memory_swap
    if groups.file("", "", "memory.max"):
        _set(groups, "", "", "memory.max", str(after.memory or "max"))
        if swap and groups.file("", "", "memory.swap.max"):
            _set(groups, "", "", "memory.swap.max", "max" if swap < 0 else str(max(swap - after.memory, 0)))
        return
    settings = [("memory.limit_in_bytes", after.memory or -1)]
    if swap and groups.file("memory", "memory.memsw.limit_in_bytes", ""):
        settings.insert(0 if after.memory > before.memory else 1, ("memory.memsw.limit_in_bytes", swap))
    for file, value in settings:
        _set(groups, "memory", file, "", str(value))


def _set(groups: Cgroups, controller: str, version1: str, version2: str, value: str) -> None:
    path = groups.file(controller, version1, version2)
    if not path:
        raise NoCgroups
    write(path, value)

"""The processes of a running container, as the host sees them: read from /proc (proc(5))."""

import os
import pwd
import time
from collections.abc import Iterable
from typing import NamedTuple

from moldar.containers.cgroups import cgroups_of

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """One process. `state` is proc's letter; `cpu` in seconds used, `started` in seconds since the epoch."""

    pid: int
    parent: int
    state: str
    terminal: int
    cpu: float
    started: float
    resident: int
    command: str
    user: int


def container_pids(init: int, identity: str) -> list[int]:
    """The pids of the container whose first process is `init`: those in its cgroup, its pid name space, and below."""
    parents = {pid: int(fields[1]) for pid in _all_pids() if (fields := _stat(pid))}
    try:
        namespace = os.readlink(f"/proc/{init}/ns/pid")
    except OSError:
        return []
    found = {pid for pid in parents if pid == init or _namespace(pid) == namespace}
    found |= cgroups_of(init, identity).processes() & parents.keys()
    grown = True
    while grown:  # containers inside have pid name spaces of their own
        below = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        found |= below
        grown = bool(below)
    return sorted(found)


def look_at(pids: Iterable[int]) -> list[Process]:
    """What is known of these processes; those that are gone are left out."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return [process for pid in pids if (process := _process(pid, booted))]


def user_name(uid: int) -> str:
    """The host's name of a user, its number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _process(pid: int, booted: float) -> Process | None:
    fields = _stat(pid)
    if not fields:
        return None
    try:
        user = os.stat(f"/proc/{pid}").st_uid
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="backslashreplace")
        with open(f"/proc/{pid}/comm") as file:
            name = file.read().strip()
    except OSError:
        return None
    return Process(
        pid,
        int(fields[1]),
        fields[0],
        int(fields[4]),
        (int(fields[11]) + int(fields[12])) / TICKS,
        booted + int(fields[19]) / TICKS,
        int(fields[21]) * PAGE,
        words or f"[{name}]",
        user,
    )


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state; none when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""

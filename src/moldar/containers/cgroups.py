"""The cgroups of a running container, found from one of its processes: nothing where it has none of its own.

A path counts only if the container's ID is a component of it, for without cgroups a container's processes are in a
group of the host's, and that must never be frozen or limited. Sources: cgroups(7), the kernel's cgroup-v2.rst and
cgroup-v1/.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from moldar.errors import HostTrouble

UNIFIED = ""
"""The name of version 2's hierarchy among the controllers."""


class Cgroups(NamedTuple):
    """Directories by controller, as pairs; those of version 1 by their names, that of version 2 under UNIFIED."""

    directories: tuple[tuple[str, str], ...] = ()

    def file(self, controller: str, version1: str, version2: str) -> str:
        """The path of a controller's file, whose name depends on the version; empty where there is none."""
        for name, file in ((controller, version1), (UNIFIED, version2)):
            directory = dict(self.directories).get(name)
            if directory and file and os.path.exists(f"{directory}/{file}"):
                return f"{directory}/{file}"
        return ""

    def read(self, controller: str, version1: str, version2: str) -> str:
        """The content of such a file; empty where there is none."""
        try:
            with open(self.file(controller, version1, version2)) as file:
                return file.read()
        except OSError:
            return ""

    def processes(self) -> set[int]:
        """The pids in the container's groups and all below; an empty set where there are none."""
        for _, directory in self.directories:
            if found := set(_pids(directory)):
                return found
        return set()


def cgroups_of(pid: int, identity: str) -> Cgroups:
    """The groups of the container `identity` that the process `pid` is in."""
    try:
        with open(f"/proc/{pid}/cgroup") as groups, open("/proc/self/mountinfo") as mounts:
            return find_cgroups(groups.read(), mounts.read(), identity)
    except OSError:
        return Cgroups()


def find_cgroups(groups: str, mountinfo: str, identity: str) -> Cgroups:
    """From the texts of /proc/PID/cgroup and /proc/self/mountinfo."""
    places = dict(_mounts(mountinfo))
    found = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        above, own, _ = path.partition(f"/{identity}")
        if not own:
            continue
        for controller in controllers.split(","):
            root, point = places.get(controller, ("", ""))
            inside = f"{above}{own}".removeprefix(root.rstrip("/"))
            if point:
                found.append((controller, point + inside))
    return Cgroups(tuple(found))


def write(path: str, value: str) -> None:
    """Set a value of a cgroup; HostTrouble."""
    try:
        with open(path, "w") as file:
            file.write(value)
    except OSError as error:
        raise HostTrouble(f"cannot write {value!r} to {path}: {error.strerror}") from error


def _mounts(mountinfo: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """For each controller where its hierarchy is mounted, and what of it (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        fields = line.split()
        rest = fields[fields.index("-") + 1 :]
        if rest[0] == "cgroup2":
            yield UNIFIED, (fields[3], fields[4])
        elif rest[0] == "cgroup":
            for option in rest[2].split(","):
                yield option, (fields[3], fields[4])


def _pids(directory: str) -> Iterator[int]:
    for folder, _, files in os.walk(directory):
        if "cgroup.procs" in files:
            try:
                with open(f"{folder}/cgroup.procs") as file:
                    yield from map(int, file.read().split())
            except OSError:
                continue

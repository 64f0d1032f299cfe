"""Going into a container that runs: its name spaces, and a terminal from inside."""

import os

from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.failures import Doing, Failure
from moldar.sandbox.isolation.lifetimes import start_time
from moldar.sandbox.isolation.terminals import Console, Relay, Terminal
from moldar.sandbox.mounts import CLONE_NEWNET, CLONE_NEWNS, set_namespace

_ORDER = {
    "ipc": calls.CLONE_NEWIPC,
    "uts": calls.CLONE_NEWUTS,
    "net": CLONE_NEWNET,
    "cgroup": calls.CLONE_NEWCGROUP,
    "mnt": CLONE_NEWNS,
}


class Joined:
    """The name spaces of a container's process, opened while the host's files are still seen."""

    def __init__(self, pid: int, started: int) -> None:
        with Doing(f"look at the container's process {pid}"):
            self._processes = _open(pid, "pid")
            opened = {name: _open(pid, name) for name in _ORDER}
        if start_time(pid) != started:
            raise Failure("the container does not run any more")
        self._others = {name: descriptor for name, descriptor in opened.items() if not _is_ours(name, descriptor)}

    def enter_processes(self) -> None:
        """Have our children be among the container's processes."""
        with Doing("join the container's processes"):
            set_namespace(self._processes, calls.CLONE_NEWPID)

    def enter(self, console: Console | Relay | None) -> int:
        """Go where the container is; the terminal's end for the process, -1 without `console`."""
        with Doing("join the container"):
            for name, descriptor in self._others.items():
                set_namespace(descriptor, _ORDER[name])
                os.close(descriptor)
            os.close(self._processes)
        calls.new_session_keyring()
        if not console:
            return -1
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        terminal = Terminal(root)
        os.close(root)
        console.send(terminal.master)
        os.close(terminal.master)
        return terminal.slave


def _open(pid: int, name: str) -> int:
    return os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)


def _is_ours(name: str, descriptor: int) -> bool:
    """Whether we are in there already, so that joining it, which may need rights that we lack, is not needed."""
    ours, theirs = os.stat(f"/proc/self/ns/{name}"), os.fstat(descriptor)
    return (ours.st_ino, ours.st_dev) == (theirs.st_ino, theirs.st_dev)

"""Starting programs with given descriptors, cheaply and, where needed, without the host's hybrid cgroup tree.

crun 1.8 refuses to start on a host that has cgroup version 1 controllers and also controllers on the version 2 tree
(at /sys/fs/cgroup/unified), whatever its options say. It decides by looking for that mount. A thread of its own
leaves the mount name space, takes the mount away there and starts crun, which then works as on any version 1 host
and needs a third of runc's time. Nothing changes for the rest of the process.
"""

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moldar.errors import HostTrouble
from moldar.sandbox.mounts import CLONE_NEWNS, MNT_DETACH, MS_REC, MS_SLAVE, mount, unmount, unshare

UNIFIED = "/sys/fs/cgroup/unified"
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Command(NamedTuple):
    """A program to start. `descriptors` become 0, 1, 2 …; all others are closed.

    `own_group`: in a process group of its own, so that Ctrl-C reaches only us. Without, it may read our terminal.
    """

    program: str
    args: tuple[str, ...]
    descriptors: tuple[int, ...]
    environment: Mapping[str, str]
    hide_unified: bool = False
    own_group: bool = True


def spawn(command: Command) -> int:
    """Start `command`; gives the pid. HostTrouble."""
    if not command.hide_unified:
        return _spawn(command)
    outcome: list[int | BaseException] = []

    def start() -> None:
        try:
            unshare(CLONE_NEWNS)
            mount("", "/", "", MS_REC | MS_SLAVE)
            _hide(UNIFIED)
            outcome.append(_spawn(command))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    if isinstance(outcome[0], OSError):
        raise HostTrouble(f"cannot start {command.program}: {outcome[0].strerror}") from outcome[0]
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _hide(point: str) -> None:
    """In a user namespace the host's mounts cannot be taken away, but covered."""
    try:
        unmount(point, MNT_DETACH)
    except OSError:
        mount("none", point, "tmpfs")


def wait(pid: int) -> int:
    """The exit code of a child, 128 + n for signal n."""
    return _shell_code(os.waitpid(pid, 0)[1])


def output_of(command: Command) -> tuple[int, bytes]:
    """Run to the end with standard output and error in a pipe; exit code and output. `descriptors` gives stdin."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            pid = spawn(command._replace(descriptors=(command.descriptors[0], writing, writing)))
        finally:
            os.close(writing)
        chunks = []
        while chunk := os.read(reading, 65536):
            chunks.append(chunk)
    finally:
        os.close(reading)
    return wait(pid), b"".join(chunks)


def _spawn(command: Command) -> int:
    actions = _descriptor_actions(command.descriptors)
    arguments = [command.program, *command.args]
    try:
        return os.posix_spawn(
            command.program,
            arguments,
            command.environment,
            file_actions=actions,
            setpgroup=0 if command.own_group else os.getpgrp(),
            setsigmask=[],
            setsigdef=_IGNORED_BY_PYTHON,
        )
    except OSError as error:
        raise HostTrouble(f"cannot start {command.program}: {error.strerror}") from error


def _descriptor_actions(descriptors: Sequence[int]) -> list[tuple[int, int, int]]:
    """Duplicates each descriptor to its place; those in the way of others are moved up first."""
    free = max(*descriptors, len(descriptors)) + 1
    moved = [(os.POSIX_SPAWN_DUP2, descriptor, free + place) for place, descriptor in enumerate(descriptors)]
    placed = [(os.POSIX_SPAWN_DUP2, free + place, place) for place in range(len(descriptors))]
    closed = [(os.POSIX_SPAWN_CLOSE, free + place) for place in range(len(descriptors))]
    return [*moved, *placed, *closed]  # type: ignore[list-item]


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code

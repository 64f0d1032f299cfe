"""Views: layers shown through FUSE, one mount for each layer, so that overlayfs itself puts them together.

A view is a directory that looks like the layer's own, whiteouts and opaque marks included, and can be a lower
directory in its place. What is looked at there is known when the step's process has ended.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from moldar.errors import HostTrouble
from moldar.sandbox.mounts import MS_NOATIME, MS_NODEV, MS_NOSUID, MS_RDONLY, mount
from moldar.sandbox.readset.observations import Question
from moldar.sandbox.spawning import Command, spawn
from moldar.sandbox.workdirs import release

VIEWED_TIME = 946684800 * 10**9
"""The modification time of every directory in a view, in nanoseconds; server.py has it too, a test compares."""

Questions = frozenset[Question]
_DEVICE = "/dev/fuse"
_FLAGS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME
# Imported and not run, because Python keeps the compiled form only then; last on the path, so that it hides nothing.
_START = "import sys; sys.path.append(sys.argv.pop(1)); import server; server.main()"


def open_views(directories: Sequence[str], place: str) -> "Views | None":
    """Views of `directories`, mounted below the new directory `place`; None where this host has none to offer."""
    views = Views(place)
    try:
        views.open(directories)
    except (OSError, HostTrouble):
        views.close()
        return None
    return views


class Views:
    """The views of one step. `paths` are in the order of the directories given."""

    def __init__(self, place: str) -> None:
        self.paths: tuple[str, ...] = ()
        self.server = -1
        self._place = place
        self._control: socket.socket | None = None
        self._questions: tuple[Questions, ...] | None = None

    def open(self, directories: Sequence[str]) -> None:
        """Mount and start the server. OSError, HostTrouble."""
        os.mkdir(self._place, 0o700)
        devices: list[int] = []
        ours, theirs = socket.socketpair()
        self._control = ours
        try:
            for number in range(len(directories)):
                devices.append(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
                point = f"{self._place}/{number}"
                os.mkdir(point, 0o700)
                data = f"fd={devices[-1]},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
                mount("moldar", point, "fuse", _FLAGS, data)
                self.paths = (*self.paths, point)
            arguments = ("-I", "-S", "-E", "-c", _START, os.path.dirname(os.path.abspath(__file__)), *directories)
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            devices.append(null)
            descriptors = (theirs.fileno(), null, null, *devices[:-1])
            self.server = spawn(Command(sys.executable, arguments, descriptors, {}))
        finally:
            # The server must be the only one to hold them: then its end, in whatever way, ends every request.
            theirs.close()
            for device in devices:
                os.close(device)

    def finish(self) -> tuple[Questions, ...] | None:
        """What was asked of each layer; ends the views. None when that is not known in full. May be repeated.

        The root file system over the views must be unmounted, and nobody use it any more.
        """
        if self._control is not None and self.server > 0:
            self._questions = self._take_log(self._control, len(self.paths))
            if self._wait():
                self._questions = None
        self.close()
        return self._questions

    def _take_log(self, control: socket.socket, layers: int) -> tuple[Questions, ...] | None:
        chunks = []
        try:
            control.sendall(b"q")
            while chunk := control.recv(1 << 20):
                chunks.append(chunk)
        except OSError:
            return None
        *fields, verdict, rest = b"".join(chunks).split(b"\0") if chunks else (b"", b"")
        if verdict != b"complete" or rest:
            return None
        asked: list[set[Question]] = [set() for _ in range(layers)]
        for number, kind, path in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            asked[int(number)].add(Question(os.fsdecode(kind), os.fsdecode(path)))
        return tuple(frozenset(questions) for questions in asked)

    def _wait(self) -> int:
        """Reap the server; its wait status."""
        server, self.server = self.server, -1
        return os.waitpid(server, 0)[1]

    def close(self) -> None:
        """End the server and unmount. Harmless when repeated."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self.server > 0:
            with suppress(ProcessLookupError):
                os.kill(self.server, signal.SIGKILL)
            self._wait()
        for path in self.paths:
            release(path)
        self.paths = ()

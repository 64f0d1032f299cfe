"""What is kept of containers while they exist: a directory each, with the process, and what `execute` must know.

A process is named by its pid and its start time, so that another one which got the same pid later is never mistaken
for it. A container that waits to be started has a FIFO; the byte that lets it go is written there.
"""

import errno
import json
import os
import select
import shutil
import signal
from contextlib import suppress
from typing import NamedTuple

from moldar.errors import HostTrouble
from moldar.sandbox.isolation.cgroups import remove_cgroups
from moldar.sandbox.isolation.lifetimes import start_time

_CONTAINER, _OWNER = "container.json", "owner"
_PATIENCE_MILLISECONDS = 10_000


class Kept(NamedTuple):
    """What `execute` must know of a container. `filter` is empty where nothing is filtered.

    `unruled`: no control group decides about its devices, so its processes may make none.
    """

    cgroups: tuple[str, ...] = ()
    filter: bytes = b""
    unruled: bool = False


class Record:
    """The record of one container, there or not."""

    def __init__(self, root: str, identity: str) -> None:
        self.directory = f"{root}/{identity}"
        self.owner = f"{self.directory}/{_OWNER}"
        self.process_path = f"{self.directory}/process"
        self.fifo = f"{self.directory}/start"

    @property
    def exists(self) -> bool:
        """Whether the container is known."""
        return os.path.isdir(self.directory)

    def keep(self, kept: Kept) -> None:
        """Write down what `execute` must know; makes the record if there is none."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        document = {"cgroups": kept.cgroups, "filter": kept.filter.hex(), "unruled": kept.unruled}
        staged = f"{self.directory}/{_CONTAINER}.new"
        with open(staged, "w") as file:
            json.dump(document, file)
        os.rename(staged, f"{self.directory}/{_CONTAINER}")

    def kept(self) -> Kept:
        """What was written down; FileNotFoundError when there is no such container."""
        with open(f"{self.directory}/{_CONTAINER}") as file:
            document = json.load(file)
        return Kept(tuple(document["cgroups"]), bytes.fromhex(document["filter"]), document["unruled"])

    def process(self) -> tuple[int, int]:
        """The pid and start time of the container's process; zeros when there was none yet."""
        try:
            with open(self.process_path) as file:
                pid, _, started = file.read().partition(" ")
            return int(pid), int(started)
        except FileNotFoundError:
            return 0, 0

    def open_process(self) -> int:
        """A pidfd of the container's process; -1 when it has ended or there was none. The caller closes it."""
        pid, started = self.process()
        if not pid:
            return -1
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return -1
        if start_time(pid) != started:
            os.close(descriptor)
            return -1
        return descriptor

    def signal(self, number: int) -> None:
        """Send a signal to the container's process if it lives."""
        descriptor = self.open_process()
        if descriptor >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            os.close(descriptor)

    def start(self) -> bool:
        """Let the process go that waits; False when none does."""
        try:
            descriptor = os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                return False
            raise
        os.write(descriptor, b"s")
        os.close(descriptor)
        os.unlink(self.fifo)
        return True

    def discard(self) -> None:
        """Kill the container's process, wait for its end, and remove its groups and the record."""
        if not self.exists:
            return
        descriptor = self.open_process()
        if descriptor >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            ended = poll.poll(_PATIENCE_MILLISECONDS)
            os.close(descriptor)
            if not ended:
                raise HostTrouble(f"process {self.process()[0]} does not end although it was killed")
        with suppress(FileNotFoundError):
            remove_cgroups(self.kept().cgroups)
        shutil.rmtree(self.directory, ignore_errors=True)

"""What a container is doing now: a small file that its monitor rewrites, and the check whether it still is true.

A process is named by its pid, the time it started (in the kernel's ticks since boot) and the boot, so that another
process which got the same pid later is never taken for it.
"""

import json
import os
from typing import Any, NamedTuple

from moldar.errors import CorruptData
from moldar.sandbox.isolation.lifetimes import start_time
from moldar.sandbox.ports import PortMapping

FILE = "status.json"
PAUSED = "paused"
"""The file that names the process of a container that is paused; `pausing` writes it."""
LOST = 255
"""The exit code of a container whose monitor was killed, so that nobody saw how it ended."""


class ProcessName(NamedTuple):
    """A process that once ran; pid 0 is none."""

    pid: int = 0
    start: int = 0
    boot: str = ""

    @classmethod
    def of(cls, pid: int) -> "ProcessName":
        """The process that has this pid now; none when there is no such process."""
        start = start_time(pid)
        return cls(pid, start, boot_id()) if start else cls()

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return bool(self.pid) and self.boot == boot_id() and start_time(self.pid) == self.start


class Status(NamedTuple):
    """The state of a container. `status`: created, running, exited (and restarting between two tries).

    Times in seconds since the epoch, 0 for never. `requested` says that a person stopped it. `ports` are those
    published now, with the host ports that were chosen. `paused` is never recorded here, but found when it is read.
    """

    status: str = "created"
    process: ProcessName = ProcessName()
    monitor: ProcessName = ProcessName()
    helper: ProcessName = ProcessName()
    started: float = 0
    finished: float = 0
    exit_code: int = 0
    error: str = ""
    restarts: int = 0
    requested: bool = False
    address: str = ""
    gateway: str = ""
    ports: tuple[PortMapping, ...] = ()
    paused: bool = False

    @property
    def running(self) -> bool:
        """Whether it has a process, paused or not."""
        return self.status == "running"

    @property
    def state(self) -> str:
        """The status in Docker's words, which know of paused containers too."""
        return "paused" if self.paused else self.status


def read_status(directory: str) -> Status:
    """The recorded state, corrected by what is true: a container whose processes are gone has exited."""
    status = _recorded(directory)
    while status.status in ("running", "restarting") and not status.process.alive and not status.monitor.alive:
        again = _recorded(directory)  # the monitor may have recorded the end and gone since the record was read
        if again == status:
            return status._replace(status="exited", exit_code=LOST, error="its monitor was killed", ports=())
        status = again
    return status._replace(paused=status.running and _is_paused(directory, status.process))


def _recorded(directory: str) -> Status:
    try:
        with open(f"{directory}/{FILE}") as file:
            return _decode(json.load(file))
    except FileNotFoundError:
        return Status()
    except ValueError as error:
        raise CorruptData(f"malformed {directory}/{FILE}: {error}") from error


def _is_paused(directory: str, process: ProcessName) -> bool:
    try:
        with open(f"{directory}/{PAUSED}") as file:
            return ProcessName(**json.load(file)["process"]) == process
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_status(directory: str, status: Status) -> None:
    """Replace the recorded state."""
    document = status._asdict() | {
        "process": status.process._asdict(),
        "monitor": status.monitor._asdict(),
        "helper": status.helper._asdict(),
        "ports": [port._asdict() for port in status.ports],
    }
    staged = f"{directory}/{FILE}.{os.getpid()}"
    with open(staged, "w") as file:
        json.dump(document, file)
    os.replace(staged, f"{directory}/{FILE}")


def boot_id() -> str:
    """What the kernel calls this boot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _decode(document: dict[str, Any]) -> Status:
    for name in ("process", "monitor", "helper"):
        document[name] = ProcessName(**document[name])
    document["ports"] = tuple(PortMapping(**port) for port in document["ports"])
    return Status(**document)

"""What a container is doing now: a small file that its monitor rewrites, and the check whether it still is true.

A process is named by its pid, the time it started (in the kernel's ticks since boot) and the boot, so that another
process which got the same pid later is never taken for it.
"""

import json
import os
from typing import Any, NamedTuple

from moldar.errors import CorruptData
from moldar.sandbox.ports import PortMapping

FILE = "status.json"
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
        start = _start_time(pid)
        return cls(pid, start, boot_id()) if start else cls()

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return bool(self.pid) and self.boot == boot_id() and _start_time(self.pid) == self.start


class Status(NamedTuple):
    """The state of a container. `status`: created, running, exited (and restarting between two tries).

    Times in seconds since the epoch, 0 for never. `requested` says that a person stopped it. `ports` are those
    published now, with the host ports that were chosen.
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

    @property
    def running(self) -> bool:
        return self.status == "running"


def read_status(directory: str) -> Status:
    """The recorded state, corrected by what is true: a container whose processes are gone has exited."""
    try:
        with open(f"{directory}/{FILE}") as file:
            status = _decode(json.load(file))
    except FileNotFoundError:
        return Status()
    except ValueError as error:
        raise CorruptData(f"malformed {directory}/{FILE}: {error}") from error
    if status.status in ("running", "restarting") and not status.process.alive and not status.monitor.alive:
        return status._replace(status="exited", exit_code=LOST, error="its monitor was killed", ports=())
    return status


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


def _start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat (proc(5)); 0 when the process is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])

"""Pausing a container: none of its processes runs until it is unpaused.

By the freezer where the container has a cgroup, else by SIGSTOP to every process. The file `paused` in the
container's directory names the process that was paused, so that it means nothing for a later one. It is written
first: what a killed `pause` leaves can be unpaused.
"""

import json
import os
import signal
import time
from contextlib import suppress
from typing import NamedTuple

from moldar.containers.cgroups import Cgroups, cgroups_of, write
from moldar.containers.processes import container_pids, look_at
from moldar.containers.status import PAUSED, ProcessName
from moldar.errors import HostTrouble

_PATIENCE = 0.005
_MOST_SECONDS = 10.0
_STOPPED = frozenset("TtZX")


class Freezer(NamedTuple):
    """How a cgroup is frozen: what to write where, and where to see that it has happened."""

    path: str
    freeze: str
    thaw: str
    shown: str
    frozen: str


def pause(directory: str, identity: str, process: ProcessName) -> None:
    """Pause the container whose first process is `process`; HostTrouble, and then it goes on."""
    pids = container_pids(process.pid, identity)
    already = [found.pid for found in look_at(pids) if found.state in "Tt"]
    _write_mark(directory, {"process": process._asdict(), "stopped": already})
    try:
        if freezer := _freezer(cgroups_of(process.pid, identity)):
            write(freezer.path, freezer.freeze)
            _await(freezer)
        else:
            _stop_all(process.pid, identity)
    except BaseException:
        unpause(directory, identity, process)
        raise


def unpause(directory: str, identity: str, process: ProcessName) -> None:
    """Let a paused container go on. Processes that were stopped before it was paused stay so."""
    if freezer := _freezer(cgroups_of(process.pid, identity)):
        write(freezer.path, freezer.thaw)
    else:
        already = set(_read_mark(directory).get("stopped", ()))
        for pid in container_pids(process.pid, identity):
            if pid not in already:
                _send(pid, signal.SIGCONT)
    with suppress(FileNotFoundError):
        os.unlink(f"{directory}/{PAUSED}")


def _freezer(groups: Cgroups) -> Freezer | None:
    if path := groups.file("", "", "cgroup.freeze"):
        return Freezer(path, "1", "0", os.path.dirname(path) + "/cgroup.events", "frozen 1")
    if path := groups.file("freezer", "freezer.state", ""):
        return Freezer(path, "FROZEN", "THAWED", path, "FROZEN")
    return None


def _await(freezer: Freezer) -> None:
    deadline = time.monotonic() + _MOST_SECONDS
    while True:
        with open(freezer.shown) as file:
            if freezer.frozen in file.read():
                return
        if time.monotonic() > deadline:
            raise HostTrouble("the container cannot be paused: its processes do not freeze")
        time.sleep(_PATIENCE)


def _stop_all(init: int, identity: str) -> None:
    """Until a look at all of them finds none that runs: one that forks meanwhile is caught in the next round."""
    deadline = time.monotonic() + _MOST_SECONDS
    while running := [found.pid for found in look_at(container_pids(init, identity)) if found.state not in _STOPPED]:
        for pid in running:
            _send(pid, signal.SIGSTOP)
        if time.monotonic() > deadline:
            raise HostTrouble("the container cannot be paused: its processes do not stop")
        time.sleep(_PATIENCE)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _write_mark(directory: str, mark: dict[str, object]) -> None:
    staged = f"{directory}/{PAUSED}.{os.getpid()}"
    with open(staged, "w") as file:
        json.dump(mark, file)
    os.replace(staged, f"{directory}/{PAUSED}")


def _read_mark(directory: str) -> dict[str, list[int]]:
    try:
        with open(f"{directory}/{PAUSED}") as file:
            mark: dict[str, list[int]] = json.load(file)
            return mark
    except (OSError, ValueError):
        return {}

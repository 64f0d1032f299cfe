"""Starting a container's monitor, and hearing from it whether the container runs."""

import json
import os
import socket
import sys
from typing import NamedTuple

import moldar
from moldar.errors import HostTrouble, StepFailed
from moldar.sandbox.spawning import Command, spawn, wait

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CODE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from moldar.containers.monitor import main; main(sys.argv[1:])"
)
_READY, _CLIENT = 3, 4


class NotStarted(StepFailed):
    """The container could not be started; `exit_code` as Docker's: 125, or 126 and 127 for its program."""

    def __init__(self, message: str, exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class MonitorFailed(HostTrouble):
    """The container's monitor ended before it could tell anything."""

    exit_code = 125

    def __init__(self, directory: str) -> None:
        super().__init__("the container's monitor failed", excerpt=_last_lines(f"{directory}/monitor.log"))


class Launched(NamedTuple):
    """A container that runs. `warnings` are for the person who started it."""

    warnings: tuple[str, ...]


def launch(home: str, identity: str, client: socket.socket | None = None) -> Launched:
    """Start the monitor of a container and wait until its process runs; NotStarted, MonitorFailed.

    `client` is the monitor's end of a socket for somebody attached from the beginning.
    """
    ready, given = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    package = os.path.dirname(os.path.dirname(os.path.abspath(moldar.__file__)))
    # Without site: the monitor needs the standard library and this package only, and starts in half the time.
    args = ["-I", "-S", "-c", _CODE, package, home, identity, str(_READY), *([str(_CLIENT)] if client else [])]
    descriptors = (null, null, null, given, *([client.fileno()] if client else []))
    try:
        wait(spawn(Command(sys.executable, tuple(args), descriptors, {"PATH": _PATH})))
    finally:
        os.close(given)
        os.close(null)
    with open(ready, "rb") as file:
        line = file.readline()
    if not line:
        raise MonitorFailed(f"{home}/containers/{identity}")
    message = json.loads(line)
    if "error" in message:
        raise NotStarted(message["error"], message["exit_code"], message["hint"])
    return Launched(tuple(message["warnings"]))


def _last_lines(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return "\n".join(file.read().splitlines()[-5:])
    except OSError:
        return ""

"""The monitor: a small process behind every running container, which outlives the command that started it.

It makes the container's mounts in a mount name space of its own (so that they vanish with it and with the container,
however they end), starts the process, keeps its output, serves whoever attaches, and records how it ended. It holds
`monitor.lock` locked; the kernel lets go of that when the monitor ends in whatever way.

Started as `python -I -c … HOME ID READY [CLIENT]` by `service`; READY is a descriptor on which it tells, in one line
of JSON, that the container runs or why it does not; CLIENT is the socket of somebody attached from the beginning.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any

from moldar.containers import wire
from moldar.containers.definition import Definition, decode_definition
from moldar.containers.discarding import discard
from moldar.containers.logs import LogWriter
from moldar.containers.relay import Relay
from moldar.containers.roots import LOCK
from moldar.containers.starting import Started, prepare
from moldar.containers.status import ProcessName, Status, read_status, write_status
from moldar.errors import MoldarError, UserMistake
from moldar.image.ownership import ownership
from moldar.sandbox.choosing import choose_runtime, choose_snapshots
from moldar.sandbox.mounts import CLONE_NEWNS, MS_REC, MS_SLAVE, mount, unshare
from moldar.sandbox.runtime import Runtime
from moldar.sandbox.snapshots import Snapshots
from moldar.sandbox.user_namespace import register
from moldar.store.containers import ContainerTable
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.layers import LayerTable

DEFINITION = "definition.json"
STOP_REQUEST = "stop-requested"
_SUBREAPER = 36
_FIRST_DELAY, _LONGEST_DELAY, _STEADY_SECONDS = 0.1, 60.0, 10.0
_CANNOT_RUN = 125
_LOCK_SECONDS = 5.0
"""How long the monitor of the last run may take to put things away."""


class AlreadyRunning(UserMistake):
    """Another monitor has the container."""

    def __init__(self) -> None:
        super().__init__("the container is running already")


class Monitor:
    """One container's monitor."""

    def __init__(self, home: Home, identity: str, ready: int, clients: list[socket.socket]) -> None:
        self._home = home
        self._directory = f"{home.containers}/{identity}"
        self._ready = ready
        self._definition = self._read_definition()
        database = Database(home)
        self._records = ContainerTable(database)
        self._snapshots: Snapshots = choose_snapshots(home.snapshots, LayerTable(database), self._definition.driver)
        self._runtime: Runtime = choose_runtime(f"{home.root}/run")
        self._log = LogWriter(self._directory)
        self._server = wire.listen(self._directory)
        self._relay = Relay(self._server, self._log, self._signal, clients)
        self._name = ProcessName.of(os.getpid())
        self._process = ProcessName()
        self._status = Status()

    def run(self) -> None:
        """From the first start to the last end."""
        delay = _FIRST_DELAY
        restarts = 0
        while True:
            began = time.monotonic()
            try:
                self._run_once(restarts)
            except MoldarError as error:
                self._fail(error)
                if self._ready >= 0:
                    self._tell({"error": error.message, "hint": error.hint, "exit_code": self._status.exit_code})
                    break
            if time.monotonic() - began > _STEADY_SECONDS:
                delay = _FIRST_DELAY
            if not self._wants_restart(restarts) or not self._pause(delay):
                break
            restarts += 1
            delay = min(delay * 2, _LONGEST_DELAY)
        self._end()

    def _run_once(self, restarts: int) -> None:
        started = prepare(self._directory, self._definition, self._snapshots, self._runtime)
        try:
            self._process = ProcessName.of(started.pid)
            process = os.pidfd_open(started.pid)
            try:

                def release() -> None:
                    self._runtime.start(self._definition.id)
                    self._record_running(started, restarts)
                    self._tell({"warnings": started.warnings})

                self._relay.serve(process, started.outputs, started.stdin, release, terminal=self._definition.tty)
            finally:
                os.close(process)
            code = _reap(started.pid)
        finally:
            self._runtime.delete(self._definition.id)
            started.network.stop()
        error = ""
        if started.suspicion and code == 1 and time.time() - self._status.started < 1:
            code, error = started.suspicion
        self._record(
            exit_code=code, error=error, status="exited", process=ProcessName(), finished=time.time(), ports=()
        )

    def _record_running(self, started: Started, restarts: int) -> None:
        network = started.network
        self._status = Status(
            status="running",
            process=self._process,
            monitor=self._name,
            helper=ProcessName.of(network.helper) if network.helper else ProcessName(),
            started=time.time(),
            restarts=restarts,
            address=network.address,
            gateway=network.gateway,
            ports=network.ports,
        )
        write_status(self._directory, self._status)

    def _record(self, **members: Any) -> None:
        self._status = self._status._replace(requested=self._stop_requested(), helper=ProcessName(), **members)
        write_status(self._directory, self._status)

    def _fail(self, error: MoldarError) -> None:
        code = error.exit_code if error.exit_code > 2 else _CANNOT_RUN
        before = self._status.status
        status = before if before == "created" else "exited"
        self._record(exit_code=code, error=error.message, status=status, process=ProcessName(), ports=())

    def _read_definition(self) -> Definition:
        """Again before each start and restart, because `update` may have changed it."""
        with open(f"{self._directory}/{DEFINITION}") as file:
            return decode_definition(file.read())

    def _wants_restart(self, restarts: int) -> bool:
        self._definition = self._read_definition()
        policy, most = self._definition.restart, self._definition.restart_most
        if policy == "no" or self._stop_requested():
            return False
        if policy == "on-failure":
            return self._status.exit_code != 0 and (not most or restarts < most)
        return True

    def _pause(self, seconds: float) -> bool:
        """Waits before another try; False when a person stops the container meanwhile."""
        self._record(status="restarting", monitor=self._name)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._stop_requested():
                self._record(status="exited")
                return False
            time.sleep(0.05)
        return True

    def _end(self) -> None:
        """The lock and the socket go first, so that a container that is started again at once finds them free."""
        self._relay.accept_waiting()
        self._snapshots.unmount_rootfs(self._definition.id)
        self._log.close()
        self._server.close()
        if self._definition.auto_remove:
            discard(self._home, self._definition, self._snapshots, self._records)
        self._relay.finish(self._status.exit_code)

    def _stop_requested(self) -> bool:
        return os.path.exists(f"{self._directory}/{STOP_REQUEST}")

    def _signal(self, number: int) -> None:
        if self._process.alive:
            os.kill(self._process.pid, number)

    def _tell(self, message: dict[str, Any]) -> None:
        if self._ready >= 0:
            try:
                os.write(self._ready, json.dumps(message).encode() + b"\n")
            except OSError:  # nobody waits any more
                pass
            os.close(self._ready)
            self._ready = -1


def main(arguments: list[str]) -> None:
    """Leave the command that started us behind, and watch the container."""
    root, identity, ready, *rest = arguments
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    directory = f"{root}/containers/{identity}"
    _detach(directory)
    try:
        if ownership().in_namespace:
            register(root)
        _hold_lock(directory)
        clients = [socket.socket(fileno=int(client)) for client in rest]
        monitor = Monitor(Home(root), identity, int(ready), clients)
        monitor.run()
    except MoldarError as error:
        message = {"error": error.message, "hint": error.hint, "exit_code": max(error.exit_code, _CANNOT_RUN)}
        os.write(int(ready), json.dumps(message).encode() + b"\n")
    except Exception:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _hold_lock(directory: str) -> int:
    """The lock that says that this container has a monitor; kept open until we end.

    Without another monitor it is somebody who looks at the container's files, and we wait for as long as that takes.
    """
    lock = os.open(f"{directory}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline and read_status(directory).monitor.alive:
                raise AlreadyRunning from None
            time.sleep(0.02)


def _detach(directory: str) -> None:
    """Standard streams to nowhere and to a log; mounts to ourselves; orphans of the runtime to us."""
    null = os.open(os.devnull, os.O_RDWR)
    errors = os.open(f"{directory}/monitor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.chdir("/")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    unshare(CLONE_NEWNS)
    mount("", "/", "", MS_REC | MS_SLAVE)


def _reap(pid: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    main(sys.argv[1:])

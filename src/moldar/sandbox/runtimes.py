"""crun and runc, driven by their common command line."""

import json
import os
import signal
import threading
from contextlib import suppress
from typing import Any, NamedTuple

from moldar.sandbox.bundle import Features, process_document
from moldar.sandbox.isolation.lifetimes import start_time
from moldar.sandbox.one_id import as_root
from moldar.sandbox.programs import NOT_FOUND, why_not_started
from moldar.sandbox.runtime import Canceller, CannotStart, ContainerState, RuntimeTrouble, Streams
from moldar.sandbox.spawning import Command, output_of, spawn, wait
from moldar.sandbox.spec import ProcessSpec
from moldar.sandbox.user_namespace import leftover_pid
from moldar.sandbox.workdirs import lock_new, take_abandoned

_KILL_PATIENCE = 0.02
_REFUSED = 1
_KILLED = 128 + signal.SIGKILL
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class RuntimeSetup(NamedTuple):
    """How to call a runtime on this host, found by probing. `state_root` is where it keeps its records."""

    name: str
    program: str
    state_root: str
    features: Features = Features()
    options: tuple[str, ...] = ()
    hide_unified: bool = False


class OciRuntime:
    """A runtime program with crun's and runc's common command line."""

    def __init__(self, setup: RuntimeSetup) -> None:
        self._setup = setup
        self.name = setup.name
        self.features = setup.features
        self._owners = f"{setup.state_root}-owners"

    def run(
        self,
        bundle: str,
        identity: str,
        streams: Streams,
        canceller: Canceller | None = None,
        *,
        foreground: bool = False,
    ) -> int:
        log = f"{bundle}/runtime.log"
        owner = self._own(identity)
        # Looked at before the process can change anything; believed only when it then fails.
        suspicion = why_not_started(*_process_of(bundle))
        pid = self._spawn(log, ("run", "--bundle", bundle, identity), streams, own_group=not foreground)
        os.write(owner, f"{pid} {start_time(pid)}".encode())  # whoever is to end it has to join its name spaces
        stopper = _Stopper(self, identity, pid)
        if canceller:
            canceller.attach(stopper.stop)
        try:
            code = wait(pid)
        except BaseException:
            stopper.stop()
            wait(pid)
            raise
        finally:
            stopper.ended.set()
            if canceller:
                canceller.detach(stopper.stop)
            os.unlink(f"{self._owners}/{identity}")
            os.close(owner)
        if stopper.used:
            self.delete(identity)  # a runtime that is interrupted while it makes a container may leave it
            return code or _KILLED
        if code:
            self._complain(log, identity, code, suspicion)
        _forget(log)
        return code

    def create(self, bundle: str, identity: str, streams: Streams, console_socket: str = "") -> int:
        log = f"{bundle}/runtime.log"
        pid_file = f"{bundle}/pid"
        console = ("--console-socket", console_socket) if console_socket else ()
        arguments = ("create", "--bundle", bundle, "--pid-file", pid_file, *console, identity)
        suspicion = why_not_started(*_process_of(bundle))
        code = wait(self._spawn(log, arguments, streams))
        if code:
            self._complain(log, identity, code, suspicion)
            raise RuntimeTrouble(f"{self.name} could not make the container (exit code {code})")
        _forget(log)
        with open(pid_file) as file:
            return int(file.read())

    def start(self, identity: str) -> None:
        code, output = self._output("start", identity)
        if code:
            raise RuntimeTrouble(f"{self.name} could not start the container: {_last_line(output)}")

    def execute(
        self,
        identity: str,
        process: ProcessSpec,
        streams: Streams,
        console_socket: str = "",
        *,
        work: str,
        root: str = "",
        allowed: tuple[str, ...] = (),
        detach: bool = False,
    ) -> int:
        if root and (suspicion := why_not_started(root, process)):
            self._raise("", suspicion)
        if self.features.one_id:
            process = as_root(process)
        stem = f"{work}/exec-{os.urandom(6).hex()}"
        document, log, pid_file = f"{stem}.json", f"{stem}.log", f"{stem}.pid"
        with open(document, "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(process_document(process, allowed), file)
        console = ("--console-socket", console_socket) if console_socket else ()
        detached = ("--detach",) if detach or console_socket else ()
        try:
            code = wait(
                self._spawn(
                    log,
                    ("exec", "--process", document, "--pid-file", pid_file, *console, *detached, identity),
                    streams,
                    own_group=False,
                )
            )
            if code and (message := _logged_error(log)):
                self._raise(message, None)
            return code
        finally:
            for path in (document, log, pid_file):
                _forget(path)

    def kill(self, identity: str, number: int) -> None:
        self._output("kill", identity, str(number))

    def delete(self, identity: str) -> None:
        if os.path.isdir(f"{self._setup.state_root}/{identity}"):
            self._output("delete", "--force", identity)

    def state(self, identity: str) -> ContainerState | None:
        if not os.path.isdir(f"{self._setup.state_root}/{identity}"):
            return None
        code, output = self._output("state", identity)
        if code:
            return None
        document = json.loads(output)
        status = document["status"]
        return ContainerState(status if status in ("created", "running") else "stopped", document.get("pid", 0))

    def sweep(self) -> list[str]:
        """End what `run` started for processes that were killed; gives the identities."""
        swept = []
        for identity in os.listdir(self._owners) if os.path.isdir(self._owners) else ():
            lock = take_abandoned(f"{self._owners}/{identity}")
            if lock < 0:
                continue
            self.delete(identity)
            if leftover_pid(f"{self._owners}/{identity}") and os.path.isdir(f"{self._setup.state_root}/{identity}"):
                os.close(lock)  # it is in another user namespace, and whoever joins that will end it
                continue
            with suppress(FileNotFoundError):
                os.unlink(f"{self._owners}/{identity}")
            os.close(lock)
            swept.append(identity)
        return swept

    def _own(self, identity: str) -> int:
        """A lock that tells, by being free, that the process which ran this container is gone."""
        os.makedirs(self._owners, mode=0o700, exist_ok=True)
        lock = -1
        while lock < 0:
            lock = lock_new(f"{self._owners}/{identity}")
        return lock

    def _complain(self, log: str, identity: str, code: int, suspicion: tuple[int, str] | None) -> None:
        """Raises what explains the failure, unless it was the process itself that failed.

        A program that the kernel refuses to execute is known only after the runtime has closed its log; then the
        runtime exits with 1, and what was suspected before is the reason.
        """
        message = _logged_error(log)
        if not message and not (suspicion and code == _REFUSED):
            return
        self.delete(identity)
        self._raise(message, suspicion)

    def _raise(self, message: str, suspicion: tuple[int, str] | None) -> None:
        if suspicion:
            code, reason = suspicion
            missing = "is it in the image, and spelt right?"
            raise CannotStart(reason, code, hint=missing if code == NOT_FOUND else "")
        raise RuntimeTrouble(f"{self.name}: {message}")

    def _spawn(self, log: str, arguments: tuple[str, ...], streams: Streams, *, own_group: bool = True) -> int:
        options = ("--log", log, "--log-format", "json")
        return spawn(self._command((*options, *arguments), tuple(streams))._replace(own_group=own_group))

    def _output(self, *arguments: str) -> tuple[int, bytes]:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            return output_of(self._command(arguments, (null,)))
        finally:
            os.close(null)

    def _command(self, arguments: tuple[str, ...], descriptors: tuple[int, ...]) -> Command:
        setup = self._setup
        args = ("--root", setup.state_root, *setup.options, *arguments)
        return Command(setup.program, args, descriptors, _ENVIRONMENT, setup.hide_unified)


class _Stopper:
    """Kills a container that is being run, however far it has come."""

    def __init__(self, runtime: OciRuntime, identity: str, pid: int) -> None:
        self._runtime = runtime
        self._identity = identity
        self._pid = pid
        self.ended = threading.Event()
        self.used = False

    def stop(self) -> None:
        """Returns when the container has been told; its runtime then ends by itself."""
        self.used = True
        for _ in range(100):  # about two seconds: a runtime that makes a container is done in milliseconds
            self._runtime.kill(self._identity, signal.SIGKILL)
            if self.ended.wait(_KILL_PATIENCE) or _is_zombie(self._pid):
                return
        self._runtime.delete(self._identity)


def _process_of(bundle: str) -> tuple[str, ProcessSpec]:
    """The root and the process of a bundle, as far as finding its program goes."""
    with open(f"{bundle}/config.json", encoding="utf-8", errors="surrogateescape") as file:
        config = json.load(file)
    process = config["process"]
    return config["root"]["path"], ProcessSpec(tuple(process["args"]), tuple(process["env"]), process["cwd"])


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _logged_error(path: str) -> str:
    """The last error in a runtime's JSON log; empty when it reported none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry: Any = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", ""))
    return ""


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it gave no reason"


def _forget(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)

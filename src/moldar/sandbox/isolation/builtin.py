"""The runtime of our own, as its callers see it: bundles are made containers by `entry` in fresh interpreters."""

import json
import os
import signal
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

from moldar.sandbox.bundle import Features, process_document
from moldar.sandbox.isolation.cgroups import TREE, NoCgroup, cgroup_directories, make_cgroups
from moldar.sandbox.isolation.filters import compile_filter
from moldar.sandbox.isolation.interpreters import reported, start_interpreter
from moldar.sandbox.isolation.planning import process_plan, root_plan
from moldar.sandbox.isolation.plans import Plan, ProcessPlan, RootPlan
from moldar.sandbox.isolation.records import Kept, Record
from moldar.sandbox.one_id import as_root
from moldar.sandbox.programs import NOT_FOUND, why_not_started
from moldar.sandbox.runtime import Canceller, CannotStart, ContainerState, RuntimeTrouble, Streams
from moldar.sandbox.spawning import wait
from moldar.sandbox.spec import ProcessSpec
from moldar.sandbox.workdirs import lock_new, take_abandoned

NAME = "builtin"
_KILLED = 128 + signal.SIGKILL
_OWNING_TRIES, _OWNING_DELAY = 100, 0.01


class BuiltinRuntime:
    """Isolation by system calls. `state_root` is a directory for its records, `tree` where control groups are."""

    name = NAME

    def __init__(self, state_root: str, features: Features, tree: str = TREE) -> None:
        self._root = state_root
        self._tree = tree
        self.features = features

    def run(
        self,
        bundle: str,
        identity: str,
        streams: Streams,
        canceller: Canceller | None = None,
        *,
        foreground: bool = False,
    ) -> int:
        config = _configuration(bundle)
        # Looked at before the process can change anything; believed only when it then fails.
        suspicion = why_not_started(config["root"]["path"], _process(config))
        record = self._record(identity)
        owner = _own(record)
        stopper = None
        try:
            process, root, cgroups = self._contained(record, config)
            plan = Plan(
                verb="run",
                process=process,
                root=root,
                cgroups=cgroups,
                record=record.process_path,
                parent=os.getpid(),
            )
            started = start_interpreter(plan, streams, own_group=not foreground)
            stopper = _Stopper(started.pid)
            if canceller:
                canceller.attach(stopper.stop)
            try:
                code = wait(started.pid)
            except BaseException:
                stopper.stop()
                wait(started.pid)
                raise
            finally:
                if canceller:
                    canceller.detach(stopper.stop)
                trouble = reported(started)
        finally:
            if stopper:
                stopper.close()
            record.discard()
            os.close(owner)
        if stopper.used:
            return code or _KILLED
        if trouble:
            raise _explained(trouble, suspicion)
        return code

    def create(self, bundle: str, identity: str, streams: Streams, console_socket: str = "") -> int:
        config = _configuration(bundle)
        suspicion = why_not_started(config["root"]["path"], _process(config))
        record = self._record(identity)
        try:
            process, root, cgroups = self._contained(record, config)
            plan = Plan(
                verb="create",
                process=process,
                root=root,
                cgroups=cgroups,
                record=record.process_path,
                fifo=record.fifo,
                console=console_socket,
            )
            os.mkfifo(record.fifo, 0o600)
            started = start_interpreter(plan, streams)
            code = wait(started.pid)
            trouble = reported(started)
            if code or trouble:
                raise _explained(trouble or (0, f"the container was not made (exit code {code})"), suspicion)
        except BaseException:
            record.discard()
            raise
        return record.process()[0]

    def start(self, identity: str) -> None:
        if not self._record(identity).start():
            raise RuntimeTrouble(f"{NAME}: no process waits to be started in container {identity}")

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
        suspicion = why_not_started(root, process) if root else None
        if suspicion:
            raise _explained((suspicion[0], suspicion[1]), suspicion)
        if self.features.one_id:
            process = as_root(process)
        record = self._record(identity)
        pid, started_at = record.process()
        if not pid:
            raise RuntimeTrouble(f"{NAME}: container {identity} does not run")
        kept = record.kept()
        plan = Plan(
            verb="execute",
            process=process_plan(process_document(process, allowed), kept.filter, unruled=kept.unruled),
            cgroups=list(kept.cgroups),
            pid=pid,
            started=started_at,
            console=console_socket,
            detach=detach or bool(console_socket),
        )
        started = start_interpreter(plan, streams, own_group=False)
        try:
            code = wait(started.pid)
        except BaseException:
            os.close(started.report)
            raise
        if trouble := reported(started):
            raise _explained(trouble, None)
        return code

    def kill(self, identity: str, number: int) -> None:
        self._record(identity).signal(number)

    def delete(self, identity: str) -> None:
        self._record(identity).discard()

    def state(self, identity: str) -> ContainerState | None:
        record = self._record(identity)
        pid, _ = record.process()
        if not pid:
            return None
        descriptor = record.open_process()
        if descriptor < 0:
            return ContainerState("stopped", 0)
        os.close(descriptor)
        return ContainerState("created" if os.path.exists(record.fifo) else "running", pid)

    def sweep(self) -> list[str]:
        """End what `run` started for processes that were killed; gives the identities."""
        swept = []
        for identity in os.listdir(self._root) if os.path.isdir(self._root) else ():
            record = self._record(identity)
            lock = take_abandoned(record.owner)
            if lock >= 0:
                record.discard()
                os.close(lock)
                swept.append(identity)
        return swept

    def _record(self, identity: str) -> Record:
        return Record(self._root, identity)

    def _contained(self, record: Record, config: dict[str, Any]) -> tuple[ProcessPlan, RootPlan, list[str]]:
        """What is to be made; makes the control groups and writes down what `execute` must know."""
        linux = config["linux"]
        profile = linux.get("seccomp")
        program = _compiled(json.dumps(profile)) if profile else b""
        path, resources = linux.get("cgroupsPath", ""), linux.get("resources", {})
        cgroups = cgroup_directories(path, resources, self._tree) if path else ()
        unruled = bool(profile) and not path
        record.keep(Kept(cgroups, program, unruled))  # before the groups are made, so that none is forgotten
        if path:
            try:
                make_cgroups(path, resources, self._tree)
            except NoCgroup as error:
                raise RuntimeTrouble(f"{NAME}: {error.message}") from error
        process = process_plan(config["process"], program, unruled=unruled)
        return process, root_plan(config, unruled=unruled), list(cgroups)


class _Stopper:
    """Kills the interpreter of a container that is being run, with which all of it ends."""

    def __init__(self, pid: int) -> None:
        self._process = os.pidfd_open(pid)
        self.used = False

    def stop(self) -> None:
        """However far it has come; harmless when it has ended."""
        self.used = True
        with suppress(ProcessLookupError, OSError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """Nothing is stopped any more."""
        os.close(self._process)


def _own(record: Record) -> int:
    """A lock that tells, by being free, that the process which ran this container is gone."""
    for _ in range(_OWNING_TRIES):
        os.makedirs(record.directory, mode=0o700, exist_ok=True)
        try:
            lock = lock_new(record.owner)
        except (FileNotFoundError, FileExistsError):  # a sweeper is at it
            time.sleep(_OWNING_DELAY)
            continue
        if lock >= 0:
            return lock
    raise RuntimeTrouble(f"{NAME}: there is a container {os.path.basename(record.directory)} already")


def _configuration(bundle: str) -> dict[str, Any]:
    with open(f"{bundle}/config.json", encoding="utf-8", errors="surrogateescape") as file:
        return dict(json.load(file))


@lru_cache(maxsize=8)
def _compiled(profile: str) -> bytes:
    """The filter for a profile, as JSON; the steps of a build mostly have the same."""
    return compile_filter(json.loads(profile), os.uname().machine)


def _process(config: dict[str, Any]) -> ProcessSpec:
    """The process of a configuration, as far as finding its program goes."""
    process = config["process"]
    return ProcessSpec(tuple(process["args"]), tuple(process["env"]), process["cwd"])


def _explained(trouble: tuple[int, str], suspicion: tuple[int, str] | None) -> CannotStart | RuntimeTrouble:
    """What became of the process. A program that cannot be executed is explained by what was seen before."""
    code, message = trouble
    if not code:
        return RuntimeTrouble(f"{NAME}: {message}")
    if suspicion:
        code, message = suspicion
    missing = "is it in the image, and spelt right?"
    return CannotStart(message, code, hint=missing if code == NOT_FOUND else "")

"""What RUN does: a process in a sandbox over the stage's root, and its changes as a layer.

Secrets live on a memory file system of the step and nowhere else. Whatever is mounted is taken down before the
changes are read, and mount points that were missing leave no trace.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from hashlib import sha256

from moldar.builder.debug_shell import DebugShell
from moldar.builder.foreign import check_emulator, check_runnable
from moldar.builder.graph import RunOp, Vertex
from moldar.builder.logs import StepLog
from moldar.builder.ops import Stack, Workshop, identity_of, stack_of
from moldar.builder.read_sets import ReadSets, TracedStep
from moldar.builder.run_mounts import RunSettings, StepMounts
from moldar.builder.solver import Cancelled, Inputs, Key, Record, StepContext
from moldar.errors import MoldarError, StepFailed
from moldar.image.layer_write import write_layer
from moldar.image.model import Digest
from moldar.sandbox.bundle import fit, mount_targets, write_bundle
from moldar.sandbox.null_device import open_null
from moldar.sandbox.runtime import Streams
from moldar.sandbox.snapshots import Workspace
from moldar.sandbox.spec import Limit, ProcessSpec, SandboxSpec
from moldar.sandbox.stubs import MountStubs
from moldar.sandbox.users import resolve_user

HOSTNAME = "moldar"
_SHM_SIZE = 64 << 20
_SYSTEM_DIRECTORIES = ("dev", "proc", "sys")


class ProcessFailed(StepFailed):
    """A step's process ended with another status than 0. `status` is its exit code, `log` the path of its output."""

    def __init__(self, args: Sequence[str], status: int, log: str) -> None:
        command = " ".join(args)
        super().__init__(f'process "{command}" did not complete successfully: exit code: {status}')
        self.status = status
        self.log = log


class RunRunner:
    """Runs RUN. With `read_sets` it is noticed and kept what the process reads of copied files."""

    def __init__(self, workshop: Workshop, settings: RunSettings, read_sets: ReadSets | None = None) -> None:
        self._workshop = workshop
        self._settings = settings
        self._shell = DebugShell(settings.runtime, settings.shell) if settings.shell else None
        self._read_sets = read_sets

    def run(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs, key: Key, step: StepContext) -> Record:
        op = vertex.op
        assert isinstance(op, RunOp)
        traced = self._read_sets.trace(op, key, inputs[0]) if self._read_sets else None
        check_runnable(op.platform)
        stack = stack_of(inputs[0])
        self._workshop.protect("layer", stack)
        self._workshop.unpack(stack)

        def execute(workspace: Workspace) -> None:
            self._execute(op, sources, inputs, workspace, step)

        layer = self._run_traced(op, traced, execute) if traced and traced.worthwhile() else None
        if layer is None:
            with self._settings.snapshots.prepare(stack) as workspace:
                execute(workspace)
                layer = self._commit(op, stack, workspace)
        snapshot = self._settings.snapshots.keys((*stack, layer[0]))[-1]
        return Record((layer,), identity_of(key.digest, layer[0]), time.time(), (snapshot,))

    def _run_traced(
        self, op: RunOp, traced: TracedStep, execute: Callable[[Workspace], None]
    ) -> tuple[Digest, int] | None:
        """Run the step over a view of the copied layers; None when the view broke down, so that nothing counts."""
        with self._settings.snapshots.prepare(traced.stack, traced.positions) as workspace:
            failure: MoldarError | OSError | None = None
            try:
                execute(workspace)
            except Cancelled:
                raise
            except (MoldarError, OSError) as error:  # not only of the process: preparing it looks there too
                failure = error
            questions = workspace.questions()
            if workspace.has_views and questions is None:
                return None
            if failure:
                raise failure
            layer = self._commit(op, traced.stack, workspace)
        if questions is not None:
            traced.keep(questions)
        return layer

    def _commit(self, op: RunOp, stack: Stack, workspace: Workspace) -> tuple[Digest, int]:
        """Make the step's changes a layer; its diff ID and the bytes of its tar."""
        shop = self._workshop
        if op.newest is not None:
            _date_back(workspace, op.newest)
        diff_id, size = self._digest(workspace)
        shop.protect("layer", (diff_id,))
        workspace.commit((*stack, diff_id), size)
        shop.layers.record(diff_id, size)
        return diff_id, size

    def _execute(
        self, op: RunOp, sources: Sequence[Vertex], inputs: Inputs, workspace: Workspace, step: StepContext
    ) -> None:
        settings = self._settings
        check_emulator(op.platform, workspace.path)
        log_path = f"{settings.logs}/{step.id}.log"
        with ExitStack() as stack:
            mounts = StepMounts(self._workshop, settings, step, stack)
            mounts.add_all(op, sources, inputs)
            bundle = mounts.bundle_directory()
            wanted = _sandbox(op, workspace.path, mounts)._replace(cgroup_parent=settings.cgroup_parent)
            spec = fit(bundle, wanted, settings.runtime.features)
            _make_system_directories(workspace.path)
            stubs = MountStubs(workspace.path, mount_targets(spec))
            stack.callback(stubs.clean)
            status = self._run_process(spec, bundle, log_path, step)
            if status and self._shell and not step.cancellation.cancelled:
                self._shell.open(spec, bundle, status)
        step.cancellation.check()
        if status:
            raise ProcessFailed(op.args, status, log_path)

    def _run_process(self, spec: SandboxSpec, bundle: str, log_path: str, step: StepContext) -> int:
        """The exit code of the process; its output goes to the log and to whoever watches."""
        runtime = self._settings.runtime
        identity = os.path.basename(os.path.dirname(bundle))
        write_bundle(bundle, spec, identity, runtime.features)
        log = StepLog(log_path, step.id, step.events)
        nothing = open_null(self._settings.logs)
        try:
            return runtime.run(bundle, identity, Streams(nothing, log.stdout, log.stderr), step.cancellation)
        finally:
            os.close(nothing)
            log.close()

    def _digest(self, workspace: Workspace) -> tuple[Digest, int]:
        """The diff ID of what the step changed and the size of its tar.

        The tar is kept only where snapshots are whole trees, which do not tell later what a layer changed.
        """
        if self._settings.snapshots.whiteouts == "apply":
            return self._workshop.write_layer(lambda write: write_layer(workspace.changes(), write))
        hasher = sha256()
        size = 0

        def take(data: bytes | memoryview) -> None:
            nonlocal size
            size += len(data)
            hasher.update(data)

        write_layer(workspace.changes(), take)
        return Digest("sha256:" + hasher.hexdigest()), size


def _date_back(workspace: Workspace, newest: int) -> None:
    """Make what the step changed no newer than `newest`. The files themselves, because they become the snapshot."""
    newer = [entry.path for entry, _ in workspace.changes() if entry.mtime > newest]
    for path in newer:
        os.utime(f"{workspace.upper}/{path}", (newest, newest), follow_symlinks=False)


def _make_system_directories(root: str) -> None:
    """The three mount points that stay in the layer when an image lacks them; runtimes disagree about their modes."""
    for name in _SYSTEM_DIRECTORIES:
        path = f"{root}/{name}"
        if not os.path.lexists(path):
            os.mkdir(path)
            os.chmod(path, 0o755)


def _sandbox(op: RunOp, root: str, mounts: StepMounts) -> SandboxSpec:
    user, home = resolve_user(root, op.user)
    environment = [*op.environment, *op.proxies, *mounts.environment]
    if not any(variable.startswith("HOME=") for variable in environment):
        environment.append(f"HOME={home}")
    process = ProcessSpec(op.args, tuple(environment), op.workdir, user)
    return SandboxSpec(
        root,
        process,
        tuple(mounts.mounts),
        HOSTNAME,
        "none" if op.network == "none" else "host",
        tuple((host.name, host.address) for host in op.hosts),
        privileged=op.security == "insecure",
        limits=tuple(Limit(*limit) for limit in op.ulimits),
        shm_size=op.shm_size or _SHM_SIZE,
    )

"""The mounts of a RUN: contexts and stages, caches, memory, secrets, agents, and scripts from heredocs."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from moldar.builder.bind_sources import BindSources
from moldar.builder.cache_mounts import SHARING, CacheMount, acquire
from moldar.builder.graph import Mount, RunOp, Vertex
from moldar.builder.ops import Workshop, stack_of
from moldar.builder.solver import Inputs, StepContext
from moldar.errors import HostTrouble, NotFound
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_write import write_layer
from moldar.image.unpack import unpack
from moldar.sandbox.mounts import MS_NODEV, MS_NOSUID, mount
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.snapshots import Snapshots
from moldar.sandbox.spec import BindMount, TmpfsMount
from moldar.sandbox.spec import Mount as SandboxMount

SCRIPTS = "/dev/pipes"
_SECRET_MODE = 0o400
_CACHE_MODE = 0o755


class StepSecrets(NamedTuple):
    """What a build may show to its steps: secrets by id, and paths of agent sockets by id."""

    values: Mapping[str, bytes] = {}
    agents: Mapping[str, str] = {}


class RunSettings(NamedTuple):
    """What all RUNs of a build share. `caches`: directory of the cache mounts, `logs`: of this build's logs.

    `snapshots` makes their roots, `work` is where directories of running steps lie (the store's `snapshots/work`).
    `shell` are the streams of who wants a shell in a step that fails. The cgroups of all steps are made below
    `cgroup_parent`.
    """

    runtime: Runtime
    snapshots: Snapshots
    caches: str
    logs: str
    work: str
    secrets: StepSecrets = StepSecrets()
    shell: Streams | None = None
    cgroup_parent: str = ""


class MissingSecret(NotFound):
    """A step requires a secret that was not given. `id` names it."""

    def __init__(self, identifier: str) -> None:
        super().__init__(f"secret {identifier}: not found", hint=f"give it with --secret id={identifier},src=FILE")
        self.id = identifier


class MissingAgent(NotFound):
    """A step requires an ssh agent that was not given. `id` names it."""

    def __init__(self, identifier: str) -> None:
        super().__init__(f"ssh {identifier}: no agent given", hint=f"give it with --ssh {identifier}")
        self.id = identifier


class StepMounts:
    """Prepares the mounts of one step; everything is taken down when `stack` is closed.

    `mounts` are for the sandbox, `environment` are variables that some of them bring.
    """

    def __init__(self, shop: Workshop, settings: RunSettings, step: StepContext, stack: ExitStack) -> None:
        self._shop = shop
        self._caches = settings.caches
        self._secrets = settings.secrets
        self._step = step
        self._stack = stack
        self._binds = BindSources(settings.snapshots, settings.work, stack)
        self._acquired: dict[str, CacheMount] = {}
        self._memory = ""
        self._has_secrets = False
        self.mounts: list[SandboxMount] = []
        self.environment: list[str] = []

    def add_all(self, op: RunOp, sources: Sequence[Vertex], inputs: Inputs) -> None:
        """Prepare every mount of `op`."""
        self._acquire_caches([wanted for wanted in op.mounts if wanted.kind == "cache"])
        for wanted in op.mounts:
            if wanted.kind == "bind":
                self._bind(self._show(wanted, sources, inputs), wanted.target, readonly=wanted.readonly)
            elif wanted.kind == "cache":
                self._add_cache(wanted, sources, inputs)
            elif wanted.kind == "tmpfs":
                self.mounts.append(TmpfsMount(wanted.target, wanted.size))
            elif wanted.kind == "secret":
                self._add_secret(wanted)
            else:
                self._add_agent(wanted)
        if op.script_files:
            self._add_scripts(op.script_files)

    def bundle_directory(self) -> str:
        """Where the bundle goes, below a unique name: in memory when its environment holds secrets."""
        work = self._binds.directory()
        if self._has_secrets:
            _mount_memory(work.mount_point())
            return work.root
        bundle = f"{work.path}/bundle"
        os.mkdir(bundle, 0o711)
        return bundle

    def _bind(self, source: str, target: str, *, readonly: bool) -> None:
        self.mounts.append(BindMount(source, target, readonly))

    def _show(self, wanted: Mount, sources: Sequence[Vertex], inputs: Inputs) -> str:
        result = inputs[wanted.source]
        writable = not wanted.readonly
        if result is None:
            tree = self._shop.sources.tree(sources[wanted.source].op)
            return self._binds.of_tree(tree, wanted.subpath, writable=writable)
        stage = stack_of(result)
        self._shop.unpack(stage)
        return self._binds.of_stage(stage, wanted.subpath, writable=writable)

    def _acquire_caches(self, wanted: Sequence[Mount]) -> None:
        """Each cache once, and all steps in the same order, so that no two wait for each other."""
        strictest: dict[str, str] = {}
        for cache_mount in wanted:
            known = strictest.get(cache_mount.cache_id, cache_mount.sharing)
            strictest[cache_mount.cache_id] = max(known, cache_mount.sharing, key=SHARING.index)
        for name in sorted(strictest):
            cache = acquire(self._caches, name, strictest[name], self._step.cancellation)
            self._stack.callback(cache.release)
            self._acquired[name] = cache

    def _add_cache(self, wanted: Mount, sources: Sequence[Vertex], inputs: Inputs) -> None:
        cache = self._acquired[wanted.cache_id]
        if cache.fresh:
            self._acquired[wanted.cache_id] = cache._replace(fresh=False)
            self._fill(cache, wanted, self._show(wanted, sources, inputs) if wanted.source >= 0 else "")
        elif wanted.mode >= 0 or wanted.uid >= 0 or wanted.gid >= 0:
            _own(cache.path, wanted)
        self._bind(cache.path, wanted.target, readonly=wanted.readonly)

    def _fill(self, cache: CacheMount, wanted: Mount, seed: str) -> None:
        """Make the directory whole before anybody sees it; another process may do the same at this moment."""
        staged = f"{cache.path}.{os.urandom(6).hex()}.new"
        os.mkdir(staged)
        if seed:
            copy_tree(seed, staged, f"{staged}.tar")
        _own(staged, wanted)
        try:
            os.rename(staged, cache.path)
        except OSError:
            if not os.path.isdir(cache.path):
                raise

    def _add_secret(self, wanted: Mount) -> None:
        value = self._secrets.values.get(wanted.cache_id)
        if value is None:
            if wanted.required:
                raise MissingSecret(wanted.cache_id)
            return
        if wanted.env:
            self.environment.append(f"{wanted.env}={os.fsdecode(value)}")
            self._has_secrets = True
        if wanted.target:
            mode = wanted.mode if wanted.mode >= 0 else _SECRET_MODE
            path = self._in_memory(value, mode, max(wanted.uid, 0), max(wanted.gid, 0))
            self._bind(path, wanted.target, readonly=True)

    def _in_memory(self, value: bytes, mode: int, uid: int, gid: int) -> str:
        if not self._memory:
            work = self._binds.directory()
            self._memory = work.mount_point()
            _mount_memory(self._memory)
        path = f"{self._memory}/{len(os.listdir(self._memory))}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, uid, gid)
        return path

    def _add_agent(self, wanted: Mount) -> None:
        socket = self._secrets.agents.get(wanted.cache_id)
        if socket is None:
            if wanted.required:
                raise MissingAgent(wanted.cache_id)
            return
        self._bind(socket, wanted.target, readonly=False)
        self.environment.append(f"SSH_AUTH_SOCK={wanted.target}")

    def _add_scripts(self, files: Sequence[tuple[str, bytes]]) -> None:
        directory = f"{self._binds.directory().path}/pipes"
        os.mkdir(directory, 0o755)
        for name, content in files:
            descriptor = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, 0o755)
        self._bind(directory, SCRIPTS, readonly=True)


def _mount_memory(directory: str) -> None:
    try:
        mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700")
    except OSError as error:
        raise HostTrouble(f"cannot make a memory file system for secrets: {error.strerror}") from error


def copy_tree(source: str, target: str, scratch: str) -> None:
    """Copy the directory `source` into `target` with owners, modes, times, links and extended attributes."""
    with open(scratch, "w+b") as file:
        os.unlink(scratch)
        write_layer(diff_entries(source), file.write)
        file.seek(0)
        unpack(file, target, whiteouts="apply")


def _own(directory: str, wanted: Mount) -> None:
    """Give a cache directory the owner and mode that the mount asks for."""
    os.chown(directory, max(wanted.uid, 0), max(wanted.gid, 0))
    os.chmod(directory, wanted.mode if wanted.mode >= 0 else _CACHE_MODE)

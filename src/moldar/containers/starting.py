"""Starting a container's process: root file system, network, bundle, terminal. Used by the monitor only."""

import fcntl
import os
import shutil
import socket
import stat
from typing import NamedTuple

from moldar.containers.definition import ContainerMount, Definition
from moldar.containers.planning import merge_environment
from moldar.errors import HostTrouble, UserMistake
from moldar.sandbox.bundle import fit, write_bundle
from moldar.sandbox.mounts import open_in_root
from moldar.sandbox.network import Network, open_network
from moldar.sandbox.null_device import open_null
from moldar.sandbox.programs import why_not_started
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.snapshots import Snapshots
from moldar.sandbox.spec import (
    BindMount,
    Device,
    Limit,
    Mount,
    ProcessSpec,
    Resources,
    SandboxSpec,
    TmpfsMount,
)
from moldar.sandbox.users import Account, resolve_user

INIT_PATH = "/sbin/docker-init"
_INIT_PROGRAMS = ("tini-static", "docker-init", "catatonit", "tini")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec/podman"
_CONSOLE = "console.sock"
_ETC = ("hosts", "resolv.conf", "hostname")


class Started(NamedTuple):
    """A container whose process waits to be let go. `outputs` and `stdin` are our ends of its streams.

    `suspicion` is an exit code and reason if its program looks as if it cannot be executed.
    """

    pid: int
    outputs: dict[int, str]
    stdin: int
    network: Network
    suspicion: tuple[int, str] | None
    warnings: tuple[str, ...]


class _Ends(NamedTuple):
    """Pipes of a container: what it gets, and what we keep."""

    given: Streams
    outputs: dict[int, str]
    stdin: int


def prepare(directory: str, definition: Definition, snapshots: Snapshots, runtime: Runtime) -> Started:
    """Make everything up to the created process; MoldarError for what goes wrong, and then nothing is left."""
    root = snapshots.mount_rootfs(definition.id)
    network = open_network(definition.network, definition.ports, directory)
    try:
        account = resolve_user(root, definition.user, definition.groups)
        warnings = list(network.warnings)
        spec = _spec(definition, root, network, account, cgroups=runtime.features.cgroups, warnings=warnings)
        spec = fit(f"{directory}/bundle", spec, runtime.features)
        _make_directory(root, definition.cwd, account)
        runtime.delete(definition.id)  # what a killed monitor left
        write_bundle(f"{directory}/bundle", spec, definition.id, runtime.features)
        suspicion = why_not_started(root, spec.process)
        pid, outputs, stdin = _create(directory, definition, runtime)
    except BaseException:
        network.stop()
        raise
    return Started(pid, outputs, stdin, network, suspicion, tuple(warnings))


def _create(directory: str, definition: Definition, runtime: Runtime) -> tuple[int, dict[int, str], int]:
    bundle = f"{directory}/bundle"
    if definition.tty:
        return _create_with_terminal(bundle, definition, runtime)
    ends = _pipes(bundle, definition.interactive)
    try:
        pid = runtime.create(bundle, definition.id, ends.given)
    except BaseException:
        for descriptor in {*ends.outputs, *([ends.stdin] if ends.stdin >= 0 else [])}:
            os.close(descriptor)
        raise
    finally:
        for descriptor in ends.given:
            os.close(descriptor)
    return pid, ends.outputs, ends.stdin


def _pipes(bundle: str, interactive: bool) -> _Ends:
    out, out_given = os.pipe2(os.O_CLOEXEC)
    err, err_given = os.pipe2(os.O_CLOEXEC)
    if interactive:
        in_given, stdin = os.pipe2(os.O_CLOEXEC)
    else:
        in_given, stdin = open_null(bundle), -1
    return _Ends(Streams(in_given, out_given, err_given), {out: "stdout", err: "stderr"}, stdin)


def _create_with_terminal(bundle: str, definition: Definition, runtime: Runtime) -> tuple[int, dict[int, str], int]:
    """The runtime makes the pty and sends its master over a socket (runc's docs/terminals.md, "new terminal")."""
    folder = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    null = open_null(bundle)
    # By our descriptor of the directory, because socket paths have 107 bytes at most.
    path = f"/proc/{os.getpid()}/fd/{folder}/{_CONSOLE}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            server.bind(path)
            server.listen(1)
            server.settimeout(10)
            pid = runtime.create(bundle, definition.id, Streams(null, null, null), path)
            master = _receive_terminal(server)
    finally:
        os.close(folder)
        os.close(null)
    fcntl.fcntl(master, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return pid, {master: "stdout"}, master


def _receive_terminal(server: socket.socket) -> int:
    try:
        connection, _ = server.accept()
        with connection:
            descriptors = socket.recv_fds(connection, 4096, 1)[1]
    except TimeoutError:
        descriptors = []
    if not descriptors:
        raise HostTrouble("the runtime gave no terminal")
    return descriptors[0]


def _spec(
    definition: Definition, root: str, network: Network, account: Account, *, cgroups: bool, warnings: list[str]
) -> SandboxSpec:
    mounts = [_mount(mount) for mount in definition.mounts]
    args = definition.args
    if definition.init:
        program = next((path for name in _INIT_PROGRAMS if (path := shutil.which(name, path=_PATH))), None)
        if program:
            mounts.append(BindMount(program, INIT_PATH, readonly=True))
            args = (INIT_PATH, "--", *args)
        else:
            warnings.append("--init is ignored: this host has no tini (apt-get install tini)")
    resources = Resources(definition.memory, definition.memory_swap, definition.cpus, definition.pids)
    if resources.any and not cgroups:
        warnings.append("limits are ignored: cgroups cannot be used on this host")
        resources = Resources()
    if definition.cgroup_parent and not cgroups:
        warnings.append("--cgroup-parent is ignored: cgroups cannot be used on this host")
    return SandboxSpec(
        root=root,
        process=ProcessSpec(
            args,
            merge_environment((f"HOME={account.home}",), definition.env),
            definition.cwd,
            account.user,
            definition.tty,
        ),
        mounts=tuple(mounts),
        hostname=definition.hostname,
        network=network.path,
        hosts=definition.hosts,
        address=network.address,
        readonly=definition.read_only,
        privileged=definition.privileged,
        limits=tuple(Limit(*limit) for limit in definition.ulimits),
        shm_size=definition.shm_size,
        resources=resources,
        devices=tuple(_device(text) for text in definition.devices),
        capabilities_added=definition.cap_add,
        capabilities_dropped=definition.cap_drop,
        dns=definition.dns,
        sysctls=definition.sysctls,
        cgroup_parent=definition.cgroup_parent,
        etc=_ETC,
        etc_readonly=False,
    )


def _mount(mount: ContainerMount) -> Mount:
    if mount.kind == "tmpfs":
        return TmpfsMount(mount.target, mount.size, mount.mode)
    if not os.path.exists(mount.source):
        try:
            os.makedirs(mount.source)  # as Docker does for -v
        except OSError as error:
            raise UserMistake(f"cannot mount {mount.source}: {error.strerror}") from error
    return BindMount(mount.source, mount.target, mount.readonly)


def _device(text: str) -> Device:
    parts = text.split(":")
    return Device(parts[0], parts[1] if len(parts) > 1 else parts[0])


def _make_directory(root: str, path: str, account: Account) -> None:
    """Docker makes a working directory that is missing."""
    done = "/"
    for name in [part for part in path.split("/") if part]:
        parent = open_in_root(root, done, os.O_RDONLY | os.O_DIRECTORY)
        done = os.path.join(done, name)
        try:
            try:
                os.close(open_in_root(root, done, os.O_PATH))
            except FileNotFoundError:
                os.mkdir(name, 0o755, dir_fd=parent)
                os.chown(name, account.user.uid, account.user.gid, dir_fd=parent)
        except OSError as error:
            raise UserMistake(f"cannot make the working directory {path}: {error.strerror}") from error
        finally:
            os.close(parent)
    descriptor = open_in_root(root, path, os.O_PATH)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise UserMistake(f"the working directory {path} is not a directory")
    finally:
        os.close(descriptor)

"""A container's root file system as others see it: a descriptor of its root, with its volumes and bind mounts.

What the kernel gives the container only while it runs (/proc, /sys, tmpfs) and what the container mounted itself is
not there, as with Docker. The mounts are made in a mount name space of a thread that ends at once: a descriptor keeps
the name space, nobody else sees the mounts, and the kernel takes them down with us in whatever way we end. Devices
cannot be opened through it, so that a container's device nodes stay its own.

A container that runs has its root mounted in the name space of its monitor, which is where we look. The root of one
that does not run is mounted by us; holding the monitor's lock meanwhile keeps the container from being started.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from moldar.containers.definition import ContainerMount, Definition
from moldar.containers.status import read_status
from moldar.errors import HostTrouble, MoldarError
from moldar.sandbox.mounts import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    open_in_root,
    set_namespace,
    unshare,
)
from moldar.sandbox.snapshots import Snapshots

LOCK = "monitor.lock"
"""The file in a container's directory that its monitor holds locked."""
MS_NOEXEC, MS_NODIRATIME, MS_RELATIME = 8, 2048, 1 << 21
_ST_RELATIME = 4096
_CLONE_FS = 0x200
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_PATIENCE = 0.02
_MOST_SECONDS = 15.0


class _View(NamedTuple):
    root: int
    namespace: int


class RootBusy(HostTrouble):
    """The root file system cannot be seen now."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"cannot see the files of container {name}: {why}", hint="try again, or stop it first")


@contextmanager
def open_root(directory: str, definition: Definition, snapshots: Snapshots, *, mounts: bool = True) -> Iterator[int]:
    """A descriptor of the container's root, with `mounts` its volumes and bind mounts in it; RootBusy, MountFailed.

    `directory` is the container's own in the store. With `mounts`, what is read-only for the container is so here.
    """
    deadline = time.monotonic() + _MOST_SECONDS
    lock = os.open(f"{directory}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while (view := _look(lock, directory, definition, snapshots, mounts)) is None:
            if time.monotonic() > deadline:
                raise RootBusy(definition.id[:12], "it is starting, ending or being looked at")
            time.sleep(_PATIENCE)
        try:
            yield view.root
        finally:
            os.close(view.root)
            os.close(view.namespace)
    finally:
        os.close(lock)


def _look(lock: int, directory: str, definition: Definition, snapshots: Snapshots, mounts: bool) -> _View | None:
    """The view, or None while the container is between two states."""
    status = read_status(directory)
    namespace = -1
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if status.process.alive:
            raise RootBusy(definition.id[:12], "its monitor was killed")
    except BlockingIOError:
        if not status.monitor.alive:
            return None
        with suppress(OSError):
            namespace = os.open(f"/proc/{status.monitor.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        if namespace < 0 or not status.monitor.alive:
            return None

    def assemble() -> _View | None:
        return _assemble(namespace, definition, snapshots, mounts)

    try:
        return _in_a_thread(assemble)
    finally:
        if namespace >= 0:
            os.close(namespace)


def _assemble(namespace: int, definition: Definition, snapshots: Snapshots, mounts: bool) -> _View | None:
    """Runs in a thread of its own, which it takes to another mount name space."""
    unshare(_CLONE_FS)
    if namespace >= 0:
        set_namespace(namespace, CLONE_NEWNS)
    unshare(CLONE_NEWNS)
    mount("", "/", "", MS_REC | MS_PRIVATE)
    if namespace >= 0 and not snapshots.rootfs_mounted(definition.id):
        return None
    root = snapshots.mount_rootfs(definition.id)
    mount(root, root, "", MS_BIND)
    if mounts:
        for each in sorted(definition.mounts, key=lambda found: found.target.count("/")):
            if each.kind != "tmpfs":
                _bind(root, each)
    _restrict(root, readonly=mounts and definition.read_only)
    kept = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    return _View(os.open(root, _PATH), kept)


def _bind(root: str, wanted: ContainerMount) -> None:
    """Shows a volume or bind mount; one whose source or target cannot be had is left out."""
    try:
        if os.path.isdir(wanted.source):
            make_directories(root, wanted.target)
        target = open_in_root(root, wanted.target, os.O_PATH)
    except OSError:
        return
    try:
        mount(wanted.source, f"/proc/self/fd/{target}", "", MS_BIND | MS_REC)
    except (FileNotFoundError, NotADirectoryError):
        return
    finally:
        os.close(target)
    mounted = open_in_root(root, wanted.target, os.O_PATH)
    try:
        _restrict(f"/proc/self/fd/{mounted}", readonly=wanted.readonly)
    finally:
        os.close(mounted)


def _restrict(point: str, *, readonly: bool) -> None:
    """No devices, and read-only on demand; what else holds for the mount stays, as user name spaces insist on."""
    flags = os.statvfs(point).f_flag
    kept = flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)
    kept |= MS_RELATIME if flags & _ST_RELATIME else 0
    mount("", point, "", MS_REMOUNT | MS_BIND | MS_NODEV | kept | (MS_RDONLY if readonly else 0))


def make_directories(root: str | int, path: str) -> None:
    """Make the directory `path` of the root and its parents where they are missing. OSError."""
    done = ""
    for name in [part for part in path.split("/") if part not in ("", ".")]:
        parent = open_in_root(root, done or "/", os.O_PATH | os.O_DIRECTORY)
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=parent)
        finally:
            os.close(parent)
        done = f"{done}/{name}"


def _in_a_thread(work: Callable[[], _View | None]) -> _View | None:
    results: list[_View | None] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if not errors:
        return results[0]
    error = errors[0]
    if isinstance(error, OSError) and not isinstance(error, MoldarError):
        raise HostTrouble(f"cannot mount a container's root: {error.strerror}: {error.filename}") from error
    raise error

"""A container's surroundings, made by its own first process: name spaces, mounts, devices, and the way in."""

import _socket
import errno
import fcntl
import os
import stat
import struct

from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.failures import Doing, Failure
from moldar.sandbox.isolation.mounting import bind, place, set_unwritable
from moldar.sandbox.isolation.plans import DevicePlan, RootPlan
from moldar.sandbox.isolation.targets import by_descriptor, open_existing, open_target
from moldar.sandbox.isolation.terminals import Console, Relay, Terminal
from moldar.sandbox.mounts import (
    CLONE_NEWNET,
    MNT_DETACH,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    mount,
    set_namespace,
    unmount,
    unshare,
)

_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
_NULL = "/dev/null"
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_INTERFACE = struct.Struct("16sH14x")
_NOEXEC = 8


def build(plan: RootPlan, cwd: str, console: Console | Relay | None) -> int:
    """Make all of it and go there; gives the terminal's end for the process, -1 without `console`. Failure."""
    os.umask(0)
    _enter_namespaces(plan)
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root = _own_root(plan)
    for item in plan.mounts:
        place(root, item)
    _make_devices(root, plan.devices)
    slave = _make_console(root, console) if console else -1
    _write_sysctls(root, plan.sysctls)
    _hide(root, plan)
    os.close(open_target(root, cwd, directory=True))
    if plan.readonly:
        with Doing("make the root read-only"):
            set_unwritable(root)
    _go(root, old)
    return slave


def _enter_namespaces(plan: RootPlan) -> None:
    for flag, path in plan.joined:
        with Doing(f"join the name space {path}"):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            set_namespace(descriptor, flag)
            os.close(descriptor)
    with Doing("make name spaces"):
        unshare(plan.unshared & ~calls.CLONE_NEWPID)
    if plan.unshared & CLONE_NEWNET:
        _raise_loopback()
    if plan.hostname:
        with Doing("set the host name"):
            calls.set_hostname(plan.hostname)
    calls.new_session_keyring()


def _raise_loopback() -> None:
    with Doing("set up the loopback interface"):
        socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        request = fcntl.ioctl(socket.fileno(), _GET_FLAGS, _INTERFACE.pack(b"lo", 0))
        fcntl.ioctl(socket.fileno(), _SET_FLAGS, _INTERFACE.pack(b"lo", _INTERFACE.unpack(request)[1] | _UP))
        socket.close()


def _own_root(plan: RootPlan) -> int:
    """The root as a mount of its own; a descriptor of it. Nothing that we mount is seen outside."""
    with Doing(f"mount the root {plan.path}"):
        mount("", "/", "", MS_REC | MS_PRIVATE)
        target = os.open(plan.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        bind(plan.path, target, calls.ATTR_NODEV if plan.nodev else 0, recursive=True)
        os.close(target)
        return os.open(plan.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _make_devices(root: int, devices: list[DevicePlan]) -> None:
    for device in devices:
        folder, name = os.path.split(device.path)
        parent = open_target(root, folder, directory=True)
        with Doing(f"make the device {device.path}"):
            _make_device(root, parent, name, device)
        os.close(parent)
    if not devices:
        return
    folder_descriptor = open_target(root, "/dev", directory=True)
    with Doing("make links in /dev"):
        for name, leads in _LINKS.items():
            try:
                os.symlink(leads, name, dir_fd=folder_descriptor)
            except FileExistsError:
                pass
    os.close(folder_descriptor)


def _make_device(root: int, parent: int, name: str, device: DevicePlan) -> None:
    """A node; where none can be made, in a user name space, the host's own is shown."""
    try:
        try:
            os.mknod(name, device.mode, device.number, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_IFMT(status.st_mode) == stat.S_IFMT(device.mode) and status.st_rdev == device.number:
                return
            os.unlink(name, dir_fd=parent)
            os.mknod(name, device.mode, device.number, dir_fd=parent)
        os.chown(name, device.uid, device.gid, dir_fd=parent)
    except PermissionError:
        target = open_target(root, device.path, directory=False)
        bind(_on_host(device), target, 0)
        os.close(target)


def _on_host(device: DevicePlan) -> str:
    """Where the host has the device."""
    kind = "block" if stat.S_ISBLK(device.mode) else "char"
    numbered = f"/dev/{kind}/{os.major(device.number)}:{os.minor(device.number)}"
    for path in (device.path, numbered):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if status.st_rdev == device.number and stat.S_IFMT(status.st_mode) == stat.S_IFMT(device.mode):
            return path
    raise Failure(f"the device {device.path} cannot be shown: it may not be made here, and is not found in /dev")


def _make_console(root: int, console: Console | Relay) -> int:
    """A terminal, handed out, and shown as /dev/console."""
    terminal = Terminal(root)
    target = open_target(root, "/dev/console", directory=False)
    with Doing("show the terminal as /dev/console"):
        bind("", target, 0, directory=terminal.slave)
        os.close(target)
    console.send(terminal.master)
    os.close(terminal.master)
    return terminal.slave


def _write_sysctls(root: int, values: list[tuple[str, str]]) -> None:
    for name, value in values:
        descriptor = open_existing(root, f"/proc/sys/{name.replace('.', '/')}", os.O_WRONLY)
        if descriptor < 0:
            raise Failure(f"no kernel parameter {name}")
        with Doing(f"set the kernel parameter {name}"):
            os.write(descriptor, value.encode())
            os.close(descriptor)


def _hide(root: int, plan: RootPlan) -> None:
    """Read-only paths and masked ones; those that this kernel does not have are left out."""
    for path in plan.unwritable:
        descriptor = open_existing(root, path)
        if descriptor >= 0:
            with Doing(f"make {path} read-only"):
                bind("", descriptor, calls.ATTR_RDONLY, recursive=True, directory=descriptor)
                os.close(descriptor)
    for path in plan.masked:
        descriptor = open_existing(root, path)
        if descriptor < 0:
            continue
        with Doing(f"hide {path}"):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                flags = MS_RDONLY | MS_NOSUID | MS_NODEV | _NOEXEC
                mount("tmpfs", by_descriptor(descriptor), "tmpfs", flags, "size=0")
            else:
                bind(_NULL, descriptor, calls.ATTR_RDONLY)
            os.close(descriptor)


def _go(root: int, old: int) -> None:
    """Make `root` the root of all, and let go of what was that before."""
    with Doing("change to the container's root"):
        os.fchdir(root)
        try:
            calls.pivot_root(".", ".")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise Failure("the host's root cannot be left, as it is the initial RAM disk (pivot_root(2))") from error
        os.fchdir(old)
        unmount(".", MNT_DETACH)
        os.chdir("/")
        os.close(root)
        os.close(old)

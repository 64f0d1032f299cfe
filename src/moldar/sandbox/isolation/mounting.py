"""Mounting in a container's root, by descriptors: binds as detached copies that are confined before they are seen."""

import errno
import os
import stat

from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.failures import Doing
from moldar.sandbox.isolation.plans import MountPlan
from moldar.sandbox.isolation.targets import by_descriptor, open_target, refuse_link
from moldar.sandbox.mounts import MS_BIND, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, mount

_KERNEL_OWN = ("proc", "sysfs")
_MISSING = (errno.ENOSYS, errno.EPERM)
"""What a call gives that the kernel does not know, or a filter around us does not."""
_STATVFS = ((1, 1), (2, 2), (4, 4), (8, 8), (1024, 1024), (2048, 2048), (4096, 1 << 21))
"""Flags of statvfs(2) and the MS_… that keep them when a mount is made over."""


def place(root: int, plan: MountPlan) -> None:
    """Make one mount of a configuration. Failure."""
    if plan.kind == "bind":
        with Doing(f"mount {plan.source}"):
            directory = stat.S_ISDIR(os.stat(plan.source).st_mode)
        target = open_target(root, plan.target, directory=directory)
        with Doing(f"mount {plan.source} on {plan.target}"):
            bind(plan.source, target, plan.attributes, recursive=plan.recursive)
            os.close(target)
        return
    if plan.kind in _KERNEL_OWN:
        refuse_link(root, plan.target)
    target = open_target(root, plan.target, directory=True)
    with Doing(f"mount {plan.kind} on {plan.target}"):
        _mount_new(plan, target)
        os.close(target)


def bind(source: str, target: int, attributes: int, *, recursive: bool = False, directory: int = -1) -> None:
    """Show `source` (empty: the descriptor `directory`) at `target`, with ATTR_… on all that is shown. OSError."""
    try:
        tree = calls.open_tree(source, recursive=recursive, directory=directory)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        _bind_by_remount(source or by_descriptor(directory), target, attributes, recursive)
        return
    try:
        try:
            calls.set_attributes(tree, attributes, recursive=recursive)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            _bind_by_remount(source or by_descriptor(directory), target, attributes, recursive)
        else:
            calls.move_mount(tree, target)
    finally:
        os.close(tree)


def set_unwritable(mounted: int) -> None:
    """Make the mount that a descriptor stands for read-only, and not what is mounted below it."""
    try:
        calls.set_attributes(mounted, calls.ATTR_RDONLY)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        _remount(by_descriptor(mounted), calls.ATTR_RDONLY)


def _mount_new(plan: MountPlan, target: int) -> None:
    path = by_descriptor(target)
    try:
        mount(plan.source, path, plan.kind, plan.flags, plan.data)
    except OSError as error:
        if plan.kind == "devpts" and error.errno == errno.EINVAL:  # the group of terminals has no number here
            options = [option for option in plan.data.split(",") if not option.startswith("gid=")]
            mount(plan.source, path, plan.kind, plan.flags, ",".join(options))
        elif plan.kind == "sysfs" and error.errno == errno.EPERM:  # in a user name space, with the host's network
            readonly = calls.ATTR_RDONLY if plan.flags & MS_RDONLY else 0
            kept = calls.ATTR_NOSUID | calls.ATTR_NODEV | calls.ATTR_NOEXEC
            bind("/sys", target, kept | readonly, recursive=True)
        else:
            raise


def _bind_by_remount(source: str, target: int, attributes: int, recursive: bool) -> None:
    """For Linux before 5.12: mount, then confine one mount after the other. Seen only by us yet."""
    where = os.readlink(by_descriptor(target))
    mount(source, by_descriptor(target), "", MS_BIND | (MS_REC if recursive else 0))
    mount("", where, "", MS_PRIVATE | MS_REC)
    for path in _mounts_below(where) if recursive else [where]:
        _remount(path, attributes)


def _remount(path: str, attributes: int) -> None:
    """Add ATTR_… (the bits of which are those of MS_… as far as they are used here) to a mount."""
    before = os.statvfs(path).f_flag
    kept = sum(flag for bit, flag in _STATVFS if before & bit)
    mount("", path, "", MS_REMOUNT | MS_BIND | kept | attributes & 0xF)


def _mounts_below(path: str) -> list[str]:
    """What is mounted on `path` and below, outermost first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            escaped = line.split()[4]
            point = escaped.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
            name = os.fsdecode(point)
            if name == path or name.startswith(path + "/"):
                found.append(name)
    return found

"""Mounting and name spaces: the system calls that Python's `os` lacks, by ctypes.

Numbers of the newer calls are the same on every architecture (they were added after the tables were unified).
Calls by name go through libc. Errors are OSError, as in `os`.
"""

import ctypes
import os
import struct

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2 = 429, 430, 431, 432, 437
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100
_OPEN_HOW = struct.Struct("QQQ")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). `data` must be under a page (4096 bytes with its end), as the call copies no more."""
    result = _libc.mount(
        os.fsencode(source) or None,
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        os.fsencode(data) or None,
    )
    _check(result, target)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    """unshare(2): of the calling thread only."""
    _check(_libc.unshare(flags), "unshare")


def set_namespace(descriptor: int, kind: int) -> None:
    """setns(2): of the calling thread only."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount_with_options(kind: str, target: str, options: list[tuple[str, str]], *, readonly: bool = False) -> None:
    """Mount a file system by fsopen(2), fsconfig(2), fsmount(2), move_mount(2): no limit on all options together.

    One option's value may have 255 bytes. An option with an empty value is set as a flag.
    """
    context = _call(_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC, what=kind)
    try:
        for name, value in [*options, *([("ro", "")] if readonly else [])]:
            command = _FSCONFIG_SET_STRING if value else _FSCONFIG_SET_FLAG
            _call(_FSCONFIG, context, command, name.encode(), os.fsencode(value) or None, 0, what=name)
        _call(_FSCONFIG, context, _FSCONFIG_CREATE, None, None, 0, what=kind)
        mounted = _call(_FSMOUNT, context, _FSMOUNT_CLOEXEC, MS_RDONLY if readonly else 0, what=kind)
        try:
            flags = _MOVE_MOUNT_F_EMPTY_PATH
            _call(_MOVE_MOUNT, mounted, b"", _AT_FDCWD, os.fsencode(target), flags, what=target)
        finally:
            os.close(mounted)
    finally:
        os.close(context)


def open_in_root(root: str | int, path: str, flags: int) -> int:
    """Open `path` as a process chrooted to `root` (a path or descriptor) would see it: openat2, RESOLVE_IN_ROOT.

    Neither `..` nor symbolic links lead out of it. The descriptor is close-on-exec.
    """
    directory = root if isinstance(root, int) else os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        return _call(_OPENAT2, directory, os.fsencode(path) or b".", how, len(how), what=path)
    finally:
        if not isinstance(root, int):
            os.close(directory)


def _call(number: int, *arguments: int | bytes | None, what: str) -> int:
    converted = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *converted), what)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return int(result)

"""System calls that isolation needs and that neither Python's `os` nor `sandbox.mounts` has, by ctypes.

Calls by name go through libc; numbers of the newer calls are the same on every architecture. Errors are OSError.
"""

import ctypes
import os
import struct

from moldar.sandbox.mounts import MS_PRIVATE

CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID = 0x02000000, 0x04000000, 0x08000000, 0x20000000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
ATTR_NOATIME, ATTR_STRICTATIME, ATTR_NODIRATIME = 0x10, 0x20, 0x80
ATTR_ATIME = 0x70
"""The bits that hold how access times are kept; to be cleared when one of them is set."""

_OPEN_TREE, _MOVE_MOUNT, _CLOSE_RANGE, _MOUNT_SETATTR = 428, 429, 436, 442
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_MOVE_MOUNT_EMPTY_PATHS = 0x04 | 0x40
_CLOSE_RANGE_CLOEXEC = 4
_MOUNT_ATTR = struct.Struct("QQQQ")
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 4, 8, 22, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SECCOMP_MODE_FILTER = 2
_BPF_INSTRUCTION_BYTES = 8
_CAPABILITY_VERSION_3 = 0x20080522
_SIGKILL = 9
_SIG_BLOCK, _SIG_SETMASK = 0, 2
_SIGSET_BYTES = 128
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.signal.restype = ctypes.c_void_p


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def open_tree(path: str, *, recursive: bool = False, directory: int = _AT_FDCWD) -> int:
    """A detached copy of the mount at `path` (empty: of `directory` itself), with those below if `recursive`."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _call(_OPEN_TREE, directory, os.fsencode(path), flags | (0 if path else _AT_EMPTY_PATH))


def move_mount(tree: int, target: int) -> None:
    """Mount a detached tree on what the descriptor `target` stands for."""
    _call(_MOVE_MOUNT, tree, b"", target, b"", _MOVE_MOUNT_EMPTY_PATHS)


def set_attributes(mount: int, attributes: int, *, recursive: bool = False) -> None:
    """mount_setattr(2): add ATTR_… to a mount, given by a descriptor, and make it private."""
    clear = ATTR_ATIME if attributes & ATTR_ATIME else 0
    data = _MOUNT_ATTR.pack(attributes, clear, MS_PRIVATE, 0)
    _call(_MOUNT_SETATTR, mount, b"", _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0), data, len(data))


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.pivot_root(os.fsencode(new), os.fsencode(old)))


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    data = os.fsencode(name)
    _check(_libc.sethostname(data, len(data)))


def close_from(first: int, *, at_execution: bool = False) -> None:
    """Close all descriptors from `first` on, now or at the next execve(2)."""
    try:
        _call(_CLOSE_RANGE, first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC if at_execution else 0)
    except OSError:  # before Linux 5.11
        for name in os.listdir("/proc/self/fd"):
            if int(name) >= first:
                try:
                    os.set_inheritable(int(name), False) if at_execution else os.close(int(name))
                except OSError:  # the one that listed them
                    pass


def die_with_parent() -> None:
    """SIGKILL when the parent ends. Lost when credentials change; ask again then."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def hide_from_peers() -> None:
    """Nobody of equal rights may look at this process by ptrace(2) or /proc, until it executes another program."""
    _prctl(_PR_SET_DUMPABLE, 0)


def keep_capabilities() -> None:
    """Permitted capabilities outlive the change of user that follows."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def forbid_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_bounding(number: int) -> None:
    """Take a capability out of the bounding set."""
    _prctl(_PR_CAPBSET_DROP, number)


def clear_ambient() -> None:
    """Empty the ambient set."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this process, sets as bit masks."""
    low, high = 0xFFFFFFFF, 32
    sets = (effective, permitted, inheritable)
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, struct.pack("<6I", *(item & low for item in sets), *(item >> high for item in sets))))


def raise_capabilities() -> None:
    """Let all permitted capabilities work at once, as after a change of user they do not (capabilities(7))."""
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, data))
    words = struct.unpack("<6I", data.raw)
    permitted = words[1] | words[4] << 32
    set_capabilities(permitted, permitted, 0)


def load_filter(program: bytes) -> None:
    """Filter all system calls from now on: `program` is in classic BPF (seccomp(2), SECCOMP_SET_MODE_FILTER)."""
    described = _Program(len(program) // _BPF_INSTRUCTION_BYTES, program)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(described))


def new_session_keyring() -> None:
    """Leave the keys of whoever started us behind; where the kernel keeps none there is nothing to leave."""
    number = _KEYCTL.get(os.uname().machine)
    if number:
        _libc.syscall(ctypes.c_long(number), ctypes.c_long(_JOIN_SESSION_KEYRING), None)


def block_signals(numbers: tuple[int, ...]) -> int:
    """Block signals and take them from the descriptor that this gives (signalfd(2))."""
    mask = _signal_set(numbers)
    _check(_libc.sigprocmask(_SIG_BLOCK, mask, None))
    return _check(_libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK))


def usual_signals(numbers: tuple[int, ...]) -> None:
    """No signal blocked, and `numbers` handled as by a new program."""
    _check(_libc.sigprocmask(_SIG_SETMASK, _signal_set(()), None))
    for number in numbers:
        _libc.signal(number, None)


def ignore_signals(numbers: tuple[int, ...]) -> None:
    """Ignore signals."""
    for number in numbers:
        _libc.signal(number, ctypes.c_void_p(1))


def _signal_set(numbers: tuple[int, ...]) -> bytes:
    return sum(1 << number - 1 for number in numbers).to_bytes(_SIGSET_BYTES, "little")


def _prctl(option: int, first: int, second: int = 0) -> None:
    numbers = [ctypes.c_ulong(number) for number in (first, second, 0, 0)]
    _check(_libc.prctl(option, *numbers))


def _call(number: int, *arguments: int | bytes) -> int:
    converted = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *converted))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)

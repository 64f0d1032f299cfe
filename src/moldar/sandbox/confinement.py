"""What a sandboxed process may not do: capabilities, hidden paths and system calls, as Docker's defaults have it."""

import os
from collections.abc import Iterable
from stat import S_IFCHR
from typing import Any

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip
ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""By number, from capability.h."""
MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_DENIED = (
    # the kernel itself
    "acct", "bpf", "delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load", "lookup_dcookie",
    "perf_event_open", "quotactl", "quotactl_fd", "reboot", "swapoff", "swapon", "sysfs", "_sysctl", "uselib",
    "ustat", "userfaultfd", "vhangup", "vm86", "vm86old", "ioperm", "iopl",
    # name spaces and mounts
    "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_by_handle_at",
    "open_tree", "pivot_root", "setns", "umount", "umount2", "unshare",
    # clocks, keys, memory policy, what else is not confined by name spaces
    "add_key", "clock_adjtime", "clock_settime", "get_mempolicy", "io_uring_enter", "io_uring_register",
    "io_uring_setup", "kcmp", "keyctl", "mbind", "migrate_pages", "move_pages", "request_key", "set_mempolicy",
    "set_mempolicy_home_node", "settimeofday", "stime", "syslog",
)  # fmt: skip
_FREED_BY = {
    "CAP_SYS_ADMIN": {
        "bpf", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount", "mount_setattr", "move_mount",
        "open_tree", "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "setns", "syslog", "umount",
        "umount2", "unshare",
    },
    "CAP_DAC_READ_SEARCH": {"open_by_handle_at"},
    "CAP_SYS_BOOT": {"reboot", "kexec_load", "kexec_file_load"},
    "CAP_SYS_MODULE": {"delete_module", "init_module", "finit_module"},
    "CAP_SYS_PACCT": {"acct"},
    "CAP_SYS_PTRACE": {"kcmp"},
    "CAP_SYS_RAWIO": {"iopl", "ioperm"},
    "CAP_SYS_TIME": {"settimeofday", "stime", "clock_settime", "clock_adjtime"},
    "CAP_SYS_TTY_CONFIG": {"vhangup"},
    "CAP_SYS_NICE": {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node", "move_pages"},
    "CAP_SYSLOG": {"syslog"},
    "CAP_BPF": {"bpf"},
    "CAP_PERFMON": {"perf_event_open"},
}  # fmt: skip
_IDS = (
    "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32", "setfsgid", "setfsgid32", "setfsuid",
    "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setregid", "setregid32", "setresgid",
    "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
)  # fmt: skip
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_AF_VSOCK = 40
_EPERM, _ENOSYS = 1, 38
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}


def held_capabilities() -> frozenset[str]:
    """The capabilities that this process could give on: its bounding set."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapBnd:"):
                bits = int(line.split()[1], 16)
                return frozenset(name for number, name in enumerate(ALL_CAPABILITIES) if bits >> number & 1)
    return frozenset()


def capabilities(*, privileged: bool, added: Iterable[str] = (), dropped: Iterable[str] = ()) -> tuple[str, ...]:
    """Docker's rule: the default ones, or all; `ALL` in `added` or `dropped` means all. None that we lack."""
    names = set(ALL_CAPABILITIES if privileged else DEFAULT_CAPABILITIES)
    extra = {_full_name(name) for name in added}
    less = {_full_name(name) for name in dropped}
    if "CAP_ALL" in extra:
        names |= set(ALL_CAPABILITIES)
    if "CAP_ALL" in less:
        names = set()
    names = (names | extra) - (less - extra)
    return tuple(sorted(names & held_capabilities()))


def seccomp_profile(allowed: Iterable[str], *, emulate_ids: bool = False) -> dict[str, Any]:
    """The system call filter (runtime-spec, config-linux.md, "Seccomp") of a process with the capabilities `allowed`.

    It lists what is refused, where Docker's lists what is allowed: a tenth of the rules, so that the runtime compiles
    it in a fraction of the time, for every RUN. What a capability is meant for is not refused to who has it.

    `emulate_ids`: what gives files or processes other ids, of which there are none, seems to succeed, as package
    managers want; and so does making devices.
    """
    held = set(allowed)
    freed = {name for capability, names in _FREED_BY.items() if capability in held for name in names}
    rules: list[dict[str, Any]] = [
        {"names": [name for name in _DENIED if name not in freed], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": _EPERM,
            "args": [{"index": 0, "value": _AF_VSOCK, "op": "SCMP_CMP_EQ"}],
        },
    ]
    if "CAP_SYS_ADMIN" not in held:
        rules += _no_new_namespaces()
    if emulate_ids:
        rules += _emulated_ids()
    profile: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    architectures = _ARCHITECTURES.get(os.uname().machine)
    if architectures:
        profile["architectures"] = architectures
    return profile


def _no_new_namespaces() -> list[dict[str, Any]]:
    """clone with any CLONE_NEW* flag. clone3 takes its flags by pointer, so libc must fall back to clone: ENOSYS."""
    flags = [1 << bit for bit in range(32) if _NEW_NAMESPACES >> bit & 1]
    return [
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": _EPERM,
            "args": [{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for flag in flags
    ] + [{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS}]


def _emulated_ids() -> list[dict[str, Any]]:
    """Calls that give 0 and do nothing. mknod only for devices, which have a bit in the mode that files lack."""
    devices = [
        {
            "names": [name],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 0,
            "args": [{"index": index, "value": S_IFCHR, "valueTwo": S_IFCHR, "op": "SCMP_CMP_MASKED_EQ"}],
        }
        for name, index in (("mknod", 1), ("mknodat", 2))
    ]
    return [{"names": list(_IDS), "action": "SCMP_ACT_ERRNO", "errnoRet": 0}, *devices]


def _full_name(name: str) -> str:
    name = name.upper()
    return name if name.startswith("CAP_") else f"CAP_{name}"

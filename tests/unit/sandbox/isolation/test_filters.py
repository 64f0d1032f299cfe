"""System call filters, by an interpreter of the kernel's classic BPF, and in a real process."""

import ctypes
import errno
import os
import random
import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from moldar.sandbox.confinement import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, seccomp_profile
from moldar.sandbox.isolation import calls
from moldar.sandbox.isolation.callnumbers import X32_BIT, call_numbers
from moldar.sandbox.isolation.filters import BadFilter, compile_filter

X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
NEWUSER = 0x10000000


def judge(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """What the kernel would decide about a call (net/core/filter.c, as far as seccomp allows its instructions)."""
    padded = (*arguments, *([0] * (6 - len(arguments))))
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, audit, 0, *padded)
    code = [struct.unpack_from("<HBBI", program, offset) for offset in range(0, len(program), 8)]
    position = accumulator = 0
    while True:
        operation, true, false, value = code[position]
        position += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x05:
                position += value
            case 0x15:
                position += true if accumulator == value else false
            case 0x25:
                position += true if accumulator > value else false
            case 0x35:
                position += true if accumulator >= value else false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"no such instruction in seccomp: {operation:#x}")


def number_of(name: str, architecture: str = "x86_64") -> int:
    return call_numbers(name, architecture)[0]


def filtered(default: str, *rules: Mapping[str, Any], **members: Any) -> bytes:
    return compile_filter({"defaultAction": default, "syscalls": rules, **members}, "x86_64")


def our_profile(machine: str, held: tuple[str, ...] = DEFAULT_CAPABILITIES) -> bytes:
    profile = seccomp_profile(held)
    profile["architectures"] = {
        "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    }[machine]
    return compile_filter(profile, machine)


@pytest.mark.parametrize(
    ("machine", "audit", "architecture"),
    [
        ("x86_64", X86_64, "x86_64"),
        ("x86_64", X86_64, "x32"),
        ("x86_64", I386, "i386"),
        ("aarch64", AARCH64, "aarch64"),
        ("aarch64", ARM, "arm"),
    ],
)
def test_our_profile(machine: str, audit: int, architecture: str) -> None:
    program = our_profile(machine)

    def verdict(name: str, *arguments: int) -> set[int]:
        return {judge(program, audit, number, *arguments) for number in call_numbers(name, architecture)}

    for name in ("mount", "unshare", "setns", "keyctl", "bpf", "move_mount", "io_uring_setup", "open_by_handle_at"):
        assert verdict(name) == {EPERM}, name
    assert verdict("clone3") == {ENOSYS}
    assert verdict("clone", 0x1200011) == {ALLOW}
    assert verdict("clone", NEWUSER | 17) == {EPERM}
    assert verdict("socket", 40, 1) == {EPERM}
    assert verdict("socket", 2, 1) == {ALLOW}
    for name in ("openat", "execve", "exit_group", "ptrace", "chroot"):
        assert verdict(name) == {ALLOW}, name


def test_an_added_capability_frees_what_it_is_for() -> None:
    program = our_profile("x86_64", ALL_CAPABILITIES)
    assert judge(program, X86_64, number_of("mount")) == ALLOW
    assert judge(program, X86_64, number_of("unshare")) == ALLOW
    assert judge(program, X86_64, number_of("keyctl")) == EPERM


def test_other_architectures_end_the_process() -> None:
    native = filtered("SCMP_ACT_ALLOW", {"names": ["mount"], "action": "SCMP_ACT_ERRNO"})
    assert judge(native, X86_64, number_of("mount")) == EPERM
    assert judge(native, X86_64, number_of("mount") | X32_BIT) == KILL_PROCESS
    assert judge(native, X86_64, number_of("getpid") | X32_BIT) == KILL_PROCESS
    assert judge(native, X86_64, -1) == ALLOW, "the number of a call that a tracer skips"
    for audit in (I386, AARCH64, ARM, 0):
        assert judge(native, audit, 1) == KILL_PROCESS


def test_socketcall_is_refused_where_its_arguments_would_decide() -> None:
    program = our_profile("x86_64")
    assert judge(program, I386, number_of("socketcall", "i386"), 1) == EPERM
    assert judge(program, I386, number_of("socketcall", "i386"), 9) == ALLOW


def test_what_is_allowed_may_be_listed_instead() -> None:
    names = ["read", "write", "exit_group"]
    program = filtered("SCMP_ACT_ERRNO", {"names": names, "action": "SCMP_ACT_ALLOW"}, defaultErrnoRet=errno.ENOSYS)
    assert {judge(program, X86_64, number_of(name)) for name in names} == {ALLOW}
    assert judge(program, X86_64, number_of("openat")) == ENOSYS


OPERATORS: dict[str, Callable[[int, int, int], bool]] = {
    "SCMP_CMP_EQ": lambda argument, value, _: argument == value,
    "SCMP_CMP_NE": lambda argument, value, _: argument != value,
    "SCMP_CMP_LT": lambda argument, value, _: argument < value,
    "SCMP_CMP_LE": lambda argument, value, _: argument <= value,
    "SCMP_CMP_GT": lambda argument, value, _: argument > value,
    "SCMP_CMP_GE": lambda argument, value, _: argument >= value,
    "SCMP_CMP_MASKED_EQ": lambda argument, value, second: argument & value == second,
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_conditions_on_arguments(operator: str) -> None:
    """Compared with Python's arithmetic near the edges of both halves of 64 bits; two conditions must both hold."""
    chance = random.Random(operator)
    edges = [0, 1, 2, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 64) - 1, 5 << 32, (5 << 32) + 7]
    for _ in range(300):
        value, second, argument = (chance.choice(edges) for _ in range(3))
        condition = {"index": 2, "op": operator, "value": value, "valueTwo": second}
        other = {"index": 5, "op": "SCMP_CMP_EQ", "value": 9}
        rule = {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [condition, other]}
        program = filtered("SCMP_ACT_ALLOW", rule, {"names": ["write"], "action": "SCMP_ACT_ERRNO"})
        holds = OPERATORS[operator](argument, value, second)
        assert judge(program, X86_64, 0, 0, 0, argument, 0, 0, 9) == (EPERM if holds else ALLOW)
        assert judge(program, X86_64, 0, 0, 0, argument, 0, 0, 8) == ALLOW
        assert judge(program, X86_64, 1, 0, 0, argument, 0, 0, 8) == EPERM, "the next rule sees the number again"


def test_one_argument_looked_at_twice_means_either() -> None:
    conditions = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (3, 4)]
    program = filtered("SCMP_ACT_ALLOW", {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": conditions})
    assert [judge(program, X86_64, 0, value) for value in (2, 3, 4)] == [ALLOW, EPERM, EPERM]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"names": ["frobnicate"], "action": "SCMP_ACT_ERRNO"}, "not known: frobnicate"),
        ({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY"),
        (
            {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "?", "value": 1}]},
            "compares by",
        ),
    ],
)
def test_nothing_is_left_out_silently(rule: Mapping[str, Any], message: str) -> None:
    with pytest.raises(BadFilter, match=message):
        filtered("SCMP_ACT_ALLOW", rule)


def test_an_architecture_that_is_not_known() -> None:
    with pytest.raises(BadFilter, match="SCMP_ARCH_S390"):
        filtered("SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_S390"])
    with pytest.raises(BadFilter, match="riscv64"):
        compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, "riscv64")


def test_the_kernel_obeys() -> None:
    """In a real process: a refusal, another errno, and success that nothing was done for (errnoRet 0)."""
    rules = [
        {"names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
        {"names": ["chown", "fchownat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
        {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"},
    ]
    program = compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, os.uname().machine)
    child = os.fork()
    if not child:
        code = 1
        try:
            calls.load_filter(program)
            os.chown("/nowhere/at/all", 1, 1)
            libc = ctypes.CDLL(None, use_errno=True)
            results = [libc.getsid(0), ctypes.get_errno(), libc.sethostname(b"x", 1), ctypes.get_errno()]
            code = 0 if results == [-1, 77, -1, errno.EPERM] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

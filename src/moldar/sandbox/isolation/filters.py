"""System call filters: `linux.seccomp` of a configuration as a program in classic BPF (seccomp(2)).

For each architecture that the profile lists, and always the native one, the program has a block: the calls by number,
each with its verdict, those with conditions on arguments last. Calls by other architectures end the process. Where
32-bit x86 has one call for many (socketcall), conditions on arguments cannot be looked at, as they lie in memory of
the caller; all of those calls get the verdict then, as by libseccomp.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from moldar.errors import HostTrouble
from moldar.sandbox.isolation.callnumbers import X32_BIT, call_numbers

_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _EQUAL, _GREATER, _AT_LEAST = 0x05, 0x15, 0x25, 0x35
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_KILL_PROCESS, _KILL_THREAD, _TRAP, _ERRNO, _TRACE, _LOG, _ALLOW = (
    0x80000000, 0, 0x30000, 0x50000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000,
)  # fmt: skip
_ACTIONS = {
    "SCMP_ACT_KILL": _KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": _TRAP,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_ALLOW": _ALLOW,
}
_EPERM = 1
_SOCKETCALL_OPERATIONS = {"socket": 1, "bind": 2, "connect": 3, "listen": 4, "socketpair": 8}
_MOST_INSTRUCTIONS = 4096
_LOW, _HIGH = 0xFFFFFFFF, 32


class Abi(NamedTuple):
    """A way to make system calls: its name in `callnumbers`, and the kernel's AUDIT_ARCH_…."""

    name: str
    audit: int


_X86_64, _X32 = Abi("x86_64", 0xC000003E), Abi("x32", 0xC000003E)
_ABIS = {
    "SCMP_ARCH_X86_64": _X86_64,
    "SCMP_ARCH_X32": _X32,
    "SCMP_ARCH_X86": Abi("i386", 0x40000003),
    "SCMP_ARCH_AARCH64": Abi("aarch64", 0xC00000B7),
    "SCMP_ARCH_ARM": Abi("arm", 0x40000028),
}
_NATIVE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


class BadFilter(HostTrouble):
    """A filter that asks for what cannot be done here. It is never left out instead."""


class _Condition(NamedTuple):
    argument: int
    operator: str
    value: int
    second: int


class _Rule(NamedTuple):
    """A verdict about some calls. All `conditions` must hold."""

    names: tuple[str, ...]
    verdict: int
    conditions: tuple[_Condition, ...]


def compile_filter(profile: Mapping[str, Any], machine: str) -> bytes:
    """The program for `profile` on a processor of type `machine` (as uname(2) names it); BadFilter."""
    if machine not in _NATIVE:
        raise BadFilter(f"no system call filters for processors of type {machine}")
    default = _verdict(profile["defaultAction"], profile.get("defaultErrnoRet"))
    rules = [rule for document in profile.get("syscalls", ()) for rule in _rules(document)]
    abis = [_abi(name) for name in dict.fromkeys((_NATIVE[machine], *profile.get("architectures", ())))]
    code: list[bytes] = []
    for audit in dict.fromkeys(abi.audit for abi in abis):
        here = [abi for abi in abis if abi.audit == audit]
        block = _architecture(here, rules, default)
        code += [_load(_ARCHITECTURE), *_unless_equal(audit, len(block)), *block]
    code.append(_return(_KILL_PROCESS))
    if len(code) > _MOST_INSTRUCTIONS:
        raise BadFilter(f"the system call filter needs {len(code)} instructions, more than {_MOST_INSTRUCTIONS}")
    return b"".join(code)


def _architecture(abis: list[Abi], rules: list[_Rule], default: int) -> list[bytes]:
    """What calls by one AUDIT_ARCH come to. It ends in a verdict."""
    code = [_load(_NUMBER)]
    if _X86_64 in abis and _X32 not in abis:
        # Every x32 number is at least the bit; the number -1, by which tracers skip calls, is none.
        code += [_jump(_EQUAL, _LOW, 2, 0), _jump(_AT_LEAST, X32_BIT, 0, 1), _return(_KILL_PROCESS)]
    plain = [rule for rule in rules if not rule.conditions]
    for rule in (*plain, *(rule for rule in rules if rule.conditions)):
        for abi in abis:
            for name in rule.names:
                code += _calls(abi, name, rule)
    return [*code, _return(default)]


def _calls(abi: Abi, name: str, rule: _Rule) -> list[bytes]:
    try:
        numbers = call_numbers(name, abi.name)
    except KeyError:
        raise BadFilter(f"the filter names a system call that is not known: {name}") from None
    code: list[bytes] = []
    for number in numbers:
        code += _call(number, rule.conditions, rule.verdict)
    if abi.name == "i386" and name in _SOCKETCALL_OPERATIONS:
        operation = _Condition(0, "SCMP_CMP_MASKED_EQ", _LOW, _SOCKETCALL_OPERATIONS[name])
        code += _call(call_numbers("socketcall", "i386")[0], (operation,), rule.verdict)
    return code


def _call(number: int, conditions: tuple[_Condition, ...], verdict: int) -> list[bytes]:
    """The verdict if the number in the accumulator is `number` and all conditions hold; the number stays in there."""
    if not conditions:
        return [_jump(_EQUAL, number, 0, 1), _return(verdict)]
    body: list[bytes] = []
    for condition in reversed(conditions):  # from the end, as each must know how far it is to there
        body = _unless(condition, len(body) + 1) + body
    body = [*body, _return(verdict), _load(_NUMBER)]
    return [_jump(_EQUAL, number, 0, len(body)), *body]


def _unless(condition: _Condition, rest: int) -> list[bytes]:
    """Jumps over the `rest` instructions that follow unless the condition holds."""
    low, high = _ARGUMENTS + 8 * condition.argument, _ARGUMENTS + 8 * condition.argument + 4
    value, second = condition.value, condition.second
    match condition.operator:
        case "SCMP_CMP_MASKED_EQ":
            upper = [_load(high), _mask(value >> _HIGH)]
            lower = [_load(low), _mask(value & _LOW), _jump(_EQUAL, second & _LOW, 0, rest)]
            return [*upper, _jump(_EQUAL, second >> _HIGH, 0, rest + 3), *lower]
        case "SCMP_CMP_EQ":
            lower = [_load(low), _jump(_EQUAL, value & _LOW, 0, rest)]
            return [_load(high), _jump(_EQUAL, value >> _HIGH, 0, rest + 2), *lower]
        case "SCMP_CMP_NE":
            lower = [_load(low), _jump(_EQUAL, value & _LOW, rest, 0)]
            return [_load(high), _jump(_EQUAL, value >> _HIGH, 0, 2), *lower]
        case "SCMP_CMP_GT" | "SCMP_CMP_LE":
            return _compared(low, high, value, _GREATER, rest, negated=condition.operator == "SCMP_CMP_LE")
        case "SCMP_CMP_GE" | "SCMP_CMP_LT":
            return _compared(low, high, value, _AT_LEAST, rest, negated=condition.operator == "SCMP_CMP_LT")
    raise BadFilter(f"the filter compares by {condition.operator!r}, which is not known")


def _compared(low: int, high: int, value: int, last: int, rest: int, *, negated: bool) -> list[bytes]:
    """An order of 64-bit numbers: by the upper halves, and if these are equal by the lower."""
    holds, fails = (rest, 0) if negated else (0, rest)
    return [
        _load(high),
        _jump(_GREATER, value >> _HIGH, holds + 3, 0),
        _jump(_EQUAL, value >> _HIGH, 0, fails + 2),
        _load(low),
        _jump(last, value & _LOW, holds, fails),
    ]


def _rules(document: Mapping[str, Any]) -> Iterable[_Rule]:
    """A rule of the profile; one that looks at the same argument twice means either, and becomes several."""
    verdict = _verdict(document["action"], document.get("errnoRet"))
    names = tuple(document["names"])
    conditions = tuple(
        _Condition(item["index"], item["op"], item["value"], item.get("valueTwo", 0))
        for item in document.get("args") or ()
    )
    if len({condition.argument for condition in conditions}) < len(conditions):
        return [_Rule(names, verdict, (condition,)) for condition in conditions]
    return [_Rule(names, verdict, conditions)]


def _verdict(action: str, number: int | None) -> int:
    if action not in _ACTIONS:
        raise BadFilter(f"the filter asks for {action}, which is not supported")
    verdict = _ACTIONS[action]
    if verdict in (_ERRNO, _TRACE):
        verdict |= (_EPERM if number is None else number) & 0xFFFF
    return verdict


def _abi(name: str) -> Abi:
    if name not in _ABIS:
        raise BadFilter(f"the filter is for {name}, which is not supported")
    return _ABIS[name]


def _load(offset: int) -> bytes:
    return _INSTRUCTION.pack(_LOAD, 0, 0, offset)


def _mask(value: int) -> bytes:
    return _INSTRUCTION.pack(_AND, 0, 0, value)


def _return(verdict: int) -> bytes:
    return _INSTRUCTION.pack(_RETURN, 0, 0, verdict)


def _jump(kind: int, value: int, true: int, false: int) -> bytes:
    return _INSTRUCTION.pack(kind, true, false, value)


def _unless_equal(value: int, distance: int) -> list[bytes]:
    """Jumps `distance` instructions ahead unless equal: by a jump of its own, as conditions reach only 255 far."""
    return [_jump(_EQUAL, value, 1, 0), _INSTRUCTION.pack(_JUMP, 0, 0, distance)]

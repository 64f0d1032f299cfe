"""Which devices a container may use (runtime-spec, config-linux.md, "Allowed Device list").

Version 1 of cgroups takes the rules as lines of text. Version 2 asks a small eBPF program that is attached to the
cgroup, BPF_PROG_TYPE_CGROUP_DEVICE in the kernel's documentation; here is what writes it.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_EVERYTHING = 7
_INSTRUCTION = struct.Struct("<BBhi")
_LOAD_WORD, _MOVE, _MOVE_REGISTER, _AND, _SHIFT_RIGHT = 0x61, 0xB7, 0xBF, 0x57, 0x77
_EQUAL, _NOT_EQUAL, _EXIT = 0x15, 0x55, 0x95
_LICENSE = b"Apache-2.0\0"


class DeviceRule(NamedTuple):
    """A rule; the last one that fits decides. `kind` is "a" (any), "b" or "c"; numbers are None for any."""

    allow: bool
    kind: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"

    @property
    def line(self) -> str:
        """As version 1 of cgroups has it in devices.allow and devices.deny."""
        numbers = ("*" if number is None else str(number) for number in (self.major, self.minor))
        return "a" if self.kind == "a" else f"{self.kind} {':'.join(numbers)} {self.access}"


_USUAL = (
    DeviceRule(True, "c", access="m"),
    DeviceRule(True, "b", access="m"),
    *(DeviceRule(True, "c", 1, minor) for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule(True, "c", 5, minor) for minor in (0, 1, 2)),
    DeviceRule(True, "c", 136),
)
"""What every container may: make nodes, and use null, zero, full, random, urandom, tty, console, ptmx, terminals."""


def device_rules(documents: Iterable[Mapping[str, Any]]) -> tuple[DeviceRule, ...]:
    """The rules of a configuration, and what every container may."""
    rules = [
        DeviceRule(
            document["allow"],
            document.get("type") or "a",
            document.get("major"),
            document.get("minor"),
            document.get("access") or "rwm",
        )
        for document in documents
    ]
    return (*rules, *_USUAL)


def attach_rules(cgroup: str, rules: Iterable[DeviceRule]) -> None:
    """Let `rules` decide in a cgroup of version 2, by its path. OSError."""
    code = device_program(rules)
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(_LICENSE)
    load = struct.pack(
        "=IIQQIIQ",
        _PROG_TYPE_CGROUP_DEVICE,
        len(code) // _INSTRUCTION.size,
        ctypes.addressof(instructions),
        ctypes.addressof(license_text),
        0,
        0,
        0,
    )
    program = _bpf(_PROG_LOAD, load)
    try:
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _bpf(_PROG_ATTACH, struct.pack("=IIII", directory, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(directory)
    finally:
        os.close(program)


def device_program(rules: Iterable[DeviceRule]) -> bytes:
    """An eBPF program that returns 1 for an allowed access (struct bpf_cgroup_dev_ctx) and 0 for a refused one.

    Registers: 2 the type, 3 the access, 4 and 5 the numbers.
    """
    code = [
        _step(_LOAD_WORD, 2, 1, offset=0),
        _step(_MOVE_REGISTER, 3, 2),
        _step(_AND, 2, value=0xFFFF),
        _step(_SHIFT_RIGHT, 3, value=16),
        _step(_LOAD_WORD, 4, 1, offset=4),
        _step(_LOAD_WORD, 5, 1, offset=8),
    ]
    for rule in reversed(tuple(rules)):
        code += _judged(rule)
        if rule == DeviceRule(rule.allow):  # it fits always; the kernel wants no steps that are never reached
            return b"".join(code)
    return b"".join([*code, *_verdict(False)])


def _judged(rule: DeviceRule) -> list[bytes]:
    """Ends the program with the rule's verdict if it fits."""
    body = _verdict(rule.allow)
    access = sum(_ACCESS[letter] for letter in set(rule.access))
    if access != _EVERYTHING:
        # An access is allowed when all that it asks for is, and refused when anything is.
        looked_at = _EVERYTHING & ~access if rule.allow else access
        jump = _NOT_EQUAL if rule.allow else _EQUAL
        test = [_step(_MOVE_REGISTER, 1, 3), _step(_AND, 1, value=looked_at), _step(jump, 1, offset=len(body))]
        body = [*test, *body]
    for register, number in ((5, rule.minor), (4, rule.major)):
        if number is not None:
            body = [_skip(register, number, len(body)), *body]
    if rule.kind != "a":
        body = [_skip(2, _TYPES[rule.kind], len(body)), *body]
    return body


def _verdict(allow: bool) -> list[bytes]:
    return [_step(_MOVE, 0, value=int(allow)), _step(_EXIT)]


def _skip(register: int, value: int, distance: int) -> bytes:
    """Jumps over `distance` instructions unless the register holds `value`."""
    return _step(_NOT_EQUAL, register, offset=distance, value=value)


def _step(operation: int, target: int = 0, source: int = 0, *, offset: int = 0, value: int = 0) -> bytes:
    return _INSTRUCTION.pack(operation, target | source << 4, offset, value)


def _bpf(command: int, attributes: bytes) -> int:
    number = _BPF.get(os.uname().machine)
    if number is None:
        raise OSError(0, "device rules are not known for this type of processor")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    data = ctypes.create_string_buffer(attributes, len(attributes))
    arguments = (ctypes.c_long(item) for item in (number, command, ctypes.addressof(data), len(attributes)))
    result = libc.syscall(*arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "bpf")
    return int(result)

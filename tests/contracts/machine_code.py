"""Programs of a few instructions that make one system call and exit with the error it gives, 0 when it succeeds."""

import os
import struct
from pathlib import Path

from moldar.sandbox.isolation.callnumbers import call_numbers

_BASE, _START = 0x400000, 120
_X86_REGISTERS = (b"\xbf", b"\xbe", b"\xba", b"\x41\xba", b"\x41\xb8", b"\x41\xb9")
_EXIT = {"x86_64": 60, "aarch64": 93}


def write_call(path: Path, name: str, *arguments: int) -> None:
    """Write a program that makes the call `name` with up to six arguments of 32 bits, for the processor here."""
    machine = os.uname().machine
    (number,) = call_numbers(name, machine)
    text = _x86_64(number, arguments) if machine == "x86_64" else _aarch64(number, arguments)
    kind = {"x86_64": 62, "aarch64": 183}[machine]
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, kind, 1, _BASE + _START, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    size = _START + len(text)
    path.write_bytes(head + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000) + text)
    path.chmod(0o755)


def _x86_64(number: int, arguments: tuple[int, ...]) -> bytes:
    """mov … for each; mov eax, number; syscall; neg eax; cmovs eax, 0; mov edi, eax; mov eax, 60; syscall."""
    moves = zip(_X86_REGISTERS, arguments, strict=False)
    code = b"".join(register + struct.pack("<I", value) for register, value in moves)
    code += b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"
    code += bytes.fromhex("31c9 f7d8 0f48c1 89c7")  # a positive result is no error
    return code + b"\xb8" + struct.pack("<I", _EXIT["x86_64"]) + b"\x0f\x05"


def _aarch64(number: int, arguments: tuple[int, ...]) -> bytes:
    """movz and movk for each; svc; negs x0, x0; csel x0, xzr, x0, mi; mov x8, 93; svc."""
    words: list[int] = []
    for register, value in enumerate(arguments):
        words += [0xD2800000 | (value & 0xFFFF) << 5 | register, 0xF2A00000 | (value >> 16) << 5 | register]
    words += [0xD2800008 | number << 5, 0xD4000001, 0xEB0003E0, 0x9A8043E0]
    words += [0xD2800008 | _EXIT["aarch64"] << 5, 0xD4000001]
    return struct.pack(f"<{len(words)}I", *words)

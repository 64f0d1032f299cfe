"""Whether this host can run programs of a platform: its own, and those that it has an emulator or a second mode for.

It is found out by running one: for each processor there is the smallest program here, which ends at once. Who asks
the kernel's list of emulators (binfmt_misc) instead is told of none where that is not mounted, as in most containers,
and of some that do not work.
"""

import errno
import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

from moldar.errors import Unsupported
from moldar.image.model import Platform

_BINFMT = "/proc/sys/fs/binfmt_misc"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv8l": "arm", "i686": "386"}


class Processor(NamedTuple):
    """How a program for a processor looks (ELF): its number, 32 or 64 bits, byte order, flags.

    `code` calls exit(0); `emulator` is what qemu calls the processor.
    """

    machine: int
    bits: int
    order: Literal["little", "big"]
    flags: int
    code: str
    emulator: str


PROCESSORS: Mapping[str, Processor] = {
    "amd64": Processor(62, 64, "little", 0, "31ffb83c0000000f05", "x86_64"),
    "386": Processor(3, 32, "little", 0, "31dbb801000000cd80", "i386"),
    "arm64": Processor(183, 64, "little", 0, "000080d2a80b80d2010000d4", "aarch64"),
    "arm": Processor(40, 32, "little", 0x5000000, "0000a0e30170a0e3000000ef", "arm"),
    "riscv64": Processor(243, 64, "little", 0, "130500009308d00573000000", "riscv64"),
    "ppc64le": Processor(21, 64, "little", 2, "010000380000603802000044", "ppc64le"),
    "s390x": Processor(22, 64, "big", 0, "a72900000a01", "s390x"),
    "mips64le": Processor(8, 64, "little", 0x60000000, "c2130224252000000c000000", "mips64el"),
    "loong64": Processor(258, 64, "little", 0x43, "0400c0020b74810300002b00", "loongarch64"),
}
_START = 0x400000


class ForeignPlatform(Unsupported):
    """A step would run programs that this host cannot execute. `platform` is theirs."""

    def __init__(self, platform: Platform, host: str) -> None:
        super().__init__(
            f"cannot run programs of {platform} on this {host} host: no emulator is registered",
            hint="apt-get install qemu-user-static binfmt-support registers one; COPY and ADD need none",
        )
        self.platform = platform


class EmulatorOutside(Unsupported):
    """The emulator of a platform is on the host at `interpreter`, and in the container there is none."""

    def __init__(self, platform: Platform, interpreter: str) -> None:
        super().__init__(
            f"cannot run programs of {platform}: the kernel would look for the emulator {interpreter} in the image",
            hint="register it with the flag F (fix binary), as Debian's qemu-user-static does",
        )
        self.platform = platform
        self.interpreter = interpreter


def check_runnable(platform: Platform) -> None:
    """ForeignPlatform when programs of `platform` cannot be run here."""
    machine = os.uname().machine
    host = _MACHINES.get(machine, machine)
    if platform.architecture == host:
        return
    processor = PROCESSORS.get(platform.architecture)
    if processor is None:
        known = os.path.exists(f"{_BINFMT}/qemu-{platform.architecture}")
    else:
        known = runs(program_of(processor))
    if not known:
        raise ForeignPlatform(platform, host)


def check_emulator(platform: Platform, root: str, *, binfmt: str = _BINFMT) -> None:
    """EmulatorOutside when the emulator of `platform` is opened by its path, at which the root has nothing."""
    processor = PROCESSORS.get(platform.architecture)
    try:
        with open(f"{binfmt}/qemu-{processor.emulator if processor else ''}", encoding="utf-8") as file:
            entry = dict(line.partition(" ")[::2] for line in file.read().splitlines())
    except OSError:
        return
    interpreter = entry.get("interpreter", "")
    if "F" not in entry.get("flags:", "") and not os.path.lexists(f"{root}/{interpreter}"):
        raise EmulatorOutside(platform, interpreter)


def runs(program: bytes) -> bool:
    """Whether `program` can be run here and ends well; also where that cannot be found out."""
    try:
        file = os.memfd_create("probe", 0)  # not closed on exec: an emulator opens it by its name
        try:
            os.write(file, program)
            process = os.posix_spawn(f"/proc/self/fd/{file}", ["probe"], {})
        finally:
            os.close(file)
    except OSError as error:
        return error.errno not in (errno.ENOEXEC, errno.ENOENT)
    return os.waitpid(process, 0)[1] == 0


def program_of(processor: Processor) -> bytes:
    """An ELF program that does nothing and ends with 0: two headers and a few instructions."""
    word = processor.bits // 8
    size, header, entry = (64, 56, 64) if word == 8 else (52, 32, 40)
    code = bytes.fromhex(processor.code)

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, processor.order)

    start, whole = size + header, size + header + len(code)
    identity = b"\x7fELF" + bytes([word // 4, 1 if processor.order == "little" else 2, 1]) + bytes(9)
    kind = number(2, 2) + number(processor.machine, 2) + number(1, 4)
    where = number(_START + start, word) + number(size, word) + number(0, word)
    sizes = [size, header, 1, entry, 0, 0]
    rest = number(processor.flags, 4) + b"".join(number(each, 2) for each in sizes)
    readable, placed = number(5, 4), [number(each, word) for each in (0, _START, _START, whole, whole)]
    segment = number(1, 4) + (readable if word == 8 else b"") + b"".join(placed)
    segment += (b"" if word == 8 else readable) + number(0x10000, word)
    return identity + kind + where + rest + segment + code

"""Whether this host can run programs of a platform: its own ones, and those that binfmt_misc hands to an emulator."""

import os

from moldar.errors import Unsupported
from moldar.image.model import Platform

_BINFMT = "/proc/sys/fs/binfmt_misc"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv8l": "arm", "i686": "386"}
_ALSO = {"amd64": ("386",), "arm64": ("arm",)}
_EMULATORS = {
    "amd64": "x86_64", "386": "i386", "arm64": "aarch64", "arm": "arm", "riscv64": "riscv64", "ppc64le": "ppc64le",
    "s390x": "s390x", "mips64le": "mips64el", "loong64": "loongarch64",
}  # fmt: skip


class ForeignPlatform(Unsupported):
    """A step would run programs that this host cannot execute. `platform` is theirs."""

    def __init__(self, platform: Platform, host: str) -> None:
        super().__init__(
            f"cannot run programs of {platform} on this {host} host: no emulator is registered",
            hint="apt-get install qemu-user-static binfmt-support registers one; COPY and ADD need none",
        )
        self.platform = platform


def check_runnable(platform: Platform, *, machine: str = "", binfmt: str = _BINFMT) -> None:
    """ForeignPlatform when programs of `platform` cannot be run here. `machine` is what uname calls this host."""
    machine = machine or os.uname().machine
    host = _MACHINES.get(machine, machine)
    wanted = platform.architecture
    if wanted in (host, *_ALSO.get(host, ())):
        return
    emulator = _EMULATORS.get(wanted, wanted)
    if not any(os.path.exists(f"{binfmt}/{name}") for name in (f"qemu-{emulator}", emulator)):
        raise ForeignPlatform(platform, host)

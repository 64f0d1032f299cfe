"""Programs for another processor: RUN and `moldar run` with an emulator, and what is said without one.

The test registers an emulator in the kernel's binfmt_misc for its own length. Where that cannot be mounted or written
at all (in most containers), and none is registered, it shows that the step says what is missing.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

from moldar.builder.foreign import PROCESSORS, program_of, runs

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = "moldar-test-aarch64"
MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
ARM = PROCESSORS["arm64"]
SAYING = b"an arm64 program ran\n"


@pytest.fixture
def emulated() -> Iterator[bool]:
    """Whether programs for arm64 can be run here."""
    if runs(program_of(ARM)):
        yield True
        return
    mounted = not (BINFMT / "register").exists()
    if mounted and subprocess.run(["mount", "-t", "binfmt_misc", "none", BINFMT], check=False).returncode:
        yield False
        return
    emulator = shutil.which("qemu-aarch64-static")
    assert emulator, "scripts/setup test installs it"
    try:
        try:
            (BINFMT / "register").write_text(f":{ENTRY}:M::{MAGIC}:{MASK}:{emulator}:F")
        except OSError:
            yield False
            return
        yield True
        (BINFMT / ENTRY).write_text("-1")
    finally:
        if mounted:
            subprocess.run(["umount", BINFMT], check=True)


def speaking() -> bytes:
    """An arm64 program that writes SAYING: write(1, text, length); exit(0)."""
    words = [0xD2800020, 0x100000E1, 0xD2800002 | len(SAYING) << 5, 0xD2800808, 0xD4000001]
    words += [0xD2800000, 0xD2800BA8, 0xD4000001]
    code = b"".join(word.to_bytes(4, "little") for word in words) + SAYING
    return program_of(ARM._replace(code=code.hex()))


def test_foreign_programs_run_with_an_emulator(moldar: Moldar, project: Callable[..., Path], emulated: bool) -> None:
    context = project(Dockerfile='FROM scratch\nCOPY say /say\nRUN ["/say"]\nCMD ["/say"]\n')
    (context / "say").write_bytes(speaking())
    os.chmod(context / "say", 0o755)
    build = ("build", "--progress", "plain", "--platform", "linux/arm64", "-t", "say", context)
    if not emulated:
        told = moldar.fails(*build)
        assert "cannot run programs of linux/arm64" in told
        assert "apt-get install qemu-user-static" in told
        return
    built = moldar.run(*build)
    assert built.returncode == 0, built.stderr
    assert SAYING.decode() in built.stderr
    ran = moldar.run("run", "--rm", "say")
    assert (ran.returncode, ran.stdout) == (0, SAYING.decode()), ran.stderr
    if os.uname().machine == "x86_64":
        assert ran.stderr.startswith(
            "WARNING: The requested image's platform (linux/arm64) does not match the detected host platform "
            "(linux/amd64) and no specific platform was requested"
        )
    assert moldar.run("run", "--rm", "--platform", "linux/arm64", "say").stderr == ""
    told = moldar.fails("run", "--rm", "--pull", "never", "--platform", "linux/s390x", "say", code=125)
    assert "is for linux/arm64, not for linux/s390x" in told

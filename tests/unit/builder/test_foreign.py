"""Which platforms' programs a host can run."""

import os
import subprocess
from pathlib import Path

import pytest

from moldar.builder.foreign import (
    PROCESSORS,
    EmulatorOutside,
    ForeignPlatform,
    check_emulator,
    check_runnable,
    program_of,
    runs,
)
from moldar.image.model import Platform

ARM = Platform("linux", "arm64")
ENTRY = "enabled\ninterpreter /usr/bin/emulator\nflags: {}\noffset 0\nmagic 7f454c46\n"


def test_own_programs_run() -> None:
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = os.uname().machine
    check_runnable(Platform("linux", names.get(machine, machine)))
    assert runs(program_of(PROCESSORS[names.get(machine, machine)]))


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_each_processor_ends_our_program_well(name: str, tmp_path: Path) -> None:
    """Shown by qemu's emulators, which the kernel would call."""
    program = tmp_path / "program"
    program.write_bytes(program_of(PROCESSORS[name]))
    program.chmod(0o755)
    emulator = f"qemu-{PROCESSORS[name].emulator}-static"
    assert subprocess.run([emulator, program], check=False).returncode == 0
    program.write_bytes(program_of(PROCESSORS[name]._replace(code="00" * 16)))
    assert subprocess.run([emulator, program], check=False, capture_output=True).returncode


@pytest.mark.parametrize("architecture", ["pdp11", "../../../../../etc"])
def test_foreign_programs_need_an_emulator(architecture: str) -> None:
    with pytest.raises(ForeignPlatform, match="no emulator is registered") as caught:
        check_runnable(Platform("linux", architecture))
    assert "qemu-user-static" in caught.value.hint


def test_what_is_no_program_of_this_host_does_not_run() -> None:
    assert not runs(b"\x7fELF")
    assert not runs(program_of(PROCESSORS["arm64"]._replace(machine=0xFEED)))


def test_an_emulator_without_the_flag_must_be_in_the_image(tmp_path: Path) -> None:
    root, entry = tmp_path / "root", tmp_path / "qemu-aarch64"
    check_emulator(ARM, str(root), binfmt=str(tmp_path))
    entry.write_text(ENTRY.format("PO"))
    with pytest.raises(EmulatorOutside, match="/usr/bin/emulator in the image") as caught:
        check_emulator(ARM, str(root), binfmt=str(tmp_path))
    assert "flag F" in caught.value.hint
    check_emulator(Platform(), str(root), binfmt=str(tmp_path))
    entry.write_text(ENTRY.format("POF"))
    check_emulator(ARM, str(root), binfmt=str(tmp_path))
    entry.write_text(ENTRY.format(""))
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/emulator").touch()
    check_emulator(ARM, str(root), binfmt=str(tmp_path))

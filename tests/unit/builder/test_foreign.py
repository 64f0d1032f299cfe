"""Which platforms' programs a host can run."""

from pathlib import Path

import pytest

from moldar.builder.foreign import ForeignPlatform, check_runnable
from moldar.image.model import Platform


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("x86_64", "amd64"), ("x86_64", "386"), ("aarch64", "arm64"), ("aarch64", "arm"), ("riscv64", "riscv64")],
)
def test_own_programs_run(machine: str, architecture: str, tmp_path: Path) -> None:
    check_runnable(Platform("linux", architecture), machine=machine, binfmt=str(tmp_path))


def test_foreign_programs_need_an_emulator(tmp_path: Path) -> None:
    platform = Platform("linux", "arm64")
    with pytest.raises(ForeignPlatform, match="linux/arm64") as caught:
        check_runnable(platform, machine="x86_64", binfmt=str(tmp_path))
    assert "qemu-user-static" in caught.value.hint
    (tmp_path / "qemu-aarch64").touch()
    check_runnable(platform, machine="x86_64", binfmt=str(tmp_path))

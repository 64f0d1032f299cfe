"""A full disk: clear words, nothing half-written, and everything works again with what is left."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

Project = Callable[..., Path]
ROOM = "24m"
TOO_MUCH = 40_000_000


@pytest.fixture
def small(tmp_path: Path, busybox_archive: Path) -> Iterator[Moldar]:
    """A program whose store is on a small file system and holds busybox."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(disk)], check=True)
    program = Moldar(disk)
    try:
        program("load", "-i", busybox_archive)
        yield program
        program.close()
    finally:
        subprocess.run(["umount", "-R", "-l", str(disk)], check=True)


def assert_as_before(small: Moldar) -> None:
    assert "sound" in small("system", "check")
    assert list((small.home / "home" / "ingest").iterdir()) == []
    assert small("images", "--format", "{{.Repository}}").split() == ["busybox"]
    assert small("run", "--rm", "busybox", "echo", "works") == "works\n"


def test_a_copy_that_does_not_fit(small: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nCOPY big /big\n")
    (context / "big").write_bytes(b"x" * TOO_MUCH)
    text = small.fails("build", "-t", "big", context)
    assert "No space left on device" in text
    assert "Dockerfile:2" in text
    assert_as_before(small)


def test_a_step_that_writes_too_much(small: Moldar, project: Project) -> None:
    context = project(Dockerfile=f"FROM busybox\nRUN head -c {TOO_MUCH} /dev/urandom > /big\n")
    assert "exit code: 1" in small.fails("build", "-t", "big", context)
    assert_as_before(small)


def test_an_archive_that_does_not_fit(small: Moldar, tmp_path: Path, busybox_archive: Path, project: Project) -> None:
    large = Moldar(tmp_path / "large")
    context = project(Dockerfile="FROM scratch\nCOPY big /big\n")
    with (context / "big").open("wb") as file, open("/dev/urandom", "rb") as noise:
        file.write(noise.read(TOO_MUCH))
    large("build", "-t", "big", context)
    large("save", "-o", tmp_path / "big.tar", "big")
    assert "No space left on device" in small.fails("load", "-i", tmp_path / "big.tar")
    assert_as_before(small)


def test_an_output_that_does_not_fit(small: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nCOPY big /big\n")
    (context / "big").write_bytes(b"x" * 15_000_000)
    target = small.home / "out.tar"
    small.fails("build", "-o", f"type=oci,dest={target},compression=uncompressed", context)
    assert not target.exists()
    assert not list(small.home.glob("out.tar*"))

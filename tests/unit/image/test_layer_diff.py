"""Walking what a real overlay mount wrote, and getting back what unpacking made."""

import hashlib
import io
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from moldar.errors import HostTrouble
from moldar.image.layer_diff import DependentUpper, diff_entries
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_write import write_layer
from moldar.image.unpack import unpack


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    """A directory with lower, upper, work and merged, the overlay mounted at merged."""
    base = Path("/dev/shm") / f"moldar-test-{os.getpid()}-{tmp_path.name}"
    for name in ("lower", "upper", "work", "merged"):
        (base / name).mkdir(parents=True)
    for name in ("keep", "remove", "dir/old", "gone/x", "linked"):
        path = base / "lower" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, base / "merged"], check=True)
    yield base
    subprocess.run(["umount", base / "merged"], check=True)
    subprocess.run(["rm", "-r", base], check=True)


def paths(upper: Path) -> list[tuple[str, str]]:
    return [(entry.path, entry.kind) for entry, _ in diff_entries(str(upper))]


def test_changes_of_an_overlay(overlay: Path) -> None:
    merged = overlay / "merged"
    (merged / "remove").unlink()
    subprocess.run(["rm", "-r", merged / "gone", merged / "dir"], check=True)
    (merged / "dir").mkdir()
    (merged / "dir/new").write_text("new")
    (merged / "keep").chmod(0o600)
    (merged / "made").write_text("made")
    os.link(merged / "made", merged / "twin")
    os.setxattr(merged / "made", "user.k", b"v")
    (merged / "to").symlink_to("keep")
    os.mkfifo(merged / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(merged / "socket"))
    assert paths(overlay / "upper") == [
        ("dir", "dir"), ("dir/.wh..wh..opq", "file"), ("dir/new", "file"), (".wh.gone", "file"), ("keep", "file"),
        ("made", "file"), ("pipe", "fifo"), (".wh.remove", "file"), ("to", "symlink"), ("twin", "link"),
    ]  # fmt: skip
    found = {entry.path: entry for entry, _ in diff_entries(str(overlay / "upper"))}
    assert (found["keep"].mode, found["keep"].xattrs) == (0o600, ())
    assert (found["made"].xattrs, found["twin"].target) == ((("user.k", b"v"),), "made")


def test_unpacking_and_walking_again_gives_the_same_bytes(overlay: Path, tmp_path: Path) -> None:
    merged = overlay / "merged"
    subprocess.run(["rm", "-r", merged / "dir", merged / "remove"], check=True)
    (merged / "dir").mkdir()
    (merged / "dir" / ("long" * 40)).write_bytes(os.urandom(3000))
    (merged / "ünï").symlink_to("ça")
    os.link(merged / "ünï", merged / "zz")
    (merged / "setuid").touch()
    (merged / "setuid").chmod(0o4755)
    first = io.BytesIO()
    write_layer(diff_entries(str(overlay / "upper")), first.write)
    first.seek(0)
    unpack(first, str(tmp_path), whiteouts="overlay", missing_parents="refuse")
    again = io.BytesIO()
    write_layer(diff_entries(str(tmp_path)), again.write)
    assert hashlib.sha256(again.getvalue()).digest() == hashlib.sha256(first.getvalue()).digest()


def test_times_are_whole_seconds_and_names_sort_as_bytes(tmp_path: Path) -> None:
    for name in ("b", "a.b", "a/x", "a-", b"\xff\xfe", "é"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, ns=(0, 5_999_999_999))
    found = [entry for entry, _ in diff_entries(str(tmp_path))]
    assert [entry.path for entry in found] == ["a", "a/x", "a-", "a.b", "b", "é", os.fsdecode(b"\xff\xfe")]
    assert {entry.mtime for entry in found if entry.kind == "file"} == {5}


def test_openers_open_within_a_deep_tree(tmp_path: Path) -> None:
    deep = tmp_path / Path(*["d" * 50] * 90)
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(90):  # longer than PATH_MAX
        os.mkdir("d" * 50, dir_fd=at)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    descriptor = os.open("leaf", os.O_WRONLY | os.O_CREAT, dir_fd=at)
    os.write(descriptor, b"leaf")
    os.close(descriptor)
    os.close(at)
    content = None
    for entry, opener in diff_entries(str(tmp_path)):
        if opener:
            assert entry.path == str(deep.relative_to(tmp_path) / "leaf")
            with os.fdopen(opener(), "rb") as file:
                content = file.read()
    assert content == b"leaf"
    subprocess.run(["rm", "-r", tmp_path / ("d" * 50)], check=True)


def test_a_redirected_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    os.setxattr(tmp_path / "moved", "trusted.overlay.redirect", b"/was")
    with pytest.raises(DependentUpper, match="moved"):
        list(diff_entries(str(tmp_path)))


def test_a_file_that_vanishes_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    walk = diff_entries(str(tmp_path))
    assert next(walk)[0] == LayerEntry("a", "file", 0o644, mtime=int((tmp_path / "a").stat().st_mtime))
    (tmp_path / "b").unlink()
    with pytest.raises(HostTrouble, match="b: No such file"):
        next(walk)


def test_no_descriptors_leak(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    walk = diff_entries(str(tmp_path))
    next(walk)
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) <= before  # what others left open may be closed meanwhile

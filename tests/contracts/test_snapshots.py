"""What every snapshot driver must do, on overlayfs and by copying."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moldar.image.model import Digest
from moldar.image.unpack import UnpackResult, unpack
from moldar.sandbox.choosing import choose_snapshots
from moldar.sandbox.copying import CopyingSnapshots
from moldar.sandbox.overlay import OverlaySnapshots
from moldar.sandbox.snapshots import Snapshots
from moldar.sandbox.stubs import MountStubs
from moldar.sandbox.unpacked import MissingSnapshot


class Table:
    """A snapshot table in memory."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def add_snapshot(self, key: str, size: int) -> None:
        self.sizes[key] = size

    def has_snapshot(self, key: str) -> bool:
        return key in self.sizes

    def adopt_snapshot(self, key: str, size: int, exists: Callable[[], bool]) -> None:
        if exists():
            self.add_snapshot(key, size)

    def remove_snapshot(self, key: str) -> None:
        self.sizes.pop(key, None)


def digest(name: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(name.encode()).hexdigest())


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture(params=[OverlaySnapshots, CopyingSnapshots], ids=["overlay", "copying"])
def snapshots(request: pytest.FixtureRequest, tmp_path: Path, table: Table) -> Iterator[Snapshots]:
    driver: Snapshots = request.param(str(tmp_path / "snapshots"), table)
    yield driver
    mounts = Path("/proc/self/mounts").read_text()
    assert str(tmp_path) not in mounts, "a mount was left behind"
    assert os.listdir(tmp_path / "snapshots/work") == []


def fill_base(directory: str) -> int:
    root = Path(directory)
    (root / "etc/sub").mkdir(parents=True)
    (root / "etc/kept").write_text("kept")
    (root / "etc/gone").write_text("gone")
    os.link(root / "etc/kept", root / "etc/linked")
    (root / "link").symlink_to("etc/kept")
    os.chmod(root, 0o711)
    return 8


BASE = (digest("base"),)


def names(snapshots: Snapshots, stack: tuple[Digest, ...], path: str = "") -> list[str]:
    with snapshots.mount(stack) as root:
        return sorted(os.listdir(f"{root}/{path}"))


def test_a_layer_is_unpacked_once_and_recorded(snapshots: Snapshots, table: Table) -> None:
    assert not snapshots.has(BASE)
    snapshots.unpack(BASE, fill_base)
    assert snapshots.has(BASE)
    assert list(table.sizes) == list(snapshots.keys(BASE))
    snapshots.unpack(BASE, lambda directory: pytest.fail("unpacked twice"))
    assert names(snapshots, BASE) == ["etc", "link"]
    assert names(snapshots, BASE, "etc") == ["gone", "kept", "linked", "sub"]


def test_what_fails_leaves_nothing(snapshots: Snapshots, table: Table) -> None:
    def fill(directory: str) -> int:
        fill_base(directory)
        raise ValueError("broken archive")

    with pytest.raises(ValueError, match="broken"):
        snapshots.unpack(BASE, fill)
    assert not snapshots.has(BASE)
    assert not table.sizes


def test_a_missing_layer_is_named(snapshots: Snapshots) -> None:
    with pytest.raises(MissingSnapshot, match=BASE[0]):
        snapshots.prepare(BASE)
    with pytest.raises(MissingSnapshot), snapshots.mount(BASE):
        pass


def test_changes_become_a_layer(snapshots: Snapshots) -> None:
    snapshots.unpack(BASE, fill_base)
    stack = (*BASE, digest("second"))
    with snapshots.prepare(BASE) as workspace:
        root = Path(workspace.path)
        assert root.stat().st_mode & 0o777 == 0o711
        (root / "etc/sub/new").write_text("new")
        (root / "etc/gone").unlink()
        (root / "link").unlink()
        (root / "link").mkdir()
        changes = [(entry.path, entry.kind) for entry, _ in workspace.changes()]
        workspace.commit(stack)
    assert ("etc/sub/new", "file") in changes
    assert ("etc/.wh.gone", "file") in changes
    assert ("link", "dir") in changes
    assert not any("kept" in path or "linked" in path for path, _ in changes)
    assert snapshots.has(stack)
    assert names(snapshots, stack, "etc") == ["kept", "linked", "sub"]
    assert names(snapshots, stack, "link") == []
    assert names(snapshots, BASE, "etc") == ["gone", "kept", "linked", "sub"], "a committed layer changed its parent"


def test_what_is_not_committed_is_discarded(snapshots: Snapshots) -> None:
    snapshots.unpack(BASE, fill_base)
    with snapshots.prepare(BASE) as workspace:
        Path(workspace.path, "new").write_text("x")
    assert "new" not in names(snapshots, BASE)


def test_times_set_back_do_not_hide_a_change(snapshots: Snapshots) -> None:
    snapshots.unpack(BASE, fill_base)
    with snapshots.prepare(BASE) as workspace:
        path = Path(workspace.path, "etc/gone")
        before = path.stat()
        path.write_text("GONE")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert "etc/gone" in [entry.path for entry, _ in workspace.changes()]


def test_mount_targets_leave_no_trace(snapshots: Snapshots) -> None:
    snapshots.unpack(BASE, fill_base)
    with snapshots.prepare(BASE) as workspace:
        root = Path(workspace.path)
        stubs = MountStubs(workspace.path, ["/etc/hosts", "/mnt/a/b", "/etc/kept", "/proc"])
        assert stubs.paths == ("/etc/hosts", "/mnt", "/mnt/a", "/mnt/a/b")
        (root / "etc/hosts").touch()
        (root / "mnt/a/b").mkdir(parents=True)
        stubs.clean()
        assert list(workspace.changes()) == []


def test_a_mount_target_that_was_filled_stays(snapshots: Snapshots) -> None:
    with snapshots.prepare(()) as workspace:
        stubs = MountStubs(workspace.path, ["/mnt/a"])
        Path(workspace.path, "mnt/a").mkdir(parents=True)
        Path(workspace.path, "mnt/file").write_text("x")
        stubs.clean()
        assert [entry.path for entry, _ in workspace.changes()] == ["mnt", "mnt/file"]


def test_the_empty_stack(snapshots: Snapshots) -> None:
    assert snapshots.has(())
    assert names(snapshots, ()) == []
    with snapshots.prepare(()) as workspace:
        Path(workspace.path, "first").write_text("x")
        workspace.commit(BASE)
    assert names(snapshots, BASE) == ["first"]


def test_a_layer_that_needs_its_parents(snapshots: Snapshots) -> None:
    snapshots.unpack(BASE, fill_base)
    stack = (*BASE, digest("hard link to a file below"))

    def fill(directory: str) -> int:
        os.link(f"{directory}/etc/kept", f"{directory}/etc/another")
        return 0

    snapshots.unpack_over(stack, fill)
    assert snapshots.has(stack)
    with snapshots.mount(stack) as root:
        assert Path(root, "etc/another").read_text() == "kept"


def test_deep_stacks(snapshots: Snapshots) -> None:
    count = 150 if snapshots.name == "overlay" else 12  # copying them all takes its time
    stack: tuple[Digest, ...] = ()
    for number in range(count):
        stack = (*stack, digest(str(number)))
        snapshots.unpack(stack, lambda directory, number=number: Path(directory, f"f{number}").write_text("x"))
    assert len(names(snapshots, stack)) == count
    with snapshots.prepare(stack) as workspace:
        Path(workspace.path, "f0").unlink()
        assert [entry.path for entry, _ in workspace.changes()] == [".wh.f0"]


def test_a_rootfs_keeps_its_changes(snapshots: Snapshots) -> None:
    snapshots.unpack(BASE, fill_base)
    snapshots.create_rootfs("c1", BASE)
    try:
        Path(snapshots.mount_rootfs("c1"), "etc/new").write_text("x")
        snapshots.unmount_rootfs("c1")
        root = snapshots.mount_rootfs("c1")
        assert root == snapshots.mount_rootfs("c1")
        assert snapshots.rootfs_mounted("c1")
        assert Path(root, "etc/new").read_text() == "x"
        assert Path(snapshots.rootfs_upper("c1"), "etc/new").exists()
    finally:
        snapshots.unmount_rootfs("c1")
        snapshots.remove_rootfs("c1")
    snapshots.remove_rootfs("c1")
    assert "new" not in names(snapshots, BASE, "etc")


def test_removed_snapshots_are_gone(snapshots: Snapshots, table: Table) -> None:
    snapshots.unpack(BASE, fill_base)
    (key,) = snapshots.keys(BASE)
    snapshots.remove(key)
    snapshots.remove(key)
    assert not snapshots.has(BASE)
    assert not table.sizes


def test_a_snapshot_without_record_is_adopted(snapshots: Snapshots, table: Table) -> None:
    snapshots.unpack(BASE, fill_base)
    table.sizes.clear()  # as when the process is killed between the two
    snapshots.sweep()
    assert list(table.sizes) == list(snapshots.keys(BASE))


def test_a_killed_process_leaves_what_sweep_finds(snapshots: Snapshots, tmp_path: Path) -> None:
    snapshots.unpack(BASE, fill_base)
    script = (
        "import sys, time; sys.path[:0] = [sys.argv[1]]\n"
        "from test_snapshots import BASE, Table\n"
        "from moldar.sandbox.choosing import choose_snapshots\n"
        "workspace = choose_snapshots(sys.argv[2], Table(), sys.argv[3]).prepare(BASE)\n"
        "print(workspace.path, flush=True); time.sleep(60)\n"
    )
    arguments = [str(Path(__file__).parent), str(tmp_path / "snapshots"), snapshots.name]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        path = child.stdout.readline().strip()
        assert os.path.isdir(f"{path}/etc")
        assert snapshots.sweep() == [], "swept what a running process uses"
        child.send_signal(signal.SIGKILL)
    assert len(snapshots.sweep()) == 1
    assert not os.path.exists(path)


def test_many_at_once_make_one_snapshot(snapshots: Snapshots, table: Table) -> None:
    def fill(directory: str) -> int:
        time.sleep(0.05)
        snapshots.unpack(BASE, fill_base)  # another is quicker
        return fill_base(directory)

    snapshots.unpack(BASE, fill)
    assert names(snapshots, BASE) == ["etc", "link"]
    assert len(table.sizes) == 1


def test_archives_are_unpacked_in_the_drivers_style(snapshots: Snapshots, tmp_path: Path) -> None:
    snapshots.unpack(BASE, fill_base)
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/.wh.gone").touch()
    subprocess.run(["/bin/tar", "-cf", tmp_path / "layer.tar", "-C", tmp_path / "tree", "etc"], check=True)
    stack = (*BASE, digest("whiteout"))

    def fill(directory: str) -> int:
        with open(tmp_path / "layer.tar", "rb") as file:
            result: UnpackResult = unpack(file, directory, whiteouts=snapshots.whiteouts)
        return result.size

    snapshots.unpack(stack, fill)
    assert names(snapshots, stack, "etc") == ["kept", "linked", "sub"]


def test_overlay_is_chosen_here_and_remembered(tmp_path: Path) -> None:
    base = str(tmp_path / "snapshots")
    first: Callable[[], Snapshots] = lambda: choose_snapshots(base, Table())  # noqa: E731
    assert first().name == "overlay"
    assert (tmp_path / "snapshots/driver.json").exists()
    assert first().name == "overlay"
    assert choose_snapshots(base, Table(), "copying").name == "copying"


def test_what_a_container_changed(snapshots: Snapshots) -> None:
    snapshots.unpack(BASE, fill_base)
    snapshots.create_rootfs("c1", BASE)
    try:
        assert list(snapshots.rootfs_changes("c1", BASE)) == []
        root = Path(snapshots.mount_rootfs("c1"))
        (root / "etc/new").write_text("new")
        (root / "etc/kept").chmod(0o600)
        (root / "etc/gone").unlink()
        found = {entry.path: entry.kind for entry, _ in snapshots.rootfs_changes("c1", BASE)}
        assert found.keys() - {"etc/linked"} == {"etc", "etc/new", "etc/kept", "etc/.wh.gone"}
        snapshots.unmount_rootfs("c1")
        assert {entry.path for entry, _ in snapshots.rootfs_changes("c1", BASE)} == set(found), "mounted or not"
    finally:
        snapshots.unmount_rootfs("c1")
        snapshots.remove_rootfs("c1")

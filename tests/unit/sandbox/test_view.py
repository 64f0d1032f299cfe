"""Workspaces over views: they show what native layers show, and know what was looked at. Real mounts."""

import hashlib
import mmap
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.readset.laboratory import servers

from moldar.image.model import Digest
from moldar.sandbox.overlay import OverlaySnapshots, OverlayWorkspace
from moldar.sandbox.readset import server
from moldar.sandbox.readset.view import VIEWED_TIME

ODD = b"odd \xff\xfe\n name"
NOISE = {"bin", "proc", "root", "sbin", "usr", "dev", "etc", "lib", "lib64", "tmp", "var", "sys", "work", "run"}
OLD = 1_500_000_000


class Table:
    """A snapshot table that forgets."""

    def add_snapshot(self, key: str, size: int) -> None: ...
    def has_snapshot(self, key: str) -> bool:
        return True

    def adopt_snapshot(self, key: str, size: int, exists: Callable[[], bool]) -> None: ...
    def remove_snapshot(self, key: str) -> None: ...


def digest(name: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(name.encode()).hexdigest())


def mounted_below(path: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(path) in line]


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[OverlaySnapshots]:
    yield OverlaySnapshots(str(tmp_path / "snapshots"), Table())
    assert not mounted_below(tmp_path), "a mount was left behind"
    assert not servers(tmp_path), "a server was left behind"
    assert os.listdir(tmp_path / "snapshots/work") == []


def busybox(directory: str) -> int:
    os.mkdir(f"{directory}/bin")
    shutil.copy("/bin/busybox", f"{directory}/bin/busybox")
    for name in ("sh", "test", "cat", "ls", "chmod", "mv", "ln", "readlink", "touch", "rm", "find"):
        os.symlink("busybox", f"{directory}/bin/{name}")
    return 1


def application(directory: str) -> int:
    app = Path(directory, "app")
    (app / "sub").mkdir(parents=True)
    (app / "app.py").write_text("print()")
    (app / "sub/data").write_text("data")
    (app / "link").symlink_to("app.py")
    (app / "one").write_text("two names")
    os.link(app / "one", app / "two")
    for path in (app / "app.py", app / "sub/data", app / "sub", app):
        os.utime(path, (OLD, OLD))
    return 1


BASE = digest("base")
APP = digest("app")
STACK = (BASE, APP)


@pytest.fixture
def stacked(snapshots: OverlaySnapshots) -> OverlaySnapshots:
    snapshots.unpack((BASE,), busybox)
    snapshots.unpack(STACK, application)
    return snapshots


def run(workspace: OverlayWorkspace, script: str) -> int:
    command = ["/usr/sbin/chroot", workspace.path, "/bin/sh", "-c", script]
    environment = {"PATH": "/bin"}
    done = subprocess.run(command, cwd="/", env=environment, timeout=30, stdout=subprocess.DEVNULL, check=False)
    return done.returncode


def asked(workspace: OverlayWorkspace, position: int = 1) -> set[tuple[str, str]]:
    """What was asked of a layer, without attributes, the root and what starting any program asks."""
    questions = workspace.questions()
    assert questions is not None
    return {
        (kind, path)
        for kind, path in questions[position]
        if path and not kind.startswith("attribute") and path.split("/")[0] not in NOISE
    }


APP_ENTRY = ("entry", "app")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("true", set()),
        ("test -f /nope", {("entry", "nope")}),
        ("test -f /app/nope", {APP_ENTRY, ("entry", "app/nope")}),
        ("test -f /app/app.py", {APP_ENTRY, ("entry", "app/app.py")}),
        ("/bin/cat /app/app.py", {APP_ENTRY, ("entry", "app/app.py"), ("content", "app/app.py")}),
        ("/bin/cat /app/one", {APP_ENTRY, ("entry", "app/one"), ("content", "app/one")}),
        ("readlink /app/link", {APP_ENTRY, ("entry", "app/link"), ("target", "app/link")}),
        ("echo /app/*", {APP_ENTRY, ("names", "app")}),
        (": > /app/new", {APP_ENTRY, ("entry", "app/new")}),
        ("cd /app/sub", {APP_ENTRY, ("entry", "app/sub")}),
    ],
)
def test_exactly_what_was_looked_at_is_known(
    stacked: OverlaySnapshots, script: str, expected: set[tuple[str, str]]
) -> None:
    with stacked.prepare(STACK, [1]) as workspace:
        assert workspace.has_views
        run(workspace, script)
        assert asked(workspace) == expected


def test_changing_a_file_reads_it(stacked: OverlaySnapshots) -> None:
    with stacked.prepare(STACK, [1]) as workspace:
        assert run(workspace, "echo more >> /app/app.py && chmod 600 /app/sub/data && mv /app/two /app/three") == 0
        assert {("content", "app/app.py"), ("content", "app/sub/data"), ("entry", "app/two")} <= asked(workspace)
        changed = {entry.path: entry for entry, _ in workspace.changes()}
    assert set(changed) == {"app", "app/app.py", "app/sub", "app/sub/data", "app/three", "app/.wh.two"}


@pytest.mark.parametrize("script", ["chmod 700 /app/sub", "chmod 600 /app/sub/data", "chmod 700 /app"])
def test_directories_keep_their_times_when_copied_up(stacked: OverlaySnapshots, script: str) -> None:
    changes = []
    for viewed in ([], [1]):
        with stacked.prepare(STACK, viewed) as workspace:
            assert run(workspace, script) == 0
            changes.append([(entry.path, entry.kind, entry.mode, entry.mtime) for entry, _ in workspace.changes()])
    assert changes[0] == changes[1]
    assert all(change[3] == OLD for change in changes[1])


def test_directory_times_of_server_and_builder_agree() -> None:
    assert server.DIRECTORY_TIME * 10**9 == VIEWED_TIME


def test_nothing_viewed_nothing_asked(stacked: OverlaySnapshots) -> None:
    with stacked.prepare(STACK) as workspace:
        assert not workspace.has_views
        assert workspace.questions() == {}


def everything(directory: str) -> int:
    application(directory)
    root = Path(directory)
    os.mkdir(os.fsencode(root) + b"/" + ODD)
    Path(os.fsdecode(os.fsencode(root) + b"/" + ODD + b"/inside")).write_text("x")
    os.mknod(root / "pipe", 0o600 | stat.S_IFIFO)
    os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(300, 70000))
    (root / "old").write_text("before 1970")
    os.utime(root / "old", ns=(-1_500_000_001, -1_500_000_001))
    (root / "owned").write_text("")
    os.chown(root / "owned", 4000000000, 70000)
    os.chmod(root / "owned", 0o6755)
    os.setxattr(root / "owned", "user.colour", b"green\0")
    os.setxattr(root / "app", "trusted.mark", b"1")
    for number in range(3000):
        (root / "app/sub" / f"file {number:05d} with a rather long name").touch()
    return 1


def deletions(directory: str) -> int:
    root = Path(directory)
    (root / "app").mkdir()
    os.mknod(root / "app/app.py", stat.S_IFCHR, os.makedev(0, 0))
    (root / "app/sub").mkdir()
    os.setxattr(root / "app/sub", "trusted.overlay.opaque", b"y")
    (root / "app/sub/fresh").write_text("f")
    os.mknod(root / "old", stat.S_IFCHR, os.makedev(0, 0))
    return 1


def listing(top: str) -> dict[bytes, object]:
    """Everything that a step can see below `top` but what views keep constant."""
    seen: dict[bytes, object] = {}
    root = os.fsencode(top)
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = directory + b"/" + name
            status = os.lstat(path)
            facts: list[object] = [status.st_mode, status.st_uid, status.st_gid, status.st_rdev]
            if not stat.S_ISDIR(status.st_mode):
                facts += [status.st_size, status.st_mtime_ns, status.st_nlink]
            if stat.S_ISREG(status.st_mode):
                facts.append(Path(os.fsdecode(path)).read_bytes())
            if stat.S_ISLNK(status.st_mode):
                facts.append(os.readlink(path))
            names = os.listxattr(path, follow_symlinks=False)
            facts.append({name: os.getxattr(path, name, follow_symlinks=False) for name in names})
            seen[path.removeprefix(root)] = facts
    return seen


@pytest.mark.parametrize("viewed", [[0], [1], [0, 1]], ids=str)
def test_a_view_shows_what_the_layer_shows(snapshots: OverlaySnapshots, viewed: list[int]) -> None:
    stack = (digest("everything"), digest("deletions"))
    snapshots.unpack(stack[:1], everything)
    for layers in (stack[:1], stack):
        snapshots.unpack(layers, deletions)
        places = [place for place in viewed if place < len(layers)]
        with snapshots.prepare(layers) as native, snapshots.prepare(layers, places) as workspace:
            assert workspace.has_views == bool(places)
            assert listing(workspace.path) == listing(native.path)
            assert os.fsdecode(ODD) in os.listdir(workspace.path)
            assert ("old" in os.listdir(workspace.path)) == (layers != stack)
            questions = workspace.questions()
    assert questions is not None
    if 1 in questions:
        assert {("entry", "old"), ("attribute trusted.overlay.opaque", "app/sub")} <= questions[1]
    if 0 in questions:
        assert ("names", os.fsdecode(ODD)) in questions[0]


def test_hard_links_show_that_they_are_one_file(stacked: OverlaySnapshots) -> None:
    """Or else `cp -a` and tar would make two files of them."""
    with stacked.prepare(STACK, [1]) as workspace:
        one, two, other = (os.stat(f"{workspace.path}/app/{name}") for name in ("one", "two", "app.py"))
    assert (one.st_dev, one.st_ino, one.st_nlink) == (two.st_dev, two.st_ino, 2)
    assert other.st_ino != one.st_ino


def test_large_and_sparse_files(snapshots: OverlaySnapshots) -> None:
    content = os.urandom(5_000_001)

    def fill(directory: str) -> int:
        Path(directory, "large").write_bytes(content)
        with open(f"{directory}/sparse", "wb") as file:
            file.seek(10 << 20)
            file.write(b"end")
        return 1

    snapshots.unpack((BASE,), fill)
    with snapshots.prepare((BASE,), [0]) as workspace:
        with open(f"{workspace.path}/large", "rb") as file:
            assert file.read() == content
            assert os.pread(file.fileno(), 70_000, 3_000_003) == content[3_000_003:3_070_003]
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                assert mapped[4_000_000:] == content[4_000_000:]
        with open(f"{workspace.path}/sparse", "rb") as file:
            assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 10 << 20
            assert os.lseek(file.fileno(), 10 << 20, os.SEEK_HOLE) == (10 << 20) + 3
        # Of the size alone: how much a host's file system stores is no part of a layer.
        assert os.stat(f"{workspace.path}/sparse").st_blocks == ((10 << 20) // 4096 + 1) * 8
        assert asked(workspace, 0) >= {("content", "large"), ("content", "sparse")}


def test_more_files_than_a_process_may_open(snapshots: OverlaySnapshots) -> None:
    def fill(directory: str) -> int:
        for number in range(1100):
            Path(directory, f"{number:04d}").write_bytes(b"%04d" % number * 50_000)
        return 1

    snapshots.unpack((BASE,), fill)
    with snapshots.prepare((BASE,), [0]) as workspace:
        for part in (0, 1):
            for number in range(1100):
                descriptor = os.open(f"{workspace.path}/{number:04d}", os.O_RDONLY)
                assert os.pread(descriptor, 4, 150_000 * part) == b"%04d" % number
                os.close(descriptor)
        assert len(asked(workspace, 0)) == 2200


def test_overlay_marks_that_no_layer_has_are_not_noted(stacked: OverlaySnapshots) -> None:
    with stacked.prepare(STACK, [1]) as workspace:
        run(workspace, "/bin/cat /app/app.py")
        questions = workspace.questions()
    assert questions is not None
    kinds = {kind for kind, path in questions[1] if path and kind.startswith("attribute")}
    assert kinds == {"attribute trusted.overlay.opaque"}


def test_programs_run_from_a_view(stacked: OverlaySnapshots) -> None:
    with stacked.prepare(STACK, [0, 1]) as workspace:
        assert run(workspace, "test -x /bin/busybox") == 0
        questions = workspace.questions()
        assert questions is not None
        assert ("content", "bin/busybox") in questions[0]
        assert ("content", "bin/busybox") not in questions[1]


def test_many_layers(snapshots: OverlaySnapshots) -> None:
    stack: tuple[Digest, ...] = ()
    for number in range(240):
        stack = (*stack, digest(str(number)))

        def fill(directory: str, number: int = number) -> int:
            Path(directory, f"file{number}").write_text(str(number))
            Path(directory, "top").write_text(str(number))
            return 1

        snapshots.unpack(stack, fill)
    with snapshots.prepare(stack, range(0, 240, 2)) as workspace:
        assert workspace.has_views
        assert Path(workspace.path, "top").read_text() == "239"
        assert Path(workspace.path, "file100").read_text() == "100"
        questions = workspace.questions()
    assert questions is not None
    assert set(questions) == set(range(0, 240, 2))
    assert all(("entry", "top") not in asked for asked in questions.values())
    assert [place for place, asked in questions.items() if ("content", "file100") in asked] == [100]
    assert [place for place, asked in questions.items() if ("entry", "file100") in asked] == list(range(100, 240, 2))


@pytest.mark.parametrize("viewed", [[1], [3], [1, 3]], ids=str)
def test_a_layer_that_is_there_twice(stacked: OverlaySnapshots, viewed: list[int]) -> None:
    stacked.unpack((*STACK, digest("deletions")), deletions)
    with stacked.prepare((*STACK, digest("deletions"), APP), viewed) as workspace:
        assert run(workspace, "cat /app/app.py") == 0  # the upper occurrence hides the deletion
        questions = workspace.questions()
    assert questions is not None
    assert list(questions) == viewed
    assert all(("content", "app/app.py") in asked for asked in questions.values())


def test_what_a_dead_server_knew_is_not_known(stacked: OverlaySnapshots, tmp_path: Path) -> None:
    with stacked.prepare(STACK, [1]) as workspace:
        assert run(workspace, "cat /app/app.py") == 0
        (pid,) = servers(tmp_path)
        os.kill(pid, signal.SIGKILL)
        assert run(workspace, "cat /app/sub/data 2>/bin/err") != 0
        assert workspace.questions() is None
        assert workspace.has_views
        assert list(workspace.changes())
        workspace.discard()
        workspace.discard()


def test_a_dead_server_is_no_obstacle_to_discarding(stacked: OverlaySnapshots, tmp_path: Path) -> None:
    with stacked.prepare(STACK, [0, 1]):
        (pid,) = servers(tmp_path)
        os.kill(pid, signal.SIGKILL)


def test_a_request_that_the_server_does_not_know_makes_the_log_useless(stacked: OverlaySnapshots) -> None:
    with stacked.prepare(STACK, [1]) as workspace:
        view = os.path.dirname(workspace.path) + "/views/0"
        with open(f"{view}/app/app.py", "rb") as file:
            os.fsync(file.fileno())
        assert workspace.questions() is None


def test_commit_ends_the_views(stacked: OverlaySnapshots) -> None:
    whole = (*STACK, digest("new"))
    with stacked.prepare(STACK, [1]) as workspace:
        assert run(workspace, "echo new > /app/new; chmod 700 /app/sub") == 0
        workspace.commit(whole)
    with stacked.mount(whole) as root:
        assert Path(root, "app/new").read_text() == "new\n"
        assert os.stat(f"{root}/app/sub").st_mtime == OLD


PROGRAM = """
import os, sys
sys.path[:0] = sys.argv[3:]
from moldar.sandbox.overlay import OverlaySnapshots
class Table:
    add_snapshot = has_snapshot = adopt_snapshot = remove_snapshot = lambda *arguments: None
workspace = OverlaySnapshots(sys.argv[1], Table()).prepare(sys.argv[2].split(), [0, 1])
print(workspace.has_views, workspace.questions() if not workspace.has_views else "", flush=True)
assert os.path.exists(workspace.path + "/app/app.py")
if workspace.has_views:
    os.kill(os.getpid(), 9)
workspace.discard()
"""


def test_a_killed_builder_leaves_no_server_and_no_stuck_mount(stacked: OverlaySnapshots, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "snapshots"), " ".join(STACK), *sys.path]
    done = subprocess.run(command, timeout=60, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.startswith(b"True")
    assert mounted_below(tmp_path)
    deadline = time.monotonic() + 20
    while servers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not servers(tmp_path)
    assert len(stacked.sweep()) == 1
    assert not mounted_below(tmp_path)


def test_a_host_without_fuse_gets_native_layers(stacked: OverlaySnapshots, tmp_path: Path) -> None:
    script = 'mount --bind /dev/null /dev/fuse && exec "$@"'
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "snapshots"), " ".join(STACK), *sys.path]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *command], timeout=60, stdout=subprocess.PIPE, check=False
    )
    assert done.returncode == 0
    assert done.stdout == b"False None\n"


IN_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
MOUNTED_BY_USER = """
import os, subprocess, sys
sys.path[:0] = sys.argv[2:]
from moldar.sandbox import mounts
from moldar.sandbox.readset.view import open_views
place = sys.argv[1]
for name in ("lower/app/hidden", "base/app/hidden/inner", "upper", "work", "root"):
    os.makedirs(f"{place}/{name}")
for name, text in (("read", "one"), ("unread", "two")):
    with open(f"{place}/lower/app/{name}", "w") as file:
        file.write(text)
os.setxattr(f"{place}/lower/app/hidden", "user.overlay.opaque", b"y")
views = open_views([f"{place}/lower"], f"{place}/views")
options = [f"lowerdir={views.paths[0]}:{place}/base", f"upperdir={place}/upper", f"workdir={place}/work"]
options += ["userxattr", "xino=off", "index=off", "metacopy=off"]
mounts.mount("overlay", f"{place}/root", "overlay", 0, ",".join(options))
with open(f"{place}/root/app/read") as file:
    assert file.read() == "one"
with open(f"{place}/root/app/unread", "w") as file:
    file.write("changed")
os.unlink(f"{place}/root/app/read")
assert os.listdir(f"{place}/root/app/hidden") == []
mounts.unmount(f"{place}/root")
(asked,) = views.finish()
print(sorted((kind, path) for kind, path in asked if path.startswith("app/")))
"""


def test_a_user_namespace_can_mount_a_view(tmp_path: Path) -> None:
    """The mark of opaque directories has another name there, which is noted as root's: records serve both."""
    command = [*IN_USER_NAMESPACE, sys.executable, "-c", MOUNTED_BY_USER, str(tmp_path), *sys.path]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "('content', 'app/read')" in done.stdout
    assert "('entry', 'app/unread')" in done.stdout and "('content', 'app/unread')" not in done.stdout
    assert "('attribute trusted.overlay.opaque', 'app/hidden')" in done.stdout


CHOSEN_BY_USER = """
import io, os, sys
sys.path[:0] = sys.argv[2:]
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_write import write_layer
from moldar.image.unpack import unpack
from moldar.sandbox.choosing import choose_snapshots
from moldar.sandbox.readset.observations import ENTRY, Question, observe
from moldar.sandbox.readset.trees import DirectoryTree, TarTree
class Table:
    add_snapshot = has_snapshot = adopt_snapshot = remove_snapshot = lambda *arguments: None
snapshots = choose_snapshots(sys.argv[1], Table())
def layer(*entries):
    tar = io.BytesIO()
    write_layer(((entry, None) for entry in entries), tar.write)
    return tar
def fill(tar):
    def unpacked(directory):
        tar.seek(0)
        return unpack(tar, directory, whiteouts=snapshots.whiteouts).size
    return unpacked
below = layer(LayerEntry("app", "dir", 0o755), LayerEntry("app/hidden", "dir", 0o755), LayerEntry("app/gone", "file"),
    LayerEntry("app/hidden/below", "file"))
above = layer(LayerEntry("app", "dir", 0o755), LayerEntry("app/.wh.gone", "file"), LayerEntry("app/file", "file"),
    LayerEntry("app/hidden", "dir", 0o755), LayerEntry("app/hidden/.wh..wh..opq", "file"))
stack = ("sha256:" + "0" * 64, "sha256:" + "1" * 64)
snapshots.unpack(stack[:1], fill(below))
snapshots.unpack(stack, fill(above))
with snapshots.prepare(stack, [1]) as workspace:
    print(snapshots.name, snapshots.whiteouts, workspace.has_views)
    print(sorted(os.listdir(workspace.path + "/app")), os.listdir(workspace.path + "/app/hidden"))
    os.stat(workspace.path + "/app/file")
    asked = workspace.questions()[1]
print(Question(ENTRY, "app/file") in asked, Question("attribute trusted.overlay.opaque", "app/hidden") in asked)
with open(sys.argv[1] + ".tar", "wb") as file:
    file.write(above.getvalue())
trees = TarTree(sys.argv[1] + ".tar"), DirectoryTree(snapshots.directories(stack)[1])
print(observe(trees[0], asked) == observe(trees[1], asked))
"""


def test_a_user_namespace_gets_views(tmp_path: Path) -> None:
    """Of layers with the marks of users; tar and directory answer alike there."""
    command = [*IN_USER_NAMESPACE, sys.executable, "-c", CHOSEN_BY_USER, str(tmp_path / "snapshots"), *sys.path]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["overlay userxattr True", "['file', 'hidden'] []", "True True", "True"]

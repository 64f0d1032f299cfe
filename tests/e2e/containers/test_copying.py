"""`cp` and `export`: Docker's rules for names, owners, volumes, and containers that try to lead a copy astray."""

import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

House = Any
Moldar = Any

both_drivers = pytest.mark.parametrize("house", ["overlay", "copying"], indirect=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a file, a directory and links, of another owner."""
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub/run").write_text("program")
    (root / "file").write_text("text")
    os.link(root / "file", root / "same")
    (root / "link").symlink_to("file")
    os.utime(root / "file", (1_000_000_000, 1_000_000_000))
    for path in (root, *root.rglob("*")):
        os.chown(path, 123, 456, follow_symlinks=False)
    (root / "sub/run").chmod(0o4750)  # last, for a change of owner takes it away
    return root


def inside(house: House, *command: str, name: str = "box") -> str:
    code, out = house.execute(name, *command)
    assert code == 0, out
    text: str = out.decode()
    return text


@both_drivers
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_there_and_back(house: House, moldar: Moldar, tree: Path, tmp_path: Path, running: bool) -> None:
    (house.start if running else house.create)("sleep", "60", name="box")
    assert moldar("cp", tree, "box:/root") == ""
    moldar("cp", "-a", f"{tree}/.", "box:/root/kept")
    moldar("cp", "box:root/tree", tmp_path / "back")
    moldar("cp", "-a", "box:/root/kept/", tmp_path / "owned")
    back, owned = tmp_path / "back", tmp_path / "owned"
    assert sorted(path.name for path in back.rglob("*")) == ["file", "link", "run", "same", "sub"]
    assert (back / "sub/run").stat().st_mode & 0o7777 == 0o4750
    assert (back / "file").stat().st_mtime == 1_000_000_000
    assert (back / "file").stat().st_nlink == 2
    assert os.readlink(back / "link") == "file"
    assert (back / "file").stat().st_uid == os.geteuid()
    assert (owned / "file").stat().st_uid == 123
    assert (owned / "link").lstat().st_gid == 456
    if running:
        listed = inside(house, "ls", "-ln", "/root/tree/file")
        assert listed.split()[2:4] == ["0", "0"], "files belong to root inside"
    else:
        house.containers.start("box")
        assert inside(house, "cat", "/root/tree/file") == "text"


CASES = [  # source, target, what is then where; of the rules in the reference of `docker cp`
    ("file", "/new", "/new"),
    ("file", "/tmp", "/tmp/file"),
    ("file", "/tmp/", "/tmp/file"),
    ("file", "/www/index.html", "/www/index.html"),
    ("sub", "/new", "/new/run"),
    ("sub", "/tmp", "/tmp/sub/run"),
    ("sub/", "/tmp", "/tmp/sub/run"),
    ("sub/.", "/tmp", "/tmp/run"),
    ("sub/.", "/new/", "/new/run"),
    ("link", "/to-www", "/www/link"),
    ("file", "/to-page", "/www/index.html"),
]


def test_names(house: House, moldar: Moldar, tree: Path) -> None:
    for name, to in (("to-www", "www"), ("to-page", "/www/index.html")):
        (tree.parent / name).symlink_to(to)
    for source, target, found in CASES:
        house.create("true", name="box")
        moldar("cp", tree.parent / "to-www", "box:/")
        moldar("cp", tree.parent / "to-page", "box:/")
        moldar("cp", f"{tree}/{source}", f"box:{target}")
        copied = moldar.run("cp", f"box:{found}", "-")
        assert copied.code == 0, (source, target, copied.err)
        house.containers.remove("box")


REFUSED = [
    ("file", "/new/", "no such directory"),
    ("file", "/none/file", "could not find the file /none/file in container box"),
    ("sub", "/www/index.html", "cannot copy a directory"),
    ("file/", "/tmp", "not a directory"),
    ("none", "/tmp", "no such file or directory"),
    ("sub", "/clash", "cannot overwrite non-directory 'sub'"),
]


def test_what_does_not_fit(house: House, moldar: Moldar, tree: Path) -> None:
    house.create("true", name="box")
    (tree.parent / "clash").mkdir()
    (tree.parent / "clash/sub").write_text("a file")
    moldar("cp", tree.parent / "clash", "box:/")
    for source, target, why in REFUSED:
        assert why in moldar.fails("cp", f"{tree}/{source}", f"box:{target}")


def test_words_that_mean_nothing(house: House, moldar: Moldar, tmp_path: Path) -> None:
    assert "at least one container" in moldar.fails("cp", "a", "b")
    assert "between containers" in moldar.fails("cp", "a:/x", "b:/y")
    assert "can not be empty" in moldar.fails("cp", "", "box:/x")
    assert "no such container: nope" in moldar.fails("cp", "nope:/x", tmp_path)
    house.create("true", name="box")
    assert "could not find the file /none in container box" in moldar.fails("cp", "box:/none", tmp_path)
    assert "no such file or directory" in moldar.fails("cp", "box:/www/index.html", tmp_path / "none/file")
    (tmp_path / "a:b").write_text("colon")
    moldar("cp", f"{tmp_path}/a:b", "box:/tmp")


def test_links_are_followed_on_demand_and_keep_their_name(house: House, moldar: Moldar, tmp_path: Path) -> None:
    house.start("sh", "-c", "ln -s /www/index.html /page; ln -s www /site; sleep 60", name="box")
    wait_for(house, "/site")
    moldar("cp", "box:/page", tmp_path)
    assert os.readlink(tmp_path / "page") == "/www/index.html"
    moldar("cp", "-L", "box:/page", tmp_path / "followed")
    assert (tmp_path / "followed").read_text() == "hello from busybox"
    moldar("cp", "box:/site/.", tmp_path)
    assert (tmp_path / "index.html").exists()
    (tmp_path / "d").mkdir()
    moldar("cp", "-L", "box:/site", tmp_path / "d")
    assert (tmp_path / "d/site/index.html").exists()


def wait_for(house: House, path: str) -> None:
    deadline = time.monotonic() + 10
    while house.execute("box", "ls", "-d", path)[0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@both_drivers
def test_archives_on_stdin_and_stdout(house: House, moldar: Moldar, tmp_path: Path) -> None:
    house.create("true", name="box")
    with tarfile.open(tmp_path / "in.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("deep/er/.wh.file")
        member.uid, member.size = 77, 4
        archive.addfile(member, io.BytesIO(b"data"))
    assert "must be a directory" in moldar.fails("cp", "-", "box:/none", stdin=b"")
    moldar("cp", "-", "box:/tmp", stdin=(tmp_path / "in.tgz").read_bytes())
    out = tmp_path / "out.tar"
    with out.open("wb") as file:
        words = [sys.executable, "-m", "moldar", "--home", house.home.root, "cp", "box:/tmp/deep", "-"]
        subprocess.run(words, stdout=file, check=True)
    with tarfile.open(out) as archive:
        assert archive.getnames() == ["deep", "deep/er", "deep/er/.wh.file"], "not taken for a whiteout"
        assert archive.getmember("deep/er/.wh.file").uid == 77, "an archive keeps its owners"


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_volumes_and_binds_are_seen_and_what_the_kernel_shows_is_not(
    house: House, moldar: Moldar, tmp_path: Path, running: bool
) -> None:
    (tmp_path / "bound").mkdir()
    (tmp_path / "file").write_text("x")
    mounts = ("data:/data", f"{tmp_path}/bound:/bound", f"{tmp_path}/bound:/ro:ro")
    (house.start if running else house.create)("sleep", "60", volumes=mounts, tmpfs=("/scratch",), name="box")
    moldar("cp", tmp_path / "file", "box:/data")
    moldar("cp", tmp_path / "file", "box:/bound/file")
    assert (tmp_path / "bound/file").read_text() == "x"
    assert Path(house.home.volumes, "data/_data/file").read_text() == "x"
    assert "Read-only" in moldar.fails("cp", tmp_path / "file", "box:/ro/other")
    (tmp_path / "out").mkdir()
    moldar("cp", "box:/", tmp_path / "out")
    assert os.listdir(tmp_path / "out/proc") == []
    assert (tmp_path / "out/data/file").exists()


def test_a_read_only_root_stays_so(house: House, moldar: Moldar, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    house.start("sleep", "60", read_only=True, volumes=("data:/data",), name="box")
    assert "Read-only" in moldar.fails("cp", tmp_path / "file", "box:/tmp")
    moldar("cp", tmp_path / "file", "box:/data")


@both_drivers
def test_links_lead_nowhere_outside(house: House, moldar: Moldar, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "evil").write_text("evil")
    up = "../" * 40
    commands = f"ln -s {tmp_path}/secret /abs; ln -s {up}{tmp_path}/secret /rel; ln -s .. /up; ln -s {tmp_path} /dir"
    house.start("sh", "-c", f"{commands}; ln -s /proc/1/root /magic; touch /done; sleep 60", name="box")
    wait_for(house, "/done")
    for path in ("/abs", "/rel", "/dir/secret", f"/up{tmp_path}/secret", f"/magic{tmp_path}/secret"):
        assert "secret" not in moldar.run("cp", "-L", f"box:{path}", tmp_path / "got").out
        assert not (tmp_path / "got").exists(), path
    for path in ("/abs", "/rel", "/dir/secret", f"/up/../..{tmp_path}/secret"):
        moldar.run("cp", tmp_path / "evil", f"box:{path}")
        assert (tmp_path / "secret").read_text() == "secret", path
    (tmp_path / "top").mkdir()
    moldar("cp", "-L", "box:/up", tmp_path / "top")
    assert (tmp_path / "top/up/done").exists(), "above the root is the root"


RACE = """
import os, sys
os.chroot(sys.argv[1])
while True:
    for name in ("a", "b"):
        try:
            os.rename("/race/dir", "/race/kept"); os.symlink(sys.argv[2], "/race/dir")
            os.unlink("/race/dir"); os.rename("/race/kept", "/race/dir")
        except OSError:
            pass
"""


def test_a_container_that_changes_names_meanwhile(house: House, moldar: Moldar, tmp_path: Path) -> None:
    """Something in the container swaps a directory for a link to the host again and again; no copy follows it."""
    house.start("sh", "-c", "mkdir -p /race/dir; touch /race/dir/x; sleep 60", name="box")
    wait_for(house, "/race/dir/x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret")
    (tmp_path / "x").write_text("evil")
    pid = house.containers.view("box").status.process.pid
    racer = subprocess.Popen([sys.executable, "-c", RACE, f"/proc/{pid}/root", str(outside)])
    try:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            moldar.run("cp", tmp_path / "x", "box:/race/dir/x")
            moldar.run("cp", "box:/race/dir/x", tmp_path / "got")
            if (tmp_path / "got").is_file():
                assert (tmp_path / "got").read_text() != "secret"
    finally:
        racer.kill()
        racer.wait()
    assert (outside / "x").read_text() == "secret"


@both_drivers
def test_a_start_waits_for_a_copy(house: House, moldar: Moldar) -> None:
    house.create("sleep", "60", name="box")
    with house.containers.root("box"):
        starting = subprocess.Popen([sys.executable, "-m", "moldar", "--home", house.home.root, "start", "box"])
        with pytest.raises(subprocess.TimeoutExpired):
            starting.wait(0.7)
    assert starting.wait(20) == 0
    assert house.containers.view("box").status.running


@both_drivers
def test_export(house: House, moldar: Moldar, tmp_path: Path) -> None:
    house.start(
        "sh", "-c", "echo new > /new; echo v > /data/file; touch /done; sleep 60", name="box", volumes=("data:/data",)
    )
    wait_for(house, "/done")
    moldar("export", "-o", tmp_path / "fs.tar", "box")
    with tarfile.open(tmp_path / "fs.tar") as archive:
        names = archive.getnames()
        assert {"bin/busybox", "new", "www/index.html", "proc", "data"} <= set(names)
        assert not [name for name in names if name.startswith(("proc/", "sys/", "data/"))]
    assert "no such container" in moldar.fails("export", "nope")

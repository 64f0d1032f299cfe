"""Unpacking: what arrives, whiteouts in both styles, and attacks that must touch nothing outside of the root."""

import hashlib
import io
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from moldar.errors import CorruptData
from moldar.image.layer_entry import BadLayer, LayerEntry, NeedsParents, Whiteouts
from moldar.image.layer_write import LayerWriter
from moldar.image.unpack import UnpackResult, unpack

Member = tuple[LayerEntry, bytes]


def file(path: str, content: bytes = b"", **fields: int | float | tuple[tuple[str, bytes], ...]) -> Member:
    return LayerEntry(path, "file", size=len(content), **fields), content  # type: ignore[arg-type]


def directory(path: str, **fields: int | float | tuple[tuple[str, bytes], ...]) -> Member:
    return LayerEntry(path, "dir", **({"mode": 0o755} | fields)), b""  # type: ignore[arg-type]


def symlink(path: str, target: str) -> Member:
    return LayerEntry(path, "symlink", 0o777, target=target), b""


def hard(path: str, target: str) -> Member:
    return LayerEntry(path, "link", target=target), b""


def tar(*members: Member) -> io.BytesIO:
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    for entry, content in members:
        writer.add(entry, content)
    writer.close()
    out.seek(0)
    return out


def listing(root: Path) -> dict[str, str]:
    """Every name beneath `root` and what it is, without following links."""
    found: dict[str, str] = {}
    for at, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(at, name)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                what = f"-> {path.readlink()}"
            elif stat.S_ISREG(status.st_mode):
                what = path.read_text()
            else:
                what = {stat.S_IFDIR: "dir", stat.S_IFCHR: "char", stat.S_IFIFO: "fifo", stat.S_IFBLK: "block"}[
                    stat.S_IFMT(status.st_mode)
                ]
            found[str(path.relative_to(root))] = what
    return found


def test_everything_about_members_arrives(tmp_path: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    result = unpack(
        tar(
            directory("d", mode=0o2750, uid=5, gid=6, mtime=1000, xattrs=(("user.dir", b"1"),)),
            file("d/f", b"hello", mode=0o4711, uid=7, gid=8, mtime=1_500_000_000),
            file("d/cap", b"x", mode=0o755, xattrs=(("security.capability", capability), ("user.k", b"v"))),
            file("d/open", b"", mode=0o666, mtime=-5),
            symlink("d/s", "/anywhere"),
            hard("d/h", "d/f"),
            (LayerEntry("d/pipe", "fifo", 0o622, 1, 2, 3), b""),
            (LayerEntry("d/null", "char", 0o666, 0, 0, 9, major=1, minor=3), b""),
            (LayerEntry("d/blk", "block", 0o660, 0, 6, 9, major=7, minor=200), b""),
            directory("locked", mode=0o000),
            file("locked/inside", b"in"),
        ),
        str(tmp_path),
        whiteouts="overlay",
    )
    assert result == UnpackResult(11, 8)
    status = {path: (tmp_path / path).lstat() for path in listing(tmp_path)}
    assert {path: stat.S_IMODE(found.st_mode) for path, found in status.items() if path != "d/s"} == {
        "d": 0o2750, "d/f": 0o4711, "d/cap": 0o755, "d/open": 0o666, "d/h": 0o4711, "d/pipe": 0o622, "d/null": 0o666,
        "d/blk": 0o660, "locked": 0, "locked/inside": 0o644,
    }  # fmt: skip
    assert (status["d"].st_uid, status["d"].st_gid, status["d"].st_mtime) == (5, 6, 1000)
    assert (status["d/f"].st_uid, status["d/f"].st_gid, status["d/f"].st_mtime) == (7, 8, 1_500_000_000)
    assert (status["d/cap"].st_uid, status["d/cap"].st_gid, status["d/open"].st_mtime) == (0, 0, -5)
    assert (status["d/h"].st_ino, status["d/s"].st_mtime) == (status["d/f"].st_ino, 0)
    assert status["d/null"].st_rdev == os.makedev(1, 3)
    assert status["d/blk"].st_rdev == os.makedev(7, 200)
    assert os.readlink(tmp_path / "d/s") == "/anywhere"
    assert os.getxattr(tmp_path / "d/cap", "security.capability") == capability
    assert (os.getxattr(tmp_path / "d/cap", "user.k"), os.getxattr(tmp_path / "d", "user.dir")) == (b"v", b"1")


def test_large_contents_and_fractional_times(tmp_path: Path) -> None:
    content = os.urandom(5_000_001)
    unpack(tar(file("big", content)), str(tmp_path), whiteouts="overlay")
    assert (tmp_path / "big").read_bytes() == content


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        unpack(tar(file("p/f", b"", mode=0o666), directory("d", mode=0o777)), str(tmp_path), whiteouts="overlay")
    finally:
        os.umask(old)
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("p", "p/f", "d")]
    assert modes == [0o755, 0o666, 0o777]


def test_later_members_replace_earlier_ones(tmp_path: Path) -> None:
    unpack(
        tar(
            file("a", b"old"), file("a", b"new"),
            directory("b"), file("b/inside", b"gone"), file("b", b"now a file"),
            file("c", b"x"), directory("c", mode=0o700), file("c/in", b"kept"), directory("c", mode=0o711),
            symlink("d", "c"), file("d", b"not through the link"),
            directory("e"), directory("e/sub"), symlink("e", "c"), file("e/through", b"t"),
        ),
        str(tmp_path),
        whiteouts="overlay",
    )  # fmt: skip
    assert listing(tmp_path) == {
        "a": "new", "b": "now a file", "c": "dir", "c/in": "kept", "c/through": "t", "d": "not through the link",
        "e": "-> c",
    }  # fmt: skip
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o711


def test_many_directories_stay_within_the_descriptor_limit(tmp_path: Path) -> None:
    members = [file(f"d{number}/{'sub/' * (number % 7)}f", b"%d" % number) for number in range(900)]
    unpack(tar(*members, *members), str(tmp_path), whiteouts="overlay")
    assert (tmp_path / "d899/sub/sub/sub/f").read_bytes() == b"899"
    assert len(os.listdir("/proc/self/fd")) < 100


def test_links_on_the_way_resolve_within_the_root(tmp_path: Path) -> None:
    unpack(
        tar(
            directory("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr"), symlink("up", "../../../usr"),
            symlink("usr/rel", "../usr/lib/."),
            file("lib/one", b"1"), file("abs/lib/two", b"2"), file("up/lib/three", b"3"), file("usr/rel/four", b"4"),
            hard("abs/five", "lib/one"),
        ),
        str(tmp_path),
        whiteouts="overlay",
    )  # fmt: skip
    found = listing(tmp_path)
    assert [found[f"usr/lib/{name}"] for name in ("one", "two", "three", "four")] == ["1", "2", "3", "4"]
    assert found["usr/five"] == "1"


def test_overlay_whiteouts(tmp_path: Path) -> None:
    unpack(
        tar(
            file(".wh.gone"), directory("dir"), file("dir/.wh..wh..opq"), file("dir/kept", b"k"),
            file("both", b"b"), file(".wh.both"),
            file(".wh.replaced"), directory("replaced"), file("replaced/in", b"i"),
            directory("late"), file(".wh.late"),
            file(".wh..wh.plnk/1.2", b"aufs"), file(".wh..wh.aufs"),
        ),
        str(tmp_path),
        whiteouts="overlay",
    )  # fmt: skip
    assert listing(tmp_path) == {
        "gone": "char", "dir": "dir", "dir/kept": "k", "both": "b", "replaced": "dir", "replaced/in": "i",
        "late": "dir",
    }  # fmt: skip
    assert (tmp_path / "gone").stat().st_rdev == 0
    for opaque in ("dir", "replaced", "late"):
        assert os.getxattr(tmp_path / opaque, "trusted.overlay.opaque") == b"y"


def test_apply_whiteouts(tmp_path: Path) -> None:
    lower = tar(
        file("gone", b"1"), directory("tree"), file("tree/deep/x", b"2"), directory("dir"), file("dir/old", b"3"),
        directory("dir/olddir"), file("dir/olddir/y", b"4"), file("same", b"5"), symlink("link", "tree"),
    )  # fmt: skip
    unpack(lower, str(tmp_path), whiteouts="apply")
    upper = tar(
        file(".wh.gone"), file(".wh.tree"), file(".wh.never"), file("dir/new", b"n"), file("dir/.wh..wh..opq"),
        file("same", b"6"), file(".wh.same"), file(".wh.link"),
    )  # fmt: skip
    unpack(upper, str(tmp_path), whiteouts="apply")
    assert listing(tmp_path) == {"dir": "dir", "dir/new": "n", "same": "6"}


def test_overlay_xattrs_of_a_layer_are_dropped(tmp_path: Path) -> None:
    steering = (
        ("trusted.overlay.redirect", b"/etc"),
        ("trusted.overlay.opaque", b"y"),
        ("user.overlay.opaque", b"y"),
    )
    unpack(tar(directory("d", xattrs=steering), file("f", xattrs=steering)), str(tmp_path), whiteouts="overlay")
    assert os.listxattr(tmp_path / "d") == os.listxattr(tmp_path / "f") == []


def test_a_layer_that_needs_its_parents_says_so(tmp_path: Path) -> None:
    for number, members in enumerate(
        (
            [file("etc/new", b"x")],
            [directory("d"), hard("d/h", "usr/bin/x")],
            [symlink("lib", "usr/lib"), file("lib/x")],
        )
    ):
        root = tmp_path / str(number)
        root.mkdir()
        with pytest.raises(NeedsParents):
            unpack(tar(*members), str(root), whiteouts="overlay", missing_parents="refuse")


def test_unpacking_without_privilege_skips_devices_and_owners(tmp_path: Path) -> None:
    data = tar(
        directory("d", mode=0o500, uid=44),
        file("d/f", b"x", uid=55),
        (LayerEntry("null", "char", major=1, minor=3), b""),
    ).getvalue()
    (tmp_path / "layer").write_bytes(data)
    (tmp_path / "root").mkdir()
    os.chown(tmp_path / "root", 65534, 65534)
    os.chmod(tmp_path, 0o755)
    os.chmod(tmp_path.parent, 0o755)
    os.chmod(tmp_path.parent.parent, 0o755)
    child = os.fork()
    if not child:
        code = 1
        try:
            with (tmp_path / "layer").open("rb") as stream:
                root = os.open(tmp_path / "root", os.O_RDONLY)
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                result = unpack(stream, root, whiteouts="apply")
                code = 0 if result == UnpackResult(3, 1, 1) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert listing(tmp_path / "root") == {"d": "dir", "d/f": "x"}
    assert (tmp_path / "root/d").stat().st_uid == 65534


ATTACKS: dict[str, Callable[[str], list[Member]]] = {
    "file over absolute symlink": lambda out: [symlink("x", f"{out}/victim"), file("x", b"evil")],
    "file through absolute symlink": lambda out: [symlink("x", out), file("x/victim", b"evil")],
    "file through relative symlink": lambda out: [symlink("x", "../outside"), file("x/victim", b"evil")],
    "file through chained symlinks": lambda out: [
        directory("a"), symlink("a/b", ".."), symlink("c", "a/b/../../outside"), file("c/victim", b"evil"),
    ],
    "directory through symlink": lambda out: [symlink("x", out), directory("x/sub", mode=0o777)],
    "directory over symlink": lambda out: [symlink("x", out), directory("x", mode=0o777, uid=1), file("x/new", b"1")],
    "symlink through symlink": lambda out: [symlink("x", out), symlink("x/evil", "/etc/passwd")],
    "hard link out by absolute name": lambda out: [hard("h", f"{out}/victim"), file("h", b"evil")],
    "hard link out by symlink": lambda out: [symlink("x", out), hard("h", "x/victim"), file("h", b"evil")],
    "hard link to symlink": lambda out: [symlink("x", f"{out}/victim"), hard("h", "x"), file("h", b"evil")],
    "hard link into outside": lambda out: [file("f", b"evil"), symlink("x", out), hard("x/victim", "f")],
    "whiteout of parent": lambda out: [file(".wh..."), file("a/.wh...")],
    "whiteout of self": lambda out: [file(".wh.."), file("a/.wh..")],
    "whiteout through symlink": lambda out: [symlink("x", out), file("x/.wh.victim")],
    "opaque through symlink": lambda out: [symlink("x", out), file("x/.wh..wh..opq")],
    "whiteout of a symlink": lambda out: [symlink("x", out), directory("y"), file(".wh.x")],
    "mode through symlink": lambda out: [symlink("x", f"{out}/victim"), hard("y", "x"), directory("y", mode=0o777)],
    "fifo over symlink": lambda out: [symlink("x", f"{out}/victim"), (LayerEntry("x", "fifo", 0o777, 9, 9), b"")],
    "directory swapped for symlink": lambda out: [
        directory("x", mode=0o777, uid=9, mtime=1), file("x/a", b"1"), file(".wh.x"), symlink("x", out),
        file("x/victim", b"evil"), directory("x/../outside".replace("../outside", "sub"), mode=0o777),
    ],
    "metadata after swap": lambda out: [directory("x", mode=0o777, uid=9, mtime=1), symlink("x", out)],
    "absolute name": lambda out: [file("/" + out.lstrip("/") + "/victim", b"evil")],
    "xattr through symlink": lambda out: [
        (LayerEntry("x", "symlink", target=f"{out}/victim", xattrs=(("user.evil", b"1"),)), b""),
    ],
    "symlink loop": lambda out: [symlink("x", "y"), symlink("y", "x"), file("x/f", b"1")],
    "parent is a file": lambda out: [file("x", b"1"), file("x/f", b"1")],
    "parent is a device": lambda out: [(LayerEntry("x", "char", major=1, minor=3), b""), file("x/f", b"1")],
    "hard link to itself": lambda out: [file("x", b"1"), hard("x", "x")],
    "hard link to directory": lambda out: [directory("x"), hard("y", "x")],
    "hard link to root": lambda out: [hard("y", "./x/.")],
}  # fmt: skip


def fingerprint(root: Path) -> str:
    """Names, content, metadata and attributes of everything beneath `root`."""
    digest = hashlib.sha256()
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        digest.update(repr((str(path), status[:6], status.st_size, status.st_mtime_ns, status.st_nlink)).encode())
        digest.update(repr([(key, os.getxattr(path, key)) for key in os.listxattr(path)]).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize("style", ["overlay", "apply"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_touch_nothing_outside(attack: str, style: Whiteouts, tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "victim").write_text("intact")
    (outside / "sub").mkdir()
    before = fingerprint(outside)
    try:
        unpack(tar(*ATTACKS[attack](str(outside))), str(root), whiteouts=style)
    except CorruptData as error:
        assert type(error) is BadLayer
    assert fingerprint(outside) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "root"]


def test_trees_of_gnu_tar_arrive_unchanged(tmp_path: Path) -> None:
    source, root = tmp_path / "source", tmp_path / "root"
    (source / "a/b").mkdir(parents=True)
    (source / "a/file").write_text("one")
    os.link(source / "a/file", source / "a/b/hard")
    (source / "a/to").symlink_to("b")
    os.chmod(source / "a/b", 0o1777)
    root.mkdir()
    raw = subprocess.run(["tar", "-C", source, "-c", "."], check=True, capture_output=True).stdout
    unpack(io.BytesIO(raw), str(root), whiteouts="overlay")
    assert listing(root) == listing(source)
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o1777
    assert (root / "a/b/hard").stat().st_nlink == 2

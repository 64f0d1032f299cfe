"""Where copied files land, with which modes and owners: the facts that BuildKit's users rely on."""

import os
import stat
from typing import Any

import pytest

from moldar.builder.accounts import NoAccounts
from moldar.builder.canvas import IsADirectory, NotADirectory
from moldar.builder.copying import run_copy
from moldar.builder.graph import CopyOp
from moldar.builder.hashing import SourceChanged
from moldar.builder.selection import MissingSource, select
from moldar.builder.tree import FileTree, InlineTree, LocalTree
from moldar.image.layer_entry import LayerEntry

PASSWD = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nodd:x:y:z::/:\n"
GROUP = b"root:x:0:\nstaff:x:50:app\n"


def directory(path: str, mode: int = 0o755, **options: Any) -> LayerEntry:
    return LayerEntry(path, "dir", mode, mtime=1_500_000_000, **options)


def accounts(bench: Any, **options: Any) -> None:
    bench.below(
        directory("etc"),
        LayerEntry("etc/passwd", "file"),
        LayerEntry("etc/group", "file"),
        contents={"etc/passwd": PASSWD, "etc/group": GROUP},
        **options,
    )


def test_a_file_is_renamed_or_goes_into_a_directory(bench: Any) -> None:
    bench.files({"f": "f"})
    bench.below(directory("have", 0o700, uid=3, gid=4))
    assert bench.copy("f", "/new").shape() == {"new": "f"}
    assert bench.copy("f", "/made/").shape() == {"made": "dir 755", "made/f": "f"}
    assert bench.copy("f", "/deep/er/name").shape() == {"deep": "dir 755", "deep/er": "dir 755", "deep/er/name": "f"}
    into = bench.copy("f", "/have")
    assert into.shape() == {"have": "dir 700", "have/f": "f"}
    parent = into.entries["have"]
    assert (parent.uid, parent.gid, parent.mtime) == (3, 4, 1_500_000_000)


def test_a_directory_is_copied_by_its_contents(bench: Any) -> None:
    bench.files({"d@700": None, "d/f@600": "f", "d/sub@711": None, "d/sub/g": "g", "d/e@500": None})
    for source in ("d", "d/", "./d/.", "/d"):
        assert bench.copy(source, "/out").shape() == {
            "out": "dir 755",
            "out/e": "dir 500",
            "out/f": "f",
            "out/sub": "dir 711",
            "out/sub/g": "g",
        }
    assert stat.S_IMODE(bench.copy("d", "/out").entries["out/f"].mode) == 0o600


def test_merging_keeps_the_top_and_changes_what_is_nested(bench: Any) -> None:
    bench.files({"d@700": None, "d/sub@750": None, "d/sub/new": "n"})
    bench.below(directory("dst", 0o711, uid=9), directory("dst/sub", 0o711, uid=9), LayerEntry("dst/sub/old", "file"))
    made = bench.copy("d", "/dst")
    assert made.shape() == {"dst": "dir 711", "dst/sub": "dir 750", "dst/sub/new": "n"}
    assert (made.entries["dst"].uid, made.entries["dst/sub"].uid) == (9, 0)


def test_the_last_of_several_wins(bench: Any) -> None:
    bench.files({"a": "a", "b": "b", "one/same": "1", "two/same": "2"})
    assert bench.copy("a", "b", "/dst").shape() == {"dst": "b"}
    assert bench.copy("one", "two", "/all/").files == {"all/same": b"2"}


def test_times_are_kept_and_owners_reset(bench: Any) -> None:
    bench.files({"d/f": "f", "d/l": ("link", "f"), "d/sub": None})
    os.chown(bench.context / "d/f", 1234, 4321)
    os.utime(bench.context / "d/sub", (1_200_000_000, 1_200_000_000))
    os.utime(bench.context / "d/l", (1_100_000_000, 1_100_000_000), follow_symlinks=False)
    made = bench.copy("d", "/d")
    assert {name: entry.mtime for name, entry in made.entries.items() if name != "d"} == {
        "d/f": 1_600_000_000,
        "d/l": 1_100_000_000,
        "d/sub": 1_200_000_000,
    }
    assert made.entries["d/f"].uid == made.entries["d/f"].gid == 0
    stage = bench.copy("d", "/d", tree=LocalTree(str(bench.context), keeps_owners=True))
    assert (stage.entries["d/f"].uid, stage.entries["d/f"].gid) == (1234, 4321)


def test_the_same_copy_gives_the_same_bytes(bench: Any) -> None:
    bench.files({f"d/{name}": name for name in ("z", "a", "sub/m", "sub.x", "a.b/c")})
    made = bench.copy("d", "/new/")
    assert made.raw == bench.copy("d", "/new/").raw
    assert made.order == sorted(made.order)


def test_links_at_the_destination_are_followed_but_not_inside(bench: Any) -> None:
    bench.files({"f": "new", "d/in": "new"})
    bench.below(
        directory("real"),
        LayerEntry("short", "symlink", target="real"),
        LayerEntry("abs", "symlink", target="/real/../real"),
        LayerEntry("up", "symlink", target="../../../real"),
        LayerEntry("name", "symlink", target="real/target"),
        LayerEntry("real/target", "file"),
        LayerEntry("real/in", "symlink", target="/victim"),
        LayerEntry("dangling", "symlink", target="/nowhere/yet"),
    )
    assert bench.copy("f", "/short/").files == {"real/f": b"new"}
    assert bench.copy("f", "/abs/g").files == {"real/g": b"new"}
    assert bench.copy("f", "/up/made/h").files == {"real/made/h": b"new"}
    assert bench.copy("f", "/name").files == {"real/target": b"new"}
    assert bench.copy("f", "/dangling").files == {"nowhere/yet": b"new"}
    assert bench.copy("d", "/real").files == {"real/in": b"new"}


def test_kinds_that_do_not_fit_are_refused(bench: Any) -> None:
    bench.files({"f": "f", "d/x": "x", "e/x/y": "y"})
    bench.below(directory("have"), LayerEntry("file", "file"), directory("dir"), directory("dir/x"))
    with pytest.raises(NotADirectory, match="/file"):
        bench.copy("d", "/file")
    with pytest.raises(NotADirectory, match="/file"):
        bench.copy("f", "/file/below/it")
    with pytest.raises(IsADirectory, match="/dir/x"):
        bench.copy("d", "/dir")
    with pytest.raises(NotADirectory, match="/new/x"):
        bench.copy("d", "e", "/new/")
    with pytest.raises(IsADirectory, match="/new/x"):
        bench.copy("e", "d", "/new/")


def test_modes_and_owners_given_reach_created_parents(bench: Any) -> None:
    accounts(bench)
    bench.files({"d/f": "f", "d/l": ("link", "f"), "d/sub": None})
    made = bench.copy("d", "/made/d", chmod="0751", chown="app:staff")
    assert {name: (oct(entry.mode), entry.uid, entry.gid) for name, entry in made.entries.items()} == {
        "made": ("0o751", 1000, 50),
        "made/d": ("0o751", 1000, 50),
        "made/d/f": ("0o751", 1000, 50),
        "made/d/l": ("0o777", 1000, 50),
        "made/d/sub": ("0o751", 1000, 50),
    }


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize(
    ("chown", "ids", "warns"),
    [
        ("app", (1000, 1001), False),
        ("app:staff", (1000, 50), False),
        ("app:7", (1000, 7), False),
        (":staff", (0, 50), False),
        ("77", (77, 77), False),
        ("77:88", (77, 88), False),
        ("ghost", (0, 0), True),
        ("app:ghosts", (1000, 1001), True),
        ("odd", (0, 0), True),
    ],
)
def test_owners_by_name_and_number(bench: Any, unpacked: bool, chown: str, ids: tuple[int, int], warns: bool) -> None:
    accounts(bench, unpacked=unpacked)
    bench.files({"f": "f"})
    made = bench.copy("f", "/f", chown=chown)
    assert (made.entries["f"].uid, made.entries["f"].gid) == ids
    assert bool(made.outcome.warnings) == warns


def test_names_need_somewhere_to_be_looked_up(bench: Any) -> None:
    bench.files({"f": "f"})
    assert bench.copy("f", "/f", chown="5:6").entries["f"].gid == 6
    with pytest.raises(NoAccounts, match="app"):
        bench.copy("f", "/f", chown="app")
    accounts(bench)
    with pytest.raises(NoAccounts, match="app"):
        bench.copy("f", "/f", chown="app", link=True)


def test_link_does_not_look_at_what_is_below(bench: Any) -> None:
    bench.files({"f": "f"})
    bench.below(directory("box", 0o700, uid=9), LayerEntry("ln", "symlink", target="box"))
    assert bench.copy("f", "/box/f", link=True).shape() == {"box": "dir 755", "box/f": "f"}
    assert bench.copy("f", "/ln/f", link=True).shape() == {"ln": "dir 755", "ln/f": "f"}
    assert bench.copy("f", "/ln/f", link=True, chmod="600").shape() == {"box": "dir 700", "box/f": "f"}


def test_hard_links_survive_within_one_source(bench: Any) -> None:
    bench.files({"d/b": "shared", "d/a": ("hard", "d/b"), "d/c": "shared", "out": ("hard", "d/b")})
    assert bench.copy("d", "/d").shape() == {"d": "dir 755", "d/a": "shared", "d/b": "= d/a", "d/c": "shared"}
    assert bench.copy("d/a", "d/b", "/x/").shape() == {"x": "dir 755", "x/a": "shared", "x/b": "shared"}
    replaced = bench.copy("d", "out", "/d/").shape()
    assert replaced["d/b"] == "= d/a"
    bench.files({"over/a": "other"})
    assert bench.copy("d", "over", "/d/").shape()["d/b"] == "shared"


def test_special_files(bench: Any) -> None:
    bench.files({"d/pipe@640": ("fifo",), "d/dangling": ("link", "/not/here")})
    os.mknod(bench.context / "d/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(bench.context / "d/socket", 0o600 | stat.S_IFSOCK)
    made = bench.copy("d", "/d")
    assert set(made.entries) == {"d", "d/dangling", "d/null", "d/pipe"}
    assert made.entries["d/pipe"].isfifo() and made.entries["d/dangling"].linkname == "/not/here"
    null = made.entries["d/null"]
    assert null.ischr() and (null.devmajor, null.devminor) == (1, 3)


def test_capabilities_travel_and_other_attributes_do_not(bench: Any, tmp_path: Any) -> None:
    bench.files({"d/tool@755": "tool", "d/plain": "plain"})
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(bench.context / "d/tool", "security.capability", capability)
    os.setxattr(bench.context / "d/plain", "trusted.mine", b"x")
    made = bench.copy("d", "/d")
    headers = made.entries["d/tool"].pax_headers
    assert headers["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == capability
    assert not made.entries["d/plain"].pax_headers


def test_inline_and_downloaded_files(bench: Any) -> None:
    inline = InlineTree([("conf", b"a=1\n"), ("w[e]ird", b"x")], mtime=5)
    made = bench.copy("/conf", "/w[e]ird", "/etc/", tree=inline)
    assert made.files == {"etc/conf": b"a=1\n", "etc/w[e]ird": b"x"}
    assert (made.entries["etc/conf"].mode, made.entries["etc/conf"].mtime) == (0o644, 5)
    bench.files({"blob": "<p>"})
    download = FileTree("page.html", str(bench.context / "blob"), mtime=1_600_000_001)
    page = bench.copy("/page.html", "/", tree=download, is_add=True).entries["page.html"]
    assert (page.mode, page.mtime) == (0o600, 1_600_000_001)


def test_without_a_match_nothing_is_made(bench: Any) -> None:
    bench.files({"a.txt": "a"})
    assert bench.copy("*.none", "/dst/").order == []


def test_everything_onto_the_root(bench: Any) -> None:
    bench.files({"etc/x": "x", "top": "t"})
    bench.below(directory("etc", 0o711))
    assert bench.copy(".", "/").shape() == {"etc": "dir 755", "etc/x": "x", "top": "t"}


@pytest.mark.parametrize("size", [10, 1 << 19])
def test_a_file_that_changes_during_the_build_is_noticed(bench: Any, size: int) -> None:
    bench.files({"d/f": "x" * size})
    op = CopyOp(((1, "d"),), "/d")
    selection = select(op, [None, bench.tree()])
    (bench.context / "d/f").write_bytes(b"y" * size)
    with pytest.raises(SourceChanged, match="d/f"):
        run_copy(op, selection, bench.view, lambda data: None, str(bench.path))


def test_long_and_odd_names(bench: Any) -> None:
    odd = os.fsdecode(b"n\xffme")
    deep = "/".join(["x" * 90] * 12)
    bench.files({f"d/{odd}": "o", f"d/{deep}/end": "e", "d/new\nline": "n"})
    files = {os.fsencode(name): content for name, content in bench.copy("d", "/d").files.items()}
    assert files == {b"d/n\xffme": b"o", f"d/{deep}/end".encode(): b"e", b"d/new\nline": b"n"}


def test_missing_sources_are_named(bench: Any) -> None:
    bench.files({"here": "h"})
    with pytest.raises(MissingSource, match='"/no/where": not found'):
        bench.copy("here", "./no/../no/where", "/")

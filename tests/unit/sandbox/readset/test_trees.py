"""What a layer answers, as a directory and as a tar: both the same, for every kind of entry and of question."""

import io
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moldar.errors import CorruptData, HostTrouble
from moldar.image.layer_entry import LayerEntry, NeedsParents
from moldar.image.layer_write import LayerWriter
from moldar.image.unpack import unpack
from moldar.sandbox.readset.answers import ABSENT, MISSING, WHITEOUT
from moldar.sandbox.readset.observations import (
    ATTRIBUTE,
    ATTRIBUTES,
    CONTENT,
    ENTRY,
    NAMES,
    TARGET,
    Question,
    first_difference,
    observe,
)
from moldar.sandbox.readset.trees import DirectoryTree, RootAttributes, TarTree, directory_root
from moldar.sandbox.workdirs import copy_attributes

Member = tuple[LayerEntry, bytes]
OPAQUE = "trusted.overlay.opaque"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
ACL = bytes.fromhex("02000000 01000600ffffffff 0200040005000000 04000400ffffffff 10000400ffffffff 20000000ffffffff")
KINDS = (ENTRY, NAMES, CONTENT, TARGET, ATTRIBUTES, ATTRIBUTE + OPAQUE, ATTRIBUTE + "user.a", ATTRIBUTE + "nowhere")


def file(path: str, content: bytes = b"", **fields: int | tuple[tuple[str, bytes], ...]) -> Member:
    return LayerEntry(path, "file", size=len(content), **fields), content  # type: ignore[arg-type]


def directory(path: str, **fields: int | tuple[tuple[str, bytes], ...]) -> Member:
    return LayerEntry(path, "dir", **({"mode": 0o755} | fields)), b""  # type: ignore[arg-type]


def other(path: str, kind: str, **fields: int | str | tuple[tuple[str, bytes], ...]) -> Member:
    return LayerEntry(path, kind, **fields), b""  # type: ignore[arg-type]


class Both:
    """One layer in both forms."""

    def __init__(
        self, place: Path, members: Iterable[Member], root: RootAttributes | None = None, *, make: bool = False
    ) -> None:
        tar, snapshot = place / "layer.tar", place / "snapshot"
        with tar.open("wb") as out:
            writer = LayerWriter(out.write)
            for entry, content in members:
                writer.add(entry, content)
            writer.close()
        snapshot.mkdir(mode=0o755)
        if root is not None:
            below = place / "below"
            below.mkdir()
            os.chown(below, root.uid, root.gid)
            below.chmod(root.mode)
            for name, value in root.xattrs:
                os.setxattr(below, name, value)
            copy_attributes(str(below), str(snapshot))
        self.path = str(snapshot)
        self.tar = TarTree(str(tar), root, make_parents=make)
        self.directory = DirectoryTree(self.path)
        unpack(
            io.BytesIO(tar.read_bytes()), self.path, whiteouts="overlay", missing_parents="make" if make else "refuse"
        )

    def ask(self, kind: str, path: str) -> str:
        answer = self.directory.answer(Question(kind, path))
        assert self.tar.answer(Question(kind, path)) == answer, (kind, path)
        return answer


def every_name(root: str) -> list[str]:
    found = [""]
    for at, directories, files in os.walk(root):
        found += [os.path.relpath(os.path.join(at, name), root) for name in directories + files]
    return found


def test_every_kind_of_entry_answers(tmp_path: Path) -> None:
    both = Both(
        tmp_path,
        [
            directory("d", mode=0o2750, uid=5, gid=6, xattrs=(("user.a", b"1"),)),
            file("d/f", b"hello", mode=0o4711, uid=7, gid=8, mtime=5),
            file("d/cap", b"x", xattrs=(("security.capability", CAPABILITY), ("user.a", b"v"))),
            other("d/s", "symlink", mode=0o640, uid=3, target="hellö"),
            other("d/h", "link", target="d/f"),
            other("d/pipe", "fifo", mode=0o622),
            other("d/null", "char", mode=0o666, major=1, minor=3),
            other("d/blk", "block", mode=0o660, gid=6, major=7, minor=300),
            file("d/.wh.gone"),
            directory("o"),
            file("o/.wh..wh..opq"),
            file("o/by\udce9te", b"raw"),
        ],
    )
    assert both.ask(ENTRY, "d") == "dir 2750 5 6"
    assert both.ask(ENTRY, "d/f").startswith("file 4711 7 8 5 2 sha256:")
    assert both.ask(ENTRY, "d/h") == both.ask(ENTRY, "d/f")
    assert both.ask(ENTRY, "d/cap") == "file 644 0 0 1"
    assert both.ask(ENTRY, "d/s") == "symlink 3 0 6"
    assert both.ask(ENTRY, "d/pipe") == "fifo 622 0 0"
    assert both.ask(ENTRY, "d/null") == "char 666 0 0 1:3"
    assert both.ask(ENTRY, "d/blk") == "block 660 0 6 7:300"
    assert both.ask(ENTRY, "d/gone") == WHITEOUT
    assert both.ask(ATTRIBUTE + OPAQUE, "o") not in (MISSING, ABSENT)
    assert both.ask(ATTRIBUTE + OPAQUE, "d") == ABSENT
    assert both.ask(ATTRIBUTE + "security.capability", "d/cap") not in (MISSING, ABSENT)
    assert both.ask(CONTENT, "o/by\udce9te") not in (MISSING, ABSENT)
    for path in ("d/nope", "nope/x", "d/f/x", "d/s/x", "d/gone/x", "d/" + "n" * 300):
        assert {both.ask(kind, path) for kind in KINDS} == {MISSING}
    for path in every_name(both.path):
        for kind in KINDS:
            both.ask(kind, path)
    assert both.directory.files == both.tar.files == 8


def test_modification_times_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = Both(tmp_path / "a", [directory("d", mtime=1), file("d/f", b"x", mtime=1)])
    two = Both(tmp_path / "b", [directory("d", mtime=9), file("d/f", b"x", mtime=9)])
    seen = observe(one.directory, [Question(kind, path) for kind in KINDS for path in ("", "d", "d/f")])
    assert first_difference(two.tar, seen) is None


@pytest.mark.parametrize(
    ("kind", "path", "changed"),
    [
        (ENTRY, "d", directory("d", mode=0o700)),
        (ENTRY, "d", directory("d", uid=9)),
        (ENTRY, "d/f", file("d/f", b"1", mode=0o600)),
        (ENTRY, "d/f", file("d/f", b"22")),
        (ENTRY, "d/new", file("d/new")),
        (NAMES, "d", file("d/new")),
        (NAMES, "d", file("d/.wh.new")),
        (NAMES, "d", other("d/f", "symlink", target="x")),
        (CONTENT, "d/f", file("d/f", b"2")),
        (TARGET, "d/s", other("d/s", "symlink", target="y")),
        (ENTRY, "d/s", other("d/s", "symlink", target="longer")),
        (ENTRY, "d/g", file("d/g2", b"other")),
        (ATTRIBUTES, "d/f", file("d/f", b"1", xattrs=(("user.a", b""),))),
        (ATTRIBUTE + "user.a", "d/f", file("d/f", b"1", xattrs=(("user.a", b""),))),
        (ATTRIBUTE + OPAQUE, "d", file("d/.wh..wh..opq")),
    ],
)
def test_each_change_is_seen_by_whom_it_concerns(tmp_path: Path, kind: str, path: str, changed: Member) -> None:
    members = [
        directory("d"), file("d/f", b"1"), other("d/s", "symlink", target="x"),
        file("d/g", b"group"), other("d/g2", "link", target="d/g"),
    ]  # fmt: skip
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    before = Both(tmp_path / "a", members)
    after = Both(tmp_path / "b", [*members, changed])
    seen = observe(before.directory, [Question(kind, path)])
    assert first_difference(before.tar, seen) is None
    assert first_difference(after.tar, seen) == seen[0]
    assert first_difference(after.directory, seen) == seen[0]


def test_a_link_in_place_of_a_directory_is_not_followed(tmp_path: Path) -> None:
    both = Both(tmp_path, [other("d", "symlink", target="e"), directory("e"), file("e/f", b"x")])
    assert both.ask(ENTRY, "d/f") == MISSING
    assert both.ask(NAMES, "d") == MISSING


def test_the_root_has_what_the_layer_beneath_gave_it(tmp_path: Path) -> None:
    root = RootAttributes(0o2711, 3, 4, (("user.a", b"1"),))
    both = Both(tmp_path, [file("f", b"x"), file("p/q/r", b"")], root, make=True)
    for path in ("", "f", "p", "p/q", "p/q/r"):
        for kind in KINDS:
            both.ask(kind, path)
    assert both.ask(ENTRY, "") == "dir 2711 3 4"
    assert both.tar.root == both.directory.root == directory_root(both.path) == root


def test_a_layer_that_relies_on_those_beneath_is_not_guessed_at(tmp_path: Path) -> None:
    for number, member in enumerate((file("p/f", b"x"), other("h", "link", target="below"))):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(NeedsParents):
            Both(place, [member])
        with pytest.raises(NeedsParents):
            TarTree(str(place / "layer.tar")).answer(Question(ENTRY, ""))


def test_access_lists_equal_no_directory(tmp_path: Path) -> None:
    """They change the mode, and the file system shows them in its own way."""
    members = [file("f", b"x", xattrs=(("system.posix_acl_access", ACL),))]
    (tmp_path / "a").mkdir()
    both = Both(tmp_path / "a", members)
    for kind in (ENTRY, ATTRIBUTES, ATTRIBUTE + "system.posix_acl_access"):
        seen = observe(both.directory, [Question(kind, "f")])
        assert first_difference(both.tar, seen) == seen[0]
        assert first_difference(both.tar, observe(both.tar, [Question(kind, "f")])) is None
    with pytest.raises(CorruptData):
        TarTree(str(tmp_path / "a/layer.tar"), RootAttributes(xattrs=(("system.posix_acl_default", ACL),))).files  # noqa: B018


def test_a_missing_blob_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(HostTrouble, match="No such file"):
        TarTree(str(tmp_path / "none")).answer(Question(ENTRY, ""))


def test_contents_are_read_only_when_asked_for_and_once(tmp_path: Path) -> None:
    both = Both(tmp_path, [file(f"f{number}", b"x" * 1000) for number in range(100)])
    both.tar.answer(Question(ENTRY, "f1"))
    known = both.tar.answer(Question(CONTENT, "f1"))
    os.unlink(tmp_path / "layer.tar")
    assert both.tar.answer(Question(CONTENT, "f1")) == known
    assert both.tar.answer(Question(ENTRY, "f99")) == "file 644 0 0 1000"
    with pytest.raises(HostTrouble):
        both.tar.answer(Question(CONTENT, "f2"))


def test_twenty_thousand_files_are_indexed_at_once(tmp_path: Path) -> None:
    with (tmp_path / "tar").open("wb") as out:
        writer = LayerWriter(out.write)
        for number in range(200):
            writer.add(LayerEntry(f"d{number}", "dir", 0o755))
            for inner in range(100):
                writer.add(LayerEntry(f"d{number}/f{inner}", "file", size=1000), b"x" * 1000)
        writer.close()
    tree = TarTree(str(tmp_path / "tar"))
    begin = time.process_time()
    assert tree.files == 20_000
    assert time.process_time() - begin < 2  # about 0.5 s on a busy two-core machine


names = st.sampled_from(["a", "b", "c", "é", "by\udcfete", "x" * 120])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
xattrs = st.lists(
    st.tuples(
        st.sampled_from(["user.a", "user.b", "trusted.t", OPAQUE, "foreign.x", "security.capability"]),
        st.just(CAPABILITY),
    ),
    max_size=2,
    unique=True,
).map(lambda pairs: tuple(sorted(pairs)))
modes = st.sampled_from([0o644, 0o755, 0o4755, 0o000, 0o1777, 0o2775])
owners = st.sampled_from([0, 1000, 3_000_000])


@st.composite
def member(draw: st.DrawFn) -> Member:
    kind = draw(st.sampled_from(["file", "file", "dir", "dir", "symlink", "link", "fifo", "char", "white", "opaque"]))
    path = draw(st.one_of(paths, st.just(""))) if kind == "dir" else draw(paths)
    fields = {"mode": draw(modes), "uid": draw(owners), "gid": draw(owners), "xattrs": draw(xattrs)}
    if kind == "file":
        content = draw(st.binary(max_size=3))
        return LayerEntry(path, kind, size=len(content), **fields), content
    if kind in ("symlink", "link"):
        target = draw(st.one_of(paths, st.sampled_from(["../a", "/b", "."]))) if kind == "symlink" else draw(paths)
        return LayerEntry(path, kind, target=target, **fields), b""
    if kind in ("white", "opaque"):
        parent, slash, name = path.rpartition("/")
        return LayerEntry(parent + slash + (".wh." + name if kind == "white" else ".wh..wh..opq"), "file"), b""
    return LayerEntry(path, kind, minor=draw(st.integers(0, 1)) if kind == "char" else 0, **fields), b""


@settings(max_examples=int(os.environ.get("READSET_EXAMPLES", "300")), deadline=None)
@given(st.lists(member(), max_size=14), st.booleans(), st.lists(paths, max_size=5))
def test_both_forms_agree(members: list[Member], make: bool, more: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        try:
            both = Both(Path(place), members, make=make)
        except CorruptData:
            with pytest.raises(CorruptData):
                TarTree(f"{place}/layer.tar", make_parents=make).answer(Question(ENTRY, ""))
            return
        except HostTrouble:  # the file system refuses: there is no directory to agree with
            return
        for path in [*every_name(both.path), *more]:
            for kind in KINDS:
                both.ask(kind, path)
        assert both.directory.files == both.tar.files

"""What a copy selects, and that its digest changes exactly when something that matters does."""

import io
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moldar.builder.context import NoContext, find_ignore_file, open_context
from moldar.builder.copying import run_copy
from moldar.builder.graph import CopyOp
from moldar.builder.rootview import RootView
from moldar.builder.selection import MissingSource, expand, select, selection_digest
from moldar.builder.tree import LinkLoop, LocalTree
from moldar.image.unpack import unpack
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.stat_index import StatIndex

TREE = {
    "main.go": "0",
    "pkg/x_a.go": "1",
    "pkg/deep/er/x_b.go": "2",
    "pkg/deep/readme": "3",
    "log1.txt": "1",
    "loga.txt": "a",
    "arr[0].txt": "b",
    ".hidden.txt": "h",
}


def test_wildcards_name_paths_in_order(bench: Any) -> None:
    bench.files(TREE)
    tree = bench.tree()
    assert expand(tree, "*.txt") == [".hidden.txt", "arr[0].txt", "log1.txt", "loga.txt"]
    assert expand(tree, "log?.txt") == ["log1.txt", "loga.txt"]
    assert expand(tree, "/log[^1].txt") == ["loga.txt"]
    assert expand(tree, "arr[[]0].txt") == ["arr[0].txt"]
    assert expand(tree, "pkg/*/er") == ["pkg/deep/er"]
    assert expand(tree, "*/readme") == []
    assert expand(tree, "p*/d*/../readme") == []
    assert expand(tree, "../../pkg/./deep//readme") == ["pkg/deep/readme"]


def test_links_in_a_source_stay_within_the_tree(bench: Any) -> None:
    (bench.path / "secret").write_text("secret")
    bench.files(
        {
            "data/real": "real",
            "l": ("link", "data/real"),
            "dir": ("link", "/data"),
            "out": ("link", "../secret"),
            "abs": ("link", str(bench.path / "secret")),
            "loop": ("link", "loop"),
        }
    )
    assert bench.copy("l", "/").files == {"l": b"real"}
    assert bench.copy("dir/real", "/").files == {"real": b"real"}
    assert bench.copy("dir", "/d").files == {"d/real": b"real"}
    assert bench.copy("di*", "/d").files == {"d/real": b"real"}
    for name in ("out", "abs", "../secret", "data/../../secret"):
        with pytest.raises(MissingSource):
            bench.copy(name, "/")
    with pytest.raises(LinkLoop):
        bench.copy("loop", "/")


def test_parents_keeps_the_way(bench: Any) -> None:
    bench.files({**TREE, "priv@700": None, "priv/box@711": None, "priv/box/f": "f", "priv/other": "o"})
    assert bench.copy("**/*.go", "/go/", parents=True).shape() == {
        "go": "dir 755",
        "go/main.go": "0",
        "go/pkg": "dir 755",
        "go/pkg/deep": "dir 755",
        "go/pkg/deep/er": "dir 755",
        "go/pkg/deep/er/x_b.go": "2",
        "go/pkg/x_a.go": "1",
    }
    assert bench.copy("priv/box/f", "/dst", parents=True).shape() == {
        "dst": "dir 755",
        "dst/priv": "dir 700",
        "dst/priv/box": "dir 711",
        "dst/priv/box/f": "f",
    }
    assert bench.copy("./pkg/deep/./er/x_b.go", "/", parents=True).files == {"er/x_b.go": b"2"}
    assert bench.copy("pkg/./deep", "/", parents=True).files == {"deep/er/x_b.go": b"2", "deep/readme": b"3"}
    with pytest.raises(MissingSource, match="pkg/none"):
        bench.copy("pkg/none", "/", parents=True)


def test_exclude_is_relative_to_what_is_copied(bench: Any) -> None:
    bench.files({"t/a.txt": "a", "t/b.tmp": "b", "t/sub/c.tmp": "c", "t/cache/d": "d", "t/cache/keep": "k"})
    assert set(bench.copy("t", "/t", exclude=("*.tmp", "cache")).files) == {"t/a.txt", "t/sub/c.tmp"}
    assert set(bench.copy("t", "/t", exclude=("**/*.tmp",)).files) == {"t/a.txt", "t/cache/d", "t/cache/keep"}
    assert set(bench.copy("t", "/t", exclude=("cache", "!cache/keep")).files) == {
        "t/a.txt",
        "t/b.tmp",
        "t/cache/keep",
        "t/sub/c.tmp",
    }
    assert set(bench.copy("t/*.*", "/t/", exclude=("*.tmp",)).files) == {"t/a.txt"}
    assert bench.copy("t/*", "/t/", exclude=("*",)).shape() == {"t": "dir 755"}


def test_ignored_files_are_not_there(bench: Any) -> None:
    bench.files(
        {
            ".dockerignore": "# no\n *.md \n!README.md\nbuild\n!build/keep\nonly/*\n",
            "README.md": "r",
            "OTHER.md": "o",
            "build/keep": "k",
            "build/drop": "d",
            "build/deep/x": "x",
            "only/a": "a",
        }
    )
    assert set(bench.copy(".", "/").shape()) == {".dockerignore", "README.md", "build", "build/keep", "only"}
    assert expand(bench.tree(), "*.md") == ["README.md"]
    assert expand(bench.tree(), "build/*") == ["build/keep"]
    assert set(bench.copy("build", "/b").shape()) == {"b", "b/keep"}
    with pytest.raises(MissingSource, match=r"OTHER\.md") as caught:
        bench.copy("OTHER.md", "/")
    assert caught.value.ignored and "dockerignore" in caught.value.hint
    with pytest.raises(MissingSource, match="build/deep"):
        bench.copy("build/deep", "/")


def test_the_dockerfile_may_bring_its_own_ignore_file(bench: Any) -> None:
    bench.files({".dockerignore": "a", "sub/Own.dockerignore": "b", "a": "a", "b": "b"})
    root = str(bench.context)
    assert find_ignore_file(root, f"{root}/sub/Own") == f"{root}/sub/Own.dockerignore"
    assert find_ignore_file(root, f"{root}/sub/Other") == f"{root}/.dockerignore"
    assert open_context(root, dockerfile=f"{root}/sub/Own").lookup("b") is None
    assert open_context(root).lookup("a") is None
    with pytest.raises(NoContext, match="not found"):
        open_context(root + "/none")
    with pytest.raises(NoContext, match="not a directory"):
        open_context(root + "/a")


def test_unreadable_directories_are_reported(bench: Any) -> None:
    bench.files({"f": "f"})
    with pytest.raises(MissingSource):
        bench.copy("f/below", "/")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[StatIndex]:
    database = Database(Home.open(str(tmp_path / "home")))
    yield StatIndex(database)
    database.close()


def _age(root: Path) -> None:
    """Make files old enough for the stat index: ctime cannot be set, so what is told of it is waited for."""
    newest = max(os.lstat(path).st_ctime_ns for path in [root, *root.rglob("*")])
    while (time.time_ns() - newest) < 120_000_000:
        time.sleep(0.02)


def test_the_stat_index_spares_reading_and_sees_changes(bench: Any, index: StatIndex, monkeypatch: Any) -> None:
    bench.files({f"d/{number}": f"content {number}" for number in range(450)})
    _age(bench.context)
    plain = bench.digest("d")
    assert bench.digest("d", tree=bench.tree(index=index)) == plain
    opened: list[str] = []
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(path) or real_open(path, *rest, **more))
    assert bench.digest("d", tree=bench.tree(index=index)) == plain
    assert not opened
    (bench.context / "d/7").write_text("CONTENT 7")
    os.utime(bench.context / "d/7", (1_600_000_000, 1_600_000_000))
    changed = bench.digest("d", tree=bench.tree(index=index))
    assert changed != plain and opened == [str(bench.context / "d/7")]
    (bench.context / "d/7").write_text("content 7")
    assert bench.digest("d", tree=bench.tree(index=index)) == plain


def test_a_clone_has_the_same_digest(bench: Any) -> None:
    bench.files({**TREE, "l": ("link", "main.go"), "same": ("hard", "main.go")})
    before = bench.digest(".")
    clone = bench.path / "clone"
    shutil.copytree(bench.context, clone, symlinks=True)
    os.unlink(clone / "same")
    os.link(clone / "main.go", clone / "same")
    for path in clone.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
        os.chown(path, 77, 77, follow_symlinks=False)
    assert bench.digest(".", tree=LocalTree(str(clone))) == before


def test_hard_links_count_only_among_what_is_copied(bench: Any) -> None:
    bench.files({"d/a": "same", "d/b": "same"})
    apart = bench.digest("d")
    bench.files({"outside": ("hard", "d/a")})
    assert bench.digest("d") == apart
    os.unlink(bench.context / "d/b")
    bench.files({"d/b": ("hard", "d/a")})
    assert bench.digest("d") != apart


def test_owners_count_only_when_they_arrive(bench: Any) -> None:
    bench.files({"d/f": "f"})
    stage = LocalTree(str(bench.context), keeps_owners=True)
    context, kept, chowned = (
        bench.digest("d"),
        bench.digest("d", tree=stage),
        bench.digest("d", chown="5", tree=stage),
    )
    os.chown(bench.context / "d/f", 5, 5)
    assert bench.digest("d") == context
    assert bench.digest("d", tree=stage) != kept
    assert bench.digest("d", chown="5", tree=stage) == chowned


def test_sockets_do_not_count(bench: Any) -> None:
    bench.files({"d/f": "f"})
    without = bench.digest("d")
    os.mknod(bench.context / "d/socket", 0o600 | stat.S_IFSOCK)
    assert bench.digest("d") == without


def test_modes_count_as_they_arrive(bench: Any) -> None:
    bench.files({"d/f@600": "f"})
    plain, octal = bench.digest("d"), bench.digest("d", chmod="644")
    (bench.context / "d/f").chmod(0o640)
    assert bench.digest("d") != plain
    assert bench.digest("d", chmod="644") == octal


def test_missing_sources_come_with_help(bench: Any) -> None:
    bench.files({"app/requirements.txt": "r"})
    for source, hint in (
        ("app/requirement.txt", "did you mean requirements.txt?"),
        ("../app/other", "outside of the build context"),
        ("nothing/like/it", ""),
    ):
        with pytest.raises(MissingSource) as caught:
            bench.copy(source, "/")
        assert hint in caught.value.hint and bool(hint) == bool(caught.value.hint)


NAMES = st.sampled_from(["a", "b", "a.b", "ä", "A", "d", "d-"])
LEAF = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=4), st.sampled_from([0o644, 0o755, 0o600])),
    st.tuples(st.just("link"), st.sampled_from(["a", "../a", "/x"])),
)
TREES = st.recursive(
    LEAF, lambda below: st.tuples(st.just("dir"), st.dictionaries(NAMES, below, max_size=4)), max_leaves=8
).filter(lambda tree: tree[0] == "dir")


def _build(path: str, tree: Any) -> None:
    if tree[0] == "dir":
        os.mkdir(path)
        for name, below in tree[1].items():
            _build(f"{path}/{name}", below)
    elif tree[0] == "file":
        with open(path, "wb") as file:
            file.write(tree[1])
        os.chmod(path, tree[2])
    else:
        os.symlink(tree[1], path)


def _digest(tree: Any, mtime: int) -> str:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        root = f"{place}/root"
        _build(root, tree)
        for path in Path(place).rglob("*"):
            os.utime(path, (mtime, mtime), follow_symlinks=False)
        op = CopyOp(((1, "."),), "/")
        return selection_digest(op, select(op, [None, LocalTree(root)]))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, TREES)
def test_digests_are_equal_exactly_for_equal_trees(one: Any, other: Any) -> None:
    assert (_digest(one, 1) == _digest(other, 2)) == (one == other)
    assert _digest(one, 3) == _digest(one, 4)


def _picture(root: str) -> dict[str, Any]:
    """What a tree is, hard links included."""
    firsts: dict[int, str] = {}
    found: dict[str, Any] = {}
    for path in sorted(Path(root).rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        first = name if path.is_dir() else firsts.setdefault(status.st_ino, name)
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[name] = (status.st_mode, int(status.st_mtime), content, first)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.randoms(use_true_random=False))
def test_an_unpacked_copy_is_the_tree_that_was_copied(tree: Any, choose: Any) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        root = f"{place}/root"
        _build(root, tree)
        files = [path for path in Path(root).rglob("*") if path.is_file() and not path.is_symlink()]
        for path in choose.sample(files, min(2, len(files))):
            os.link(path, path.with_name("hard" + path.name))
        for path in Path(root).rglob("*"):
            os.utime(path, (5, choose.randrange(1 << 30)), follow_symlinks=False)
        op = CopyOp(((1, "."),), "/")
        out = io.BytesIO()
        run_copy(op, select(op, [None, LocalTree(root)]), RootView(), out.write, place)
        os.mkdir(f"{place}/copy")
        unpack(io.BytesIO(out.getvalue()), f"{place}/copy", whiteouts="apply")
        assert _picture(f"{place}/copy") == _picture(root)

"""Fingerprints are the same however the work is split, and the split work reports the same troubles."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moldar.builder.entry import Entry
from moldar.builder.hashing import SourceChanged, UnreadableSource, fingerprint_files
from moldar.builder.tree import LocalTree

ALONE = """
import os, sys
from moldar.builder.hashing import SourceChanged, fingerprint_files
from moldar.builder.tree import LocalTree
tree = LocalTree(sys.argv[1])
files = [entry for entry in tree.walk("") if entry.kind == "file"]
if sys.argv[2]:
    with open(f"{tree.root}/{sys.argv[2]}", "w") as file:
        file.write("something else")
forks = []
fork = os.fork
os.fork = lambda: forks.append(fork()) or forks[-1]
try:
    found = [digest.hex() for digest in fingerprint_files(tree.root, files, None)]
except SourceChanged as error:
    found = ["SourceChanged", error.path]
print(len(forks), *found)
"""


@pytest.fixture
def many(make: Any) -> LocalTree:
    """Enough to be split: 4,000 small files and three large ones."""
    root: Path = make("many", {f"d{number % 7}/{number}": f"small {number}" for number in range(4000)})
    for number in range(3):
        (root / f"large{number}").write_bytes(bytes([number]) * (3 << 20))
    return LocalTree(str(root))


@pytest.fixture
def large(make: Any) -> LocalTree:
    """Enough to be split, in few files."""
    root: Path = make("large", {})
    for number in range(20):
        (root / f"{number:02}").write_bytes(bytes([number]) * (2 << 20))
    return LocalTree(str(root))


def files_of(tree: LocalTree) -> list[Entry]:
    return [entry for entry in tree.walk("") if entry.kind == "file"]


def expected(tree: LocalTree) -> list[bytes]:
    return [hashlib.sha256(Path(tree.root, entry.path).read_bytes()).digest() for entry in files_of(tree)]


def alone(tree: LocalTree, changed: str = "") -> list[str]:
    """What a process without other threads finds: how often it forked, then the fingerprints or the trouble.

    `changed` is a path that gets another content between listing and reading.
    """
    words = [sys.executable, "-c", ALONE, tree.root, changed]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_split_over_two_processes(many: LocalTree) -> None:
    assert alone(many) == ["1", *(digest.hex() for digest in expected(many))]


@pytest.fixture
def another_thread() -> Iterator[None]:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    yield
    stop.set()
    other.join()


@pytest.mark.usefixtures("another_thread")
def test_no_fork_beside_other_threads(many: LocalTree, large: LocalTree, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked while another thread was running"))
    for tree in (many, large):
        assert fingerprint_files(tree.root, files_of(tree), None) == expected(tree)


@pytest.mark.parametrize("which", [0, -1])
def test_a_change_is_noticed_by_either_process(large: LocalTree, which: int) -> None:
    changed = files_of(large)[which].path
    assert alone(large, changed) == ["1", "SourceChanged", f"{large.root}/{changed}"]


@pytest.mark.usefixtures("another_thread")
@pytest.mark.parametrize("which", [0, -1])
def test_a_change_is_noticed_by_either_thread(large: LocalTree, which: int) -> None:
    _change_and_expect_it_noticed(large, which)


def _change_and_expect_it_noticed(tree: LocalTree, which: int) -> None:
    entries = files_of(tree)
    Path(tree.root, entries[which].path).write_text("something else")
    with pytest.raises(SourceChanged) as caught:
        fingerprint_files(tree.root, entries, None)
    assert caught.value.path == f"{tree.root}/{entries[which].path}"


def test_a_vanished_file_is_named(many: LocalTree) -> None:
    entries = files_of(many)[:3]
    os.unlink(f"{many.root}/{entries[1].path}")
    with pytest.raises(UnreadableSource, match=entries[1].path):
        fingerprint_files(many.root, entries, None)


def test_capabilities_are_part_of_it(make: Any) -> None:
    root = make("caps", {"tool@755": "tool"})
    tree = LocalTree(str(root))
    plain = fingerprint_files(tree.root, files_of(tree), None)
    os.setxattr(root / "tool", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    assert fingerprint_files(tree.root, files_of(tree), None) != plain


def test_a_pipe_in_the_place_of_a_file_is_no_trap(make: Any) -> None:
    root = make("trap", {"f": "f"})
    tree = LocalTree(str(root))
    entries = files_of(tree)
    (root / "f").unlink()
    os.mkfifo(root / "f")
    with pytest.raises(SourceChanged):
        fingerprint_files(tree.root, entries, None)

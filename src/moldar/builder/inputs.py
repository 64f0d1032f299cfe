"""What the digests in cache keys stand for, described while a step runs, so that a later miss can be explained.

File contents are never kept: a file is its fingerprint, and the lines of small text files are short hashes.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any

from moldar.builder.chmod import parse_mode
from moldar.builder.entry import Entry, Place
from moldar.builder.file_reasons import HASH_SIZE, File
from moldar.builder.graph import CopyOp
from moldar.builder.selection import Pick, Selection
from moldar.builder.tree import Tree

LONGEST_TEXT = 64 << 10
MOST_FILES = 50_000
"""Of larger selections nothing is kept: describing them would take longer than it is worth."""
MOST_TEXTS = 2_000
"""How many files of a selection have their lines hashed."""


Listed = tuple[File, Tree, Entry]
"""A file of a selection, and where it is."""


def files_of(op: CopyOp, selection: Selection) -> list[Listed]:
    """Everything that `op` copies, as it arrives, each with where it is."""
    change = parse_mode(op.chmod)
    found: list[Listed] = []
    for pick in selection:
        tree = pick.tree
        entries = [entry for entry in _entries(pick) if entry.kind != "socket"]
        prints = iter(tree.fingerprints([entry for entry in entries if entry.kind == "file"]))
        firsts: dict[tuple[int, int], str] = {}
        for entry in entries:
            content = same_as = ""
            if entry.kind == "file":
                content = next(prints).hex()
                if entry.links > 1 and (first := firsts.setdefault((entry.device, entry.inode), entry.path)):
                    same_as = "" if first == entry.path else first
            elif entry.kind == "symlink":
                content = tree.read_link(entry)
            mode = 0o777 if entry.kind == "symlink" else change.apply(entry.mode, entry.kind == "dir")
            owner = f"{entry.uid}:{entry.gid}" if tree.keeps_owners and not op.chown else ""
            found.append((File(entry.path, entry.kind, mode, owner, content, same_as), tree, entry))
    return found


def pack(files: list[File]) -> bytes:
    """A list of files as bytes for the store."""
    text = json.dumps([list(file) for file in files], separators=(",", ":"))  # names that are no text are escaped
    return zlib.compress(text.encode(), 1)


def unpack(data: bytes) -> list[File] | None:
    """What `pack` made; None for what another version wrote."""
    try:
        rows: Any = json.loads(zlib.decompress(data))
        return [File(*row) for row in rows]
    except (ValueError, TypeError, zlib.error):
        return None


def texts(found: list[Listed], known: set[str]) -> Iterator[tuple[str, bytes]]:
    """Fingerprint and hashes of lines of the small text files that are not `known`."""
    small = [item for item in found if item[0].kind == "file" and 0 < item[2].size <= LONGEST_TEXT]
    for file, tree, entry in small[:MOST_TEXTS]:
        if file.content not in known and (hashes := lines_of(tree, entry)):
            yield file.content, hashes


def lines_of(tree: Tree, entry: Entry) -> bytes:
    """The hashes of the lines of a file; nothing for what is no small text."""
    return _hash_lines(tree.locate(entry)) if entry.size <= LONGEST_TEXT else b""


def hash_lines(data: bytes) -> bytes:
    """A short hash of each line; nothing for what is no text."""
    if b"\0" in data:
        return b""
    lines = data.split(b"\n")
    return b"".join(hashlib.sha256(line).digest()[:HASH_SIZE] for line in lines)


def _entries(pick: Pick) -> list[Entry]:
    return pick.entries if pick.top.kind == "dir" else [pick.top]


def _hash_lines(place: Place | bytes) -> bytes:
    if isinstance(place, bytes):
        return hash_lines(place)
    try:
        descriptor = os.open(place.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return hash_lines(os.read(descriptor, LONGEST_TEXT + 1))
        finally:
            os.close(descriptor)
    except OSError:
        return b""  # it only explains; the copy itself says what is wrong

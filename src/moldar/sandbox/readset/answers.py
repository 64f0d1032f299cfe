"""How answers are worded: the same facts give the same text, whether they come from a directory or from a tar.

Contents, targets and listings are digests, so that an answer is short however large the thing is.
"""

import hashlib
import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from moldar.image.layer_entry import OVERLAY_XATTRS

MISSING = "missing"
"""Of a name that is not there, and of what cannot be asked of the name that is there."""
ABSENT = "absent"
"""Of an extended attribute that is not there, of a name that is."""
WHITEOUT = "whiteout"
OPAQUE_VALUE = b"y"
WITH_DEVICE = ("char", "block")


class Facts(NamedTuple):
    """What an entry is. `size` is of a file's content or a link's target; `numbers` are a device's."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int = 0
    numbers: tuple[int, int] = (0, 0)

    @property
    def is_whiteout(self) -> bool:
        """Whether overlayfs takes it for the mark of a deleted name."""
        return self.kind == "char" and self.numbers == (0, 0)


def entry_answer(facts: Facts) -> str:
    """Of a name, apart from its other names."""
    kind, mode, uid, gid, size, numbers = facts
    if facts.is_whiteout:
        return WHITEOUT
    if kind == "symlink":  # its mode means nothing
        return f"symlink {uid} {gid} {size}"
    rest = f" {size}" if kind == "file" else f" {numbers[0]}:{numbers[1]}" if kind in WITH_DEVICE else ""
    return f"{kind} {mode:o} {uid} {gid}{rest}"


def linked_answer(answer: str, names: Collection[str]) -> str:
    """Of a name that has other names too: a view shows how many, and by the inode number which of them is the first.

    Nothing of the content: in a view each name is a file of its own, so that reading one is no reading of another.
    """
    return f"{answer} {len(names)} {listing_digest([min(names, key=os.fsencode)])}"


def names_answer(kinds: Iterable[tuple[str, str]]) -> str:
    """Of a directory with these names and kinds, in any order."""
    return listing_digest(f"{kind} {name}" for name, kind in sorted(kinds))


def attributes_answer(names: Iterable[str]) -> str:
    """Of these names of extended attributes; overlayfs shows nobody its own."""
    return listing_digest(sorted(name for name in names if not name.startswith(OVERLAY_XATTRS)))


def listing_digest(lines: Iterable[str]) -> str:
    """Of texts without NUL bytes."""
    return bytes_digest(b"".join(os.fsencode(line) + b"\0" for line in lines))


def bytes_digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def content_digest(descriptor: int, offset: int, size: int) -> str:
    """Of `size` bytes of a file, or of fewer when it ends."""
    known = hashlib.sha256()
    while size and (data := os.pread(descriptor, min(size, 1 << 20), offset)):
        known.update(data)
        offset += len(data)
        size -= len(data)
    return "sha256:" + known.hexdigest()

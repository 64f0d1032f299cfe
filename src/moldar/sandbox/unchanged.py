"""Leaving out of a layer the directories that overlayfs copied up although nothing in them changed.

That happens to the parents of mount targets that a step's sandbox made and removed again.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from moldar.image.layer_entry import OPAQUE_MARKS, OVERLAY_XATTRS
from moldar.sandbox.snapshots import Change


def without_unchanged(
    changes: Iterable[Change], upper: str, lowers: Sequence[str], dropped: list[str] | None = None
) -> Iterator[Change]:
    """`changes` without directories that are as in `lowers` (lowest first) and have no changed member.

    The paths of these are added to `dropped`, members before their parents.
    """
    dropped = [] if dropped is None else dropped
    held: list[Change] = []  # unchanged directories, each the parent of the next
    for change in changes:
        path, kind = change[0].path, change[0].kind
        while held and not path.startswith(held[-1][0].path + "/"):
            dropped.append(held.pop()[0].path)
        if kind == "dir" and _as_before(path, upper, lowers):
            held.append(change)
            continue
        yield from held
        held.clear()
        yield change
    dropped += (change[0].path for change in reversed(held))


def _as_before(path: str, upper: str, lowers: Sequence[str]) -> bool:
    now = os.lstat(f"{upper}/{path}")
    if not set(OPAQUE_MARKS.values()).isdisjoint(os.listxattr(f"{upper}/{path}", follow_symlinks=False)):
        return False
    for lower in reversed(lowers):
        before = _lstat(f"{lower}/{path}")
        if before is None:
            continue
        if not stat.S_ISDIR(before.st_mode):
            return False
        return _attributes(now) == _attributes(before) and _xattrs(f"{upper}/{path}") == _xattrs(f"{lower}/{path}")
    return False


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _attributes(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns


def _xattrs(path: str) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith(OVERLAY_XATTRS)
    }

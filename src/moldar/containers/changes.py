"""What a container changed in its root file system: the lines of `diff`, and the layer that a commit makes."""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from moldar.image.layer_entry import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, LayerEntry
from moldar.sandbox.snapshots import Change

_MADE = frozenset({"dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sbin/docker-init", "sys"})
_MADE_IN = frozenset({"etc", "sbin"})


class FileChange(NamedTuple):
    """A line of `diff`. `kind`: A added, C changed, D deleted; `path` as the container sees it."""

    kind: str
    path: str


def list_changes(changes: Iterable[Change], lower: str) -> list[FileChange]:
    """The changes by path; `lower` is the image's root. A directory that was replaced counts as changed."""
    found: list[FileChange] = []
    seen: set[str] = set()
    opaque: list[str] = []
    fresh: list[str] = []  # directories that the image does not have
    for (path, kind, *_), _ in changes:
        folder, _, name = path.rpartition("/")
        if name == OPAQUE_WHITEOUT:
            opaque.append(folder)
        elif name.startswith(WHITEOUT_PREFIX):
            gone = f"{folder}/{name[len(WHITEOUT_PREFIX) :]}" if folder else name[len(WHITEOUT_PREFIX) :]
            found.append(FileChange("D", f"/{gone}"))
        elif path:
            seen.add(path)
            before = None if any(path.startswith(above) for above in fresh) else _status(lower, path)
            if kind == "dir" and (before is None or not stat.S_ISDIR(before.st_mode)):
                fresh = [above for above in fresh if path.startswith(above)] + [f"{path}/"]
            found.append(FileChange("A" if before is None else "C", f"/{path}"))
    for folder in opaque:
        for name in _names(f"{lower}/{folder}"):
            if f"{folder}/{name}" not in seen:
                found.append(FileChange("D", f"/{folder}/{name}"))
    return sorted(found, key=lambda change: os.fsencode(change.path))


def without_mount_points(changes: Iterable[Change], lower: str) -> Iterator[Change]:
    """The changes without what is there only because the runtime needed something to mount on.

    These are the empty files and directories below the mounts of every container; volumes' own stay, as with Docker.
    """
    held: list[Change] = []  # directories that count only if something in them does
    for change in changes:
        entry = change[0]
        while held and not entry.path.startswith(held[-1][0].path + "/"):
            held.pop()
        if entry.kind == "dir" and _is_by_the_way(entry, lower):
            held.append(change)
        elif not (entry.path in _MADE and entry.kind == "file" and not entry.size and not _status(lower, entry.path)):
            yield from held
            held.clear()
            yield change


def _is_by_the_way(entry: LayerEntry, lower: str) -> bool:
    """Whether a directory may have been made, or have got its time, for a mount point."""
    if entry.path not in _MADE | _MADE_IN:
        return False
    before = _status(lower, entry.path)
    if before is None:
        return True
    now = (stat.S_IFDIR | entry.mode, entry.uid, entry.gid)
    return entry.path in _MADE_IN and now == (before.st_mode, before.st_uid, before.st_gid)


def _status(root: str, path: str) -> os.stat_result | None:
    try:
        return os.lstat(f"{root}/{path}")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []

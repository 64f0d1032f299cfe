"""COPY and ADD: what is selected, put onto a root file system as BuildKit puts it, and written as one layer."""

import os
from collections.abc import Callable
from typing import NamedTuple

from moldar.builder.accounts import Owner, find_owner
from moldar.builder.canvas import Addition, Canvas, IsADirectory, NotADirectory
from moldar.builder.chmod import ModeChange, parse_mode
from moldar.builder.collector import CollectorPaused
from moldar.builder.entry import Entry
from moldar.builder.graph import CopyOp
from moldar.builder.rootview import RootView
from moldar.builder.selection import Pick, Selection, clean
from moldar.builder.unpacking import is_archive, unpack_archive
from moldar.image.layer_entry import LayerEntry

_SECOND = 1_000_000_000
_NEW_DIRECTORY = 0o755


class CopyOutcome(NamedTuple):
    """What there is to say about a copy that was done."""

    warnings: tuple[str, ...] = ()


def run_copy(
    op: CopyOp, selection: Selection, view: RootView, write: Callable[[bytes | memoryview], object], scratch: str
) -> CopyOutcome:
    """Copy `selection` onto `view` and hand the new layer's tar to `write`.

    `scratch` is a directory for the contents of compressed archives. The same input gives the same bytes. Raises
    MissingSource, NotADirectory, IsADirectory, InvalidMode, NoAccounts, SourceChanged, UnreadableSource, CorruptData.
    """
    change = parse_mode(op.chmod)
    if op.link and not op.chmod:
        view = RootView()
    owner = find_owner(op.chown, view) if op.chown else None
    with CollectorPaused(), Canvas(view) as canvas:
        copier = _Copier(op, canvas, owner, change, scratch)
        for pick in selection:
            copier.copy(pick)
        canvas.write(write, newest=op.created_epoch if op.reproducible else None)
    unknown = owner.unknown if owner else ()
    return CopyOutcome(
        tuple(f"--chown: the image knows no {name!r}, root or the user's group is used" for name in unknown)
    )


class _Copier:
    """Puts picks onto a canvas, one after the other."""

    def __init__(self, op: CopyOp, canvas: Canvas, owner: Owner | None, change: ModeChange, scratch: str) -> None:
        self._op = op
        self._canvas = canvas
        self._owner = owner
        self._change = change
        self._scratch = scratch
        self._modes: dict[tuple[str, int], int] = {}

    def copy(self, pick: Pick) -> None:
        """Copy one pick to the destination."""
        canvas = self._canvas
        new_directory = self._new_directory(pick)
        destination = clean(self._op.destination)
        if self._unpacks(pick) and is_archive(pick.tree.locate(pick.top)):
            target = canvas.resolve(destination)
            canvas.make_directories(target, new_directory)
            unpack_archive(canvas, pick.tree.locate(pick.top), target, self._owner, self._scratch)
            return
        is_directory = self._op.destination.endswith(("/", "/.")) or not destination
        above = destination if is_directory else destination.rpartition("/")[0]
        canvas.make_directories(canvas.resolve(above), new_directory)
        target = canvas.resolve(destination)
        existing = canvas.lookup(target)
        if pick.top.kind == "dir":
            self._copy_directory(pick, target, existing, new_directory)
            return
        if existing is not None and existing.kind == "dir":
            target = f"{target}/{pick.name}" if target else pick.name
            existing = canvas.lookup(target)
        canvas.make_directories(target.rpartition("/")[0], new_directory)
        self._put(pick, pick.top, target, existing)

    def _unpacks(self, pick: Pick) -> bool:
        wanted = self._op.is_add and not pick.tree.literal if self._op.unpack is None else self._op.unpack
        return wanted and pick.top.kind == "file"

    def _new_directory(self, pick: Pick) -> LayerEntry:
        """What directories look like that the copy makes on the way to its destination."""
        uid, gid = self._owner[:2] if self._owner else (0, 0)
        epoch = self._op.created_epoch
        mtime = pick.top.mtime // _SECOND if epoch is None else epoch
        return LayerEntry("", "dir", self._change.apply(_NEW_DIRECTORY, True), uid, gid, mtime)

    def _copy_directory(
        self, pick: Pick, target: str, existing: LayerEntry | None, new_directory: LayerEntry
    ) -> None:
        """The contents of a directory. The top one, when it is there already, keeps its mode and owner."""
        canvas = self._canvas
        if existing is None:
            canvas.make_directories(target, new_directory)
        elif existing.kind != "dir":
            raise NotADirectory(target)
        elif target and self._op.created_epoch is None:
            canvas.add(Addition(existing._replace(path=target, mtime=pick.top.mtime // _SECOND)))
        prefix = target + "/" if target else ""
        start = len(pick.top.path) + 1 if pick.top.path else 0
        for entry in pick.entries:
            where = prefix + entry.path[start:]
            fresh = canvas.is_fresh(where.rpartition("/")[0]) and canvas.addition(where) is None
            self._put(pick, entry, where, None if fresh else canvas.lookup(where), fresh)

    def _put(self, pick: Pick, entry: Entry, where: str, existing: LayerEntry | None, fresh: bool = False) -> None:
        """One entry at its final path, where `existing` is now."""
        kind = entry.kind
        if kind == "socket":
            return  # no layer can carry one
        if existing is not None:
            if kind == "dir" and existing.kind != "dir":
                raise NotADirectory(where)
            if kind == "dir" and entry.path in pick.implied:
                self._canvas.add(Addition(existing._replace(path=where, mode=entry.mode)))
                return
            if kind != "dir" and existing.kind == "dir":
                raise IsADirectory(where)
        addition = self._addition(pick, entry, where)
        if fresh:
            self._canvas.add_fresh(addition)
        else:
            self._canvas.add(addition)

    def _addition(self, pick: Pick, entry: Entry, where: str) -> Addition:
        _, kind, mode, uid, gid, size, mtime, _, device, inode, links, special = entry
        if self._owner:
            uid, gid, _ = self._owner
        elif not pick.tree.keeps_owners:
            uid = gid = 0
        mtime //= _SECOND
        if self._op.reproducible and self._op.created_epoch is not None and not pick.tree.keeps_owners:
            mtime = self._op.created_epoch  # when this machine got its copy says nothing
        if kind == "file":
            group = (id(pick), device, inode) if links > 1 else None
            made = LayerEntry(where, kind, self._mode(kind, mode), uid, gid, mtime, size)
            return Addition(made, pick.tree.locate(entry), group)
        if kind == "symlink":
            target = pick.tree.read_link(entry)
            return Addition(LayerEntry(where, kind, 0o777, uid, gid, mtime, 0, target))
        made = LayerEntry(where, kind, self._mode(kind, mode), uid, gid, mtime)
        if kind in {"char", "block"}:
            made = made._replace(major=os.major(special), minor=os.minor(special))
        return Addition(made)

    def _mode(self, kind: str, mode: int) -> int:
        known = self._modes.get((kind, mode))
        if known is None:
            known = self._modes[kind, mode] = self._change.apply(mode, kind == "dir")
        return known

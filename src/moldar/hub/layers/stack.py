"""What layers do to each other: which files each one adds, changes and deletes, and which bytes nobody can see.

Plain values in, plain values out. Every step is O(n log n) in the number of members, whatever their names and
whiteouts: paths below a directory are one range of the sorted paths (`/` is followed by `0` in ASCII).
"""

import posixpath
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from moldar.hub.layers.listing import Item, Listing
from moldar.image.layer_entry import OPAQUE_WHITEOUT, WHITEOUT_PREFIX

ADDED, CHANGED, DELETED, SAME = "added", "changed", "deleted", ""
_SHOWN_WASTE = 20


class File(NamedTuple):
    """A member of a layer, or what a layer deletes. `layer` counts from 0."""

    item: Item
    layer: int
    change: str


class LayerFiles(NamedTuple):
    """One layer's files. `hidden`: bytes of lower layers that it replaces or deletes."""

    files: tuple[File, ...]
    added: int
    changed: int
    deleted: int
    size: int
    hidden: int
    cut: str


class Waste(NamedTuple):
    """A path whose bytes are stored but cannot be seen."""

    path: str
    copies: int
    size: int


class Stack(NamedTuple):
    """An image's layers, and what is seen of them all together in `merged`."""

    layers: tuple[LayerFiles, ...]
    merged: tuple[File, ...]
    size: int
    wasted: int
    waste: tuple[Waste, ...]
    packages: tuple[tuple[str, str], ...] | None

    @property
    def efficiency(self) -> int:
        """Percent of the unpacked bytes that can be seen."""
        return 100 if not self.size else round(100 * (self.size - self.wasted) / self.size)


class Row(NamedTuple):
    """A line of a directory's listing. `below`: files below a directory; `item` is None for a directory that only
    the names of others tell of."""

    name: str
    path: str
    is_directory: bool
    size: int
    below: int
    change: str
    item: Item | None


def stack_layers(listings: Sequence[Listing], out_of_time: Callable[[], bool] = lambda: False) -> Stack:
    """The layers over each other, the lowest first; those that there is no time for count as empty."""
    merged: dict[str, File] = {}
    waste: dict[str, Waste] = {}
    layers = []
    packages = None
    for number, listing in enumerate(listings):
        if out_of_time():
            listing = Listing((), "time")
        layers.append(_apply(merged, waste, number, listing))
        packages = listing.packages if listing.packages is not None else packages
    worst = sorted(waste.values(), key=lambda entry: (-entry.size, entry.path))
    return Stack(
        tuple(layers),
        tuple(merged.values()),
        sum(layer.size for layer in layers),
        sum(entry.size for entry in worst),
        tuple(worst[:_SHOWN_WASTE]),
        packages,
    )


def _apply(merged: dict[str, File], waste: dict[str, Waste], number: int, listing: Listing) -> LayerFiles:
    present, gone = _split(listing.items)
    ranges = [*gone, *_covered(merged, present)]
    taken: dict[str, File] = {}
    hidden = 0
    deleted = 0
    files: list[File] = []
    kept = {item.path for item in present} if ranges else set()
    for path in _below(sorted(merged), ranges) if ranges else ():
        file = taken[path] = merged.pop(path)
        hidden += _note(waste, file)
        if path not in kept:
            deleted += 1
            files.append(File(file.item, number, DELETED))
    added = changed = 0
    for item in present:
        under = merged.get(item.path)
        known = under or taken.get(item.path)
        change = ADDED if known is None else _difference(known.item, item)
        added += change == ADDED
        changed += change == CHANGED
        if under is not None and (item.kind, under.item.kind) != ("dir", "dir"):
            hidden += _note(waste, under)
        file = File(item, number, change)
        merged[item.path] = file
        files.append(file)
    size = sum(item.size for item in present)
    return LayerFiles(tuple(files), added, changed, deleted, size, hidden, listing.cut)


def _split(items: Iterable[Item]) -> tuple[list[Item], list[tuple[str, str]]]:
    """The members that are files, and the ranges of paths that whiteouts take away."""
    present: list[Item] = []
    gone: list[tuple[str, str]] = []
    for item in items:
        parent, name = posixpath.split(item.path)
        if name == OPAQUE_WHITEOUT:
            gone.append((parent + "/", parent + "0") if parent else ("", "\U0010ffff"))
        elif name.startswith(WHITEOUT_PREFIX):
            path = posixpath.join(parent, name[len(WHITEOUT_PREFIX) :])
            gone += [(path, path + "\0"), (path + "/", path + "0")]
        else:
            present.append(item)
    return present, gone


def _covered(merged: dict[str, File], present: Iterable[Item]) -> list[tuple[str, str]]:
    """The ranges below what may be directories, of which layers need not tell, that become something else."""
    return [
        (item.path + "/", item.path + "0")
        for item in present
        if item.kind != "dir" and (item.path not in merged or merged[item.path].item.kind == "dir")
    ]


def _below(paths: Sequence[str], ranges: Iterable[tuple[str, str]]) -> list[str]:
    """The paths in any of the ranges, each once."""
    found: list[str] = []
    end = 0
    for low, high in sorted(ranges):
        start = max(bisect_left(paths, low), end)
        end = max(bisect_left(paths, high), end)
        found += paths[start:end]
    return found


def _difference(old: Item, new: Item) -> str:
    if old.kind == new.kind == "dir":
        return CHANGED if old.mode != new.mode else SAME
    return CHANGED


def _note(waste: dict[str, Waste], file: File) -> int:
    size = file.item.size
    if size:
        path = file.item.path
        known = waste.get(path, Waste(path, 0, 0))
        waste[path] = Waste(path, known.copies + 1, known.size + size)
    return size


def directory(files: Iterable[File], path: str) -> list[Row] | None:
    """What lies in the directory `path` ("" is the root), directories first; None when nothing does."""
    prefix = path + "/" if path else ""
    rows: dict[str, Row] = {}
    found = not path
    for file in files:
        item = file.item
        if not item.path.startswith(prefix):
            found = found or (item.path == path and item.kind == "dir")
            continue
        name, slash, _ = item.path[len(prefix) :].partition("/")
        known = rows.get(name) or Row(name, prefix + name, False, 0, 0, SAME, None)
        size = 0 if file.change == DELETED else item.size
        if slash:
            rows[name] = known._replace(is_directory=True, size=known.size + size, below=known.below + 1)
        else:
            is_directory = known.is_directory or item.kind == "dir"
            rows[name] = known._replace(
                is_directory=is_directory, size=known.size + size, change=file.change, item=item
            )
    if not rows and not found:
        return None
    return sorted(rows.values(), key=lambda row: (not row.is_directory, row.name))


class Difference(NamedTuple):
    """What differs between two images' files or packages: `old` is None for what was added, `new` for removed."""

    name: str
    old: Item | str | None
    new: Item | str | None

    @property
    def change(self) -> str:
        if self.old is None:
            return ADDED
        return DELETED if self.new is None else CHANGED


def compare_files(old: Stack, new: Stack) -> list[Difference]:
    """The files that only one of the images has, or that differ; directories are left out."""
    one = {file.item.path: file.item for file in old.merged if file.item.kind != "dir"}
    other = {file.item.path: file.item for file in new.merged if file.item.kind != "dir"}
    return _differences(one, other)


def compare_packages(old: Stack, new: Stack) -> list[Difference]:
    return _differences(dict(old.packages or ()), dict(new.packages or ()))


def _differences(one: dict[str, Item] | dict[str, str], other: dict[str, Item] | dict[str, str]) -> list[Difference]:
    return [
        Difference(name, one.get(name), other.get(name))
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]

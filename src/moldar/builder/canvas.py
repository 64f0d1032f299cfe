"""What a step adds to a root file system, gathered over a read-only view of it and then written as a layer.

Paths are relative to the root, which is "". Questions see what was added before what the view has.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from moldar.builder.entry import Place
from moldar.builder.hashing import CAPABILITY, check_unchanged, open_unchanged, read_capability
from moldar.builder.rootview import RootView
from moldar.builder.tree import resolve_links
from moldar.errors import HostTrouble, UserMistake
from moldar.image.layer_entry import OPAQUE_WHITEOUT, LayerEntry
from moldar.image.layer_write import LayerWriter

_SMALL = 1 << 18


class NotADirectory(UserMistake):
    """Something that has to be a directory is none. `path` begins with a slash."""

    def __init__(self, path: str) -> None:
        super().__init__(f"cannot copy to non-directory: /{path}")
        self.path = "/" + path


class IsADirectory(UserMistake):
    """A file cannot take the place of a directory. `path` begins with a slash."""

    def __init__(self, path: str) -> None:
        super().__init__(f"cannot replace directory /{path} with a file")
        self.path = "/" + path


class Slice(NamedTuple):
    """A file's content as part of an open file; the canvas closes the descriptor."""

    descriptor: int
    offset: int


Content = Place | Slice | bytes | None


class Addition(NamedTuple):
    """An entry of the new layer. Files of the same `group` are hard links of each other."""

    entry: LayerEntry
    content: Content = None
    group: object = None


class Canvas:
    """Additions over `view`. A context manager that closes the files that Slices point into."""

    def __init__(self, view: RootView) -> None:
        self.view = view
        self._added: dict[str, Addition] = {}
        self._fresh: set[str] = set()  # directories below which the view has nothing
        self._replaced: set[str] = set()  # directories of the view that gave way to something else
        self._descriptors: list[int] = []
        self._watched: list[tuple[int, Place]] = []

    def __enter__(self) -> "Canvas":
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def keep(self, descriptor: int) -> int:
        """Close `descriptor` when the canvas is done with."""
        self._descriptors.append(descriptor)
        return descriptor

    def watch(self, descriptor: int, place: Place) -> None:
        """Make sure, once the layer is written, that the file has not changed since `place` was noted."""
        self._watched.append((descriptor, place))

    def lookup(self, path: str) -> LayerEntry | None:
        """The entry at `path` itself, links not followed."""
        added = self._added.get(path)
        if added is not None:
            return added.entry
        parent = path.rpartition("/")[0] if path else None
        if parent is not None:
            if parent in self._fresh:
                return None
            above = self._added.get(parent)
            if above is not None and above.entry.kind != "dir":
                return None
            if self._replaced and any(path.startswith(gone + "/") for gone in self._replaced):
                return None
        return self.view.lookup(path)

    def resolve(self, path: str, root: str = "") -> str:
        """`path` below the directory `root` with all links followed as if `root` were the host's root."""
        prefix = root + "/" if root else ""
        return prefix + resolve_links(path, lambda at: self._link_target(prefix + at)) if path else root

    def addition(self, path: str) -> Addition | None:
        """What was added at `path`."""
        return self._added.get(path)

    def add(self, addition: Addition) -> None:
        """Add an entry, in place of what was added at its path. What the view has there must fit: see `replace`."""
        path = addition.entry.path
        if addition.entry.kind == "dir" and path not in self._added and self.lookup(path) is None:
            self._fresh.add(path)
        self._added[path] = addition

    def add_fresh(self, addition: Addition) -> None:
        """Add an entry where neither the view nor the canvas has anything."""
        if addition.entry.kind == "dir":
            self._fresh.add(addition.entry.path)
        self._added[addition.entry.path] = addition

    def is_fresh(self, directory: str) -> bool:
        """Whether nothing but what was added is in `directory`."""
        return directory in self._fresh

    def make_directories(self, path: str, like: LayerEntry) -> None:
        """Make the directory `path` and its missing parents with mode, owner and time of `like`.

        Raises NotADirectory when one of them is something else.
        """
        done = ""
        for part in path.split("/") if path else ():
            done = f"{done}/{part}" if done else part
            existing = self.lookup(done)
            if existing is None:
                self.add_fresh(Addition(like._replace(path=done, kind="dir")))
            elif existing.kind != "dir":
                raise NotADirectory(done)

    def replace(self, path: str) -> None:
        """Make room at `path`, where a directory and what is in it, or anything else, may be."""
        existing = self.lookup(path)
        if existing is None:
            return
        if existing.kind == "dir":
            below = path + "/"
            for gone in [at for at in self._added if at.startswith(below)]:
                del self._added[gone]
                self._fresh.discard(gone)
            if path not in self._fresh:
                self._replaced.add(path)
            self._fresh.discard(path)
        self._added.pop(path, None)

    def write(self, write: Callable[[bytes | memoryview], object], *, newest: int | None = None) -> None:
        """The layer: everything added and the directories above it, sorted by path, nothing newer than `newest`.

        Raises SourceChanged, UnreadableSource, HostTrouble.
        """
        self._mark_opaque()
        writer = LayerWriter(write, newest)
        firsts: dict[object, str] = {}
        parents = self._parents()
        for path in sorted(self._added.keys() | parents.keys()):
            parent = parents.get(path)
            if parent is not None:
                writer.add(parent)
                continue
            entry, content, group = self._added[path]
            if group is not None and (first := firsts.setdefault(group, path)) is not path:
                writer.add(entry._replace(kind="link", target=first, size=0, xattrs=()))
            elif type(content) is Place:
                _add_file(writer, entry, content)
            elif type(content) is Slice:
                os.lseek(content.descriptor, content.offset, os.SEEK_SET)
                writer.add(entry, content.descriptor)
            else:
                writer.add(entry, content if isinstance(content, bytes) else None)
        writer.close()
        for descriptor, place in self._watched:
            check_unchanged(descriptor, place.path, place.key)

    def _link_target(self, path: str) -> str | None:
        entry = self.lookup(path)
        return entry.target if entry is not None and entry.kind == "symlink" else None

    def _parents(self) -> dict[str, LayerEntry]:
        """The view's directories above what was added: a layer says of each directory what it is."""
        found: dict[str, LayerEntry] = {}
        seen: set[str] = {""}
        for path in self._added:
            parent = path.rpartition("/")[0]
            while parent not in seen:
                seen.add(parent)
                if parent not in self._added:
                    entry = self.view.lookup(parent)
                    found[parent] = entry or LayerEntry(parent, "dir", 0o755)
                parent = parent.rpartition("/")[0]
        return found

    def _mark_opaque(self) -> None:
        """Directories that took the place of other directories hide what was in those."""
        for path in self._replaced:
            added = self._added.get(path)
            if added is not None and added.entry.kind == "dir":
                mark = LayerEntry(f"{path}/{OPAQUE_WHITEOUT}", "file", 0o644)
                self._added[mark.path] = Addition(mark, b"")


def _add_file(writer: LayerWriter, entry: LayerEntry, place: Place) -> None:
    descriptor = open_unchanged(place.path)
    try:
        capability = read_capability(descriptor)
        if capability:
            entry = entry._replace(xattrs=((CAPABILITY, capability),))
        if entry.size < _SMALL:
            data = os.read(descriptor, entry.size) if entry.size else b""
            check_unchanged(descriptor, place.path, place.key)
            writer.add(entry, data)
        else:
            writer.add(entry, descriptor)
            check_unchanged(descriptor, place.path, place.key)
    except OSError as error:
        raise HostTrouble(f"cannot read {place.path!r}: {error.strerror}") from error
    finally:
        os.close(descriptor)

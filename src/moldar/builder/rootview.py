"""A read-only view of the file tree of a stack of layers, without mounting anything.

A layer is looked at where it lies: as a snapshot directory (overlayfs's marks for what is deleted) or as a raw tar
blob, whose headers are scanned when it is first asked. Layers are asked from the top, and only as deep as a question
needs.

Paths are relative to the root, which is "". Questions about a path do not follow links unless they say so.
"""

import os
import stat as modes
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from moldar.builder.tree import resolve_links
from moldar.errors import HostTrouble
from moldar.image.layer_entry import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, LayerEntry
from moldar.image.layer_read import scan_entries

CAPABILITY = "security.capability"
OPAQUE = "trusted.overlay.opaque"
_KINDS = {
    modes.S_IFREG: "file", modes.S_IFDIR: "dir", modes.S_IFLNK: "symlink", modes.S_IFIFO: "fifo",
    modes.S_IFCHR: "char", modes.S_IFBLK: "block",
}  # fmt: skip


class Layer(Protocol):
    """One layer. Its entries say nothing of the layers below."""

    def entry(self, path: str) -> LayerEntry | None: ...

    def children(self, path: str) -> list[str]:
        """Names in the directory `path`, none when the layer has no such directory."""
        ...

    def hides(self, path: str) -> bool:
        """Whether the layer says that `path` of the layers below is deleted."""
        ...

    def is_opaque(self, path: str) -> bool:
        """Whether the layer's directory `path` hides all that the layers below have in theirs."""
        ...

    def open(self, path: str) -> tuple[int, int]:
        """A descriptor of the file `path`, which the caller closes, at its content, and the content's size."""
        ...


class RootView:
    """The tree that `layers` (lowest first) make."""

    def __init__(self, layers: Sequence[Layer] = ()) -> None:
        self._layers = tuple(layers)
        self._directories: dict[str, tuple[Layer, ...]] = {"": self._layers[::-1]}

    @property
    def is_empty(self) -> bool:
        """Whether there are no layers at all."""
        return not self._layers

    def lookup(self, path: str) -> LayerEntry | None:
        """The entry at `path` itself; the root always exists. A hard link is shown as the file that it is."""
        if not path:
            return next(
                (entry for layer in self._directories[""] if (entry := layer.entry(""))),
                LayerEntry("", "dir", 0o755),
            )
        found = self._find(path)
        if found and found[1].kind == "link":  # to a file of a layer below
            source = self.lookup(found[1].target) if found[1].target != path else None
            return source._replace(path=path) if source and source.kind == "file" else None
        return found[1] if found else None

    def children(self, path: str) -> list[str]:
        """The names in the directory `path`, sorted."""
        names: set[str] = set()
        hidden: set[str] = set()
        for layer in self._stack(path):
            for name in layer.children(path):
                where = f"{path}/{name}" if path else name
                if name not in hidden:
                    (hidden if layer.hides(where) else names).add(name)
                hidden.add(name)
        return sorted(names)

    def resolve(self, path: str) -> str:
        """`path` with all links followed, as if the root were the host's; what does not exist is kept as it is."""
        return resolve_links(path, self._link_target)

    def open(self, path: str) -> tuple[int, int]:
        """A descriptor of the file at `path` (not a link), at its content, and its size. FileNotFoundError."""
        found = self._find(path)
        if found and found[1].kind == "link" and found[1].target != path:
            return self.open(found[1].target)
        if found is None or found[1].kind != "file":
            raise FileNotFoundError(path)
        return found[0].open(path)

    def read(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """The first `limit` bytes of the file at `path`, links followed; None when there is no such file."""
        try:
            descriptor, size = self.open(self.resolve(path))
        except FileNotFoundError:
            return None
        try:
            return os.read(descriptor, min(size, limit))
        finally:
            os.close(descriptor)

    def _link_target(self, path: str) -> str | None:
        entry = self.lookup(path)
        return entry.target if entry is not None and entry.kind == "symlink" else None

    def _find(self, path: str) -> tuple[Layer, LayerEntry] | None:
        """The topmost entry at `path` and its layer."""
        for layer in self._stack(path.rpartition("/")[0]):
            entry = layer.entry(path)
            if entry is not None:
                return layer, entry
            if layer.hides(path):
                return None
        return None

    def _stack(self, directory: str) -> tuple[Layer, ...]:
        """The layers, topmost first, whose directories make up `directory`; none when there is no such directory."""
        known = self._directories.get(directory)
        if known is None:
            known = self._directories[directory] = tuple(self._merged(directory))
        return known

    def _merged(self, directory: str) -> list[Layer]:
        found = []
        for layer in self._stack(directory.rpartition("/")[0]):
            entry = layer.entry(directory)
            if entry is None:
                if layer.hides(directory):
                    break
                continue
            if entry.kind != "dir":
                break
            found.append(layer)
            if layer.is_opaque(directory):
                break
        return found


class LazyLayers:
    """All the lower layers of a stack as one, which are made ready by `load` when a question gets down to them."""

    def __init__(self, load: Callable[[], "RootView"]) -> None:
        self._load = load
        self._view: RootView | None = None

    @property
    def view(self) -> "RootView":
        if self._view is None:
            self._view = self._load()
        return self._view

    def entry(self, path: str) -> LayerEntry | None:
        return self.view.lookup(path)

    def children(self, path: str) -> list[str]:
        return self.view.children(path)

    def hides(self, path: str) -> bool:
        return False

    def is_opaque(self, path: str) -> bool:
        return True

    def open(self, path: str) -> tuple[int, int]:
        return self.view.open(path)


class DirectoryLayer:
    """A layer as overlayfs has it: a character device 0:0 deletes, an extended attribute makes opaque."""

    def __init__(self, root: str) -> None:
        self._root = root

    def entry(self, path: str) -> LayerEntry | None:
        status = self._stat(path)
        if status is None or _is_whiteout(status):
            return None
        kind = _KINDS.get(modes.S_IFMT(status.st_mode))
        if kind is None:
            return None  # a socket: no layer can carry it
        where = self._where(path)
        return LayerEntry(
            path,
            kind,
            modes.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns // 1_000_000_000,
            status.st_size if kind == "file" else 0,
            os.readlink(where) if kind == "symlink" else "",
            os.major(status.st_rdev),
            os.minor(status.st_rdev),
            _capability(where) if kind == "file" else (),
        )

    def children(self, path: str) -> list[str]:
        try:
            return os.listdir(self._where(path))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise HostTrouble(f"cannot read {self._where(path)}: {error.strerror}") from error

    def hides(self, path: str) -> bool:
        status = self._stat(path)
        return status is not None and _is_whiteout(status)

    def is_opaque(self, path: str) -> bool:
        try:
            return os.getxattr(self._where(path), OPAQUE, follow_symlinks=False) == b"y"
        except OSError:
            return False

    def open(self, path: str) -> tuple[int, int]:
        descriptor = os.open(self._where(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return descriptor, os.fstat(descriptor).st_size

    def _where(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _stat(self, path: str) -> os.stat_result | None:
        """Parents are directories here, because the view asks from the root down: no link is followed."""
        try:
            return os.lstat(self._where(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HostTrouble(f"cannot read {self._where(path)}: {error.strerror}") from error


class TarLayer:
    """A raw tar. Directories that it implies without naming them are there too, as unpacking makes them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._entries: dict[str, tuple[LayerEntry, int]] = {}
        self._names: dict[str, set[str]] = {}
        self._whiteouts: set[str] = set()
        self._opaque: set[str] = set()
        self._lock = threading.Lock()
        self._scanned = False

    def __len__(self) -> int:
        """How many entries are kept in memory."""
        return len(self._entries)

    def _scan(self) -> None:
        with self._lock:
            if self._scanned:
                return
            try:
                descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise HostTrouble(f"cannot read {self._path}: {error.strerror}") from error
            try:
                for entry, offset in scan_entries(descriptor):
                    self._add(entry, offset)
            finally:
                os.close(descriptor)
            self._scanned = True

    def entry(self, path: str) -> LayerEntry | None:
        self._scan()
        found = self._entries.get(path)
        return self._link_source(found)[0]._replace(path=path) if found else None

    def children(self, path: str) -> list[str]:
        self._scan()
        return list(self._names.get(path, ()))

    def hides(self, path: str) -> bool:
        self._scan()
        return path in self._whiteouts

    def is_opaque(self, path: str) -> bool:
        self._scan()
        return path in self._opaque

    def open(self, path: str) -> tuple[int, int]:
        entry, offset = self._link_source(self._entries[path])
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(descriptor, offset, os.SEEK_SET)
        return descriptor, entry.size

    def _add(self, entry: LayerEntry, offset: int) -> None:
        parent, _, name = entry.path.rpartition("/")
        if name == OPAQUE_WHITEOUT:
            self._imply(parent)
            self._opaque.add(parent)
            return
        if name.startswith(WHITEOUT_PREFIX):
            name = name.removeprefix(WHITEOUT_PREFIX)
            self._imply(parent)
            self._whiteouts.add(f"{parent}/{name}" if parent else name)
        else:
            if entry.path:
                self._imply(parent)
            if entry.kind != "dir":
                self._forget_below(entry.path)
            self._entries[entry.path] = (entry, offset)
        if name:
            self._names.setdefault(parent, set()).add(name)

    def _imply(self, directory: str) -> None:
        while directory and directory not in self._entries:
            self._entries[directory] = (LayerEntry(directory, "dir", 0o755), 0)
            parent, _, name = directory.rpartition("/")
            self._names.setdefault(parent, set()).add(name)
            directory = parent

    def _forget_below(self, path: str) -> None:
        """A later member that is no directory replaces a directory of the same layer with all that is in it."""
        for name in self._names.pop(path, ()):
            self._forget_below(f"{path}/{name}")
            self._entries.pop(f"{path}/{name}", None)

    def _link_source(self, found: tuple[LayerEntry, int]) -> tuple[LayerEntry, int]:
        for _ in range(len(self._entries)):
            if found[0].kind != "link" or found[0].target not in self._entries:
                break
            found = self._entries[found[0].target]
        return found


def _is_whiteout(status: os.stat_result) -> bool:
    return modes.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _capability(path: str) -> tuple[tuple[str, bytes], ...]:
    try:
        if CAPABILITY in os.listxattr(path, follow_symlinks=False):
            return ((CAPABILITY, os.getxattr(path, CAPABILITY, follow_symlinks=False)),)
    except OSError:
        pass  # a file system without extended attributes
    return ()

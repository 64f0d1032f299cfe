"""The files of an image archive or layout directory, found by name: the ground that archive readers stand on.

A tar is scanned once and then read at offsets, so nothing is unpacked. What cannot be read so (a pipe, a compressed
tar) is copied to an unnamed temporary file first.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from moldar.errors import CorruptData, HostTrouble, NotFound
from moldar.image.decompression import detect, open_decompressed
from moldar.image.layer_entry import BadLayer, LayerEntry
from moldar.image.layer_read import scan_entries

_CHUNK = 1 << 20
_LINKS = 10


class BadArchive(CorruptData):
    """An image archive that is malformed, or names files that it does not have."""


class NoSuchFile(BadArchive):
    """A file that the archive's lists name and the archive lacks."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the archive has no {path}")
        self.path = path


class Files(Protocol):
    """Files by their path within the archive. Methods may be called from several threads at once."""

    def has(self, path: str) -> bool: ...

    def size(self, path: str) -> int:
        """Bytes of a file; NoSuchFile."""
        ...

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        """The content from `offset` on; NoSuchFile."""
        ...

    def close(self) -> None: ...


def read_file(files: Files, path: str, limit: int) -> bytes:
    """A whole small file; NoSuchFile, BadArchive when it is larger than `limit` bytes."""
    if files.size(path) > limit:
        raise BadArchive(f"{path} of the archive is too large: {files.size(path)} bytes")
    return b"".join(files.chunks(path))


def open_files(source: str | int, spool: str) -> Files:
    """The files of a tar (plain or compressed) or directory; `source` is a path, or a descriptor to read from.

    `spool` is a directory for what has to be copied. Raises NotFound, HostTrouble, BadArchive.
    """
    if isinstance(source, int):
        return _open_tar(os.dup(source), spool)
    try:
        if os.path.isdir(source):
            return DirectoryFiles(source)
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {source}") from error
    except OSError as error:
        raise HostTrouble(f"cannot open {source}: {error.strerror}") from error
    return _open_tar(descriptor, spool)


class DirectoryFiles:
    """A directory, such as an OCI image layout."""

    def __init__(self, root: str) -> None:
        self._root = root

    def has(self, path: str) -> bool:
        return os.path.isfile(self._path(path))

    def size(self, path: str) -> int:
        try:
            return os.stat(self._path(path)).st_size
        except OSError as error:
            raise NoSuchFile(path) from error

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        try:
            file = open(self._path(path), "rb", buffering=0)
        except OSError as error:
            raise NoSuchFile(path) from error
        with file:
            file.seek(offset)
            while chunk := file.read(_CHUNK):
                yield chunk

    def close(self) -> None:
        pass

    def _path(self, path: str) -> str:
        if ".." in path.split("/") or path.startswith("/"):
            raise BadArchive(f"the layout names the file {path!r} outside of it")
        return f"{self._root}/{path}"


class _Place(NamedTuple):
    offset: int
    size: int


class TarFiles:
    """A raw tar in a seekable file, which is closed with it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._places: dict[str, _Place] = {}
        self._links: dict[str, str] = {}
        try:
            for entry, offset in scan_entries(descriptor):
                self._learn(entry, offset)
        except BadLayer as error:
            where = f" at {error.member!r}" if error.member else ""
            raise BadArchive(f"not a readable tar archive{where}: {error.why}") from error

    def _learn(self, entry: LayerEntry, offset: int) -> None:
        self._places.pop(entry.path, None)
        self._links.pop(entry.path, None)
        if entry.kind == "file":
            self._places[entry.path] = _Place(offset, entry.size)
        elif entry.kind == "link":
            self._links[entry.path] = entry.target
        elif entry.kind == "symlink":  # archives of old pointed from a layer to the same layer elsewhere
            folder = entry.path.rpartition("/")[0]
            self._links[entry.path] = os.path.normpath(f"{folder}/{entry.target}" if folder else entry.target)

    def has(self, path: str) -> bool:
        return self._resolved(path) in self._places

    def size(self, path: str) -> int:
        return self._place(path).size

    def chunks(self, path: str, offset: int = 0) -> Iterator[bytes]:
        place = self._place(path)
        at, end = place.offset + offset, place.offset + place.size
        while at < end:
            chunk = os.pread(self._descriptor, min(_CHUNK, end - at), at)
            if not chunk:
                raise BadArchive(f"the archive ends inside {path}")
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        os.close(self._descriptor)

    def _place(self, path: str) -> _Place:
        place = self._places.get(self._resolved(path))
        if place is None:
            raise NoSuchFile(path)
        return place

    def _resolved(self, path: str) -> str:
        for _ in range(_LINKS):
            if path not in self._links:
                break
            path = self._links[path]
        return path


def _open_tar(descriptor: int, spool: str) -> Files:
    """Takes over `descriptor`."""
    try:
        seekable = stat.S_ISREG(os.fstat(descriptor).st_mode) and not os.lseek(descriptor, 0, os.SEEK_CUR)
        if not seekable or detect(os.pread(descriptor, 6, 0)) != "none":
            with open(descriptor, "rb", buffering=0) as stream:
                descriptor = -1
                descriptor = _spooled(stream, spool)
        if not os.fstat(descriptor).st_size:
            raise BadArchive("the archive is empty")
        files = TarFiles(descriptor)
        descriptor = -1
        return files
    except OSError as error:
        raise HostTrouble(f"cannot read the archive: {error.strerror}") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _spooled(stream: object, spool: str) -> int:
    """An unnamed file with the decompressed content of `stream`."""
    descriptor = os.open(spool, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        plain = open_decompressed(stream)  # type: ignore[arg-type]
        while chunk := plain.read(_CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor

"""Build caches in a local directory, which is an OCI image layout: one manifest for each tag, blobs shared.

Writers exclude each other by a lock on the layout's `oci-layout` file. Blobs that no tag needs any more are removed,
as long as nothing else than build caches is in the layout.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from moldar.errors import CorruptData, HostTrouble, NotFound
from moldar.export.archive_files import DirectoryFiles, read_file
from moldar.export.archive_read import LayoutSource
from moldar.export.build_cache import CACHE_CONFIG
from moldar.export.layout_write import INDEX_FILE, LAYOUT, LAYOUT_FILE, REF_NAME
from moldar.image.model import OCI_INDEX, Descriptor, Digest, Index, Manifest, make_index, parse_manifest
from moldar.image.transfer import MANIFEST_LIMIT, BlobReader

DEFAULT_TAG = "latest"


def open_layout(directory: str, tag: str = DEFAULT_TAG) -> LayoutSource:
    """The cache in `directory` under `tag`, or the only one there is; NotFound, CorruptData."""
    if not os.path.isdir(directory):
        raise NotFound(f"no such directory: {directory}")
    files = DirectoryFiles(directory)
    if not files.has(INDEX_FILE):
        raise NotFound(f"{directory} holds no build cache: it has no {INDEX_FILE}")
    entries = _read_index(files)
    tagged = [entry for entry in entries if (entry.annotations or {}).get(REF_NAME) == tag]
    if not tagged and len(entries) != 1:
        raise NotFound(f"{directory} holds no build cache with the tag {tag!r}")
    return LayoutSource(files, (tagged or entries)[0]._replace(annotations=None))


class LayoutDirectory:
    """ImageSink for one build cache in a layout directory, to be used within `locked`. Raises HostTrouble."""

    verifies = False

    def __init__(self, root: str, tag: str = DEFAULT_TAG) -> None:
        self._root = root
        self._tag = tag

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The layout is ours meanwhile; it is made if it is not there."""
        try:
            os.makedirs(f"{self._root}/blobs/sha256", exist_ok=True)
            descriptor = os.open(f"{self._root}/{LAYOUT_FILE}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise HostTrouble(f"cannot write {self._root}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not os.fstat(descriptor).st_size:
                os.write(descriptor, LAYOUT)
            yield
        finally:
            os.close(descriptor)

    def has_blob(self, descriptor: Descriptor) -> bool:
        try:
            return os.stat(self._path(descriptor.digest)).st_size == descriptor.size
        except OSError:
            return False

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        with read(0) as chunks:
            self._write(self._path(descriptor.digest), chunks)

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        """Write the manifest; the root replaces what the tag named, and what only that needed is removed."""
        self._write(self._path(descriptor.digest), iter([raw]))
        if root:
            entry = descriptor._replace(annotations={REF_NAME: self._tag})
            others = [kept for kept in self._entries() if (kept.annotations or {}).get(REF_NAME) != self._tag]
            entries = [*others, entry]
            self._write(f"{self._root}/{INDEX_FILE}", iter([make_index(entries).raw]))
            self._prune(entries)

    def _entries(self) -> tuple[Descriptor, ...]:
        files = DirectoryFiles(self._root)
        try:
            return _read_index(files) if files.has(INDEX_FILE) else ()
        except CorruptData:
            return ()  # a broken list is replaced

    def _prune(self, entries: list[Descriptor]) -> None:
        files = DirectoryFiles(self._root)
        needed: set[str] = set()
        for entry in entries:
            manifest = _manifest(files, entry)
            if manifest is None or manifest.config.media_type != CACHE_CONFIG:
                return  # somebody else's, whose blobs we do not know
            needed |= {part.digest for part in (entry, manifest.config, *manifest.layers)}
        folder = f"{self._root}/blobs/sha256"
        for name in os.listdir(folder):
            if f"sha256:{name}" not in needed:
                os.unlink(f"{folder}/{name}")

    def _write(self, path: str, chunks: Iterator[bytes]) -> None:
        staged = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.part"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(staged, "wb", buffering=0) as file:
                for chunk in chunks:
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
            os.replace(staged, path)
        except OSError as error:
            raise HostTrouble(f"cannot write {path}: {error.strerror}") from error
        finally:
            if os.path.exists(staged):
                os.unlink(staged)

    def _path(self, digest: Digest) -> str:
        algorithm, _, hexadecimal = digest.partition(":")
        return f"{self._root}/blobs/{algorithm}/{hexadecimal}"


def _read_index(files: DirectoryFiles) -> tuple[Descriptor, ...]:
    index = parse_manifest(read_file(files, INDEX_FILE, MANIFEST_LIMIT), OCI_INDEX)
    if not isinstance(index, Index):
        raise CorruptData(f"{INDEX_FILE} is no image index")
    return index.manifests


def _manifest(files: DirectoryFiles, entry: Descriptor) -> Manifest | None:
    try:
        algorithm, _, hexadecimal = entry.digest.partition(":")
        found = parse_manifest(read_file(files, f"blobs/{algorithm}/{hexadecimal}", MANIFEST_LIMIT))
    except CorruptData:
        return None
    return found if isinstance(found, Manifest) else None

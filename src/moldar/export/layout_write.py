"""Writing images as an OCI image layout, into one tar or a directory, with docker's manifest.json when wanted.

The tar is what `docker save` writes today: readers of either format find their way in it. Sources: image-spec 1.1,
image-layout.md; Docker's image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
"""

import os
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

from moldar.errors import HostTrouble
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_write import LayerWriter, Write
from moldar.image.model import Descriptor, Digest, Index, Manifest, encode_json, make_index, parse_manifest
from moldar.image.reference import Reference
from moldar.image.transfer import BlobFile, BlobReader

LAYOUT_FILE = "oci-layout"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE = "index.json"
DOCKER_FILE = "manifest.json"
REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
_LARGE = 128 << 10  # smaller ones are written together with what is beside them


class Target(Protocol):
    """Takes the files of a layout, each once."""

    def put(self, path: str, size: int, chunks: Iterable[bytes]) -> None: ...
    def close(self) -> None: ...


class TarTarget:
    """The files as one tar stream; times are zero, so that equal images give equal bytes.

    `descriptor` is the open file that `write` appends to at once, if it is one: the kernel then copies large blobs.
    """

    def __init__(self, write: Write, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._writer = LayerWriter(write)
        self._directories: set[str] = set()

    def put(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            if directory not in self._directories:
                self._directories.add(directory)
                self._writer.add(LayerEntry(directory, "dir", 0o755))
        entry = LayerEntry(path, "file", 0o644, size=size)
        if self._descriptor is not None and size >= _LARGE and isinstance(chunks, BlobFile):
            self._writer.add_beside(entry, partial(chunks.copy_to, self._descriptor))
        else:
            self._writer.add_chunks(entry, chunks)

    def close(self) -> None:
        self._writer.close()


class DirectoryTarget:
    """The files in a directory, which is made. Raises HostTrouble."""

    def __init__(self, root: str) -> None:
        self._root = root

    def put(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        full = f"{self._root}/{path}"
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full + ".part", "wb", buffering=0) as file:
                if isinstance(chunks, BlobFile):
                    chunks.copy_to(file.fileno())
                else:
                    for chunk in chunks:
                        file.write(chunk)
            os.replace(full + ".part", full)
        except OSError as error:
            raise HostTrouble(f"cannot write {full}: {error.strerror}") from error

    def close(self) -> None:
        pass


class LayoutWriter:
    """One layout in the making; `sink` gives a place for each image, `close` writes what lists them all.

    With `docker`, manifest.json lists the images too, so that `docker load` of any age reads the archive.
    """

    def __init__(self, target: Target, *, docker: bool) -> None:
        self._target = target
        self._docker = docker
        self._lock = threading.Lock()
        self._written: set[Digest] = set()
        self._documents: dict[Digest, Manifest | Index] = {}
        self._images: list[tuple[Descriptor, tuple[Reference, ...]]] = []
        target.put(LAYOUT_FILE, len(LAYOUT), [LAYOUT])

    def sink(self, names: Sequence[Reference]) -> "LayoutSink":
        """An ImageSink for one image that shall be called `names`.

        Copy to it with one job: blobs are written in the order in which they come, and more jobs change the order.
        """
        return LayoutSink(self, tuple(names))

    def close(self) -> None:
        """Write the lists and end the archive."""
        entries = [entry for root, names in self._images for entry in _named(root, names)]
        self._put(INDEX_FILE, make_index(entries).raw)
        if self._docker:
            self._put(DOCKER_FILE, encode_json(self._docker_entries()))
        self._target.close()

    def has(self, digest: Digest) -> bool:
        return digest in self._written

    def put_blob(self, descriptor: Descriptor, chunks: Iterable[bytes]) -> None:
        """Write one blob; others wait, because a tar has one end."""
        with self._lock:
            if descriptor.digest not in self._written:
                self._target.put(_blob_path(descriptor.digest), descriptor.size, chunks)
                self._written.add(descriptor.digest)

    def put_document(self, descriptor: Descriptor, raw: bytes, root_of: tuple[Reference, ...] | None) -> None:
        """Write a manifest or index; `root_of` are the names that it has, None for one beneath another."""
        self.put_blob(descriptor, [raw])
        self._documents[descriptor.digest] = parse_manifest(raw, descriptor.media_type)
        if root_of is not None:
            self._images.append((descriptor, root_of))

    def _put(self, path: str, data: bytes) -> None:
        self._target.put(path, len(data), [data])

    def _docker_entries(self) -> list[dict[str, object]]:
        entries: dict[Digest, dict[str, object]] = {}
        for root, names in self._images:
            manifest = self._image_manifest(self._documents[root.digest])
            if manifest:
                tags = [name.familiar_name + ":" + name.tag for name in names if name.tag]
                new: dict[str, object] = {
                    "Config": _blob_path(manifest.config.digest),
                    "RepoTags": [],
                    "Layers": [_blob_path(layer.digest) for layer in manifest.layers],
                }
                entry = entries.setdefault(manifest.config.digest, new)
                known = entry["RepoTags"]
                assert isinstance(known, list)
                known += tags
        return [{**entry, "RepoTags": entry["RepoTags"] or None} for entry in entries.values()]

    def _image_manifest(self, document: Manifest | Index) -> Manifest | None:
        """The image that manifest.json, which knows no platforms, shows: an index's first."""
        if isinstance(document, Manifest):
            return document
        for entry in document.manifests:
            below = self._documents.get(entry.digest)
            if isinstance(below, Manifest):
                return below
        return None


class LayoutSink:
    """ImageSink for one image of a LayoutWriter."""

    verifies = False

    def __init__(self, writer: LayoutWriter, names: tuple[Reference, ...]) -> None:
        self._writer = writer
        self._names = names

    def has_blob(self, descriptor: Descriptor) -> bool:
        return self._writer.has(descriptor.digest)

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        with read(0) as chunks:
            self._writer.put_blob(descriptor, chunks)

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        self._writer.put_document(descriptor, raw, self._names if root else None)


def _named(root: Descriptor, names: tuple[Reference, ...]) -> list[Descriptor]:
    """One entry of index.json for each name of the image, or one without a name."""
    tagged = [name._replace(digest=None) for name in names if name.tag]
    known = root.annotations or {}
    return [
        root._replace(annotations={**known, CONTAINERD_NAME: str(name), REF_NAME: name.tag}) for name in tagged
    ] or [root]


def _blob_path(digest: Digest) -> str:
    algorithm, _, hexadecimal = digest.partition(":")
    return f"blobs/{algorithm}/{hexadecimal}"

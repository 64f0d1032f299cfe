"""The store as a place to copy images from and to: push and save read it, pull and load fill it.

An image that came from elsewhere keeps its manifest and blobs byte for byte, so that it goes back under the same
digest. For one that was built here a manifest is made when it first leaves, its layers compressed then.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from moldar.errors import CorruptData
from moldar.export.layer_forms import FOREIGN, LayerForms, Protect, WrongLayer
from moldar.export.streams import Meter, measure
from moldar.image.compression import MEDIA_TYPE, Codec, codec_of
from moldar.image.config import parse_image_config
from moldar.image.model import (
    OCI_CONFIG,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    digest_of,
    make_manifest,
    parse_manifest,
)
from moldar.image.reference import Reference
from moldar.image.transfer import BlobFile, BlobReader, ImageSource, Progress, copy
from moldar.store.blobs import BlobStore, BlobWriter
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable


class ImageStore(NamedTuple):
    """The parts of a store that images live in. `protect` is the lease of whoever copies."""

    blobs: BlobStore
    images: ImageTable
    layers: LayerTable
    protect: Protect


class Packing(NamedTuple):
    """How layers leave. With `force` also those that have another compression, or another level, already."""

    codec: Codec = "gzip"
    level: int | None = None
    force: bool = False


GZIP = Packing()


class NotAnImage(CorruptData):
    """A manifest whose config and layers do not make a container image."""


class BadImageLayer(CorruptData):
    """A layer that arrived as its digest promises, but cannot be unpacked."""

    def __init__(self, layer: Descriptor, why: CorruptData) -> None:
        super().__init__(f"layer {layer.digest}: {why.message}")
        self.layer = layer


class StoreImage:
    """ImageSource for an image of the store.

    `manifest` is the digest that the image's name remembers, preferred among the known ones; when it is an index of
    several platforms, the source is all of it. `annotations` go into a manifest that has to be made.
    """

    def __init__(
        self,
        store: ImageStore,
        forms: LayerForms,
        image: Digest,
        *,
        manifest: Digest | None = None,
        packing: Packing = GZIP,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._forms = forms
        self._image = image
        self._preferred = manifest
        self._packing = packing
        self._annotations = annotations

    def resolve(self) -> Descriptor:
        """The manifest of the image, made now if need be, which may compress layers."""
        if not self._packing.force and not self._annotations:
            index = self._preferred_index()
            if index is not None:
                return index
            known = sorted(self._store.images.manifests(self._image), key=lambda each: each.digest != self._preferred)
            for descriptor in known:
                if self._complete(descriptor):
                    return descriptor
        return self._make()

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self._store.blobs.read(descriptor.digest)

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        """As a BlobFile: the store hashed the blob when it came in, and `system check` does it again on demand."""
        with self._store.blobs.open(descriptor.digest) as file:
            yield BlobFile(file.fileno(), descriptor, offset)

    def _preferred_index(self) -> Descriptor | None:
        """The index that the name remembers: it was built for several platforms, and all of them are here."""
        blobs = self._store.blobs
        if self._preferred is None or not blobs.has(self._preferred):
            return None
        self._store.protect("blob", [self._preferred])
        document = parse_manifest(blobs.read(self._preferred))
        if isinstance(document, Index) and all(self._complete(entry) for entry in document.manifests):
            return document.descriptor
        return None

    def _complete(self, descriptor: Descriptor) -> bool:
        """Whether all blobs of a known manifest are here."""
        blobs = self._store.blobs
        self._store.protect("blob", [descriptor.digest])
        if not blobs.has(descriptor.digest):
            return False
        manifest = parse_manifest(blobs.read(descriptor.digest), descriptor.media_type)
        if not isinstance(manifest, Manifest):
            return False
        parts = [manifest.config, *(layer for layer in manifest.layers if not layer.urls)]
        self._store.protect("blob", [part.digest for part in parts])
        return all(blobs.has(part.digest) for part in parts)

    def _make(self) -> Descriptor:
        blobs, images = self._store.blobs, self._store.images
        self._store.protect("blob", [self._image])
        raw = blobs.read(self._image)
        stack = parse_image_config(raw).diff_ids
        layers = self._forms.blobs(stack, self._packing.codec, self._packing.level, force=self._packing.force)
        manifest = make_manifest(Descriptor(OCI_CONFIG, self._image, len(raw)), layers, self._annotations)
        self._store.protect("blob", [digest_of(manifest.raw)])
        blobs.put(manifest.raw)
        if not self._packing.force and not self._annotations and images.get(self._image):
            images.add_manifest(manifest.descriptor, self._image)
        return manifest.descriptor


class StoreSink:
    """ImageSink that brings an image into the store. Layers are measured while they arrive.

    An image is recorded once all of it is here and its layers proved to be what its config says. With `native` off
    the manifest is forgotten after use, because the archive that it is made up from has none.
    """

    verifies = True

    def __init__(self, store: ImageStore, *, native: bool = True) -> None:
        self._store = store
        self._native = native
        self._lock = threading.Lock()
        self._measured: dict[Digest, tuple[Digest, int]] = {}
        self.images: list[Digest] = []
        """IDs of the images that arrived, in order."""

    def has_blob(self, descriptor: Descriptor) -> bool:
        self._store.protect("blob", [descriptor.digest])
        return self._store.blobs.has(descriptor.digest)

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        """Download or resume; BlobCorrupt when the bytes are wrong, after which nothing is kept of them."""
        with self._store.blobs.partial(descriptor) as writer:
            if writer.size > descriptor.size:
                writer.restart()
            if not writer.size and codec_of(descriptor.media_type) is not None:
                self._receive_layer(descriptor, read, writer)
                return
            if writer.size < descriptor.size or not descriptor.size:
                with read(writer.size) as chunks:
                    for chunk in chunks:
                        _append(writer, chunk, descriptor)
            writer.commit()

    def _receive_layer(self, descriptor: Descriptor, read: BlobReader, writer: BlobWriter) -> None:
        """A layer from its first byte on is measured while it arrives; a resumed one later, when it is recorded."""
        with Meter() as meter, read(0) as chunks:
            for chunk in chunks:
                _append(writer, chunk, descriptor)
                if chunk:
                    meter.feed(bytes(chunk))
            try:
                measured = meter.result()
            except CorruptData as error:
                if writer.digest != descriptor.digest:
                    writer.commit()  # which says that the bytes are wrong, and that explains the rest
                writer.restart()
                raise BadImageLayer(descriptor, error) from error
            writer.commit()
        with self._lock:
            self._measured[descriptor.digest] = measured

    def take_layer(self, source: ImageSource, blob: Descriptor, diff_id: Digest) -> None:
        """Bring one layer that is known by its diff ID; WrongLayer when its blob holds another one."""
        codec = codec_of(blob.media_type)
        if codec is None:
            raise NotAnImage(f"the blob {blob.digest} of type {blob.media_type} is no layer")
        self._store.protect("layer", [diff_id])
        if not self.has_blob(blob):
            self.put_blob(blob, lambda offset: source.open_blob(blob, offset))
        found, size = self._measured.get(blob.digest) or self._known(blob, diff_id) or self._measure(blob)
        if found != diff_id:
            raise WrongLayer(diff_id, found)
        self._store.layers.record(diff_id, size)
        self._store.layers.add_blob(diff_id, blob._replace(media_type=MEDIA_TYPE[codec]), FOREIGN)

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        """Record the image; NotAnImage, CorruptData when its parts do not fit together."""
        document = parse_manifest(raw, descriptor.media_type)
        if isinstance(document, Index) or (not root and _is_artifact(document)):
            self._store.blobs.put(raw)
            return
        image = document.config.digest
        layers = self._checked_layers(document)
        if self._native:
            self._store.protect("blob", [descriptor.digest])
            self._store.blobs.put(raw)
        for blob, (diff_id, size) in layers:
            self._store.layers.record(diff_id, size)
            if self._native or blob.digest != diff_id:
                self._store.layers.add_blob(diff_id, blob, FOREIGN)
        self._store.images.add(image, sum(size for _, (_, size) in layers))
        if self._native:
            self._store.images.add_manifest(descriptor, image)
        self._store.protect("image", [image])
        self.images.append(image)

    def _checked_layers(self, manifest: Manifest) -> list[tuple[Descriptor, tuple[Digest, int]]]:
        """The layers with their diff IDs and sizes, which must be those that the config lists."""
        diff_ids = parse_image_config(self._store.blobs.read(manifest.config.digest)).diff_ids
        if len(diff_ids) != len(manifest.layers):
            raise NotAnImage(
                f"not a container image: its config lists {len(diff_ids)} layers, its manifest {len(manifest.layers)}"
            )
        layers = []
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            codec = codec_of(layer.media_type)
            if codec is None:
                raise NotAnImage(f"not a container image: it has a layer of type {layer.media_type}")
            measured = self._measured.get(layer.digest) or self._known(layer, diff_id) or self._measure(layer)
            if measured[0] != diff_id:
                raise NotAnImage(
                    f"layer {layer.digest} unpacks to {measured[0]}, but the image's config says {diff_id}"
                )
            layers.append((layer._replace(media_type=MEDIA_TYPE[codec]), measured))
        return layers

    def _known(self, layer: Descriptor, diff_id: Digest) -> tuple[Digest, int] | None:
        size = self._store.layers.size(diff_id)
        if size is None or self._store.layers.diff_id_of(layer.digest) != diff_id:
            return None
        return diff_id, size

    def _measure(self, layer: Descriptor) -> tuple[Digest, int]:
        with self._store.blobs.open(layer.digest) as file:
            try:
                measured = measure(file)
            except CorruptData as error:
                raise BadImageLayer(layer, error) from error
        with self._lock:
            self._measured[layer.digest] = measured
        return measured


def _append(writer: BlobWriter, chunk: bytes, descriptor: Descriptor) -> None:
    writer.write(chunk)
    if writer.size > descriptor.size:
        writer.commit()  # which says what is wrong, before an endless source fills the disk


def _is_artifact(manifest: Manifest) -> bool:
    """Whether it is something that lies beside images in an index, such as an attestation."""
    return any(codec_of(layer.media_type) is None for layer in manifest.layers)


def receive(
    source: ImageSource,
    store: ImageStore,
    names: Sequence[Reference] = (),
    *,
    platform: Platform | None = None,
    prefer: Platform | None = None,
    native: bool = True,
    repository: str = "",
    jobs: int = 4,
    progress: Progress | None = None,
) -> Digest:
    """Copy an image into the store, give it `names`, and return its ID.

    `repository` is the full name of where it was pulled from: the digest that its name resolved to is remembered for
    it. An index without `platform` is copied whole, and its first image is named, one for `prefer` if there is any.
    """
    sink = StoreSink(store, native=native)
    copied = copy(source, sink, platform=platform, jobs=jobs, progress=progress)
    if not sink.images:
        raise NotAnImage("there is no image in the index")
    fitting = [image for image in sink.images if prefer and store.images.config(image).platform[:2] == prefer[:2]]
    image = (fitting or sink.images)[0]
    of_image = [found.descriptor.digest for found in copied.manifests if found.config.digest == image]
    manifest = of_image[0] if native else None
    for name in names:
        if name.tag:
            store.images.tag(name, image, manifest)
    if repository:
        for digest in dict.fromkeys((copied.resolved.digest, copied.root.digest)):
            store.images.add_repository_digest(repository, digest, image)
    return image

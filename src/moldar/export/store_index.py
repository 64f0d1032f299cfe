"""Several images of the store as one place to copy from: an index with an image for each platform."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from moldar.export.layer_forms import LayerForms
from moldar.export.store_image import GZIP, ImageStore, Packing, StoreImage
from moldar.image.model import Descriptor, Digest, Platform, digest_of, make_index


class PlatformImage(NamedTuple):
    """One image of an index: what it is for, its ID, and the annotations of its manifest and of its entry."""

    platform: Platform
    image: Digest
    annotations: Mapping[str, str] | None = None
    entry_annotations: Mapping[str, str] | None = None


class StoreIndex:
    """ImageSource for an index over `images`, in their order. Its manifest is made, and kept, when it is resolved."""

    def __init__(
        self,
        store: ImageStore,
        forms: LayerForms,
        images: Sequence[PlatformImage],
        *,
        packing: Packing = GZIP,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._images = images
        self._annotations = annotations
        self._sources = [
            StoreImage(store, forms, each.image, packing=packing, annotations=each.annotations) for each in images
        ]

    def resolve(self) -> Descriptor:
        """The index, made now, which may compress layers."""
        entries = [
            source.resolve()._replace(platform=each.platform, annotations=each.entry_annotations or None)
            for each, source in zip(self._images, self._sources, strict=True)
        ]
        index = make_index(entries, self._annotations)
        self._store.protect("blob", [digest_of(index.raw)])
        self._store.blobs.put(index.raw)
        return index.descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self._store.blobs.read(descriptor.digest)

    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """As of any of the images: blobs are the store's."""
        return self._sources[0].open_blob(descriptor, offset)

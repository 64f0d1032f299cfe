"""A pull into the store that is cut off, and the next one that goes on from there."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moldar.export.store_image import ImageStore, receive
from moldar.image.model import OCI_CONFIG, OCI_LAYER_GZIP, Descriptor, digest_of, encode_json, make_manifest
from moldar.image.reference import parse_reference
from moldar.remote.client import Registry, RegistryImage
from moldar.remote.failures import Unreachable
from moldar.remote.upload import BlobUpload
from moldar.store.blobs import BlobStore
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable

Start = Callable[..., str]


class Interrupted:
    """The registry's image behind a line that breaks after some bytes of each blob, for good."""

    def __init__(self, image: RegistryImage, after: int | None) -> None:
        self._image = image
        self._after = after
        self.offsets: list[int] = []

    def resolve(self) -> Descriptor:
        return self._image.resolve()

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self._image.fetch_manifest(descriptor)

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        if descriptor.size > 1_000_000:
            self.offsets.append(offset)
        with self._image.open_blob(descriptor, offset) as chunks:
            yield self._cut(chunks) if self._after and descriptor.size > 1_000_000 else chunks

    def _cut(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        assert self._after
        yield next(chunks)[: self._after]
        raise Unreachable("the registry", "the line broke")


def tar_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("noise")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def push(registry: Registry, name: str) -> None:
    tar = tar_of(os.urandom(2_000_000))
    layer = gzip.compress(tar, 1, mtime=0)
    config = encode_json(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]}}
    )
    blobs = [
        Descriptor(OCI_LAYER_GZIP, digest_of(layer), len(layer)),
        Descriptor(OCI_CONFIG, digest_of(config), len(config)),
    ]
    for blob, content in zip(blobs, (layer, config), strict=True):

        @contextmanager
        def read(offset: int, content: bytes = content) -> Iterator[Iterator[bytes]]:
            yield iter([content[offset:]])

        BlobUpload(registry.origin, "alice/app", blob).send(read)
    manifest = make_manifest(blobs[1], blobs[:1])
    target = RegistryImage(registry, parse_reference(f"{registry.host}/{name}"))
    target.put_manifest(manifest.descriptor, manifest.raw, root=True)


def test_an_interrupted_pull_goes_on(docker_registry: Start, tmp_path: Path) -> None:
    home = Home.open(str(tmp_path / "home"))
    database = Database(home)
    blobs = BlobStore(home)
    images = ImageTable(database, blobs)
    store = ImageStore(blobs, images, LayerTable(database), lambda kind, keys: None)
    with Registry(docker_registry()) as registry:
        push(registry, "alice/app:v1")
        reference = parse_reference(f"{registry.host}/alice/app:v1")
        broken = Interrupted(RegistryImage(registry, reference), 300_000)
        with pytest.raises(Unreachable):
            receive(broken, store, (reference,))
        assert list(images.tags()) == []
        assert [entry for entry in os.listdir(home.ingest) if entry.endswith(".part")]
        whole = Interrupted(RegistryImage(registry, reference), None)
        image = receive(whole, store, (reference,), repository=reference.name)
    assert broken.offsets == [0]
    assert whole.offsets == [300_000]
    assert [tag.image for tag in images.tags()] == [image]
    assert os.listdir(home.ingest) == []
    database.close()

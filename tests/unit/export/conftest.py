"""A store with overlay snapshots, and images in it."""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from moldar.export.layer_forms import LayerForms
from moldar.export.store_image import ImageStore
from moldar.image.config import ContainerConfig, ImageConfig, encode_image_config
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_write import LayerWriter
from moldar.image.model import Digest, Platform
from moldar.image.reference import parse_reference
from moldar.sandbox.overlay import OverlaySnapshots
from moldar.store.blobs import BlobStore
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.images import ImageTable
from moldar.store.layers import LayerTable
from moldar.store.leases import Lease


class Place(NamedTuple):
    """One store with all that the tests need of it."""

    home: Home
    store: ImageStore
    snapshots: OverlaySnapshots
    forms: LayerForms

    @staticmethod
    def tar_of(members: dict[str, bytes]) -> bytes:
        return tar_of(members)

    def add_image(self, *layers: dict[str, bytes], tag: str = "", architecture: str = "amd64") -> Digest:
        """An image as a build leaves it: raw layer blobs, a config, no manifest."""
        diff_ids = []
        for members in layers:
            raw = tar_of(members)
            diff_ids.append(self.store.blobs.put(raw))
            self.store.layers.record(diff_ids[-1], len(raw))
        platform = Platform("linux", architecture)
        config = ImageConfig(platform, config=ContainerConfig(cmd=("/bin/true",)), diff_ids=tuple(diff_ids))
        image = self.store.blobs.put(encode_image_config(config))
        self.store.images.add(image, sum(self.store.layers.size(each) or 0 for each in diff_ids))
        if tag:
            self.store.images.tag(parse_reference(tag), image)
        return image


def tar_of(members: dict[str, bytes]) -> bytes:
    """A layer of files and, for names that end in a slash, directories."""
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    for path, content in members.items():
        if path.endswith("/"):
            writer.add(LayerEntry(path.rstrip("/"), "dir", 0o755))
        else:
            mtime = 0 if ".wh." in path else 1_600_000_000
            writer.add(LayerEntry(path, "file", 0o644, mtime=mtime, size=len(content)), content)
    writer.close()
    return out.getvalue()


@pytest.fixture
def make_place(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Makes stores by name below the test's directory."""
    leases = []

    def make(name: str) -> Place:
        home = Home.open(str(tmp_path / name))
        database = Database(home)
        blobs, layers = BlobStore(home), LayerTable(database)
        lease = Lease(home, database)
        leases.append((lease, database))
        snapshots = OverlaySnapshots(home.snapshots, layers)
        store = ImageStore(blobs, ImageTable(database, blobs), layers, lease.protect)
        return Place(home, store, snapshots, LayerForms(blobs, layers, snapshots, lease.protect))

    yield make
    for lease, database in leases:
        lease.release()
        database.close()


@pytest.fixture
def place(make_place: Callable[[str], Place]) -> Place:
    return make_place("store")


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Every descriptor that a test opens is closed again; SQLite's, one set for each thread, are the database's."""
    before = descriptors()
    yield
    assert not descriptors() - before  # what others left open may be closed meanwhile


def descriptors() -> Counter[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue
    return Counter(name for name in found if "moldar.db" not in name)

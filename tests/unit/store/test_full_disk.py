"""A full disk: one clear error, nothing half-written, and all is well when there is room again."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from moldar.errors import HostTrouble
from moldar.image.config import ImageConfig, encode_image_config
from moldar.image.model import OCI_CONFIG, Descriptor, digest_of, make_manifest
from moldar.image.reference import parse_reference
from moldar.store.cache import CacheRow
from moldar.store.check import Checker
from moldar.store.gc import Policy
from moldar.store.home import Home
from moldar.store.layout import write_index
from moldar.store.leases import Lease

BIG = b"x" * (2 << 20)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def store(small: Path, worker: ModuleType) -> Any:
    store = worker.Worker(str(small / "home"), 0)
    store.build()
    return store


def fill(small: Path) -> Path:
    """Leave no byte free."""
    filler = small / "filler"
    with filler.open("wb") as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
                    file.flush()
            except OSError:
                pass
        try:
            file.close()
        except OSError:
            pass
    return filler


def assert_sound(store: Any) -> None:
    report = Checker(store.home, store.database, store).check()
    assert report.sound, "\n".join(map(str, report.findings))


def test_a_blob_that_does_not_fit(store: Any) -> None:
    before = list(store.blobs)
    with pytest.raises(HostTrouble, match="No space left") as caught:
        store.blobs.put(BIG)
    assert "system df" in caught.value.hint
    with pytest.raises(HostTrouble), store.blobs.writer() as writer:
        writer.write(BIG)
    assert list(store.blobs) == before
    assert os.listdir(store.home.ingest) == []
    assert_sound(store)
    store.build()


def test_a_download_that_does_not_fit_gives_its_space_back(store: Any, small: Path) -> None:
    expected = Descriptor("", digest_of(BIG), len(BIG))
    with pytest.raises(HostTrouble), store.blobs.partial(expected) as writer:
        for start in range(0, len(BIG), 65536):
            writer.write(BIG[start : start + 65536])
    assert not store.blobs.has(expected.digest)
    assert os.listdir(store.home.ingest) == []
    subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
    with store.blobs.partial(expected) as writer:
        assert writer.size == 0
        writer.write(BIG)
        writer.commit()
    store.blobs.verify(expected.digest)


def test_records_that_do_not_fit(store: Any, small: Path) -> None:
    image = store.images.all()[0].id
    filler = fill(small)
    with pytest.raises(HostTrouble) as caught:
        for number in range(2000):
            store.cache.put(CacheRow(f"key {number}", "step", "[]", "i", "x" * 500, 1.0))
    assert "moldar.db" in caught.value.message
    with pytest.raises(HostTrouble), store.database.transaction():
        for number in range(2000):
            store.images.tag(parse_reference(f"name-{number}"), image)
    assert all(not tag.repository.endswith("name-0") for tag in store.images.tags())
    assert_sound(store)
    filler.unlink()
    store.images.tag(parse_reference("after"), image)
    assert store.images.resolve("after") == image
    assert_sound(store)


def test_an_index_and_a_lease_that_do_not_fit(store: Any, small: Path) -> None:
    raw = encode_image_config(ImageConfig(author="somebody"))
    image = store.blobs.put(raw)
    manifest = make_manifest(Descriptor(OCI_CONFIG, image, len(raw)), ())
    store.images.add(image, 0)
    store.blobs.put(manifest.raw)
    store.images.add_manifest(manifest.descriptor, image)
    store.images.tag(parse_reference("another"), image)
    before = Path(store.home.index_json).read_bytes()
    fill(small)
    with pytest.raises(HostTrouble, match=r"index\.json"):
        write_index(store.home, store.images, store.blobs)
    assert Path(store.home.index_json).read_bytes() == before
    assert [name for name in os.listdir(store.home.ingest) if not name.endswith(".part")] == []
    (small / "filler").unlink()
    assert write_index(store.home, store.images, store.blobs)
    assert b"library/another" in Path(store.home.index_json).read_bytes()


def test_no_room_for_a_store(small: Path) -> None:
    fill(small)
    subprocess.run(["mount", "-o", "remount,nr_inodes=3", str(small)], check=False)
    with pytest.raises(HostTrouble):
        Home.open(str(small / "home"))
    (small / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(small)], check=True)
    assert Home.open(str(small / "home")).root == str(small / "home")


def test_collecting_makes_room(store: Any, small: Path) -> None:
    with Lease(store.home, store.database):
        store.blobs.put(b"y" * 300_000)
    time.sleep(0.02)
    fill(small)
    with pytest.raises(HostTrouble):
        store.blobs.put(b"z" * 200_000)
    assert store.collector.collect(Policy()).freed >= 300_000
    assert store.blobs.put(b"z" * 200_000)
    assert_sound(store)

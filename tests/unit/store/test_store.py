"""Blobs, names and records of one store."""

from pathlib import Path

import pytest

from moldar.errors import UserMistake
from moldar.image.model import Descriptor, Digest, digest_of
from moldar.image.reference import parse_reference
from moldar.store.blobs import BlobCorrupt, BlobMissing, BlobStore
from moldar.store.cache import CacheRow, CacheTable
from moldar.store.containers import ContainerNotFound, ContainerRow, ContainerTable
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.images import ImageNotFound, ImageTable
from moldar.store.leases import Lease, living

DATA = b"some bytes"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(str(tmp_path / "home"))


@pytest.fixture
def images(home: Home) -> ImageTable:
    return ImageTable(Database(home), BlobStore(home))


def test_a_blob_is_kept_under_its_digest(home: Home) -> None:
    blobs = BlobStore(home)
    digest = blobs.put(DATA)
    assert digest == digest_of(DATA)
    assert blobs.read(digest) == DATA
    assert list(blobs) == [digest]
    assert blobs.delete(digest) == len(DATA)
    with pytest.raises(BlobMissing):
        blobs.read(digest)


def test_a_blob_that_is_not_what_was_promised_leaves_nothing(home: Home, tmp_path: Path) -> None:
    blobs = BlobStore(home)
    promised = Descriptor("", digest_of(b"other"), 5)
    with pytest.raises(BlobCorrupt), blobs.writer(promised) as writer:
        writer.write(DATA)
        writer.commit()
    assert list(blobs) == []
    assert list((tmp_path / "home" / "ingest").iterdir()) == []


def test_an_interrupted_blob_goes_on(home: Home) -> None:
    blobs = BlobStore(home)
    expected = Descriptor("", digest_of(DATA), len(DATA))
    with pytest.raises(KeyboardInterrupt), blobs.partial(expected) as writer:
        writer.write(DATA[:4])
        raise KeyboardInterrupt
    with blobs.partial(expected) as writer:
        assert writer.size == 4
        writer.write(DATA[4:])
        writer.commit()
    assert blobs.read(expected.digest) == DATA


def test_damage_is_found(home: Home) -> None:
    blobs = BlobStore(home)
    digest = blobs.put(DATA)
    Path(blobs.path(digest)).write_bytes(b"other")
    with pytest.raises(BlobCorrupt):
        blobs.verify(digest)
    with pytest.raises(BlobCorrupt):
        blobs.read(digest)


def test_an_image_is_found_by_name_id_and_prefix(images: ImageTable) -> None:
    first, second = Digest("sha256:" + "ab" * 32), Digest("sha256:" + "ac" * 32)
    for image in (first, second):
        images.add(image, 1)
    images.tag(parse_reference("my-server"), first)
    assert images.resolve("my-server") == first
    assert images.resolve("docker.io/library/my-server:latest") == first
    assert images.resolve("abab") == first
    assert images.resolve(second) == second
    with pytest.raises(UserMistake, match="several"):
        images.resolve("a")
    with pytest.raises(ImageNotFound):
        images.resolve("nothing")


def test_a_tag_moves(images: ImageTable) -> None:
    first, second = Digest("sha256:" + "ab" * 32), Digest("sha256:" + "ac" * 32)
    images.tag(parse_reference("x"), first)
    images.tag(parse_reference("x"), second, "sha256:m")
    assert [(tag.image, tag.manifest) for tag in images.tags()] == [(second, "sha256:m")]
    assert images.untag("docker.io/library/x:latest")
    assert not images.untag("docker.io/library/x:latest")


def test_cache_records(home: Home) -> None:
    cache = CacheTable(Database(home))
    cache.put(CacheRow("k1", "s", "[]", "i", "[]", 1.0))
    cache.put(CacheRow("k2", "s", "[]", "i", "[]", 2.0))
    found = cache.get("k1")
    assert found is not None
    assert found.created == 1.0
    assert found.used > 2.0
    latest = cache.like("s")[0]
    assert latest is not None
    assert latest.key == "k2"
    assert cache.get("k3") is None


def test_container_names_are_unique(home: Home) -> None:
    table = ContainerTable(Database(home))
    table.add(ContainerRow("a" * 64, "web", Digest("i"), 1.0, "{}"))
    with pytest.raises(UserMistake, match="already in use"):
        table.add(ContainerRow("b" * 64, "web", Digest("i"), 1.0, "{}"))
    assert table.find("web") == table.find("aaa") == table.find("/web")
    with pytest.raises(ContainerNotFound):
        table.find("zzz")


def test_a_lease_lives_as_long_as_its_process(home: Home) -> None:
    with Lease(home, Database(home)) as lease:
        lease.protect("blob", ["x", "y"])
        assert living(home) == ({lease.id}, set())
    assert living(home) == (set(), set())

"""What every blob store promises. An implementation joins with an entry in STORES: a maker of an empty store."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from moldar.errors import UserMistake
from moldar.image.model import Descriptor, Digest, digest_of
from moldar.store.blobs import BlobCorrupt, BlobMissing, BlobStore
from moldar.store.home import Home

DATA = bytes(range(256)) * 5000


def in_home(root: Path) -> BlobStore:
    return BlobStore(Home.open(str(root / "home")))


STORES: dict[str, Callable[[Path], BlobStore]] = {"home": in_home}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return STORES[request.param](tmp_path)


def described(data: bytes, algorithm: str = "sha256") -> Descriptor:
    digest = Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    return Descriptor("application/octet-stream", digest, len(data))


def files_in(store: BlobStore) -> list[str]:
    """All files of the store but those that it always has."""
    blobs = Path(store.path(digest_of(b""))).parents[1]
    return [str(path) for folder in (blobs, blobs.parent / "ingest") for path in folder.rglob("*") if path.is_file()]


def test_what_is_put_can_be_read(store: BlobStore) -> None:
    assert not store.has(digest_of(DATA))
    assert store.put(DATA) == digest_of(DATA)
    assert store.has(digest_of(DATA))
    assert store.claim(digest_of(DATA))
    assert store.size(digest_of(DATA)) == len(DATA)
    assert store.read(digest_of(DATA)) == DATA
    with store.open(digest_of(DATA)) as file:
        assert file.read() == DATA
    assert store.verify(digest_of(DATA)) == len(DATA)
    assert list(store) == [digest_of(DATA)]


def test_putting_twice_changes_nothing(store: BlobStore) -> None:
    store.put(DATA)
    store.put(DATA)
    assert len(files_in(store)) == 1


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    store.put(b"")
    assert store.read(digest_of(b"")) == b""
    with store.partial(described(b"")) as writer:
        writer.commit()
    assert len(files_in(store)) == 1


def test_what_is_not_there(store: BlobStore) -> None:
    missing = digest_of(b"missing")
    assert not store.claim(missing)
    assert store.delete(missing) == 0
    for look in (store.open, store.read, store.size, store.verify):
        with pytest.raises(BlobMissing) as caught:
            look(missing)
        assert caught.value.digest == missing


@pytest.mark.parametrize("digest", ["sha256:../../../../etc/passwd", "sha256:abc", "md5:" + "0" * 32, "", "sha256"])
def test_no_other_file_is_reached(store: BlobStore, digest: str) -> None:
    with pytest.raises(UserMistake):
        store.path(digest)
    with pytest.raises(UserMistake):
        store.open(digest)


def test_sha512(store: BlobStore) -> None:
    expected = described(DATA, "sha512")
    with store.writer(expected) as writer:
        writer.write(DATA)
        assert writer.commit() == expected.digest
    assert store.read(expected.digest) == DATA
    assert list(store) == [expected.digest]


def test_a_writer_hashes_as_it_goes(store: BlobStore) -> None:
    with store.writer() as writer:
        for start in range(0, len(DATA), 70_000):
            writer.write(memoryview(DATA)[start : start + 70_000])
        assert not store.has(digest_of(DATA))
        assert (writer.digest, writer.size) == (digest_of(DATA), len(DATA))
        writer.commit()
    assert store.read(digest_of(DATA)) == DATA


@pytest.mark.parametrize("sent", [DATA[:-1], DATA + b"x", b"", DATA[:-1] + b"x"])
@pytest.mark.parametrize("resumable", [False, True])
def test_other_bytes_than_promised_leave_nothing(store: BlobStore, sent: bytes, resumable: bool) -> None:
    expected = described(DATA)
    opened = store.partial(expected) if resumable else store.writer(expected)
    with pytest.raises(BlobCorrupt) as caught, opened as writer:
        writer.write(sent)
        writer.commit()
    assert expected.digest in caught.value.message
    assert store.path(expected.digest) in caught.value.message
    assert files_in(store) == []


def test_a_writer_left_without_commit_leaves_nothing(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(DATA)
    assert files_in(store) == []


def test_a_partial_blob_goes_on_where_it_stopped(store: BlobStore) -> None:
    expected = described(DATA)
    with store.partial(expected) as writer:
        writer.write(DATA[:1000])
    with store.partial(expected) as writer:
        assert writer.size == 1000
        writer.write(DATA[1000:])
        writer.commit()
    assert store.read(expected.digest) == DATA
    assert len(files_in(store)) == 1


def test_a_partial_blob_can_start_again(store: BlobStore) -> None:
    expected = described(DATA)
    with store.partial(expected) as writer:
        writer.write(b"wrong" * 10)
    with store.partial(expected) as writer:
        writer.restart()
        assert writer.size == 0
        writer.write(DATA)
        writer.commit()
    assert store.read(expected.digest) == DATA


def test_two_writers_of_one_partial_blob_do_not_meet(store: BlobStore) -> None:
    expected = described(DATA)
    with store.partial(expected) as first, store.partial(expected) as second:
        first.write(DATA[:100])
        assert second.size == 0
        second.write(DATA)
        second.commit()
        first.write(DATA[100:])
        first.commit()
    assert store.read(expected.digest) == DATA
    assert len(files_in(store)) == 1


def test_what_was_committed_is_never_written_to_again(store: BlobStore) -> None:
    """A partial file that becomes a blob between another's opening and locking it is no partial file any more."""
    expected = described(DATA)
    stop = threading.Event()
    errors: list[BaseException] = []

    def download() -> None:
        try:
            while not stop.is_set():
                with store.partial(expected) as writer:
                    writer.write(DATA[writer.size :])
                    writer.commit()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=download) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        if store.has(expected.digest):
            store.verify(expected.digest)
        store.delete(expected.digest)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(files_in(store)) <= 1


@pytest.mark.parametrize("damage", [b"other", DATA[:-1], DATA + b"x"])
def test_damage_is_told_with_digest_and_path(store: BlobStore, damage: bytes) -> None:
    digest = store.put(DATA)
    Path(store.path(digest)).write_bytes(damage)
    for look in (store.read, store.verify):
        with pytest.raises(BlobCorrupt) as caught:
            look(digest)
        assert digest in caught.value.message
        assert store.path(digest) in caught.value.message


def test_a_damaged_blob_is_mended_by_writing_it_again(store: BlobStore) -> None:
    digest = store.put(DATA)
    Path(store.path(digest)).write_bytes(b"other")
    with store.writer(described(DATA)) as writer:
        writer.write(DATA)
        writer.commit()
    assert store.read(digest) == DATA


def test_a_huge_document_is_not_read(store: BlobStore) -> None:
    digest = store.put(DATA)
    with pytest.raises(BlobCorrupt, match="at most 1000 bytes"):
        store.read(digest, limit=1000)


def test_strange_files_are_no_blobs(store: BlobStore) -> None:
    digest = store.put(DATA)
    folder = Path(store.path(digest)).parent
    strays = [folder / "README", folder / ("A" * 64), folder.parent / "md5" / ("0" * 32), folder.parent / "notes"]
    for path in strays:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list(store) == [digest]
    assert sorted(store.strays()) == sorted(map(str, strays))


def test_several_processes_write_the_same_and_different_blobs(store: BlobStore) -> None:
    root = Path(store.path(digest_of(b""))).parents[2]
    program = """
import sys
from moldar.image.model import digest_of
from moldar.store.blobs import BlobStore
from moldar.store.home import Home
store = BlobStore(Home.open(sys.argv[1]))
for number in range(15):
    for data in (b"same %d" % number, b"mine %d of %s" % (number, sys.argv[2].encode())):
        assert store.put(data * 1000) == digest_of(data * 1000)
        assert store.read(digest_of(data * 1000)) == data * 1000
"""
    children = [subprocess.Popen([sys.executable, "-c", program, str(root), str(child)]) for child in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4
    blobs = list(store)
    assert len(blobs) == 15 + 4 * 15
    for digest in blobs:
        store.verify(digest)
    assert os.listdir(root / "ingest") == []

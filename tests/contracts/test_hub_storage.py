"""What every storage of the hub's blobs must do: files, and S3 with a PostgreSQL beside it."""

import contextlib
import errno
import hashlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moldar.errors import NotFound, UserMistake
from moldar.hub.data.connecting import connect
from moldar.hub.data.database import Database
from moldar.hub.refusals import Refusal
from moldar.hub.settings import HubSettings
from moldar.hub.storage.contract import BlobReader, BlobStorage, UploadWriter
from moldar.hub.storage.files import FileStorage
from moldar.hub.storage.opening import open_storage
from moldar.image.model import Digest

Open = Callable[[], BlobStorage]


@pytest.fixture(params=["files", "s3"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the storage, as another process would: nothing is shared but what is stored."""
    opened: list[tuple[BlobStorage, Database]] = []
    settings = HubSettings(str(tmp_path))
    if request.param == "s3":
        postgres, s3 = request.getfixturevalue("postgres"), request.getfixturevalue("s3")
        settings = HubSettings(str(tmp_path), database_url=postgres.new_database(), **s3.new_bucket())

    def reopen() -> BlobStorage:
        database = connect(settings.sqlalchemy_url)
        opened.append((open_storage(settings, database), database))
        return opened[-1][0]

    yield reopen
    for storage, database in opened:
        storage.close()
        database.close()


@pytest.fixture
def storage(reopen: Open) -> BlobStorage:
    return reopen()


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")


def commit(writer: UploadWriter, digest: Digest) -> int:
    size = writer.seal(digest)
    writer.publish(digest)
    return size


def put(storage: BlobStorage, data: bytes, upload: str = "one") -> Digest:
    storage.begin(upload)
    writer = storage.resume(upload, "sha256")
    writer.write(data)
    assert commit(writer, digest_of(data)) == len(data)
    writer.close()
    return digest_of(data)


def read(storage: BlobStorage, digest: Digest, start: int = 0, end: int | None = None) -> bytes:
    reader: BlobReader = storage.open(digest)
    try:
        return b"".join(reader.chunks(start, reader.size if end is None else end))
    finally:
        reader.close()


@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
def test_what_goes_in_comes_out(storage: BlobStorage, size: int) -> None:
    data = os.urandom(size)
    digest = put(storage, data)
    assert storage.size(digest) == size
    assert read(storage, digest) == data
    assert read(storage, digest, size // 3, size // 2) == data[size // 3 : size // 2]
    assert list(storage.digests()) == [digest]
    assert list(storage.uploads()) == []


def test_an_unknown_blob(storage: BlobStorage) -> None:
    digest = digest_of(b"never")
    assert storage.size(digest) is None
    assert not storage.delete(digest)
    with pytest.raises(NotFound):
        storage.open(digest)


def test_delete(storage: BlobStorage) -> None:
    digest = put(storage, b"gone")
    assert storage.delete(digest)
    assert storage.size(digest) is None
    several = [put(storage, name, name.decode()) for name in (b"one", b"two", b"three")]
    storage.delete_all([*several[:2], digest])
    assert list(storage.digests()) == several[2:]


def test_the_same_blob_twice(storage: BlobStorage) -> None:
    reader = storage.open(put(storage, b"same"))
    digest = put(storage, b"same", "two")
    assert b"".join(reader.chunks(0, 4)) == b"same"
    reader.close()
    assert list(storage.digests()) == [digest]


def test_another_hash(storage: BlobStorage) -> None:
    for upload, announced in (("announced", "sha512"), ("surprising", "sha256")):
        storage.begin(upload)
        writer = storage.resume(upload, announced)
        writer.write(upload.encode())
        digest = digest_of(upload.encode(), "sha512")
        commit(writer, digest)
        writer.close()
        assert read(storage, digest) == upload.encode()


def test_a_wrong_digest_makes_no_blob(storage: BlobStorage) -> None:
    storage.begin("one")
    writer = storage.resume("one", "sha256")
    writer.write(b"this")
    with pytest.raises(Refusal) as caught:
        commit(writer, digest_of(b"that"))
    writer.close()
    assert caught.value.code == "DIGEST_INVALID"
    assert list(storage.digests()) == []
    assert storage.offset("one") == 4


@pytest.mark.parametrize("same_process", [True, False])
def test_an_upload_goes_on_later(reopen: Open, same_process: bool) -> None:
    data = os.urandom(2_500_000)
    storage = reopen()
    storage.begin("one")
    for start in range(0, len(data), 1_000_000):
        if not same_process:
            storage = reopen()
        writer = storage.resume("one", "sha256")
        assert writer.offset == start
        writer.write(data[start : start + 1_000_000])
        writer.close()
        assert storage.offset("one") == writer.offset
    writer = reopen().resume("one", "sha256")
    commit(writer, digest_of(data))
    writer.close()
    assert read(storage, digest_of(data)) == data
    assert storage.offset("one") is None


def test_two_processes_write_to_one_upload_by_turns(reopen: Open) -> None:
    data = os.urandom(400_000)
    storages = [reopen(), reopen()]
    storages[0].begin("one")
    for number in range(4):
        writer = storages[number % 2].resume("one", "sha256")
        assert writer.offset == number * 100_000
        writer.write(data[writer.offset : writer.offset + 100_000])
        writer.close()
    writer = storages[0].resume("one", "sha256")
    assert commit(writer, digest_of(data)) == len(data)
    writer.close()
    assert read(storages[1], digest_of(data)) == data


def test_two_requests_do_not_write_to_one_upload(reopen: Open) -> None:
    storage = reopen()
    storage.begin("one")
    writer = storage.resume("one", "sha256")
    for other in (storage, reopen()):
        with pytest.raises(Refusal) as caught:
            other.resume("one", "sha256")
        assert caught.value.status == 409
    writer.close()
    storage.resume("one", "sha256").close()


def test_a_cancelled_upload(storage: BlobStorage) -> None:
    storage.begin("one")
    assert list(storage.uploads()) == ["one"]
    assert storage.discard("one")
    assert not storage.discard("one")
    assert storage.offset("one") is None
    with pytest.raises(NotFound):
        storage.resume("one", "sha256")
    assert list(storage.uploads()) == []


def test_an_upload_that_is_cancelled_while_it_is_written(storage: BlobStorage) -> None:
    for verb in (lambda writer: writer.close(), lambda writer: commit(writer, digest_of(b"late"))):
        storage.begin("one")
        writer = storage.resume("one", "sha256")
        writer.write(b"late")
        storage.discard("one")
        with contextlib.suppress(FileNotFoundError):
            verb(writer)
        writer.close()
        assert list(storage.uploads()) == []
        assert list(storage.digests()) == []


@pytest.mark.parametrize("name", ["../one", "/etc/passwd", "..", ".", "", "a/b", "a\0b", "é", "x" * 65])
def test_names_that_are_no_uploads(storage: BlobStorage, name: str) -> None:
    for verb in (storage.begin, storage.offset, storage.discard, lambda upload: storage.resume(upload, "sha256")):
        with pytest.raises(NotFound):
            verb(name)


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc/passwd", "sha256:" + "/" * 64, "md5:" + "0" * 32, "sha256:" + "A" * 64, ""]
)
def test_digests_that_are_none(storage: BlobStorage, digest: str) -> None:
    for verb in (storage.size, storage.open, storage.delete):
        with pytest.raises(UserMistake):
            verb(Digest(digest))


def test_a_write_that_fails_halfway_is_undone(tmp_path: Path) -> None:
    """The file may not grow past a limit, as on a full disk; afterwards the upload goes on where it was."""
    storage = FileStorage(str(tmp_path))
    storage.begin("one")
    writer = storage.resume("one", "sha256")
    writer.write(b"a" * 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(OSError) as caught:
            writer.write(b"b" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.errno == errno.EFBIG
    writer.close()
    assert FileStorage(str(tmp_path)).offset("one") == 1000
    writer = storage.resume("one", "sha256")
    writer.write(b"c")
    commit(writer, digest_of(b"a" * 1000 + b"c"))
    writer.close()

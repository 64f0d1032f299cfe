"""Blobs as files of their source: what arrives, however the kernel can or cannot copy it."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moldar.image.model import OCI_CONFIG, OCI_LAYER, Descriptor, Manifest, digest_of, make_manifest
from moldar.image.transfer import BlobFile, BlobReader, WrongBytes, copy

DATA = os.urandom(3_000_001)
BLOB = Descriptor(OCI_LAYER, digest_of(DATA), len(DATA))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "blob").write_bytes(DATA)
    descriptor = os.open(tmp_path / "blob", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("offset", [0, 1, 1 << 20, len(DATA)])
def test_chunks(source: int, offset: int) -> None:
    assert b"".join(BlobFile(source, BLOB, offset)) == DATA[offset:]


@pytest.mark.parametrize("flags", [0, os.O_APPEND], ids=["beside", "appended"])
@pytest.mark.parametrize("place", ["same", "/dev/shm"], ids=["same", "other file system"])
def test_into_a_file_after_what_is_there(source: int, tmp_path: Path, place: str, flags: int) -> None:
    path = tmp_path / "out" if place == "same" else Path(place) / f"moldar-test-{os.getpid()}"
    try:
        target = os.open(path, os.O_WRONLY | os.O_CREAT | flags)
        os.write(target, b"before ")
        gone: list[int] = []
        blob = BlobFile(source, BLOB, 5)
        blob.watch = gone.append
        blob.copy_to(target)
        os.write(target, b" after")
        os.close(target)
        assert path.read_bytes() == b"before " + DATA[5:] + b" after"
        assert sum(gone) == len(DATA) - 5
    finally:
        path.unlink()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_into_a_pipe_or_socket(source: int, kind: str) -> None:
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (end.detach() for end in socket.socketpair())
    got = bytearray()

    def drain() -> None:
        while data := os.read(reading, 1 << 16):
            got.extend(data)

    reader = threading.Thread(target=drain)
    reader.start()
    BlobFile(source, BLOB).copy_to(writing)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert bytes(got) == DATA


def test_a_full_disk_is_told(source: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError) as caught:
        BlobFile(source, BLOB).copy_to(full)
    os.close(full)
    assert caught.value.errno == errno.ENOSPC


def test_a_file_of_another_size_is_refused(source: int, tmp_path: Path) -> None:
    with pytest.raises(WrongBytes):
        BlobFile(source, BLOB._replace(size=len(DATA) - 1))


@pytest.mark.parametrize("way", ["chunks", "copied"])
def test_a_file_that_shrinks_meanwhile_is_refused(source: int, tmp_path: Path, way: str) -> None:
    blob = BlobFile(source, BLOB)
    os.ftruncate(source, 1000)
    with pytest.raises(WrongBytes, match="1000 bytes"), (tmp_path / "out").open("wb", buffering=0) as target:
        if way == "chunks":
            list(blob)
        else:
            blob.copy_to(target.fileno())


class Files:
    """A source of one image whose layers are files of its own."""

    def __init__(self, directory: Path, *layers: bytes) -> None:
        self._directory = directory
        config = Descriptor(OCI_CONFIG, digest_of(b"{}"), 2)
        blobs = [Descriptor(OCI_LAYER, digest_of(data), len(data)) for data in layers]
        self.manifest: Manifest = make_manifest(config, blobs)
        for data in (b"{}", self.manifest.raw, *layers):
            (directory / digest_of(data)).write_bytes(data)

    def resolve(self) -> Descriptor:
        return self.manifest.descriptor

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self.manifest.raw

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        with (self._directory / descriptor.digest).open("rb") as file:
            yield BlobFile(file.fileno(), descriptor, offset)


class Folder:
    """A sink that lets the source write its files; the layer `broken` fails as soon as another one has begun."""

    verifies = False

    def __init__(self, directory: Path, broken: bytes = b"") -> None:
        self._directory = directory
        self._broken = broken
        self._begun = threading.Event()

    def has_blob(self, descriptor: Descriptor) -> bool:
        return False

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        with read(0) as chunks, (self._directory / descriptor.digest).open("wb", buffering=0) as file:
            if self._broken and descriptor.digest == digest_of(self._broken):
                self._begun.wait()
                raise BrokenPipeError
            assert isinstance(chunks, BlobFile)
            if self._broken:
                while True:  # until the other one's failure stops us
                    self._begun.set()
                    os.lseek(chunks._descriptor, 0, os.SEEK_SET)
                    chunks._left = descriptor.size
                    chunks.copy_to(file.fileno())
            chunks.copy_to(file.fileno())

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        (self._directory / descriptor.digest).write_bytes(raw)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    places = tmp_path / "from", tmp_path / "to"
    for place in places:
        place.mkdir()
    return places


def test_copy_counts_what_the_kernel_moves(places: tuple[Path, Path]) -> None:
    seen: list[tuple[str, int, int, bool]] = []

    def progress(descriptor: Descriptor, current: int, total: int, done: bool) -> None:
        seen.append((descriptor.digest, current, total, done))

    copy(Files(places[0], DATA), Folder(places[1]), progress=progress)
    assert {path.name: path.read_bytes() for path in places[0].iterdir()} == {
        path.name: path.read_bytes() for path in places[1].iterdir()
    }
    assert (BLOB.digest, len(DATA), len(DATA), False) in seen
    assert (BLOB.digest, len(DATA), len(DATA), True) in seen


def test_a_failure_stops_what_the_kernel_moves(places: tuple[Path, Path]) -> None:
    with pytest.raises(BrokenPipeError):
        copy(Files(places[0], b"broken", DATA[:5000]), Folder(places[1], b"broken"), jobs=2)

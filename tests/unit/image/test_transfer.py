"""copy() between two places in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from moldar.errors import CorruptData, NotFound
from moldar.image.model import (
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    Digest,
    Index,
    Manifest,
    Platform,
    digest_of,
    make_index,
    make_manifest,
)
from moldar.image.transfer import BlobReader, NoSuchPlatform, WrongBytes, copy, select_platform


def blob(data: bytes, media_type: str = OCI_LAYER) -> Descriptor:
    return Descriptor(media_type, digest_of(data), len(data))


class Memory:
    """A source and sink that keeps what it was given, in order."""

    def __init__(self, *, verifies: bool = False) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.order: list[Digest] = []
        self.root: Descriptor | None = None
        self.verifies = verifies
        self.lock = threading.Lock()

    def resolve(self) -> Descriptor:
        if not self.root:
            raise NotFound("nothing here")
        return self.root

    def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        return self.blobs[descriptor.digest]

    @contextmanager
    def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
        data = self.blobs[descriptor.digest]
        yield (data[at : at + 3] for at in range(offset, len(data), 3))

    def has_blob(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.blobs

    def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
        with read(0) as chunks:
            self._keep(descriptor, b"".join(chunks))

    def put_manifest(self, descriptor: Descriptor, raw: bytes, *, root: bool) -> None:
        self._keep(descriptor, raw)
        if root:
            self.root = descriptor

    def _keep(self, descriptor: Descriptor, data: bytes) -> None:
        with self.lock:
            self.blobs[descriptor.digest] = data
            self.order.append(descriptor.digest)

    def add(self, *layers: bytes, config: bytes = b"{}") -> Manifest:
        manifest = make_manifest(blob(config, OCI_CONFIG), [blob(layer) for layer in layers])
        for data in (*layers, config, manifest.raw):
            self.blobs[digest_of(data)] = data
        self.root = manifest.descriptor
        return manifest

    def add_index(self, **images: Manifest) -> Index:
        entries = [
            manifest.descriptor._replace(platform=Platform("linux", architecture))
            for architecture, manifest in images.items()
        ]
        index = make_index(entries)
        self.blobs[digest_of(index.raw)] = index.raw
        self.root = index.descriptor
        return index


def test_blobs_come_first_then_config_then_manifest() -> None:
    source, sink = Memory(), Memory()
    manifest = source.add(b"layer one", b"layer two", b"layer one")
    seen: list[tuple[Digest, int, int, bool]] = []
    copied = copy(source, sink, progress=lambda blob, *rest: seen.append((blob.digest, *rest)))
    assert sink.blobs == source.blobs
    assert sink.order[2:] == [digest_of(b"{}"), digest_of(manifest.raw)]
    assert (copied.root, copied.manifests, sink.root) == (manifest.descriptor, (manifest,), manifest.descriptor)
    assert [step[1:] for step in seen if step[0] == digest_of(b"{}")] == [
        (0, 2, False), (2, 2, False), (2, 2, True),
    ]  # fmt: skip


def test_what_the_sink_has_is_not_sent() -> None:
    source, sink = Memory(), Memory()
    source.add(b"there", b"missing")
    sink.blobs[digest_of(b"there")] = b"there"
    done: dict[Digest, int] = {}

    def progress(descriptor: Descriptor, current: int, total: int, finished: bool) -> None:
        if finished:
            done[descriptor.digest] = current

    copy(source, sink, progress=progress)
    assert digest_of(b"there") not in sink.order
    assert (done[digest_of(b"there")], done[digest_of(b"missing")]) == (0, 7)


@pytest.mark.parametrize("wrong", [b"short", b"exactly as lonG", b"much longer than it should be"])
def test_wrong_bytes_are_caught_on_the_way(wrong: bytes) -> None:
    source, sink = Memory(), Memory()
    source.add(b"exactly as long")
    source.blobs[digest_of(b"exactly as long")] = wrong
    with pytest.raises(WrongBytes, match=digest_of(b"exactly as long")):
        copy(source, sink)
    assert sink.order == []


def test_a_manifest_that_lies_is_refused() -> None:
    source, sink = Memory(), Memory()
    manifest = source.add(b"x")
    source.blobs[manifest.descriptor.digest] = manifest.raw + b" "
    with pytest.raises(WrongBytes):
        copy(source, sink)
    source.root = manifest.descriptor._replace(size=1 << 40)
    with pytest.raises(CorruptData, match="too large"):
        copy(source, sink)


def test_one_platform_of_an_index_or_all() -> None:
    source = Memory()
    amd, arm = source.add(b"amd", b"both", config=b"1"), source.add(b"arm", b"both", config=b"2")
    index = source.add_index(amd64=amd, arm64=arm)
    one, everything = Memory(), Memory()
    copied = copy(source, one, platform=Platform("linux", "arm64"))
    assert (copied.root.digest, copied.resolved, one.root) == (
        digest_of(arm.raw), index.descriptor, copied.root,
    )  # fmt: skip
    assert digest_of(b"amd") not in one.blobs
    copied = copy(source, everything)
    assert everything.blobs == source.blobs
    assert (everything.order[-1], copied.manifests) == (digest_of(index.raw), (amd, arm))
    with pytest.raises(NoSuchPlatform, match="no image for platform linux/s390x") as error:
        copy(source, Memory(), platform=Platform("linux", "s390x"))
    assert error.value.hint == "available: linux/amd64, linux/arm64"


def test_platform_variants() -> None:
    def entry(number: int, *platform: str) -> Descriptor:
        return blob(b"%d" % number)._replace(platform=Platform(*platform) if platform else None)

    index = make_index(
        [
            entry(0, "unknown", "unknown"), entry(1, "linux", "arm", "v6"), entry(2, "linux", "arm", "v7"),
            entry(3, "linux", "arm64", "v8"), entry(4, "windows", "amd64"), entry(5, "linux", "amd64", "v3"),
            entry(6, "linux", "amd64"),
        ]
    )  # fmt: skip
    wanted = {
        ("linux", "arm", "v7"): 2, ("linux", "arm", ""): 1, ("linux", "arm64", ""): 3, ("linux", "arm64", "v8"): 3,
        ("linux", "amd64", ""): 6, ("linux", "amd64", "v3"): 5,
    }  # fmt: skip
    for platform, number in wanted.items():
        assert select_platform(index, Platform(*platform)).digest == digest_of(b"%d" % number)
    with pytest.raises(NoSuchPlatform):
        select_platform(index, Platform("linux", "arm", "v5"))
    assert select_platform(make_index([entry(7)]), Platform()).digest == digest_of(b"7")


def test_blobs_travel_in_parallel_and_one_failure_stops_all() -> None:
    gate = threading.Barrier(3, timeout=10)
    stopped: list[str] = []

    class Slow(Memory):
        @contextmanager
        def open_blob(self, descriptor: Descriptor, offset: int = 0) -> Iterator[Iterator[bytes]]:
            gate.wait()
            yield self._chunks(descriptor)

        def _chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
            if self.blobs[descriptor.digest] == b"fails":
                raise NotFound("it is gone")
            try:
                while True:
                    yield b""
            finally:
                stopped.append(self.blobs[descriptor.digest].decode())

    source, sink = Slow(), Memory()
    source.add(b"endless one", b"fails", b"endless two", b"never begun")
    with pytest.raises(NotFound, match="it is gone"):
        copy(source, sink, jobs=3)
    assert sorted(stopped) == ["endless one", "endless two"]
    assert sink.order == []


def test_a_sink_may_resume() -> None:
    class Resuming(Memory):
        def put_blob(self, descriptor: Descriptor, read: BlobReader) -> None:
            with read(4) as chunks:
                self._keep(descriptor, b"laye" + b"".join(chunks))

    source, sink = Memory(), Resuming(verifies=True)
    source.add(b"layer one", config=b"laye{}")
    copy(source, sink)
    assert sink.blobs == source.blobs

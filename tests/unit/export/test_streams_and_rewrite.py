"""Streams between forms, and images with clamped times."""

import gzip
import io
import time
from typing import Any

import pytest

from moldar.errors import CorruptData
from moldar.export.rewrite import clamp_times
from moldar.export.store_image import StoreImage
from moldar.export.streams import Hashing, Meter, Prefetched, WrittenTar
from moldar.image.decompression import BadCompression
from moldar.image.layer_entry import BadLayer, LayerEntry
from moldar.image.layer_read import read_entries
from moldar.image.layer_write import LayerWriter
from moldar.image.model import digest_of


def test_prefetched_gives_everything_in_any_sizes() -> None:
    data = bytes(range(256)) * 20_000
    with Prefetched(io.BytesIO(data)) as stream:
        assert b"".join(iter(lambda: stream.read(70_000), b"")) == data
        assert stream.read(10) == b""


@pytest.mark.usefixtures("no_new_threads")
def test_prefetched_raises_the_streams_error_and_ends_its_thread() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise CorruptData("broken")

    with Prefetched(Failing()) as stream, pytest.raises(CorruptData, match="broken"):
        stream.read(1)
    with Prefetched(io.BytesIO(bytes(50 << 20))) as stream:  # left early, with the thread waiting for room
        stream.read(1)


@pytest.mark.usefixtures("no_new_threads")
def test_a_written_tar_may_be_left_early() -> None:
    endless = ((LayerEntry(f"d{number}", "dir"), None) for number in range(10**9))
    started = time.monotonic()
    with WrittenTar(endless) as stream:
        assert stream.read(100).startswith(b"d0/")
    assert time.monotonic() - started < 10


def test_hashing_counts_and_digests() -> None:
    stream = Hashing(io.BytesIO(b"some data"))
    assert stream.read(4) + stream.read() == b"some data"
    assert (stream.digest, stream.size) == (digest_of(b"some data"), 9)


def times(place: Any, image: str) -> list[set[float]]:
    stack = tuple(place.store.images.layers(image))
    found = []
    for depth in range(1, len(stack) + 1):
        with place.forms.open_tar(stack[:depth]) as stream:
            found.append({entry.mtime for entry, _ in read_entries(stream, contents=False)})
    return found


def test_times_are_clamped_above_the_base(place: Any) -> None:
    image = place.add_image({"base": b"b"}, {"a": b"1" * 3_000_000, "dir/": b""}, {".wh.a": b""})
    assert times(place, image) == [{1_600_000_000}, {1_600_000_000, 0}, {0}]
    rewritten = clamp_times(place.store, place.forms, image, 1_500_000_000, keep=1)
    assert times(place, rewritten) == [{1_600_000_000}, {1_500_000_000, 0}, {0}]
    assert [each.id for each in place.store.images.all()] == [image]
    StoreImage(place.store, place.forms, rewritten).resolve()
    assert place.store.images.manifests(rewritten) == []
    assert clamp_times(place.store, place.forms, image, 1_500_000_000, keep=1) == rewritten
    assert clamp_times(place.store, place.forms, rewritten, 1_500_000_000, keep=1) == rewritten
    assert clamp_times(place.store, place.forms, image, 1_700_000_000) == image
    place.forms.unpacked(tuple(place.store.images.layers(rewritten)))


def metered(chunks: list[bytes]) -> tuple[str, int]:
    with Meter() as meter:
        for chunk in chunks:
            meter.feed(chunk)
        return meter.result()


def test_a_meter_measures_what_is_fed() -> None:
    plain = layer(bytes(range(256)) * 40_000)
    packed = gzip.compress(plain)
    pieces = [packed[at : at + 5000] for at in range(0, len(packed), 5000)]
    assert metered(pieces) == metered([plain]) == (digest_of(plain), len(plain))
    assert metered([]) == metered([b""]) == (digest_of(b""), 0)


def layer(content: bytes) -> bytes:
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    writer.add(LayerEntry("file", "file", size=len(content)), content)
    writer.close()
    return out.getvalue()


@pytest.mark.usefixtures("no_new_threads")
def test_a_meter_that_fails_blocks_nobody() -> None:
    packed = gzip.compress(layer(bytes(range(256)) * 4000))
    for wrong in (packed[:3], packed[:-3], packed[:15] + b"\xff" * 50_000, packed + b"rubbish", b"no tar " * 9999):
        with pytest.raises((BadCompression, BadLayer)):
            metered([wrong[at : at + 100] for at in range(0, len(wrong), 100)])
    with Meter() as meter:  # left without asking
        meter.feed(b"BZh9 but not really")

"""Codecs: round trips, other programs' output, determinism, and broken input."""

import bz2
import gzip
import io
import lzma
import os
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from moldar.image.compression import CODECS, MEDIA_TYPE, Codec, UnknownCompression, codec_of, compressor
from moldar.image.decompression import BadCompression, detect, open_decompressed

DATA = os.urandom(2_000_000) + bytes(9_000_000) + b"some text, " * 100_000


def compressed(data: bytes, codec: Codec, level: int | None = None) -> bytes:
    work = compressor(codec, level)
    return work.compress(data) + work.flush()


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time, as sockets do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(self._step)


@pytest.mark.parametrize("level", [None, 0, 1, 9])
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_round_trip(codec: Codec, level: int | None) -> None:
    packed = compressed(DATA, codec, level)
    assert detect(packed) == codec
    assert packed == compressed(DATA, codec, level)
    assert open_decompressed(io.BytesIO(packed)).read() == DATA
    stream = open_decompressed(io.BytesIO(packed + packed + bytes(700)))
    assert b"".join(iter(lambda: stream.read(70_001), b"")) == DATA + DATA


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000), st.sampled_from(CODECS), st.integers(1, 50), st.integers(1, 400))
def test_any_chunks(data: bytes, codec: Codec, step: int, size: int) -> None:
    packed = data if codec == "none" else compressed(data, codec)
    stream = open_decompressed(Dribble(packed, step))
    if detect(data) == "none":
        assert b"".join(iter(lambda: stream.read(size), b"")) == data


def test_gzip_headers_tell_nothing() -> None:
    assert compressed(b"x", "gzip")[:8] == b"\x1f\x8b\x08\x00\0\0\0\0"


def test_other_programs_read_it() -> None:
    packed = compressed(DATA, "gzip")
    assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == DATA
    assert zstandard.ZstdDecompressor().decompressobj().decompress(compressed(DATA, "zstd")) == DATA


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress])
def test_reads_other_programs_output(pack: object) -> None:
    packed: bytes = pack(DATA)  # type: ignore[operator]
    assert open_decompressed(io.BytesIO(packed)).read() == DATA


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress])
def test_broken_input_is_refused(pack: object) -> None:
    packed: bytes = pack(DATA[:300_000])  # type: ignore[operator]
    for end in (7, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        with pytest.raises(BadCompression, match="truncated"):
            open_decompressed(io.BytesIO(packed[:end])).read()
    damaged = packed[: len(packed) // 2] + bytes(64) + packed[len(packed) // 2 + 64 :]
    with pytest.raises(BadCompression):
        stream = open_decompressed(io.BytesIO(damaged))
        if stream.read() != DATA[:300_000]:
            raise BadCompression("zstd frames without a checksum")
    with pytest.raises(BadCompression):
        open_decompressed(io.BytesIO(packed + b"this is no further frame")).read()


def test_a_bomb_comes_out_in_pieces() -> None:
    for codec in ("gzip", "zstd"):
        packed = compressed(bytes(1 << 28), codec)  # type: ignore[arg-type]
        stream = open_decompressed(io.BytesIO(packed))
        assert max(len(stream.read(1 << 30)) for _ in range(3)) <= 1 << 27


def test_plain_streams_pass_through() -> None:
    assert open_decompressed(io.BytesIO(b"")).read() == b""
    assert open_decompressed(io.BytesIO(b"abc")).read(2) == b"ab"
    assert open_decompressed(io.BytesIO(b"plain text")).read() == b"plain text"


def test_names() -> None:
    assert [codec_of(MEDIA_TYPE[codec]) for codec in CODECS] == list(CODECS)
    assert codec_of("application/vnd.docker.image.rootfs.diff.tar.gzip") == "gzip"
    assert codec_of("application/vnd.in-toto+json") is None
    with pytest.raises(UnknownCompression, match="lz4"):
        compressor("lz4")  # type: ignore[arg-type]
    with pytest.raises(UnknownCompression, match="level 99"):
        compressor("zstd", 99)


def test_what_does_not_shrink_is_stored(tmp_path: Path) -> None:
    noise = os.urandom(4 << 20)
    packed = compressed(noise, "gzip")
    assert len(noise) < len(packed) < len(noise) * 1.0002
    assert noise[:60_000] in packed
    mixed = b"text" * 300_000 + noise + b"text" * 300_000 + noise[:999_999]
    for data in (noise, mixed):
        (tmp_path / "data.gz").write_bytes(compressed(data, "gzip"))
        done = subprocess.run(["gzip", "-dc", str(tmp_path / "data.gz")], check=True, capture_output=True)
        assert done.stdout == data
    assert len(compressed(mixed, "gzip")) < len(noise) * 1.8


@pytest.mark.parametrize("step", [70_001, 1 << 18, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_the_pieces_that_come_do_not_show(step: int) -> None:
    whole = compressed(DATA, "gzip")
    work = compressor("gzip")
    buffer = bytearray(step)
    made = []
    for start in range(0, len(DATA), step):
        piece = DATA[start : start + step]
        buffer[: len(piece)] = piece
        made.append(work.compress(memoryview(buffer)[: len(piece)]))
        buffer[:] = bytes(step)
    assert b"".join([*made, work.flush()]) == whole

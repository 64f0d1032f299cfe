"""Layer compression: gzip by isal, zstd by zstandard, streaming in and out, recognised by their first bytes.

Output depends on the input, the codec and the level only: gzip headers carry no time and no name.
"""

import bz2
import lzma
import os
import struct
import threading
from collections import deque
from typing import Any, Literal, Protocol, cast

import zstandard
from isal import isal_zlib

from moldar.errors import CorruptData, HostTrouble, UserMistake
from moldar.image.layer_read import Readable
from moldar.image.model import (
    DOCKER_LAYER,
    DOCKER_LAYER_FOREIGN_GZIP,
    DOCKER_LAYER_GZIP,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_NONDISTRIBUTABLE,
    OCI_LAYER_ZSTD,
)

Codec = Literal["none", "gzip", "zstd"]
CODECS: tuple[Codec, ...] = ("none", "gzip", "zstd")
DEFAULT_LEVEL: dict[Codec, int] = {"none": 0, "gzip": 1, "zstd": 3}
MEDIA_TYPE: dict[Codec, str] = {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}

_CODEC_OF: dict[str, Codec] = {
    OCI_LAYER: "none",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    OCI_LAYER_NONDISTRIBUTABLE: "none",
    OCI_LAYER_NONDISTRIBUTABLE + "+gzip": "gzip",
    OCI_LAYER_NONDISTRIBUTABLE + "+zstd": "zstd",
    DOCKER_LAYER: "none",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_FOREIGN_GZIP: "gzip",
    DOCKER_LAYER + ".zstd": "zstd",
}
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_GZIP_BLOCK = 1 << 20
_SAMPLE = 1 << 14
_SAMPLE_STEP = _GZIP_BLOCK // 4
_STORED_MOST = 0xFFFF  # bytes in one stored block
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST_BLOCK = b"\x03\0"  # nothing, and the end
_CHUNK = 1 << 18
_OUT = 1 << 20
_FAILURES: tuple[type[Exception], ...] = (
    cast("type[Exception]", isal_zlib.error),  # isal's stubs take the class for an instance
    zstandard.ZstdError,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
)
_ZSTD_IN = 4096  # zstandard cannot bound its output; 4 KiB in give 128 MiB at most


class Compressor(Protocol):
    """A codec at work: each call gives what is ready, `flush` the rest."""

    def compress(self, data: bytes | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class UnknownCompression(UserMistake):
    """A codec or level that does not exist."""


class BadCompression(CorruptData):
    """A compressed stream that is malformed or ends early."""


def compressor(codec: Codec, level: int | None = None) -> Compressor:
    """A new compressor; `level` None is the codec's default. gzip has levels 0-3 here, higher ones mean 3.

    Raises UnknownCompression.
    """
    if codec not in CODECS:
        raise UnknownCompression(f"unknown compression {codec!r}", hint="choose none, gzip or zstd")
    level = DEFAULT_LEVEL[codec] if level is None else level
    if level < 0 or level > 22:
        raise UnknownCompression(f"invalid compression level {level} for {codec}")
    if codec == "gzip":
        return _BlockGzip(min(level, 3))
    if codec == "zstd":
        return zstandard.ZstdCompressor(level=max(level, 1)).compressobj()
    return _Plain()


def codec_of(media_type: str) -> Codec | None:
    """The codec that a layer's media type promises, None for a type that is no layer's."""
    return _CODEC_OF.get(media_type)


def detect(prefix: bytes) -> str:
    """`gzip`, `zstd`, `bzip2`, `xz` or `none`, by the first six bytes of a stream."""
    for magic, name in _MAGIC:
        if prefix.startswith(magic):
            return name
    return "none"


def open_decompressed(stream: Readable) -> Readable:
    """The stream's content, decompressed if its first bytes say so; reading raises BadCompression.

    How much comes out is not limited here: that is for the caller, who knows what to expect.
    """
    head = b""
    while len(head) < 6:
        more = stream.read(_CHUNK)
        if not more:
            break
        head += more
    name = detect(head)
    if name == "none":
        return _Prefixed(head, stream)
    return _Decompressed(stream, head, name)


class _Plain:
    """No compression."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


class _BlockGzip:
    """One gzip member of blocks that threads compress independently of each other, a few at a time.

    The blocks' size is fixed and each ends on a byte (RFC 1951, 3.2.4, an empty stored block), so the output does
    not depend on the number of threads. It is 0.03 % larger than that of one run. A block whose samples do not
    shrink is stored as it is, which is ten times faster than finding out that no part of it shrinks.
    """

    def __init__(self, level: int) -> None:
        self._level = level
        self._rest = bytearray()
        self._waiting: deque[_GzipBlock] = deque()
        self._most = os.cpu_count() or 1
        self._size = 0
        self._checksum = 0
        self._started = False

    def compress(self, data: bytes | memoryview, /) -> bytes:
        self._size += len(data)
        self._checksum = isal_zlib.crc32(data, self._checksum)
        rest = memoryview(data if isinstance(data, bytes) else bytes(data))  # it is used after this call
        ready = self._header()
        if self._rest:
            missing = _GZIP_BLOCK - len(self._rest)
            self._rest += rest[:missing]
            rest = rest[missing:]
            if len(self._rest) == _GZIP_BLOCK:
                self._begin(memoryview(bytes(self._rest)), ready)
                self._rest.clear()
        while len(rest) >= _GZIP_BLOCK:
            self._begin(rest[:_GZIP_BLOCK], ready)
            rest = rest[_GZIP_BLOCK:]
        self._rest += rest
        return b"".join(ready)

    def flush(self) -> bytes:
        ready = self._header()
        ready += [block.result() for block in self._waiting]
        self._waiting.clear()
        if self._rest:
            last = _GzipBlock(memoryview(bytes(self._rest)), self._level)
            last.run()
            ready.append(last.result())
        ready += [_LAST_BLOCK, struct.pack("<II", self._checksum, self._size & 0xFFFFFFFF)]
        return b"".join(ready)

    def _header(self) -> list[bytes]:
        started, self._started = self._started, True
        return [] if started else [_GZIP_HEADER]

    def _begin(self, data: memoryview, ready: list[bytes]) -> None:
        """Start on a block; one that was waited for long enough goes to `ready`."""
        block = _GzipBlock(data, self._level)
        if _shrinks(data):
            block.start()
        else:  # which is no work for a thread
            block.output = _stored(data)
        self._waiting.append(block)
        if len(self._waiting) > self._most:
            ready.append(self._waiting.popleft().result())


class _GzipBlock(threading.Thread):
    """Compresses one block; a thread for each, so that none has to be ended when a caller gives up."""

    def __init__(self, data: memoryview, level: int) -> None:
        super().__init__(daemon=True)
        self._data = data
        self._level = level
        self.output: bytes | None = None

    def run(self) -> None:
        work = isal_zlib.compressobj(self._level, wbits=-15)
        self.output = work.compress(self._data) + work.flush(isal_zlib.Z_SYNC_FLUSH)

    def result(self) -> bytes:
        if self.ident is not None:
            self.join()
        if self.output is None:
            raise HostTrouble("a compressing thread failed, most likely for want of memory")
        return self.output


def _shrinks(block: memoryview) -> bool:
    """Whether pieces from all over a block lose at least a 64th of their size."""
    samples = [block[start : start + _SAMPLE] for start in range(0, len(block), _SAMPLE_STEP)]
    made = sum(len(isal_zlib.compress(sample, 1, -15)) for sample in samples)
    return made * 64 <= sum(map(len, samples)) * 63


def _stored(block: memoryview) -> bytes:
    """The block as stored ones (RFC 1951, 3.2.4): their length, its complement, the bytes themselves."""
    pieces: list[bytes | memoryview] = []
    for start in range(0, len(block), _STORED_MOST):
        piece = block[start : start + _STORED_MOST]
        pieces += [struct.pack("<BHH", 0, len(piece), len(piece) ^ _STORED_MOST), piece]
    return b"".join(pieces)


class _Prefixed:
    """A stream whose first bytes were already read."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._stream.read(size)
        if size < 0:
            data, self._head = self._head, b""
            return data + self._stream.read()
        data, self._head = self._head[:size], self._head[size:]
        return data


def _new_decompressor(name: str) -> Any:
    if name == "gzip":
        return isal_zlib.decompressobj(wbits=31)
    if name == "zstd":
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    return bz2.BZ2Decompressor() if name == "bzip2" else lzma.LZMADecompressor(memlimit=1 << 28)


class _Decompressed:
    """Reads through a decompressor, frame after frame; may give fewer bytes than asked for before the end."""

    def __init__(self, stream: Readable, head: bytes, name: str) -> None:
        self._stream = stream
        self._name = name
        self._input = head
        self._decompressor = _new_decompressor(name)
        self._output = b""
        self._position = 0
        self._ended = False
        self._full = False

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(_OUT), b""))
        while self._position >= len(self._output):
            if self._ended:
                return b""
            self._output, self._position = self._advance(), 0
        if not self._position and len(self._output) <= size:
            self._position = len(self._output)
            return self._output
        data = self._output[self._position : self._position + size]
        self._position += len(data)
        return data

    def _advance(self) -> bytes:
        """The next output, possibly none yet."""
        try:
            if self._decompressor.eof:
                self._next_frame()
                return b""
            if self._name == "gzip":
                return self._step_gzip()
            return self._step_zstd() if self._name == "zstd" else self._step_file()
        except _FAILURES as error:
            raise BadCompression(f"malformed {self._name} data: {error}") from error

    def _next_frame(self) -> None:
        rest = self._input if self._name == "zstd" else self._decompressor.unused_data
        while not rest.strip(b"\0"):  # zeros pad archives on tape
            rest = self._stream.read(_CHUNK)
            if not rest:
                self._ended = True
                return
        self._decompressor, self._input = _new_decompressor(self._name), rest

    def _fill(self) -> None:
        if not self._input:
            self._input = self._stream.read(_CHUNK)
            if not self._input:
                raise BadCompression(f"truncated {self._name} data")

    def _step_gzip(self) -> bytes:
        if not self._full:
            self._fill()
        output: bytes = self._decompressor.decompress(self._input, _OUT)
        self._input = self._decompressor.unconsumed_tail
        self._full = len(output) == _OUT  # then more output may wait inside, with no input left
        return output

    def _step_zstd(self) -> bytes:
        self._fill()
        outputs, total, position, whole = [], 0, 0, self._input
        while position < len(whole) and total < _OUT and not self._decompressor.eof:
            outputs.append(self._decompressor.decompress(whole[position : position + _ZSTD_IN]))
            total += len(outputs[-1])
            position += _ZSTD_IN
        self._input = whole[position:]
        if self._decompressor.eof:
            self._input = self._decompressor.unused_data + self._input
        return b"".join(outputs)

    def _step_file(self) -> bytes:
        if not self._decompressor.needs_input:
            output: bytes = self._decompressor.decompress(b"", _OUT)
            return output
        self._fill()
        output, self._input = self._decompressor.decompress(self._input, _OUT), b""
        return output

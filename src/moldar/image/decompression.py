"""Compressed streams, recognised by their first bytes and read as they come: gzip, zstd, bzip2, xz."""

from typing import Any, cast

from moldar.errors import CorruptData
from moldar.image.layer_read import Readable

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_CHUNK = 1 << 18
_OUT = 1 << 20
_ZSTD_IN = 4096  # zstandard cannot bound its output; 4 KiB in give 128 MiB at most


class BadCompression(CorruptData):
    """A compressed stream that is malformed or ends early."""


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


def _new_decompressor(name: str) -> tuple[Any, type[Exception]]:
    """A decompressor and what it raises. Imported here, because few streams are compressed by each."""
    if name == "gzip":
        from isal import isal_zlib

        # isal's stubs take the class for an instance
        return isal_zlib.decompressobj(wbits=31), cast("type[Exception]", isal_zlib.error)
    if name == "zstd":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(), zstandard.ZstdError
    if name == "bzip2":
        import bz2

        return bz2.BZ2Decompressor(), OSError
    import lzma

    return lzma.LZMADecompressor(memlimit=1 << 28), lzma.LZMAError


class _Decompressed:
    """Reads through a decompressor, frame after frame; may give fewer bytes than asked for before the end."""

    def __init__(self, stream: Readable, head: bytes, name: str) -> None:
        self._stream = stream
        self._name = name
        self._input = head
        self._decompressor, self._failure = _new_decompressor(name)
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
        except (self._failure, OSError, ValueError, EOFError) as error:
            raise BadCompression(f"malformed {self._name} data: {error}") from error

    def _next_frame(self) -> None:
        rest = self._input if self._name == "zstd" else self._decompressor.unused_data
        while not rest.strip(b"\0"):  # zeros pad archives on tape
            rest = self._stream.read(_CHUNK)
            if not rest:
                self._ended = True
                return
        self._decompressor, self._failure = _new_decompressor(self._name)
        self._input = rest

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

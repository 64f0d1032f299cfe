"""What is in one layer, read within bounds: names, sizes, checksums of contents, installed packages.

Layers are pushed by anybody and shown to others. A listing costs at most LIMITS, whatever the bytes say: it ends
early and says why (`cut`). Nothing is ever written below a name from a layer, and contents are only summed up.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import zstandard
from isal import isal_zlib

from moldar.errors import CorruptData, HostTrouble
from moldar.hub.storage.contract import BlobReader
from moldar.image.decompression import detect, open_decompressed
from moldar.image.layer_entry import KINDS, LayerEntry
from moldar.image.layer_read import Content, read_entries

PACKAGE_FILES = {"var/lib/dpkg/status": ("Package: ", "Version: "), "lib/apk/db/installed": ("P:", "V:")}
_CHUNK = 1 << 20
_VERSION = 1


class Limits(NamedTuple):
    """How much reading one layer may cost. `overhead`: bytes of headers beside those that entries need."""

    entries: int = 200_000
    unpacked: int = 8 << 30
    seconds: float = 20
    names: int = 24 << 20
    overhead: int = 32 << 20
    packages: int = 20_000
    package_file: int = 16 << 20


LIMITS = Limits()


class Item(NamedTuple):
    """One member of a layer. `check`: a checksum of a file's content, which tells changed files from equal ones."""

    path: str
    kind: str
    size: int
    mode: int
    target: str
    check: int


class Listing(NamedTuple):
    """A layer's members. `cut`: why it is not all of them ("entries", "bytes", "time", "damaged", "format",
    "absent"), empty when it is; `packages`: names and versions, None when the layer says nothing of them."""

    items: tuple[Item, ...]
    cut: str = ""
    packages: tuple[tuple[str, str], ...] | None = None


class _Enough(Exception):
    """A limit was reached; its text is the `cut`."""


class _BlobStream:
    """A blob's bytes as something to read from, in one go: a storage may answer each range by a request."""

    def __init__(self, blob: BlobReader) -> None:
        self._size = blob.size
        self._chunks = blob.chunks(0, blob.size)
        self._rest = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        left = self._size if size < 0 else size
        parts: list[memoryview] = []
        while left > 0:
            self._rest = self._rest or memoryview(next(self._chunks, b""))
            if not self._rest:
                break
            parts.append(self._rest[:left])
            self._rest = self._rest[left:]
            left -= len(parts[-1])
        return b"".join(parts)


class _Bounded:
    """An unpacked stream that ends with _Enough when it, or the time, goes on for too long."""

    def __init__(self, stream: Any, limits: Limits, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._limits = limits
        self._clock = clock
        self._deadline = clock() + limits.seconds
        self.received = 0
        self.expected = limits.overhead

    def read(self, size: int = -1, /) -> bytes:
        self.check()
        data: bytes = self._stream.read(size)
        self.received += len(data)
        if self.received > self._limits.unpacked:
            raise _Enough("bytes")
        if self.received > self.expected + _CHUNK:
            raise _Enough("damaged")
        return data

    def check(self) -> None:
        if self._clock() > self._deadline:
            raise _Enough("time")


def read_listing(blob: BlobReader, limits: Limits = LIMITS, clock: Callable[[], float] = time.monotonic) -> Listing:
    """The listing of the layer in `blob`; never raises for what the layer holds."""
    stream = _BlobStream(blob)
    head = b"".join(blob.chunks(0, min(blob.size, 6)))
    if detect(head) not in ("none", "gzip", "zstd"):
        return Listing((), "format")
    items: dict[str, Item] = {}
    packages: dict[str, str] = {}
    cut = ""
    try:
        for item, found in _items(_Bounded(open_decompressed(stream), limits, clock), limits):
            items.pop(item.path, None)  # of members with one name the last counts
            items[item.path] = item
            if found is not None:
                packages.update(found[: limits.packages - len(packages)])
    except _Enough as error:
        cut = str(error)
    except (CorruptData, HostTrouble, ValueError, OverflowError):
        cut = "damaged"
    known = any(path in items for path in PACKAGE_FILES)
    return Listing(tuple(items.values()), cut, tuple(sorted(packages.items())) if known else None)


def _items(stream: _Bounded, limits: Limits) -> Iterator[tuple[Item, list[tuple[str, str]] | None]]:
    names = 0
    for count, (entry, content) in enumerate(read_entries(stream, contents=True)):
        names += len(entry.path) + len(entry.target)
        if count >= limits.entries or names > limits.names:
            raise _Enough("entries")
        stream.check()
        stream.expected += entry.size + 2048
        found = None
        check = 0
        if content is not None:
            if entry.path in PACKAGE_FILES and entry.size <= limits.package_file:
                data = content.read()
                check = isal_zlib.crc32(data, 0)
                found = _packages(data, *PACKAGE_FILES[entry.path])
            else:
                check = _checksum(content)
        if entry.path:
            yield _item(entry, check), found


def _item(entry: LayerEntry, check: int) -> Item:
    return Item(entry.path, entry.kind, entry.size, entry.mode, entry.target, check)


def _checksum(content: Content) -> int:
    total = 0
    while data := content.read(_CHUNK):
        total = isal_zlib.crc32(data, total)
    return total


def _packages(data: bytes, name_field: str, version_field: str) -> list[tuple[str, str]]:
    """Names and versions in a package manager's database: records of lines, with an empty line between them."""
    found: list[tuple[str, str]] = []
    name = version = ""
    removed = False
    for line in [*data.decode("utf-8", "replace").split("\n"), ""]:
        if line.startswith(name_field):
            name = line[len(name_field) :].strip()[:200]
        elif line.startswith(version_field):
            version = line[len(version_field) :].strip()[:200]
        elif line.startswith("Status: "):
            removed = not line.rstrip().endswith(" installed")
        elif not line.strip():
            if name and not removed:
                found.append((name, version))
            name, version, removed = "", "", False
    return found


def encode_listing(listing: Listing) -> bytes:
    """The listing as bytes for a file."""
    document = [_VERSION, listing.cut, listing.packages, listing.items]
    return zstandard.ZstdCompressor(3).compress(json.dumps(document, separators=(",", ":")).encode())


def decode_listing(raw: bytes) -> Listing:
    """A listing that `encode_listing` made; CorruptData for anything else."""
    try:
        version, cut, packages, items = json.loads(zstandard.ZstdDecompressor().decompress(raw))
        if version != _VERSION:
            raise CorruptData("a listing of another version")
        listing = Listing(
            tuple(Item(*item) for item in items),
            cut,
            None if packages is None else tuple((name, text) for name, text in packages),
        )
    except (ValueError, TypeError, zstandard.ZstdError) as error:
        raise CorruptData("a damaged listing") from error
    if not all(item.kind in KINDS for item in listing.items):
        raise CorruptData("a damaged listing")
    return listing

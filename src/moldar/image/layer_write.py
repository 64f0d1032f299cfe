"""A deterministic tar stream out: ustar, with PAX records only for what ustar cannot say.

Headers are made by hand because `tarfile` takes about 90 microseconds for each. All header bytes are ASCII, which
lets one adler32 give the checksum: the sum of 512 bytes below 128 stays under adler32's modulus.

Format: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; SCHILY.xattr. as GNU tar and Go.
"""

import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable

from moldar.errors import CorruptData, HostTrouble
from moldar.image.layer_entry import LayerEntry

Write = Callable[[bytes | memoryview], object]
Opener = Callable[[], int]
"""Opens an entry's content for reading and gives the descriptor, which the caller closes."""

_TYPES = {
    "file": b"0", "link": b"1", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6",
}  # fmt: skip
_BATCH = 1 << 20
_OCTAL7 = 0o7777777
_OCTAL11 = 0o77777777777
_PADDING = bytes(512)
_END = bytes(1024)
_HEADER = struct.Struct("100s 48s 8s c 100s 8s 64s 16s 155s 12x")
_BLANK_CHECKSUM = b" " * 8
_ENCODING = sys.getfilesystemencoding()
_NO_DEVICE = b"0000000\x000000000\0"
_MAGIC = b"ustar\x0000"
_PLAIN_TAIL = bytes(100) + _MAGIC + bytes(64) + _NO_DEVICE + bytes(167)
_PLAIN_SUM = sum(_BLANK_CHECKSUM) + sum(_PLAIN_TAIL)


class LayerWriter:
    """Writes entries, in the order in which they come, to `write` in chunks of about a megabyte.

    The same entries always give the same bytes. Modification times are cut to whole seconds, and to `newest`.
    """

    def __init__(self, write: Write, newest: int | None = None) -> None:
        self._newest = newest
        self._write = write
        self._buffer = bytearray()
        self._common: tuple[int, int, int, int] = (-1, -1, -1, -1)
        self._common_fits = False
        self._common_fields = (b"", b"", 0)

    def add(self, entry: LayerEntry, content: bytes | int | None = None) -> None:
        """Append `entry`. `content`, of exactly `entry.size` bytes, is the bytes or a descriptor to read from.

        A descriptor is read from its current offset and not closed. Raises HostTrouble when it cannot be read or
        ends early, because the file shrank meanwhile.
        """
        size = entry.size if entry.kind == "file" else 0
        buffer = self._buffer
        buffer += self._header(entry, size)
        if size:
            if type(content) is bytes:
                if len(content) != size:
                    raise CorruptData(f"{entry.path!r} has {len(content)} bytes of content instead of {size}")
                self._put(content)
            elif type(content) is int:
                self._copy(content, entry)
            else:
                raise CorruptData(f"{entry.path!r} has no content")
            if size & 511:
                self._buffer += _PADDING[size & 511 :]
        if len(self._buffer) > _BATCH:
            self._flush()

    def add_chunks(self, entry: LayerEntry, chunks: Iterable[bytes]) -> None:
        """Append a file whose content comes in pieces; CorruptData when they are not `entry.size` bytes in all."""
        self._buffer += self._header(entry, entry.size)
        total = 0
        for chunk in chunks:
            total += len(chunk)
            self._put(chunk)
            if len(self._buffer) > _BATCH:
                self._flush()
        if total != entry.size:
            raise CorruptData(f"{entry.path!r} has {total} bytes of content instead of {entry.size}")
        self._buffer += bytes(-total & 511)

    def add_beside(self, entry: LayerEntry, fill: Callable[[], object]) -> None:
        """Append a file whose content, `entry.size` bytes, `fill` puts itself to where `write` puts its bytes."""
        self._buffer += self._header(entry, entry.size)
        self._flush()
        fill()
        self._buffer += bytes(-entry.size & 511)

    def close(self) -> None:
        """End the archive and hand over what is buffered."""
        self._buffer += _END
        self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._write(memoryview(self._buffer).toreadonly())
            self._buffer = bytearray()

    def _put(self, data: bytes) -> None:
        if len(data) < _BATCH:
            self._buffer += data
        else:
            self._flush()
            self._write(data)

    def _copy(self, descriptor: int, entry: LayerEntry) -> None:
        left = entry.size
        try:
            while left:
                data = os.read(descriptor, left if left < _BATCH else _BATCH)
                if not data:
                    raise HostTrouble(f"{entry.path!r} shrank while it was read: {left} bytes are missing")
                left -= len(data)
                self._put(data)
        except OSError as error:
            raise HostTrouble(f"cannot read {entry.path!r}: {error.strerror}") from error

    def _header(self, entry: LayerEntry, size: int) -> bytes:
        path, kind, mode, uid, gid, mtime, _, target, major, minor, xattrs = entry
        seconds = int(mtime // 1)
        if self._newest is not None and seconds > self._newest:
            seconds = self._newest
        name = path.encode(_ENCODING, "surrogateescape")
        if kind == "dir":
            name = name + b"/" if name else b"./"
        if (mode, uid, gid, seconds) != self._common:
            self._set_common(mode, uid, gid, seconds)
        plain = not (target or major or minor or xattrs) and size <= _OCTAL11
        # adler32 of ASCII is the sum of its bytes and one; it is taken of the parts that differ between neighbours
        if plain and self._common_fits and len(name) <= 100 and name.isascii():
            common, time_field, common_sum = self._common_fields
            size_field = b"%011o\0" % size
            checksum = common_sum + (zlib.adler32(name) & 0xFFFF) + (zlib.adler32(size_field) & 0xFFFF)
            type_byte = _TYPES[kind]
            checksum += type_byte[0]
            return b"%b%b%b%b%06o\0 %b%b" % (
                name.ljust(100, b"\0"), common, size_field, time_field, checksum, type_byte, _PLAIN_TAIL,
            )  # fmt: skip
        return self._long_header(entry, name, size, seconds)

    def _set_common(self, mode: int, uid: int, gid: int, seconds: int) -> None:
        """The fields that neighbours often share, and what they add to the checksum."""
        self._common = (mode, uid, gid, seconds)
        self._common_fits = uid <= _OCTAL7 and gid <= _OCTAL7 and 0 <= seconds <= _OCTAL11
        if self._common_fits:
            common = b"%07o\0%07o\0%07o\0" % (mode, uid, gid)
            time_field = b"%011o\0" % seconds
            self._common_fields = (common, time_field, sum(common) + sum(time_field) + _PLAIN_SUM - 2)

    def _long_header(self, entry: LayerEntry, name: bytes, size: int, seconds: int) -> bytes:
        """The general case: whatever does not fit goes into an extended header before."""
        uid, gid = entry.uid, entry.gid
        link = entry.target.encode(_ENCODING, "surrogateescape")
        prefix = b""
        records: list[tuple[bytes, bytes]] = []
        if len(name) > 100 or not name.isascii():
            name, prefix = _split(name, records)
        if len(link) > 100 or not link.isascii():
            records.append((b"linkpath", link))
            link = _ascii(link)[:100]
        if not self._common_fits or size > _OCTAL11 or entry.xattrs:
            uid, gid, size, seconds = _extend(records, entry, size, seconds)
        device = b"%07o\0%07o\0" % (entry.major, entry.minor)
        numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (entry.mode, uid, gid, size, seconds)
        header = _block(name, numbers, _TYPES[entry.kind], link, (device, prefix))
        return _extended(records, name) + header if records else header


def write_layer(entries: Iterable[tuple[LayerEntry, Opener | None]], write: Write) -> None:
    """A whole layer from entries with openers, such as `diff_entries` gives."""
    writer = LayerWriter(write)
    for entry, opener in entries:
        if opener is None or not entry.size:
            writer.add(entry)
            continue
        descriptor = opener()
        try:
            writer.add(entry, descriptor)
        finally:
            os.close(descriptor)
    writer.close()


def _block(name: bytes, numbers: bytes, kind: bytes, link: bytes, tail: tuple[bytes, bytes]) -> bytes:
    """A header from its name, its fields mode to mtime, its type and link name, and device numbers with prefix."""
    header = _HEADER.pack(name, numbers, _BLANK_CHECKSUM, kind, link, _MAGIC, b"", *tail)
    checksum = (zlib.adler32(header) & 0xFFFF) - 1
    return b"%b%06o\0 %b" % (header[:148], checksum, header[156:])


def _ascii(name: bytes) -> bytes:
    """A stand-in that fits a header's field; the real name is in the PAX record before it."""
    return name.decode("ascii", "replace").replace("\ufffd", "_").encode()


def _split(name: bytes, records: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Name and prefix fields of a name that does not fit, with a record where the two cannot hold it."""
    if name.isascii() and len(name) <= 256:
        slash = name.find(b"/", len(name) - 101, 156)
        if slash > 0 and name[slash + 1 :]:
            return name[slash + 1 :], name[:slash]
    records.append((b"path", name))
    return _ascii(name)[:100], b""


def _extend(records: list[tuple[bytes, bytes]], entry: LayerEntry, size: int, seconds: int) -> tuple[int, ...]:
    """Adds records for numbers that are too large for their fields and for xattrs; gives the fields' numbers."""
    numbers = []
    limits = ((b"uid", entry.uid, _OCTAL7), (b"gid", entry.gid, _OCTAL7), (b"size", size, _OCTAL11))
    for key, value, limit in (*limits, (b"mtime", seconds, _OCTAL11)):
        if not 0 <= value <= limit:
            records.append((key, b"%d" % value))
        numbers.append(value if 0 <= value <= limit else 0)
    records += [(b"SCHILY.xattr." + os.fsencode(key), value) for key, value in entry.xattrs]
    return tuple(numbers)


def _extended(records: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The PAX header block and its records, sorted by key, for the member that follows."""
    body = b"".join(_record(key, value) for key, value in sorted(records))
    title = (b"PaxHeaders/" + name.rstrip(b"/").rpartition(b"/")[2])[:100]
    numbers = b"0000644\x000000000\x000000000\0%011o\x0000000000000\0" % len(body)
    header = _block(title, numbers, b"x", b"", (_NO_DEVICE, b""))
    return header + body + bytes(-len(body) % 512)


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, where length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)

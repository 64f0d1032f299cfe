"""Tar header blocks and PAX records, byte by byte: ustar, GNU's numbers, POSIX.1-2017 pax.

Parsing a header is on the way of every file of every image, so what repeats (modes, owners, times, sizes) is
remembered by its bytes.
"""

import struct
import sys
import zlib
from typing import NamedTuple

from moldar.image.layer_entry import BadLayer

ENCODING = sys.getfilesystemencoding()
LARGEST = 1 << 62
XATTR = b"SCHILY.xattr."

_BLOCK = struct.Struct("100s 8s 8s 8s 12s 12s 8s c 100s 6s 66x 8s 8s 155s 12x")
_REMEMBERED = 8192


class Header(NamedTuple):
    """A header block as it stands; `size` is of what follows."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    type: bytes
    link: bytes
    major: int
    minor: int


class _Numbers(dict[bytes, int]):
    """Numeric fields by their bytes, worked out when first seen; ValueError."""

    def __missing__(self, field: bytes) -> int:
        if len(self) > _REMEMBERED:
            self.clear()
        value = self[field] = _number(field)
        return value


class _Checksums(dict[bytes, int]):
    """By the bytes of the checksum field: what adler32 of the whole block ends in when the checksum is right."""

    def __missing__(self, field: bytes) -> int:
        if len(self) > _REMEMBERED:
            self.clear()
        value = self[field] = (_number(field) - 256 + sum(field) + 1) & 0xFFFF
        return value


class HeaderParser:
    """Parses the headers of one archive."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._checksums = _Checksums()

    def parse(self, block: bytes) -> Header:
        """The header in a block of 512 bytes; BadLayer."""
        name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix = _BLOCK.unpack(block)
        name = name.partition(b"\0")[0]
        numbers = self._numbers
        try:
            # adler32 is the sum modulo 65521; the bytes are summed by hand only when it does not settle the matter
            if zlib.adler32(block) & 0xFFFF != self._checksums[checksum]:
                _check_sum(block, checksum, name)
            if magic == b"ustar\0" and prefix[0]:  # GNU's own magic, with a blank, puts other things there
                name = prefix.partition(b"\0")[0] + b"/" + name
            owner, group, length = numbers[uid], numbers[gid], numbers[size]
            device, unit = (numbers[major], numbers[minor]) if kind in b"34" else (0, 0)
            if owner < 0 or group < 0 or length < 0 or device < 0 or unit < 0:
                raise ValueError("a number is out of range: it is negative")
            target = link.partition(b"\0")[0] if link[0] else b""
            bits = numbers[mode] & 0o7777
            return Header(name, bits, owner, group, length, numbers[mtime], kind, target, device, unit)
        except ValueError as error:
            raise BadLayer(f"malformed header: {error}", text_of(name)) from error


def _check_sum(block: bytes, field: bytes, name: bytes) -> None:
    if _number(field) != sum(block) - sum(field) + 256:
        raise BadLayer("wrong checksum", text_of(name))


def _number(field: bytes) -> int:
    """An octal number, or GNU's base-256 when the first bit is set; ValueError."""
    if field[0] < 128:
        text = field.partition(b"\0")[0].strip()
        if text and not text.isdigit():
            raise ValueError(f"{text!r} is not an octal number")
        return int(text or b"0", 8)
    value = int.from_bytes(field, "big")
    if field[0] & 0x40:
        value -= 1 << (8 * len(field))
    else:
        value -= 0x80 << (8 * (len(field) - 1))
    if not -LARGEST < value < LARGEST:
        raise ValueError(f"the number {value} is out of range")
    return value


def text_of(name: bytes) -> str:
    """A name as text, with surrogate escapes."""
    return name.decode(ENCODING, "surrogateescape")


def parse_records(body: bytes) -> dict[bytes, bytes]:
    """PAX records; of equal keys the last one counts."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(body) and body[position]:
        space = body.find(b" ", position, position + 20)
        digits = body[position:space]
        if space < 0 or not digits.isdigit():
            raise BadLayer("malformed extended header: a record has no length")
        end = position + int(digits)
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end > len(body) or end <= space + 1 or body[end - 1 : end] != b"\n" or not equals or not key:
            raise BadLayer("malformed extended header: a record does not end where it says")
        if b"\0" in key or (b"\0" in value and not key.startswith(XATTR)):
            raise BadLayer("a NUL byte in an extended header", text_of(value.partition(b"\0")[0]))
        records[key] = value
        position = end
    return records

"""The tar parser: archives of other writers, and archives that mean harm."""

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moldar.image.layer_entry import BadLayer, LayerEntry
from moldar.image.layer_read import read_entries, scan_entries


def read_all(raw: bytes) -> list[tuple[LayerEntry, bytes]]:
    return [
        (entry, reader.read() if reader else b"") for entry, reader in read_entries(io.BytesIO(raw), contents=True)
    ]


def block(
    name: bytes = b"f", kind: bytes = b"0", size: bytes = b"00000000000\0", link: bytes = b"", **at: bytes
) -> bytes:
    """A header block with a right checksum; `at` overrides bytes at offsets, as `_124=b"..."`."""
    header = bytearray(512)
    header[:100] = name.ljust(100, b"\0")[:100]
    header[100:124] = b"0000644\x000000000\x000000000\0"
    header[124:136] = size
    header[136:148] = b"00000000000\0"
    header[156:157] = kind
    header[157 : 157 + len(link)] = link
    header[257:265] = b"ustar\x0000"
    for offset, value in at.items():
        header[int(offset[1:]) : int(offset[1:]) + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def special(kind: bytes, body: bytes) -> bytes:
    return block(b"special", kind, b"%011o\0" % len(body)) + body + bytes(-len(body) % 512)


def pax(*records: tuple[bytes, bytes]) -> bytes:
    body = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        body += b"%d %b=%b\n" % (length, key, value)
    return special(b"x", body)


END = bytes(1024)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_tarfile_writes(form: int) -> None:
    out = io.BytesIO()
    long = "d" * 60 + "/" + "n" * (60 if form == tarfile.USTAR_FORMAT else 160)
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        info = tarfile.TarInfo(long)
        info.size, info.mtime, info.uid, info.mode = 5, 1234567, 1000, 0o4755
        archive.addfile(info, io.BytesIO(b"hello"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../" + "t" * (90 if form == tarfile.USTAR_FORMAT else 200)
        archive.addfile(link)
        device = tarfile.TarInfo("dev")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
        archive.addfile(device)
    assert read_all(out.getvalue()) == [
        (LayerEntry(long, "file", 0o4755, 1000, 0, 1234567, 5), b"hello"),
        (LayerEntry("link", "symlink", link.mode, target=link.linkname), b""),
        (LayerEntry("dev", "char", device.mode, major=1, minor=3), b""),
    ]


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "pax"])
def test_reads_what_gnu_tar_writes(form: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_bytes(b"content")
    os.utime(tree / "sub/file", ns=(10**18 + 250_000_000, 10**18 + 250_000_000))
    os.chown(tree / "sub/file", 12, 3_000_000 if form in ("gnu", "oldgnu", "pax") else 13)
    os.link(tree / "sub/file", tree / "sub/second")
    (tree / "to").symlink_to("sub/file")
    raw = subprocess.run(
        ["tar", "--format", form, "--sort=name", "-C", tree, "-c", "."], check=True, capture_output=True
    ).stdout
    found = {entry.path: (entry, content) for entry, content in read_all(raw)}
    assert sorted(found) == ["", "sub", "sub/file", "sub/second", "to"]
    file, content = found["sub/file"]
    assert (content, file.uid, file.gid) == (b"content", 12, os.stat(tree / "sub/file").st_gid)
    assert file.mtime == (10**9 + 0.25 if form == "pax" else 10**9)
    assert found["sub/second"][0][:2] == ("sub/second", "link")
    assert found["sub/second"][0].target == "sub/file"
    assert (found["to"][0].kind, found["to"][0].target) == ("symlink", "sub/file")


def test_reads_gnu_long_names_and_base_256() -> None:
    name, link = b"n" * 300, b"l" * 300
    size = b"\x80" + (7).to_bytes(11, "big")
    raw = special(b"L", name + b"\0") + special(b"K", link + b"\0") + block(kind=b"2", link=b"short")
    raw += block(b"sized", size=size, _136=b"\xff" * 12, _108=b"\x80\0\0\0\0\x30\0\0") + b"1234567".ljust(512, b"\0")
    assert read_all(raw + END) == [
        (LayerEntry(name.decode(), "symlink", target=link.decode()), b""),
        (LayerEntry("sized", "file", uid=0x300000, mtime=-1, size=7), b"1234567"),
    ]


def test_global_headers_hold_for_all_that_follow() -> None:
    body = b"13 uid=12345\n" + b"17 comment=hello\n"
    raw = special(b"g", body) + block(b"a") + pax((b"uid", b"7")) + block(b"b") + block(b"c") + END
    assert [entry.uid for entry, _ in read_all(raw)] == [12345, 7, 12345]


def test_old_directories_end_in_a_slash_and_leading_slashes_are_dropped() -> None:
    raw = (
        block(b"old/", b"\0") + block(b"/usr//./bin/x") + block(b"./y") + block(b"h", b"1", link=b"/usr/bin/x") + END
    )
    assert [entry[:2] for entry, _ in read_all(raw)] == [
        ("old", "dir"), ("usr/bin/x", "file"), ("y", "file"), ("h", "link"),
    ]  # fmt: skip
    assert read_all(raw)[3][0].target == "usr/bin/x"


def test_an_archive_may_end_without_blocks_or_with_many() -> None:
    assert read_all(b"") == read_all(END) == read_all(bytes(51200)) == []
    assert read_all(block()) == read_all(block() + END + bytes(10240) + b"trailing rubbish, as disks have it")


def test_the_stream_is_read_to_its_end() -> None:
    stream = io.BytesIO(block() + END + bytes(3 << 20))
    assert list(read_entries(stream, contents=False))
    assert stream.read() == b""


def test_unread_content_is_passed_over() -> None:
    raw = block(size=b"00000002000\0") + b"x" * 1024 + block(b"next") + END
    readers = read_entries(io.BytesIO(raw), contents=True)
    _, reader = next(readers)
    assert reader and reader.read(5) == b"xxxxx"
    assert next(readers)[0].path == "next"


CORRUPT: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent": (lambda: block(b"../etc/passwd"), r"'\.\./etc/passwd': its name holds"),
    "parent inside": (lambda: block(b"a/../../b"), "its name holds"),
    "parent last": (lambda: block(b"a/..", b"5"), "its name holds"),
    "parent alone": (lambda: block(b"..", b"5"), "its name holds"),
    "parent by pax": (lambda: pax((b"path", b"x/../../y")) + block(), "its name holds"),
    "parent by long name": (lambda: special(b"L", b"/../y\0") + block(), "its name holds"),
    "parent by prefix": (lambda: block(b"passwd", _345=b"../etc"), r"'\.\./etc/passwd'"),
    "hard link to parent": (lambda: block(b"h", b"1", link=b"../../etc/passwd"), "'h': a hard link to"),
    "hard link to nothing": (lambda: block(b"h", b"1"), "'h': a hard link to nothing"),
    "symlink to nothing": (lambda: block(b"s", b"2"), "'s': a symbolic link to nothing"),
    "no name": (lambda: block(b""), "without a name"),
    "root is a file": (lambda: block(b"./."), "the root is|directory"),
    "NUL in pax path": (lambda: pax((b"path", b"ok\0/../evil")) + block(), "NUL"),
    "NUL in pax key": (lambda: special(b"x", b"9 pa\0h=a\n") + block(), "NUL"),
    "checksum": (lambda: block()[:148] + b"000000\0 " + block()[156:], "'f': wrong checksum"),
    "no checksum": (lambda: block()[:148] + bytes(8) + block()[156:], "wrong checksum"),
    "not tar": (lambda: b"This is not a tar archive. " * 40, "wrong checksum|malformed header"),
    "half a header": (lambda: block() + block()[:300], "truncated"),
    "content missing": (lambda: block(b"big", size=b"00000010000\0") + b"x" * 512, "'big'.*bytes early"),
    "absurd size": (lambda: block(b"big", size=b"77777777777\0") + b"x" * 512, "'big'.*bytes early"),
    "absurd base 256": (lambda: block(b"big", size=b"\x80" + b"\x7f" * 11), "'big'.*out of range"),
    "negative size": (lambda: block(b"neg", size=b"\xff" * 12), "'neg'.*out of range"),
    "minus size": (lambda: block(b"neg", size=b"-0000000001\0"), "'neg'.*octal"),
    "not octal": (lambda: block(b"bad", size=b"0000000000x\0"), "'bad'.*octal"),
    "negative uid": (lambda: block(b"bad", _108=b"\xff" * 8), "'bad'.*out of range"),
    "pax size": (lambda: pax((b"size", b"-5")) + block(b"bad"), "'bad': size is"),
    "pax huge size": (lambda: pax((b"size", b"9" * 40)) + block(b"bad"), "'bad': size is"),
    "pax uid": (lambda: pax((b"uid", b"root")) + block(b"bad"), "'bad': uid is"),
    "pax mtime": (lambda: pax((b"mtime", b"nan")) + block(b"bad"), "'bad': mtime is"),
    "pax mtime huge": (lambda: pax((b"mtime", b"1e300.0")) + block(b"bad"), "'bad': mtime is"),
    "pax length": (lambda: special(b"x", b"99999 path=a\n") + block(), "does not end"),
    "pax no length": (lambda: special(b"x", b"path=a\n") + block(), "no length"),
    "pax zero length": (lambda: special(b"x", b"0 path=a\n") + block(), "does not end"),
    "pax no newline": (lambda: special(b"x", b"9 path=ab") + block(), "does not end"),
    "pax too long": (lambda: block(b"p", b"x", b"00010000000\0") + bytes(4096), "extended header of 2097152"),
    "pax then end": (lambda: pax((b"path", b"a")) + END, "after an extended header"),
    "pax truncated": (lambda: block(b"p", b"x", b"00000002000\0") + bytes(512), "truncated inside"),
    "global path": (lambda: special(b"g", b"10 path=ab\n".replace(b"10", b"11")) + block(), "global header"),
    "old sparse": (lambda: block(b"sp", b"S"), "'sp'.*|sparse"),
    "pax sparse": (lambda: pax((b"GNU.sparse.major", b"1")) + block(b"sp"), "sparse files are not supported"),
    "unknown type": (lambda: block(b"what", b"Z"), "'special'|'what': unknown type"),
    "directory with content": (lambda: block(b"d/", size=b"00000001000\0") + bytes(512), "directory with content"),
    "goes on": (lambda: block() + bytes(512) + block(b"hidden"), "goes on after its end"),
    "name too long": (lambda: pax((b"path", b"a/" * 3000)) + block(), "too long"),
}


CUT_SHORT = {"half a header", "content missing", "pax truncated"}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt_archives_are_refused_by_both_readers(case: str, tmp_path: Path) -> None:
    make, message = CORRUPT[case]
    raw = make() + (b"" if case in CUT_SHORT else END)
    with pytest.raises(BadLayer, match=message):
        read_all(raw)
    (tmp_path / "tar").write_bytes(raw)
    with (tmp_path / "tar").open("rb") as file, pytest.raises(BadLayer, match=message):
        list(scan_entries(file.fileno()))


def test_every_truncation_is_noticed_or_on_a_member_boundary() -> None:
    raw = block(b"a", size=b"00000001001\0") + b"x" * 513 + bytes(511) + pax((b"path", b"long")) + block(b"b")
    boundaries = {0, 1536, len(raw)}
    for end in range(0, len(raw) + 1, 64):
        if end in boundaries:
            read_all(raw[:end])
        else:
            with pytest.raises(BadLayer):
                read_all(raw[:end])


def test_scan_gives_offsets_of_contents(tmp_path: Path) -> None:
    raw = pax((b"path", b"p" * 200)) + block(size=b"00000000005\0") + b"hello".ljust(512, b"\0")
    raw += block(b"big", size=b"%011o\0" % 100_000) + b"B" * 100_000 + bytes(-100_000 % 512)
    raw += block(b"tail", size=b"00000000003\0") + b"end".ljust(512, b"\0") + END
    (tmp_path / "tar").write_bytes(raw)
    with (tmp_path / "tar").open("rb") as file:
        found = {entry.path: raw[offset : offset + entry.size] for entry, offset in scan_entries(file.fileno())}
    assert found == {"p" * 200: b"hello", "big": b"B" * 100_000, "tail": b"end"}


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_archives_never_raise_anything_else(data: st.DataObject) -> None:
    raw = bytearray(pax((b"path", b"p/q"), (b"mtime", b"12.5")) + block(size=b"00000000005\0") + b"hello".ljust(512))
    raw += special(b"L", b"n" * 150) + block(kind=b"1", link=b"p/q") + END
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        for start in range(0, len(raw), 512):  # repair checksums so that the damage gets past them
            head = raw[start : start + 512]
            if head[257:262] == b"ustar":
                head[148:156] = b" " * 8
                raw[start + 148 : start + 156] = b"%06o\0 " % sum(head)
    try:
        read_all(bytes(raw))
    except BadLayer:
        pass

"""What layers do to each other, and listings of layers that mean harm."""

import gzip
import io
import os
import tarfile
import time

import pytest

from moldar.errors import CorruptData
from moldar.hub.layers.listing import LIMITS, Item, Listing, decode_listing, encode_listing, read_listing
from moldar.hub.layers.stack import Stack, compare_files, compare_packages, directory, stack_layers

from .layers import Bytes, tar, zeros


def stack(*layers: bytes) -> Stack:
    return stack_layers([read_listing(Bytes(layer)) for layer in layers])


def changes(of: Stack, layer: int) -> dict[str, str]:
    return {file.item.path: file.change for file in of.layers[layer].files}


def test_added_changed_deleted_and_wasted() -> None:
    made = stack(
        tar(("etc", None), ("etc/a", b"1" * 100), ("etc/b", b"2" * 50), ("var/x/y", b"3" * 7)),
        tar(("etc", None), ("etc/a", b"one"), ("etc/.wh.b", b""), ("new", b"")),
        tar(("var/.wh.x", b"")),
    )
    assert changes(made, 0) == {"etc": "added", "etc/a": "added", "etc/b": "added", "var/x/y": "added"}
    assert changes(made, 1) == {"etc": "", "etc/a": "changed", "etc/b": "deleted", "new": "added"}
    assert changes(made, 2) == {"var/x/y": "deleted"}
    assert [layer.hidden for layer in made.layers] == [0, 150, 7]
    assert (made.size, made.wasted) == (160, 157)
    assert [(entry.path, entry.size) for entry in made.waste] == [("etc/a", 100), ("etc/b", 50), ("var/x/y", 7)]
    assert {file.item.path for file in made.merged} == {"etc", "etc/a", "new"}
    assert made.efficiency == 2


def test_opaque_directories_and_files_instead_of_directories() -> None:
    made = stack(
        tar(("d/old", b"12345"), ("d/kept", b"1"), ("dx", b"1"), ("e/deep/er", b"123")),
        tar(("d/.wh..wh..opq", b""), ("d/kept", b"2"), ("e", b"a file now")),
        tar(("e", None), ("e/again", b"")),
    )
    assert changes(made, 1) == {"d/old": "deleted", "d/kept": "changed", "e": "added", "e/deep/er": "deleted"}
    assert {file.item.path for file in made.merged} == {"d/kept", "dx", "e", "e/again"}
    whole = stack(tar(("a", b"1"), ("b/c", b"2")), tar((".wh..wh..opq", b""), ("z", b"")))
    assert [file.item.path for file in whole.merged] == ["z"]


def test_browsing() -> None:
    made = stack(tar(("usr/lib/one", b"1"), ("usr/lib/two", b"22"), ("usr/bin", None), ("top", b"4444")))
    rows = directory(made.merged, "")
    assert rows is not None
    assert [(row.name, row.is_directory, row.size) for row in rows] == [("usr", True, 3), ("top", False, 4)]
    assert [row.path for row in directory(made.merged, "usr") or []] == ["usr/bin", "usr/lib"]
    assert directory(made.merged, "usr/bin") == []
    for nowhere in ("us", "top", "usr/lib/one", "../etc", "usr/../top", "nothing"):
        assert directory(made.merged, nowhere) is None


def test_comparing() -> None:
    status = b"Package: bash\nStatus: install ok installed\nVersion: 5.2\n\nPackage: gone\nStatus: x config-files\n"
    old = stack(tar(("a", b"1"), ("b", b"1"), ("c", b"1"), ("var/lib/dpkg/status", status)))
    new = stack(tar(("a", b"1"), ("b", b"2"), ("d", b"1"), ("lib/apk/db/installed", b"P:bash\nV:6\n\nP:zlib\nV:1\n")))
    found = {entry.name: entry.change for entry in compare_files(old, new)}
    assert {name: found[name] for name in ("b", "c", "d")} == {"b": "changed", "c": "deleted", "d": "added"}
    assert "a" not in found
    assert [(e.name, e.old, e.new) for e in compare_packages(old, new)] == [
        ("bash", "5.2", "6"),
        ("zlib", None, "1"),
    ]


def test_a_listing_survives_its_file() -> None:
    odd = os.fsdecode(b"bytes \xff")
    listing = read_listing(Bytes(gzip.compress(tar(("a", b"1"), ("l", "-> a"), ("d", None)))))
    assert listing.cut == ""
    assert decode_listing(encode_listing(listing)) == listing
    strange = Listing((Item(odd, "file", 1, 0o644, "", 0),), "time", (("p", "1"),))
    assert decode_listing(encode_listing(strange)) == strange
    for damaged in (b"", b"text", encode_listing(strange)[:-4]):
        with pytest.raises(CorruptData):
            decode_listing(damaged)


# --- Layers that mean harm ------------------------------------------------------------------------------------


def test_a_bomb_ends_at_the_limit() -> None:
    bomb = zeros(256 << 20)
    assert len(bomb) < 1 << 20
    started = time.monotonic()
    assert read_listing(Bytes(bomb), LIMITS._replace(unpacked=32 << 20)) == Listing((), "bytes")
    assert time.monotonic() - started < 5


def test_too_many_members_and_too_long_names() -> None:
    many = tar(*((f"{number}", b"") for number in range(300)))
    listing = read_listing(Bytes(many), LIMITS._replace(entries=100))
    assert (len(listing.items), listing.cut) == (100, "entries")
    long = tar(*(("x" * 3000 + str(number), b"") for number in range(100)))
    assert read_listing(Bytes(long), LIMITS._replace(names=50_000)).cut == "entries"


def test_time_runs_out() -> None:
    moments = iter(range(10_000))
    listing = read_listing(
        Bytes(tar(*((f"{number}", b"") for number in range(100)))),
        LIMITS._replace(seconds=30),
        lambda: float(next(moments)),
    )
    assert listing.cut == "time"
    assert 0 < len(listing.items) < 100


def header(kind: bytes, body: bytes) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def record(key: str, size: int) -> bytes:
    length = size + len(key) + 3
    length += len(str(length))
    length = size + len(key) + 3 + len(str(length))
    return f"{length} {key}={'v' * size}\n".encode()


@pytest.mark.parametrize("kind", [b"g", b"x"])
def test_headers_without_end(kind: bytes) -> None:
    endless = io.BytesIO()
    for number in range(400):
        endless.write(header(kind, record(f"moldar.k{number:04}", 100_000)))
    endless.write(tar(("a", b"1")))
    assert read_listing(Bytes(endless.getvalue())) == Listing((), "damaged")


@pytest.mark.parametrize(
    "layer",
    [
        b"",
        b"not a tar at all" * 100,
        b"\x1f\x8b\x08 broken gzip",
        b"\x28\xb5\x2f\xfd broken zstd",
        gzip.compress(tar(("a", b"1" * 100_000)), mtime=0)[:-50],
        tar(("../../etc/passwd", b"x")),
        tar(("a/../../b", b"x")),
    ],
)
def test_broken_layers_are_cut(layer: bytes) -> None:
    listing = read_listing(Bytes(layer))
    assert not any(".." in item.path for item in listing.items)
    assert listing.cut == ("damaged" if layer else "")


@pytest.mark.parametrize("magic", [b"BZh91AY", b"\xfd7zXZ\0\0"])
def test_slow_compressions_are_not_read(magic: bytes) -> None:
    assert read_listing(Bytes(magic + bytes(100))).cut == "format"


def test_nested_whiteouts_cost_no_square() -> None:
    deep = [Item("/".join(["d"] * depth), "dir", 0, 0o755, "", 0) for depth in range(1, 1500)]
    leaves = [Item(f"{deep[-1].path}/{number}", "file", 1, 0o644, "", 0) for number in range(5_000)]
    gone = [Item(("/".join(["d"] * depth) + "/.wh.d").lstrip("/"), "file", 0, 0, "", 0) for depth in range(1499)]
    opaque = [Item("/".join(["d"] * depth) + "/.wh..wh..opq", "file", 0, 0, "", 0) for depth in range(1, 1500)]
    started = time.monotonic()
    made = stack_layers([Listing((*deep, *leaves)), Listing((*gone, *opaque))])
    assert time.monotonic() - started < 5
    assert made.merged == ()
    assert made.wasted == 5_000

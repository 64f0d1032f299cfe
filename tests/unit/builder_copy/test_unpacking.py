"""ADD of local archives: recognised by content, kept below the destination."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from typing import Any

import pytest
import zstandard

from moldar.errors import CorruptData, HostTrouble, UserMistake
from moldar.image.layer_entry import LayerEntry


def archive(*members: tuple[str, Any], **options: Any) -> bytes:
    """A tar. A member is a name and content (bytes), None (a directory), ("link", to), ("hard", to)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            info.mtime, info.uid, info.gid = 1_000_000_002, 12, 34
            info.mode = options.get("mode", 0o4751)
            if isinstance(what, bytes):
                info.size = len(what)
            elif what is None:
                info.type = tarfile.DIRTYPE
            else:
                info.type = tarfile.SYMTYPE if what[0] == "link" else tarfile.LNKTYPE
                info.linkname = what[1]
            tar.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return out.getvalue()


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_archives_are_known_by_content(bench: Any, pack: Any) -> None:
    bench.files({"odd.name": pack(archive(("d", None), ("d/f", b"f" * 3000), ("d/g", b"g"), ("d/l", ("link", "f"))))})
    made = bench.copy("odd.name", "/dst", is_add=True)
    assert made.shape() == {
        "dst": "dir 755",
        "dst/d": "dir 4751",
        "dst/d/f": "f" * 3000,
        "dst/d/g": "g",
        "dst/d/l": "-> f",
    }
    tool = made.entries["dst/d/f"]
    assert (tool.mode, tool.uid, tool.gid, tool.mtime) == (0o4751, 12, 34, 1_000_000_002)


@pytest.mark.parametrize(
    "content", [b"plain\n", gzip.compress(b"hello\n", mtime=0), b"", bytes(1024), b"BZhnonsense"]
)
def test_what_is_no_archive_is_copied(bench: Any, content: bytes) -> None:
    bench.files({"x.tar.gz": content})
    assert bench.copy("x.tar.gz", "/dir/", is_add=True).files == {"dir/x.tar.gz": content}
    assert bench.copy("x.tar.gz", "/name", is_add=True).files == {"name": content}


def test_only_add_unpacks_and_only_files_named(bench: Any) -> None:
    data = archive(("f", b"f"))
    bench.files({"x.tar": data, "dir/in.tar": data})
    assert bench.copy("x.tar", "/d/").files == {"d/x.tar": data}
    assert bench.copy("x.tar", "/d/", is_add=True, unpack=False).files == {"d/x.tar": data}
    assert bench.copy("dir", "/d/", is_add=True).files == {"d/in.tar": data}
    assert bench.copy("*.tar", "/d/", is_add=True).files == {"d/f": b"f"}


def test_nothing_leaves_the_destination(bench: Any) -> None:
    members = [
        ("../up", b"1"),
        ("/absolute", b"2"),
        ("a/../../b", b"3"),
        ("out", ("link", "/etc")),
        ("out/passwd", b"4"),
        ("rel", ("link", "../../../etc")),
        ("rel/group", b"5"),
    ]
    bench.files({"x.tar": archive(*members)})
    bench.below(LayerEntry("etc", "dir", 0o755), LayerEntry("t", "dir", 0o700))
    made = bench.copy("x.tar", "/t", is_add=True)
    assert made.files == {
        "t/up": b"1",
        "t/absolute": b"2",
        "t/b": b"3",
        "t/etc/passwd": b"4",
        "t/etc/group": b"5",
    }
    assert made.shape()["t"] == "dir 700" and made.shape()["t/out"] == "-> /etc"


def test_links_of_the_image_are_followed(bench: Any) -> None:
    bench.files({"x.tar": archive(("lib/x", b"x"))})
    bench.below(
        LayerEntry("usr", "dir", 0o755),
        LayerEntry("usr/lib", "dir", 0o711),
        LayerEntry("lib", "symlink", target="usr/lib"),
    )
    assert bench.copy("x.tar", "/", is_add=True).shape() == {"usr": "dir 755", "usr/lib": "dir 711", "usr/lib/x": "x"}


def test_members_replace_what_is_there(bench: Any) -> None:
    bench.files(
        {"x.tar": archive(("d", None), ("file", b"now a file"), ("dir", None), ("dir/in", b"in"), ("d/f", b"new"))}
    )
    bench.below(
        LayerEntry("d", "dir", 0o700),
        LayerEntry("d/f", "file"),
        LayerEntry("d/keep", "file"),
        LayerEntry("file", "dir", 0o755),
        LayerEntry("file/old", "file"),
        LayerEntry("dir", "file"),
    )
    made = bench.copy("x.tar", "/", is_add=True)
    assert made.shape() == {"d": "dir 4751", "d/f": "new", "dir": "dir 4751", "dir/in": "in", "file": "now a file"}


def test_a_directory_twice_replaced_hides_what_the_image_had(bench: Any) -> None:
    bench.files({"x.tar": archive(("was", b"a file"), ("was", None), ("was/new", b"n"))})
    bench.below(LayerEntry("was", "dir", 0o755), LayerEntry("was/old", "file"))
    made = bench.copy("x.tar", "/", is_add=True)
    assert set(made.entries) == {"was", "was/new", "was/.wh..wh..opq"}


def test_hard_links_within_and_to_the_image(bench: Any) -> None:
    bench.files({"x.tar": archive(("b", b"shared"), ("a", ("hard", "b")), ("here", ("hard", "have")))})
    bench.below(LayerEntry("have", "file", 0o640, uid=9), contents={"have": b"old"})
    made = bench.copy("x.tar", "/", is_add=True)
    assert made.shape() == {"a": "shared", "b": "= a", "have": "old", "here": "= have"}
    assert made.entries["have"].uid == 9
    bench.files({"bad.tar": archive(("a", ("hard", "none")))})
    with pytest.raises(CorruptData, match="none"):
        bench.copy("bad.tar", "/", is_add=True)


def test_chown_replaces_owners_and_chmod_leaves_contents(bench: Any) -> None:
    bench.files({"x.tar": archive(("d/f", b"f"))})
    made = bench.copy("x.tar", "/made/dir/", is_add=True, chown="1000:50", chmod="0711")
    assert made.shape()["made"] == "dir 711"
    assert (made.entries["made/dir"].uid, made.entries["made/dir/d/f"].uid) == (1000, 1000)
    assert made.entries["made/dir/d/f"].mode == 0o4751


def test_capabilities_in_an_archive_reach_the_layer(bench: Any) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("ping")
        info.pax_headers = {"SCHILY.xattr.security.capability": "\x01\x02", "SCHILY.xattr.user.x": "y"}
        tar.addfile(info)
    bench.files({"x.tar": out.getvalue()})
    headers = bench.copy("x.tar", "/", is_add=True).entries["ping"].pax_headers
    assert headers == {"SCHILY.xattr.security.capability": "\x01\x02"}


def test_whiteouts_are_plain_names(bench: Any) -> None:
    bench.files({"x.tar": archive((".wh.f", b""))})
    bench.below(LayerEntry("f", "file"))
    assert set(bench.copy("x.tar", "/", is_add=True).entries) == {".wh.f"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_broken_archive_is_an_error(bench: Any, pack: Any) -> None:
    data = pack(archive(("a", os.urandom(400_000)), ("b", b"b")))
    bench.files({"x.tar": data[: len(data) // 2]})
    with pytest.raises((CorruptData, HostTrouble)):
        bench.copy("x.tar", "/", is_add=True)


def test_an_archive_onto_a_file_is_refused(bench: Any) -> None:
    bench.files({"x.tar": archive(("a", b"a"))})
    bench.below(LayerEntry("t", "file"))
    with pytest.raises(UserMistake, match="/t"):
        bench.copy("x.tar", "/t", is_add=True)

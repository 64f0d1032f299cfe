"""LayerWriter against our own reader and against Python's tarfile."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moldar.errors import CorruptData, HostTrouble
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_read import read_entries
from moldar.image.layer_write import LayerWriter, write_layer

NAME = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=130
).filter(lambda name: name not in (".", ".."))
RAW_NAME = st.binary(min_size=1, max_size=20).map(os.fsdecode).filter(lambda name: not set(name) & set("/\0."))
PATH = st.lists(st.one_of(NAME, RAW_NAME, st.sampled_from(["usr", "lib"])), min_size=1, max_size=5).map("/".join)
OWNER = st.one_of(st.integers(0, 70000), st.sampled_from([0o7777777, 0o10000000, 2**32 - 2]))
TIME = st.one_of(st.integers(0, 2**31), st.integers(-(2**33), 2**40))
XATTRS = st.dictionaries(
    st.sampled_from(["user.one", "security.capability", "user.ünï"]), st.binary(max_size=40), max_size=2
).map(lambda found: tuple(sorted(found.items())))


@st.composite
def entries(draw: st.DrawFn) -> tuple[LayerEntry, bytes]:
    kind = draw(st.sampled_from(["file", "dir", "symlink", "link", "fifo", "char", "block"]))
    content = draw(st.binary(max_size=1500)) if kind == "file" else b""
    target = draw(PATH) if kind in ("symlink", "link") else ""
    device = (draw(st.integers(0, 4000)), draw(st.integers(0, 4000))) if kind in ("char", "block") else (0, 0)
    entry = LayerEntry(
        draw(PATH), kind, draw(st.integers(0, 0o7777)), draw(OWNER), draw(OWNER), draw(TIME), len(content), target,
        *device, draw(XATTRS),
    )  # fmt: skip
    return entry, content


def tar_of(members: list[tuple[LayerEntry, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    for entry, content in members:
        writer.add(entry, content)
    writer.close()
    return out.getvalue()


@settings(max_examples=300, deadline=None)
@given(st.lists(entries(), max_size=4))
def test_our_reader_gives_back_what_was_written(members: list[tuple[LayerEntry, bytes]]) -> None:
    raw = tar_of(members)
    assert len(raw) % 512 == 0
    back = [
        (entry, reader.read() if reader else b"") for entry, reader in read_entries(io.BytesIO(raw), contents=True)
    ]
    assert back == members


TYPES = {
    tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "link",
    tarfile.FIFOTYPE: "fifo", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block",
}  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(entries(), min_size=1, max_size=4))
def test_tarfile_reads_what_we_write(members: list[tuple[LayerEntry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of(members)), encoding="utf-8", errors="surrogateescape") as archive:
        infos = archive.getmembers()
        contents = [archive.extractfile(info).read() if info.isreg() else b"" for info in infos]  # type: ignore[union-attr]
    assert len(infos) == len(members)
    for info, got, (entry, content) in zip(infos, contents, members, strict=True):
        assert (info.name, TYPES[info.type]) == (entry.path, entry.kind)
        assert (info.mode, info.uid, info.gid, info.mtime) == (entry.mode, entry.uid, entry.gid, entry.mtime)
        assert (info.linkname, info.size, got) == (entry.target, entry.size, content)
        assert (info.devmajor, info.devminor) == (entry.major, entry.minor)


def test_plain_members_need_no_extended_header() -> None:
    entry = LayerEntry("usr/share/" + "x" * 95, "file", mtime=1700000000.9, size=3)
    raw = tar_of([(entry, b"abc")])
    assert len(raw) == 512 + 512 + 1024
    assert raw[257:265] == b"ustar\x0000"
    assert raw[345:360].rstrip(b"\0") == b"usr/share"
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.getmembers()[0].mtime == 1700000000


def test_the_root_is_written_as_dot() -> None:
    raw = tar_of([(LayerEntry("", "dir", 0o755), b"")])
    assert raw[:3] == b"./\0"
    assert [entry.path for entry, _ in read_entries(io.BytesIO(raw), contents=False)] == [""]


def test_large_contents_come_in_pieces_from_a_descriptor(tmp_path: Path) -> None:
    content = os.urandom(1 << 16) * 50
    (tmp_path / "big").write_bytes(content)
    sizes: list[int] = []
    out = io.BytesIO()

    def take(data: bytes | memoryview) -> None:
        sizes.append(len(data))
        out.write(data)

    entry = LayerEntry("big", "file", size=len(content))
    write_layer([(entry, lambda: os.open(tmp_path / "big", os.O_RDONLY))], take)
    assert max(sizes) <= 3 << 20
    [(back, reader)] = [
        (entry, reader.read()) for entry, reader in read_entries(io.BytesIO(out.getvalue()), contents=True) if reader
    ]
    assert (back, reader) == (entry, content)


def test_a_descriptor_is_read_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"skipped|taken|left")
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    with (tmp_path / "file").open("rb", buffering=0) as file:
        file.seek(8)
        writer.add(LayerEntry("file", "file", size=5), file.fileno())
        assert file.tell() == 13
    writer.close()
    assert out.getvalue()[512:517] == b"taken"


def test_a_file_that_shrank_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"short")
    with (tmp_path / "file").open("rb") as file, pytest.raises(HostTrouble, match=r"'file' shrank.*5 bytes"):
        LayerWriter(io.BytesIO().write).add(LayerEntry("file", "file", size=10), file.fileno())


def test_content_of_another_size_is_refused() -> None:
    with pytest.raises(CorruptData, match="3 bytes of content instead of 4"):
        LayerWriter(io.BytesIO().write).add(LayerEntry("file", "file", size=4), b"abc")
    with pytest.raises(CorruptData, match="no content"):
        LayerWriter(io.BytesIO().write).add(LayerEntry("file", "file", size=4))

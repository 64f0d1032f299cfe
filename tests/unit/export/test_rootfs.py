"""All layers in one: tar and directory."""

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from moldar.errors import HostTrouble
from moldar.export.rootfs import write_directory, write_tar

LAYERS = (
    {"bin/": b"", "bin/a": b"1", "bin/b": b"2", "gone": b"x"},
    {".wh.gone": b"", "bin/": b"", "bin/b": b"changed", "new/": b"", "new/c": b"3"},
)


def test_tar_holds_the_merged_tree(place: Any) -> None:
    stack = tuple(place.store.images.layers(place.add_image(*LAYERS)))
    out = io.BytesIO()
    write_tar(place.forms, place.snapshots, stack, out.write)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        found = {info.name: archive.extractfile(info).read() if info.isreg() else b"" for info in archive}  # type: ignore[union-attr]
    assert found == {"bin": b"", "bin/a": b"1", "bin/b": b"changed", "new": b"", "new/c": b"3"}


def test_directory_keeps_what_lies_there(place: Any, tmp_path: Path) -> None:
    stack = tuple(place.store.images.layers(place.add_image(*LAYERS)))
    target = tmp_path / "out"
    (target / "bin").mkdir(parents=True)
    (target / "bin/mine").write_text("mine")
    (target / "new").symlink_to(tmp_path)
    write_directory(place.forms, place.snapshots, stack, str(target), (1234, 77))
    assert {path.name: path.read_text() for path in (target / "bin").iterdir()} == {
        "a": "1", "b": "changed", "mine": "mine",
    }  # fmt: skip
    assert (target / "new/c").read_text() == "3"
    assert not (target / "new").is_symlink()
    assert not (tmp_path / "c").exists()
    status = os.stat(target / "bin/a")
    assert (status.st_uid, status.st_gid, status.st_mtime) == (1234, 77, 1_600_000_000)
    (tmp_path / "file").touch()
    with pytest.raises(HostTrouble, match="cannot make"):
        write_directory(place.forms, place.snapshots, stack, str(tmp_path / "file/x"))


def test_an_image_without_layers_is_empty(place: Any, tmp_path: Path) -> None:
    out = io.BytesIO()
    write_tar(place.forms, place.snapshots, (), out.write)
    assert out.getvalue() == bytes(1024)
    write_directory(place.forms, place.snapshots, (), str(tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == []

"""`build --output`: archives and files, compression, times."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar

EPOCH = 1_600_000_000
DOCKERFILE = "FROM scratch\nCOPY file /dir/file\nWORKDIR /work\n"


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return {info.name: info for info in archive}


def layer_types(path: Path) -> set[str]:
    with tarfile.open(path) as archive:

        def read(name: str) -> dict[str, list[dict[str, str]]]:
            found: dict[str, list[dict[str, str]]] = json.load(archive.extractfile(name))  # type: ignore[arg-type]
            return found

        digest = read("index.json")["manifests"][0]["digest"]
        return {
            layer["mediaType"].rpartition("tar")[2] for layer in read(f"blobs/{digest.replace(':', '/')}")["layers"]
        }


def test_archives_with_each_compression(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    context = project(Dockerfile=DOCKERFILE, file="content")
    for number, (kind, attributes, suffix) in enumerate(
        (("oci", "", "+gzip"), ("docker", ",compression=zstd", "+zstd"), ("oci", ",compression=uncompressed", ""))
    ):
        moldar("build", "-t", "named", "-o", f"type={kind},dest={tmp_path}/{number}.tar{attributes}", context)
        assert layer_types(tmp_path / f"{number}.tar") == {suffix}
        with tarfile.open(tmp_path / f"{number}.tar") as archive:
            listed = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert listed[0]["RepoTags"] == ["named:latest"]


def test_files_as_a_tar_and_in_a_directory(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    context = project(Dockerfile=DOCKERFILE, file="content")
    moldar("build", "-o", f"type=tar,dest={tmp_path}/files.tar", context)
    assert sorted(members(tmp_path / "files.tar")) == ["dir", "dir/file", "work"]
    moldar("build", "-o", f"type=local,dest={tmp_path}/files", context)
    assert (tmp_path / "files/dir/file").read_text() == "content"
    assert sorted(os.listdir(tmp_path / "files")) == ["dir", "work"]


def test_the_same_archive_at_any_time(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    """With SOURCE_DATE_EPOCH and rewrite-timestamp."""
    written = []
    for number in (1, 2):
        context = project(f"project{number}", Dockerfile=DOCKERFILE, file="content")
        os.utime(context / "file", (EPOCH + number, EPOCH + number))
        target = tmp_path / f"{number}.tar"
        words = ("--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}", "--no-cache")
        moldar("build", *words, "-o", f"type=oci,dest={target},rewrite-timestamp=true", context)
        written.append(target.read_bytes())
    assert written[0] == written[1]
    moldar("build", *words, "-o", f"type=tar,dest={tmp_path}/files.tar,rewrite-timestamp=true", context)
    assert {info.mtime for info in members(tmp_path / "files.tar").values()} == {EPOCH}

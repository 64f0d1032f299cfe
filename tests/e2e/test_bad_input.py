"""What a person can get wrong: one clear message, Docker's exit code, nothing half-written."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

Project = Callable[..., Path]


def test_no_dockerfile(moldar: Moldar, project: Project) -> None:
    text = moldar.fails("build", project(**{"app.py": ""}))
    assert "Dockerfile" in text
    assert "no such file" in text


def test_no_context(moldar: Moldar, tmp_path: Path) -> None:
    assert "nowhere" in moldar.fails("build", tmp_path / "nowhere")


def test_an_unknown_instruction_is_located_and_mended(moldar: Moldar, project: Project) -> None:
    text = moldar.fails("build", project(Dockerfile="FROM scratch\nCPOY a b\n"))
    assert "Dockerfile:2" in text
    assert "CPOY a b" in text
    assert "did you mean COPY" in text


def test_a_missing_source(with_busybox: Moldar, project: Project) -> None:
    text = with_busybox.fails("build", project(Dockerfile="FROM busybox\nCOPY nothing /x\n"))
    assert "nothing" in text
    assert "Dockerfile:2" in text


def test_a_source_out_of_the_context(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nCOPY ../secret /x\n")
    (context.parent / "secret").write_text("secret")
    text = with_busybox.fails("build", context)
    assert "secret" in text
    assert "Dockerfile:2" in text


def test_a_failing_step_keeps_its_exit_code_and_its_log(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nRUN echo before &&\\\n    echo wrong >&2 && exit 7\n")
    text = with_busybox.fails("build", "-t", "broken", context)
    assert "exit code: 7" in text
    assert "Dockerfile:2" in text
    assert ">>>" in text
    assert "wrong" in text
    assert with_busybox("images", "-q", "broken") == ""


def test_an_unknown_base_image(moldar: Moldar, project: Project) -> None:
    text = moldar.fails("build", project(Dockerfile="FROM 127.0.0.1:1/nobody/nothing\n"))
    assert "127.0.0.1:1/nobody/nothing" in text
    assert "Dockerfile:1" in text


def test_an_unknown_flag(moldar: Moldar) -> None:
    assert "unknown flag: --tga (did you mean --tag?)" in moldar.fails("build", "--tga", "x", ".", code=125)


def test_an_unknown_command(moldar: Moldar) -> None:
    assert "'biuld' is not a moldar command (did you mean 'moldar build'?)" in moldar.fails("biuld")


def test_an_unknown_image(moldar: Moldar) -> None:
    assert "nothing" in moldar.fails("image", "inspect", "nothing")
    assert "nothing" in moldar.fails("rmi", "nothing")
    assert "nothing" in moldar.fails("tag", "nothing", "other")


def test_a_command_that_is_not_in_the_image(with_busybox: Moldar) -> None:
    assert "nonesuch" in with_busybox.fails("run", "--rm", "busybox", "nonesuch", code=127)
    assert "/etc" in with_busybox.fails("run", "--rm", "busybox", "/etc", code=126)
    assert with_busybox.fails("run", "--rm", "busybox", "sh", "-c", "exit 42", code=42) == ""


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        (tarfile.REGTYPE, "../escaped", ""),
        (tarfile.REGTYPE, "/../../escaped", ""),
        (tarfile.SYMTYPE, "link", "/"),
        (tarfile.LNKTYPE, "link", "../../../../etc/passwd"),
    ],
)
def test_a_hostile_layer_stays_in_its_root(
    with_busybox: Moldar, tmp_path: Path, kind: bytes, name: str, target: str
) -> None:
    """Whatever a layer says, nothing outside of the image changes; a link to / followed by a write through it too."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
        through = tarfile.TarInfo("link/tmp/moldar-was-here" if target == "/" else "fine")
        archive.addfile(through)
    hostile = tmp_path / "hostile.tar"
    write_archive(hostile, layer.getvalue())
    done = with_busybox.run("load", "-i", hostile)
    if done.returncode == 0:
        context = tmp_path / "context"
        context.mkdir()
        (context / "Dockerfile").write_text('FROM hostile\nRUN ["/nothing"]\n')
        with_busybox.fails("build", context)
    assert not Path("/tmp/moldar-was-here").exists()
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "home" / "escaped").exists()
    assert "sound" in with_busybox("system", "check")


def test_a_truncated_archive(moldar: Moldar, busybox_archive: Path, tmp_path: Path) -> None:
    data = busybox_archive.read_bytes()
    (tmp_path / "short.tar").write_bytes(data[: len(data) // 2])
    moldar.fails("load", "-i", tmp_path / "short.tar")
    assert moldar("images", "-q") == ""
    assert "sound" in moldar("system", "check")


def test_an_archive_that_lies(moldar: Moldar, busybox_archive: Path, tmp_path: Path) -> None:
    """A blob that is not what its name says is refused."""
    with tarfile.open(busybox_archive) as source, tarfile.open(tmp_path / "lie.tar", "w") as target:
        for member in source:
            data = source.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            if member.size > 100_000:
                data = data[:-1] + bytes([data[-1] ^ 1])
            target.addfile(member, io.BytesIO(data))
    assert "expected sha256:" in moldar.fails("load", "-i", tmp_path / "lie.tar")
    assert moldar("images", "-q") == ""


def write_archive(path: Path, layer: bytes) -> None:
    """A docker archive of an image `hostile` with one layer."""
    import hashlib

    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = json.dumps(
        [{"Config": f"{name}.json", "RepoTags": ["hostile:latest"], "Layers": ["layer.tar"]}]
    ).encode()
    with tarfile.open(path, "w") as archive:
        for entry, data in ((f"{name}.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
            member = tarfile.TarInfo(entry)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

"""`--build-context name=oci-layout://…`: an image in a directory stands for a name."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar


def test_by_nothing_tag_and_digest(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    base = project("base", Dockerfile="FROM scratch\nCOPY word /word\nENV FROM=layout\n", word="from the layout")
    layout = tmp_path / "layout"
    moldar("build", "-t", "made:v1", "-o", f"type=oci,dest={layout},tar=false", base)
    digest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]
    context = project(Dockerfile="FROM base\nCOPY --from=base /word /again\n")
    other = Moldar(tmp_path / "other")
    for suffix in ("", ":v1", f"@{digest}"):
        target = tmp_path / f"out{len(suffix)}"
        words = ("--build-context", f"base=oci-layout://{layout}{suffix}", "-o", f"type=local,dest={target}")
        other("build", *words, context)
        assert (target / "again").read_text() == (target / "word").read_text() == "from the layout"
    other("system", "check")


def test_what_is_not_there(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    moldar("build", "-o", f"type=oci,dest={layout},tar=false", project("b", Dockerfile="FROM scratch\nENV a=b\n"))
    context = project(Dockerfile="FROM base\n")
    for place, told in ((f"{tmp_path}/nowhere", "no such directory"), (f"{layout}@sha256:{'0' * 64}", "no image")):
        assert told in moldar.fails("build", "--build-context", f"base=oci-layout://{place}", context)


def test_each_platform_has_its_own_image_of_the_index(
    moldar: Moldar, project: Callable[..., Path], tmp_path: Path
) -> None:
    """That of the stage that names it, which may be another platform than the target's."""
    text = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /word\n"
    base = project("base", Dockerfile=text, amd64="amd64", arm64="arm64", s390x="s390x")
    layout = tmp_path / "layout"
    platforms = "linux/amd64,linux/arm64"
    moldar("build", "--platform", f"{platforms},linux/s390x", "-o", f"type=oci,dest={layout},tar=false", base)
    context = project(Dockerfile="FROM --platform=linux/s390x base AS big\nFROM base\nCOPY --from=big /word /big\n")
    other = Moldar(tmp_path / "other")
    words = ("--build-context", f"base=oci-layout://{layout}", "-o", f"type=local,dest={tmp_path}/out", context)
    other("build", "--platform", platforms, *words)
    for name in ("amd64", "arm64"):
        files = tmp_path / "out" / f"linux_{name}"
        assert (files / "word").read_text() == name
        assert (files / "big").read_text() == "s390x"
    other("system", "check")
    told = other.fails("build", "--platform", "linux/riscv64", *words)
    assert "no image for platform linux/riscv64" in told
    assert "Dockerfile:2" in told

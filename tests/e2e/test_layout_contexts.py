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

"""Planned graphs beside Dockerfiles in tests/golden/graph. UPDATE_GOLDENS=1 writes them anew, for review."""

import os
from pathlib import Path

import pytest

from moldar.builder.graph import describe
from moldar.builder.plan import NamedContext, PlanOptions, plan
from moldar.dockerfile.reading import read_dockerfile
from moldar.image.model import Platform

from .plain_images import PlainImages

GOLDENS = Path(__file__).parents[2] / "golden" / "graph"
OPTIONS = {
    "arguments": PlanOptions(
        build_args={"TAG": "1.36", "HTTP_PROXY": "http://proxy.example:3128"},
        labels=(("version", "command line"),),
        platform=Platform("linux", "arm64"),
    ),
    "unused": PlanOptions(
        target="CHILD", contexts={"outside": NamedContext("local", "/outside")}, no_cache_filter=("child",)
    ),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDENS.glob("*.Dockerfile")))
def test_graph(name: str) -> None:
    dockerfile = read_dockerfile((GOLDENS / f"{name}.Dockerfile").read_bytes())
    text = describe(plan(dockerfile, OPTIONS.get(name, PlanOptions()), PlainImages()).graph)
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()

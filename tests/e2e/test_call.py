"""`build --call outline|targets`: what a Dockerfile offers, without building it."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar

DOCKERFILE = """# VERSION is what gets built
ARG VERSION=1.0
ARG IMAGE=base
FROM scratch AS base
ARG DEPTH=${VERSION:-x}-deep
# unused is not part of the target
FROM scratch AS unused
ARG NOTHING
# Build makes the program
FROM ${IMAGE} AS Build
ARG VERSION
# MODE may be debug or release
ARG MODE=debug
RUN --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=cache,target=/c/ make
FROM scratch AS last
COPY --from=build /x /x
"""


def test_outline(moldar: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile=DOCKERFILE)
    words = ("build", "--target", "build", "--build-arg", "MODE=release")
    told = json.loads(moldar(*words, "--call", "outline,format=json", context))
    assert {argument["name"]: argument["value"] for argument in told["args"]} == {
        "VERSION": "1.0",
        "IMAGE": "base",
        "DEPTH": "x-deep",
        "MODE": "release",
    }
    assert [(secret["name"], secret["required"]) for secret in told["secrets"]] == [("token", True)]
    assert [agent["name"] for agent in told["ssh"]] == ["default"]
    assert told["cache"] == [{"id": "/c"}]
    text = moldar(*words, "--call=outline", context)
    assert "TARGET:        Build" in text
    assert "MODE        release   may be debug or release" in text
    assert "NOTHING" not in text


def test_targets(moldar: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile=DOCKERFILE)
    told = json.loads(moldar("build", "--call", "targets", "--format", "json", context))["targets"]
    assert [target["name"] for target in told] == ["base", "unused", "build", "last"]
    assert "last (default)" in moldar("build", "--call", "targets", context)


def test_misspelt(moldar: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile=DOCKERFILE)
    assert "did you mean build?" in moldar.fails("build", "--call", "outline", "--target", "biuld", context)
    assert "outline" in moldar.fails("build", "--call", "outlin", context)

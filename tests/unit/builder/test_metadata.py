"""The resolver of base images, asked by several plans at the same time."""

import threading

import pytest

from moldar.builder.metadata import MetadataResolver
from moldar.builder.plan import ImageRequest, ResolvedImage
from moldar.builder.progress import VertexStarted
from moldar.errors import NotFound
from moldar.image.model import Platform
from moldar.image.reference import parse_reference

from .memory_executor import ListSink
from .plain_images import PlainImages

ARM = Platform("linux", "arm64")


def request(name: str, platform: Platform | None = None) -> ImageRequest:
    return ImageRequest(parse_reference(name), platform or Platform())


def test_plans_that_ask_at_the_same_time_share_answers() -> None:
    """The first plan is told to wait until the second asks for the same image, which so waits for it."""
    images, sink, asked = PlainImages(), ListSink(), threading.Event()

    def resolve(wanted: ImageRequest) -> ResolvedImage:
        assert wanted.platform == ARM or asked.wait(10)
        return images.resolve([wanted])[0]

    resolver = MetadataResolver(resolve, sink, multi_platform=True)
    answers: dict[str, list[str]] = {}

    def plan(name: str, *wanted: ImageRequest) -> None:
        if name == "second":
            asked.set()
        answers[name] = [str(found.config.platform) for found in resolver.resolve(wanted)]

    first = threading.Thread(target=plan, args=("first", request("shared"), request("other")))
    first.start()
    plan("second", request("shared"), request("other", ARM))
    first.join(10)
    assert answers == {"first": ["linux/amd64", "linux/amd64"], "second": ["linux/amd64", "linux/arm64"]}
    assert len(images.asked) == 3
    names = sorted(event.name for event in sink.events if isinstance(event, VertexStarted))
    assert names == [
        "[linux/amd64 internal] load metadata for docker.io/library/other:latest",
        "[linux/amd64 internal] load metadata for docker.io/library/shared:latest",
        "[linux/arm64 internal] load metadata for docker.io/library/other:latest",
    ]


def test_an_image_that_cannot_be_had_is_told_to_all_who_ask() -> None:
    calls: list[ImageRequest] = []

    def resolve(wanted: ImageRequest) -> ResolvedImage:
        calls.append(wanted)
        raise NotFound("no such image")

    resolver = MetadataResolver(resolve, ListSink())
    for _ in range(2):
        with pytest.raises(NotFound, match="no such image"):
            resolver.resolve([request("gone")])
    assert len(calls) == 1

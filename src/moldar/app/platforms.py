"""A build for several platforms: one build for each, whose images leave together as an index."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from moldar.app.engine import Engine
from moldar.app.outputs import Result, name_result, write_output
from moldar.app.requests import BuildRequest, Output, layer_epoch
from moldar.builder.plan import parse_platform
from moldar.builder.progress import Event, EventSink, VertexCompleted, VertexStarted, VertexStatus, Warned
from moldar.errors import UserMistake
from moldar.image.model import Digest
from moldar.image.reference import Reference

BuildOne = Callable[[BuildRequest, EventSink], Digest]


class BuiltIndex(NamedTuple):
    """What came of it: the digest that the whole is known by, and what --metadata-file writes."""

    digest: Digest
    metadata: dict[str, Any]


class PlatformEvents:
    """Passes on the events of one platform's build, told from those of the others by `mark` in their IDs."""

    def __init__(self, events: EventSink, mark: str, *, warnings: bool) -> None:
        self._events = events
        self._mark = mark
        self._warnings = warnings

    def publish(self, event: Event) -> None:
        if not isinstance(event, Warned):
            self._events.publish(event._replace(id=f"{self._mark}-{event.id}"))
        elif self._warnings:
            self._events.publish(event)


def build_platforms(
    engine: Engine, request: BuildRequest, references: tuple[Reference, ...], events: EventSink, build_one: BuildOne
) -> BuiltIndex:
    """Build for each platform that `request` names, in their order, then write all outputs.

    `build_one` builds a request of one platform and keeps its image. The checks of the Dockerfile are the same for
    all platforms, so their warnings are told once.
    """
    if request.cache_to and any(place.kind == "inline" for place in request.cache_to):
        raise UserMistake(
            "an inline cache cannot be written for several platforms", hint="use type=registry or local"
        )
    platforms = list(dict.fromkeys(parse_platform(text) for text in request.platforms))
    images = []
    for number, platform in enumerate(platforms):
        one = request._replace(platforms=(str(platform),), tags=(), outputs=())
        heard = PlatformEvents(events, str(platform), warnings=not number)
        image = build_one(one, heard)
        engine.lease.protect("image", [image])
        images.append((platform, image))
    result = Result(tuple(images), references, request.annotations, layer_epoch(request))
    digest = images[0][1]
    for output in request.outputs or (Output("image"),):
        if output.kind == "image":
            digest = _keep(engine, result, events)
        else:
            write_output(engine, result, output, events)
    names = ",".join(str(reference) for reference in references)
    return BuiltIndex(digest, {"containerimage.digest": digest, "image.name": names})


def _keep(engine: Engine, result: Result, events: EventSink) -> Digest:
    events.publish(VertexStarted("export", "exporting to image", time.time()))
    digest = name_result(engine, result)
    parts = [
        *(f"writing image {image} for {platform}" for platform, image in result.images),
        f"writing index {digest}",
        *(f"naming to {reference}" for reference in result.references),
    ]
    for part in parts:
        events.publish(VertexStatus("export", part, 0, 0, time.time(), completed=True))
    events.publish(VertexCompleted("export", time.time()))
    return digest

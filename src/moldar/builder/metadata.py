"""Resolves the base images of a plan: each at most once, several at the same time, with events for each."""

import threading
import time
from collections.abc import Callable, Sequence

from moldar.builder.plan.options import ImageRequest, ResolvedImage
from moldar.builder.progress import EventSink, VertexCompleted, VertexStarted


class MetadataResolver:
    """An ImageResolver over a function that resolves one image and may be called from several threads."""

    def __init__(
        self, resolve: Callable[[ImageRequest], ResolvedImage], events: EventSink, *, multi_platform: bool = False
    ) -> None:
        self._resolve = resolve
        self._events = events
        self._multi_platform = multi_platform
        self._known: dict[tuple[str, str], ResolvedImage | BaseException] = {}

    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
        fresh = {_key(request): request for request in requests if _key(request) not in self._known}
        if len(fresh) == 1:
            self._load(*fresh.values())
        else:
            threads = [
                threading.Thread(target=self._load, args=(request,), daemon=True) for request in fresh.values()
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return [self._answer(request) for request in requests]

    def _answer(self, request: ImageRequest) -> ResolvedImage:
        answer = self._known[_key(request)]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _load(self, request: ImageRequest) -> None:
        name = str(request.reference)
        place = f"[{request.platform} internal]" if self._multi_platform else "[internal]"
        identifier = f"metadata:{name}:{request.platform}"
        self._events.publish(VertexStarted(identifier, f"{place} load metadata for {name}", time.time()))
        error = ""
        try:
            self._known[_key(request)] = self._resolve(request)
        except BaseException as problem:  # raised again in the calling thread
            self._known[_key(request)] = problem
            error = str(problem)
        self._events.publish(VertexCompleted(identifier, time.time(), error=error))


def _key(request: ImageRequest) -> tuple[str, str]:
    return str(request.reference), str(request.platform)

"""Resolves the base images of plans: each at most once, several at the same time, with events for each."""

import threading
import time
from collections.abc import Callable, Sequence

from moldar.builder.plan.options import ImageRequest, ResolvedImage
from moldar.builder.progress import EventSink, VertexCompleted, VertexStarted


class _Answer:
    """What came of resolving an image; `value` is there when `done` is set."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: ResolvedImage | BaseException | None = None


class MetadataResolver:
    """An ImageResolver over a function that resolves one image and may be called from several threads.

    Several plans may be made with it at the same time: what one of them is asking for already, another waits for.
    """

    def __init__(
        self, resolve: Callable[[ImageRequest], ResolvedImage], events: EventSink, *, multi_platform: bool = False
    ) -> None:
        self._resolve = resolve
        self._events = events
        self._multi_platform = multi_platform
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], _Answer] = {}

    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
        fresh = self._claim(requests)
        if len(fresh) == 1:
            self._load(*fresh)
        else:
            threads = [threading.Thread(target=self._load, args=(request,), daemon=True) for request in fresh]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return [self._answer(request) for request in requests]

    def _claim(self, requests: Sequence[ImageRequest]) -> list[ImageRequest]:
        """Those that nobody has asked for yet; now the caller does."""
        with self._lock:
            fresh = {_key(request): request for request in requests if _key(request) not in self._known}
            self._known |= {key: _Answer() for key in fresh}
        return list(fresh.values())

    def _answer(self, request: ImageRequest) -> ResolvedImage:
        answer = self._known[_key(request)]
        answer.done.wait()
        if isinstance(answer.value, BaseException):
            raise answer.value
        assert answer.value is not None
        return answer.value

    def _load(self, request: ImageRequest) -> None:
        name = str(request.reference)
        place = f"[{request.platform} internal]" if self._multi_platform else "[internal]"
        identifier = f"metadata:{name}:{request.platform}"
        self._events.publish(VertexStarted(identifier, f"{place} load metadata for {name}", time.time()))
        error = ""
        answer = self._known[_key(request)]
        try:
            answer.value = self._resolve(request)
        except BaseException as problem:  # raised again in the calling thread
            answer.value = problem
            error = str(problem)
        answer.done.set()
        self._events.publish(VertexCompleted(identifier, time.time(), error=error))


def _key(request: ImageRequest) -> tuple[str, str]:
    return str(request.reference), str(request.platform)

"""An image resolver that knows every image: one layer each, the usual PATH, and `sh`."""

from collections.abc import Sequence

from moldar.builder.plan import ImageRequest, ResolvedImage
from moldar.image.config import DEFAULT_PATH, ContainerConfig, HistoryEntry, ImageConfig
from moldar.image.model import digest_of


class PlainImages:
    def __init__(self, **on_build: tuple[str, ...]) -> None:
        self.asked: list[str] = []
        self.on_build = on_build

    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
        return [self._resolve(request) for request in requests]

    def _resolve(self, request: ImageRequest) -> ResolvedImage:
        name = request.reference.repository.removeprefix("library/")
        self.asked.append(str(request.reference))
        config = ImageConfig(
            request.platform,
            "2020-01-01T00:00:00Z",
            config=ContainerConfig(env=(DEFAULT_PATH,), cmd=("sh",), on_build=self.on_build.get(name, ())),
            diff_ids=(digest_of(name.encode()),),
            history=(HistoryEntry("2020-01-01T00:00:00Z", f"{name} base"),),
        )
        return ResolvedImage(str(request.reference), digest_of(f"manifest of {name}".encode()), config)

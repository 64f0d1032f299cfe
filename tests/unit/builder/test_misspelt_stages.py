"""An image that cannot be had may be a stage whose name is misspelt."""

from collections.abc import Sequence

import pytest

from moldar.builder.plan import ImageRequest, NamedContext, PlanOptions, ResolvedImage, plan
from moldar.dockerfile.reading import read_dockerfile
from moldar.errors import MoldarError, NotFound


class NoImages:
    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
        raise NotFound(f"{requests[0].reference.familiar}: not found", hint="is the name right?")


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        (
            "FROM scratch AS build\nFROM scratch\nCOPY --from=biuld /a /b",
            3,
            "did you mean the stage build?; is the name",
        ),
        ("FROM scratch AS build\nFROM Biuld", 2, "did you mean the stage build?; expected"),
        ("FROM scratch\nRUN --mount=from=asset,target=/x y", 2, "did you mean the stage assets?; is the name"),
        ("FROM scratch AS build\nFROM busybox", 2, "is the name right?"),
    ],
)
def test_the_nearest_stage_is_named(text: str, line: int, hint: str) -> None:
    options = PlanOptions(contexts={"assets": NamedContext("local", "/outside")})
    with pytest.raises(MoldarError) as caught:
        plan(read_dockerfile(text.encode()), options, NoImages())
    assert caught.value.message.startswith(f"Dockerfile:{line}: ")
    assert caught.value.hint.startswith(hint)

"""What advice is given from: the Dockerfile, what past builds took, the context's files and the image's layers."""

from typing import NamedTuple

from moldar.dockerfile.instructions import Dockerfile


class PastStep(NamedTuple):
    """A step of a past build. `text` is the instruction as the build named it; `reused` by what it read."""

    text: str
    seconds: float
    cached: bool
    reused: bool = False
    reason: str = ""


class PastBuild(NamedTuple):
    """A build that ended well, its steps in the order in which they began."""

    id: str
    steps: tuple[PastStep, ...]

    def find(self, text: str) -> PastStep | None:
        """The step with that text; None when there is none."""
        return next((step for step in self.steps if step.text == text), None)


class LayerFile(NamedTuple):
    """A file, link or whiteout in a layer; `kind` as in `image.layer_entry`."""

    path: str
    kind: str
    size: int


class Layer(NamedTuple):
    """A layer of the final image that is not its base's. `text` is the instruction that made it."""

    text: str
    size: int
    files: tuple[LayerFile, ...]


class Facts(NamedTuple):
    """All that advice may look at. `builds` are the latest first.

    `context` are the files that the ignore file leaves, with their bytes; `contents` the texts of manifests among
    them. `layers` are those that the last build put over the base, None when there is no image. `digests` are what
    names of base images mean now, `users` the users with which they begin (left out: root).
    """

    file: Dockerfile
    builds: tuple[PastBuild, ...] = ()
    context: tuple[tuple[str, int], ...] = ()
    contents: tuple[tuple[str, str], ...] = ()
    layers: tuple[Layer, ...] | None = None
    digests: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[str, str], ...] = ()

    @property
    def texts(self) -> dict[str, str]:
        """The texts of manifests by path."""
        return dict(self.contents)

    @property
    def paths(self) -> frozenset[str]:
        """The paths of the context's files."""
        return frozenset(path for path, _ in self.context)


class Advice(NamedTuple):
    """One thing that would be better otherwise. `line` is 0 when it is about no line of the Dockerfile.

    `seconds` and `size` (bytes) are what was measured; `lines` are to be added (to the ignore file, say);
    `fixable` when `--fix` does it.
    """

    kind: str
    line: int
    message: str
    seconds: float = 0.0
    size: int = 0
    lines: tuple[str, ...] = ()
    fixable: bool = False


def size_text(size: int) -> str:
    """Bytes as people write them, in powers of ten."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"

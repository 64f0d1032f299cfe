"""The solver's Executor: names and keys of every kind of step, and which machinery runs it.

This is the light half. What mounts, runs and writes is imported and handed in by the application only when a step
must really run, so that a cached build pays for none of it.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from moldar.builder import keys
from moldar.builder.graph import (
    ContextOp,
    CopyOp,
    GitOp,
    HttpOp,
    ImageOp,
    InlineOp,
    RunOp,
    ScratchOp,
    Vertex,
    WorkdirOp,
    definition,
)
from moldar.builder.solver import Inputs, Key, Record, Result, Reuse, StepContext
from moldar.errors import MoldarError
from moldar.image.model import Digest

_EMPTY = Digest("sha256:" + hashlib.sha256(b"").hexdigest())


class Selections(Protocol):
    """Digests what steps read from sources (contexts, files in the Dockerfile, URLs) and from other stages."""

    def copied(self, op: CopyOp, sources: Sequence[Vertex], inputs: Inputs) -> str:
        """The digest of what a COPY selects from its sources. Inputs that are stages are looked into, mounted."""
        ...

    def mounted(self, source: Vertex, result: Result | None, path: str) -> str:
        """The digest of what a bind mount of `path` shows."""
        ...


class Images(Protocol):
    """Makes the layers of base images available."""

    def available(self, op: ImageOp) -> bool: ...

    def fetch(self, op: ImageOp, step: StepContext) -> None: ...


class StepRunner(Protocol):
    """Runs one kind of step."""

    def run(
        self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs, key: Key, step: StepContext
    ) -> Record: ...


class Reuses(Protocol):
    """Finds what a RUN made over other copied files and would make again over these."""

    def find(self, op: RunOp, key: Key, below: Result | None) -> Reuse | None: ...


class BuildExecutor:
    """Runs the steps of a build.

    `runners` gives the runner for an op's type, and is called only when a step must run; so is `reuses`, when a RUN
    must unless it need not. `sizes` gives the sizes of layers' tars where they are known. `locate` adds the
    Dockerfile's lines to an error.
    """

    def __init__(
        self,
        selections: Selections,
        images: Images,
        runners: Callable[[type], StepRunner],
        locate: Callable[[MoldarError, Vertex], MoldarError],
        sizes: Callable[[Sequence[Digest]], Sequence[int]],
        *,
        reuses: Callable[[], Reuses | None] = lambda: None,
    ) -> None:
        self._selections = selections
        self._images = images
        self._runners = runners
        self._locate = locate
        self._sizes = sizes
        self._reuses = reuses

    def identify(self, vertex: Vertex) -> Result | None:
        op = vertex.op
        if isinstance(op, ScratchOp):
            return Result((), _EMPTY)
        if isinstance(op, ImageOp):
            return Result(tuple(zip(op.diff_ids, self._sizes(op.diff_ids), strict=True)), image_identity(op))
        return None

    def is_source(self, vertex: Vertex) -> bool:
        return isinstance(vertex.op, ContextOp | HttpOp | GitOp | InlineOp)

    def fast_key(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs) -> Key:
        try:
            return self._key(vertex.op, sources, inputs, look_into_stages=False)
        except MoldarError as error:
            raise self._locate(error, vertex) from None

    def content_key(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs) -> Key | None:
        used = _stages_read(vertex.op, inputs)
        if not used:
            return None
        try:
            return self._key(vertex.op, sources, inputs, look_into_stages=True)
        except MoldarError as error:
            raise self._locate(error, vertex) from None

    def needs(self, vertex: Vertex) -> Sequence[int]:
        return range(len(vertex.inputs))

    def available(self, vertex: Vertex) -> bool:
        return isinstance(vertex.op, ImageOp) and self._images.available(vertex.op)

    def fetch(self, vertex: Vertex, step: StepContext) -> None:
        try:
            if isinstance(vertex.op, ImageOp):
                self._images.fetch(vertex.op, step)
        except MoldarError as error:
            raise self._locate(error, vertex) from None

    def reuse(self, vertex: Vertex, inputs: Inputs, key: Key) -> Reuse | None:
        if not isinstance(vertex.op, RunOp):
            return None
        reuses = self._reuses()
        return reuses.find(vertex.op, key, inputs[0]) if reuses else None

    def run(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs, key: Key, step: StepContext) -> Record:
        try:
            return self._runners(type(vertex.op)).run(vertex, sources, inputs, key, step)
        except MoldarError as error:
            raise self._locate(error, vertex) from None

    def _key(self, op: object, sources: Sequence[Vertex], inputs: Inputs, *, look_into_stages: bool) -> Key:
        base = inputs[0].identity if inputs and inputs[0] else _EMPTY
        if isinstance(op, WorkdirOp):
            return keys.workdir_key(op, base)
        if isinstance(op, RunOp):
            shown = [
                ""
                if mount.source < 0
                else self._shown(sources, inputs, mount.source, mount.subpath, look_into_stages)
                for mount in op.mounts
            ]
            return keys.run_key(op, base, shown)
        if isinstance(op, CopyOp):
            if look_into_stages or not _stages_read(op, inputs):
                return keys.copy_key(op, base, self._selections.copied(op, sources, inputs))
            read = [
                result.identity if result else definition(vertex.op)
                for vertex, result in zip(sources[1:], inputs[1:], strict=True)
            ]
            return keys.copy_key(op, base, " ".join(read))
        raise AssertionError(f"no step: {op!r}")

    def _shown(self, sources: Sequence[Vertex], inputs: Inputs, position: int, path: str, look: bool) -> str:
        result = inputs[position]
        if result is not None and not look:
            return f"{result.identity} {path}"
        return self._selections.mounted(sources[position], result, path)


def image_identity(op: ImageOp) -> Digest:
    """The identity of a base image's root file system."""
    return Digest("sha256:" + hashlib.sha256(" ".join(op.diff_ids).encode()).hexdigest())


def _stages_read(op: object, inputs: Inputs) -> bool:
    """Whether the step looks into the root of another stage or image."""
    if isinstance(op, CopyOp):
        return any(inputs[position] is not None for position, _ in op.sources)
    if isinstance(op, RunOp):
        return any(mount.source >= 0 and inputs[mount.source] is not None for mount in op.mounts)
    return False

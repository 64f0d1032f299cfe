"""What COPY, ADD and WORKDIR do: stream a layer's tar straight into the blob store."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from moldar.builder.accounts import find_owner
from moldar.builder.canvas import Canvas, NotADirectory
from moldar.builder.copying import run_copy
from moldar.builder.graph import CopyOp, Vertex, WorkdirOp
from moldar.builder.progress import VertexLog
from moldar.builder.rootview import DirectoryLayer, Layer, LazyLayers, RootView, TarLayer
from moldar.builder.solver import Inputs, Key, Record, Result, StepContext
from moldar.builder.sources import Sources
from moldar.errors import UserMistake
from moldar.image.layer_entry import LayerEntry
from moldar.image.model import OCI_LAYER, Descriptor, Digest
from moldar.sandbox.unpacked import Unpacked
from moldar.store.blobs import BlobStore
from moldar.store.layers import LayerTable

Stack = tuple[Digest, ...]
RAW_LEVEL = 0


class Unpacker(Protocol):
    """Makes snapshots of layers that are here as blobs only."""

    def unpacked(self, stack: Stack) -> None: ...


class Workshop(NamedTuple):
    """What the runners of steps share. `protect` keeps layers from the garbage collector: kind `layer`, diff IDs."""

    blobs: BlobStore
    layers: LayerTable
    snapshots: Unpacked
    forms: Unpacker
    sources: Sources
    protect: Callable[[str, Iterable[str]], None]
    scratch: str

    def view(self, result: Result | None) -> RootView:
        """The root file system of `result`, looked at without mounting it.

        Raw blobs on top are looked into as they are; what is below them is unpacked when a question gets there.
        """
        stack = stack_of(result)
        tops: list[Layer] = []
        while stack and not self.snapshots.has(stack) and self.blobs.has(stack[-1]):
            tops.append(TarLayer(self.blobs.path(stack[-1])))
            stack = stack[:-1]
        base: list[Layer] = [LazyLayers(lambda: self._unpacked(stack))] if stack else []
        return RootView([*base, *reversed(tops)])

    def write_layer(self, write: Callable[[Callable[[bytes | memoryview], object]], object]) -> tuple[Digest, int]:
        """Store the layer whose tar `write` hands over; its diff ID and size."""
        with self.blobs.writer() as writer:
            write(writer.write)
            self.protect("layer", [writer.digest])
            digest, size = writer.commit(), writer.size
        self.layers.record(digest, size)
        self.layers.add_blob(digest, Descriptor(OCI_LAYER, digest, size), RAW_LEVEL)
        return digest, size

    def unpack(self, stack: Stack) -> None:
        """See to it that `stack` can be mounted."""
        if not self.snapshots.has(stack):  # quicker than looking at every layer with those beneath it
            self.forms.unpacked(stack)

    def _unpacked(self, stack: Stack) -> RootView:
        self.unpack(stack)
        return RootView([DirectoryLayer(path) for path in self.snapshots.directories(stack)])


def stack_of(result: Result | None) -> Stack:
    """The diff IDs of a root file system, lowest first."""
    return tuple(diff_id for diff_id, _ in result.layers) if result else ()


def identity_of(*parts: str) -> Digest:
    """The identity of a result that is decided by `parts`."""
    return Digest("sha256:" + hashlib.sha256(" ".join(parts).encode()).hexdigest())


class CopyRunner:
    """Runs COPY and ADD."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def run(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs, key: Key, step: StepContext) -> Record:
        op = vertex.op
        assert isinstance(op, CopyOp)
        shop = self._workshop
        with ExitStack() as mounts:
            selection = shop.sources.select(op, sources, inputs, mounts)
            warnings: list[str] = []

            def write(sink: Callable[[bytes | memoryview], object]) -> None:
                def checked(data: bytes | memoryview) -> object:
                    step.cancellation.check()
                    return sink(data)

                warnings.extend(run_copy(op, selection, shop.view(inputs[0]), checked, shop.scratch).warnings)

            layer = shop.write_layer(write)
        for warning in warnings:
            step.events.publish(VertexLog(step.id, 2, os.fsencode(warning) + b"\n", time.time()))
        base = inputs[0].identity if inputs[0] else ""
        return Record((layer,), identity_of(base, key.digest), time.time())


class WorkdirRunner:
    """Runs WORKDIR: a layer with the directories that are missing, none of them when all are there."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def run(self, vertex: Vertex, sources: Sequence[Vertex], inputs: Inputs, key: Key, step: StepContext) -> Record:
        op = vertex.op
        assert isinstance(op, WorkdirOp)
        view = self._workshop.view(inputs[0])
        now = time.time()
        owner = find_owner(op.user, view) if op.user else (0, 0, ())
        mtime = int(now) if op.created_epoch is None else op.created_epoch
        new = LayerEntry("", "dir", 0o755, owner[0], owner[1], mtime)

        def write(sink: Callable[[bytes | memoryview], object]) -> None:
            with Canvas(view) as canvas:
                try:
                    canvas.make_directories(canvas.resolve(op.path.strip("/")), new)
                except NotADirectory as error:
                    raise UserMistake(f"cannot make the directory {op.path}: {error.path} is a file") from None
                canvas.write(sink)

        layer = self._workshop.write_layer(write)
        return Record((layer,), identity_of(key.digest), now)

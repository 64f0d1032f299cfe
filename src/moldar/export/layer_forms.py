"""The two forms of a layer, blob and snapshot, each made from the other when somebody needs it and never before.

A blob's tar may be raw or compressed; which blob holds which layer in which compression is remembered in the layers
table, so that nothing is compressed twice.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

from moldar.errors import CorruptData, NotFound
from moldar.export.streams import Hashing, Prefetched, WrittenTar
from moldar.image.compression import DEFAULT_LEVEL, MEDIA_TYPE, Codec, codec_of, compressor
from moldar.image.decompression import open_decompressed
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_entry import NeedsParents
from moldar.image.layer_read import Readable
from moldar.image.model import Descriptor, Digest
from moldar.image.unpack import unpack
from moldar.sandbox.snapshots import Snapshots
from moldar.sandbox.unchanged import without_unchanged
from moldar.sandbox.unpacked import Stack
from moldar.store.blobs import BlobStore
from moldar.store.layers import LayerTable

Protect = Callable[[str, Iterable[str]], None]
"""Keeps things from the garbage collector: kind (`blob`, `layer`, `image`) and keys, as `store.leases.Lease` does."""

Fetch = Callable[[Sequence[Digest]], None]
"""Brings layers that are not in the store from elsewhere, as far as they are known there."""

_CHUNK = 1 << 20
_WORKERS = 2
FOREIGN = -1
"""The level of a blob that came from elsewhere."""


class LayerMissing(NotFound):
    """A layer of which the store has neither blob nor snapshot."""

    def __init__(self, diff_id: str) -> None:
        super().__init__(f"layer {diff_id} is not in the store", hint="pull or build the image again")
        self.diff_id = diff_id


class WrongLayer(CorruptData):
    """A layer's content does not have its diff ID."""

    def __init__(self, diff_id: str, found: str) -> None:
        super().__init__(f"layer {diff_id} has the wrong content: its digest is {found}")
        self.diff_id = diff_id


class LayerForms:
    """Makes blobs of layers and snapshots of blobs. Methods may be called from any thread.

    `protect` keeps what is found or made until the caller's lease ends. `fetch` is asked for layers that are not
    here, when somebody needs them.
    """

    def __init__(
        self,
        blobs: BlobStore,
        layers: LayerTable,
        snapshots: Snapshots,
        protect: Protect,
        fetch: Fetch | None = None,
    ) -> None:
        self._blobs = blobs
        self._layers = layers
        self._snapshots = snapshots
        self._protect = protect
        self._fetch = fetch
        self._lock = threading.Lock()
        self._busy: dict[tuple[str, ...], threading.Lock] = {}

    # Blobs

    def blob(
        self, stack: Stack, codec: Codec = "gzip", level: int | None = None, *, force: bool = False
    ) -> Descriptor:
        """A blob of the top layer of `stack`, with an OCI media type; made if there is none.

        Without `force` any compression that is there already will do; with it, it is `codec` (at `level`, if given)
        also for layers that came compressed in another way. Raises LayerMissing, WrongLayer.
        """
        diff_id = stack[-1]
        self._protect("layer", stack)
        self.bring(stack)
        with self._alone(("blob", diff_id)):
            found = self._find(diff_id, codec, level, force)
            if found:
                return found
            if codec == "none":
                return self._make_raw(stack)
            return self._make_compressed(stack, codec, DEFAULT_LEVEL[codec] if level is None else level)

    def blobs(
        self, stack: Stack, codec: Codec = "gzip", level: int | None = None, *, force: bool = False
    ) -> list[Descriptor]:
        """Blobs of all layers of `stack`, made in parallel."""
        self.bring(stack)
        made: dict[int, Descriptor] = {}

        def make(depth: int) -> None:
            made[depth] = self.blob(stack[:depth], codec, level, force=force)

        run_parallel([partial(make, depth) for depth in range(1, len(stack) + 1)])
        return [made[depth] for depth in sorted(made)]

    def bring(self, stack: Stack) -> None:
        """Have those layers of `stack` that are in neither form here fetched from where they are known."""
        if self._fetch is None or self._snapshots.has(stack):
            return
        missing = [
            diff_id
            for depth, diff_id in enumerate(stack, 1)
            if not self._blobs.has(diff_id)
            and not any(self._blobs.has(blob.descriptor.digest) for blob in self._layers.blobs(diff_id))
            and not self._layers.has_snapshot(self._snapshots.keys(stack[:depth])[-1])
        ]
        if missing:
            self._fetch(missing)

    def _alone(self, work: tuple[str, ...]) -> threading.Lock:
        """The lock of one piece of work, so that threads do not do it twice."""
        with self._lock:
            return self._busy.setdefault(work, threading.Lock())

    def _find(self, diff_id: Digest, codec: Codec, level: int | None, force: bool) -> Descriptor | None:
        if codec == "none" and self._blobs.has(diff_id):
            return Descriptor(MEDIA_TYPE["none"], diff_id, self._blobs.size(diff_id))
        candidates: list[tuple[bool, bool, Descriptor]] = []
        for descriptor, known_level in self._layers.blobs(diff_id):
            known = codec_of(descriptor.media_type)
            if known is None or (known == "none" and codec != "none"):
                continue
            right, exact = known == codec, known_level == (DEFAULT_LEVEL[codec] if level is None else level)
            if not force or (right and (exact or level is None)):
                candidates.append((right, exact, descriptor._replace(media_type=MEDIA_TYPE[known])))
        for _, _, descriptor in sorted(candidates, key=lambda found: found[:2], reverse=True):
            if self._blobs.has(descriptor.digest):
                return descriptor
        return None

    def _make_raw(self, stack: Stack) -> Descriptor:
        diff_id = stack[-1]
        with self._blobs.writer() as writer:
            with self.open_tar(stack) as stream:
                while data := stream.read(_CHUNK):
                    writer.write(data)
            if writer.digest != diff_id:
                raise WrongLayer(diff_id, writer.digest)
            writer.commit()
        self._layers.record(diff_id, writer.size)
        return Descriptor(MEDIA_TYPE["none"], diff_id, writer.size)

    def _make_compressed(self, stack: Stack, codec: Codec, level: int) -> Descriptor:
        diff_id = stack[-1]
        work = compressor(codec, level)
        with self._blobs.writer() as writer:
            with self.open_tar(stack) as stream, Prefetched(plain := Hashing(stream)) as ahead:
                while data := ahead.read(_CHUNK):
                    writer.write(work.compress(data))
            writer.write(work.flush())
            if plain.digest != diff_id:
                raise WrongLayer(diff_id, plain.digest)
            self._protect("blob", [writer.digest])
            descriptor = Descriptor(MEDIA_TYPE[codec], writer.commit(), writer.size)
        self._layers.record(diff_id, plain.size)
        self._layers.add_blob(diff_id, descriptor, level)
        return descriptor

    @contextmanager
    def open_tar(self, stack: Stack) -> Iterator[Readable]:
        """The uncompressed tar of the top layer, from whatever form there is; LayerMissing."""
        diff_id = stack[-1]
        found = self._find(diff_id, "none", None, force=False)
        if found:
            with self._blobs.open(found.digest) as file:
                plain = file if found.digest == diff_id else open_decompressed(file)
                with Prefetched(plain) as stream:
                    yield stream
            return
        if self._snapshots.whiteouts == "apply" or not self._snapshots.has(stack):
            raise LayerMissing(diff_id)
        *lowers, top = self._snapshots.directories(stack)
        with WrittenTar(without_unchanged(diff_entries(top), top, lowers)) as stream:
            yield stream

    # Snapshots

    def unpacked(self, stack: Stack) -> None:
        """See to it that every layer of `stack` has its snapshot. Raises LayerMissing, WrongLayer, BadLayer."""
        self._protect("layer", stack)
        self.bring(stack)
        for depth in range(1, len(stack) + 1):
            if not self._snapshots.has(stack[:depth]):
                with self._alone(("snapshot", *stack[:depth])):  # stages that begin with the same base come at once
                    if not self._snapshots.has(stack[:depth]):
                        self._unpack(stack[:depth])

    def _unpack(self, stack: Stack) -> None:
        style = self._snapshots.whiteouts
        alone = style != "apply" and len(stack) > 1

        def fill(directory: str) -> int:
            with self._verified(stack) as stream:
                parents: Literal["make", "refuse"] = "refuse" if alone else "make"
                return unpack(stream, directory, whiteouts=style, missing_parents=parents).size

        def fill_merged(directory: str) -> int:
            with self._verified(stack) as stream:
                return unpack(stream, directory, whiteouts="apply").size

        try:
            self._snapshots.unpack(stack, fill)
        except NeedsParents:
            self._snapshots.unpack_over(stack, fill_merged)

    @contextmanager
    def _verified(self, stack: Stack) -> Iterator[Readable]:
        """The tar of a layer whose diff ID is checked when it was read to the end."""
        with self.open_tar(stack) as stream:
            hashing = Hashing(stream)
            yield hashing
        if hashing.digest != stack[-1]:
            raise WrongLayer(stack[-1], hashing.digest)
        self._layers.record(stack[-1], hashing.size)


def run_parallel(jobs: Sequence[Callable[[], None]]) -> None:
    """Run all jobs on a few threads; when one fails no other is begun, and the first error is raised at the end."""
    waiting = iter(jobs)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        while not errors:
            with lock:
                job = next(waiting, None)
            if job is None:
                return
            try:
                job()
            except BaseException as error:
                errors.append(error)

    others = [threading.Thread(target=work, daemon=True) for _ in range(min(_WORKERS, len(jobs)) - 1)]
    for other in others:
        other.start()
    work()
    for other in others:
        other.join()
    if errors:
        raise errors[0]

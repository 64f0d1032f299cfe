"""Writing build caches: what a build used or a store holds, as a manifest in a directory or registry."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

from moldar.app.cache_import import ImportedCaches
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.app.outputs import packing_of
from moldar.app.requests import CachePlace, Output
from moldar.builder.cache_mounts import acquire_idle
from moldar.builder.keys import ENVIRONMENT
from moldar.builder.progress import EventSink, VertexStatus, Warned
from moldar.builder.solver import Key, Record
from moldar.errors import HostTrouble, MoldarError
from moldar.export.build_cache import (
    CacheDocument,
    CacheSource,
    OpenLayer,
    SharedBase,
    SharedLayer,
    SharedMount,
    SharedRecord,
)
from moldar.export.cache_layout import DEFAULT_TAG, LayoutDirectory
from moldar.export.layer_forms import LayerMissing, WrongLayer, run_parallel
from moldar.export.mount_layers import pack_directory
from moldar.export.store_image import Packing
from moldar.image.model import Descriptor, Digest
from moldar.image.reference import parse_reference
from moldar.image.transfer import ImageSink, ImageSource, Progress, copy
from moldar.sandbox.unpacked import Stack
from moldar.store.read_sets import ReadSetTable

EXPORT_FAILED = "CacheExportFailed"
_PATIENCE = 10.0


class Contents(NamedTuple):
    """What is to be exported. `stacks` say for each layer what lies beneath it; `mounts` are directories.

    Only layers in `wanted` travel, all when that is None; the others are named.
    """

    records: tuple[SharedRecord, ...]
    sizes: Mapping[Digest, int]
    stacks: Mapping[Digest, Stack]
    bases: tuple[tuple[SharedBase, Stack], ...] = ()
    mounts: tuple[str, ...] = ()
    wanted: frozenset[Digest] | None = None


class Written(NamedTuple):
    """What an export left at its place, in numbers; `digest` is the manifest's."""

    digest: Digest
    records: int
    layers: int
    mounts: int
    sent: int


def shared_record(key: Key, record: Record) -> SharedRecord:
    """A record as it leaves: the environment's names stay with us, and so do their values."""
    parts = tuple(part for part in key.parts if part[0] != ENVIRONMENT)
    layers = tuple(diff_id for diff_id, _ in record.layers)
    return SharedRecord(key.digest, key.step, record.identity, record.created, parts, layers)


class CacheExporter:
    """Writes caches of one store; layers that are not here are copied from `imported`, if it has them."""

    def __init__(self, engine: Engine, events: EventSink, imported: ImportedCaches | None = None) -> None:
        self._engine = engine
        self._events = events
        self._imported = imported
        self._elsewhere: dict[Digest, ImageSource] = {}

    def write(self, place: CachePlace, contents: Contents, identity: str) -> Written:
        """Export to `place`; whatever can go wrong there is raised."""
        self._engine.lease.protect("blob", ())  # whatever comes into the store from now on is ours
        packing = packing_of(Output(place.kind, place.place, place.attributes))
        layers = self._layers(contents, packing)
        mounts = self._mounts(contents, packing, layers)
        bases = tuple(base for base, _ in contents.bases)
        document = CacheDocument(self._with_reads(contents.records), layers, bases, mounts)
        source = CacheSource(document, OpenLayer(self._engine.blobs, self._elsewhere))
        sent = self._send(source, place, identity)
        blobs = sum(layer.blob is not None for layer in layers.values()) - len(mounts)
        return Written(source.manifest.descriptor.digest, len(contents.records), blobs, len(mounts), sent)

    def _with_reads(self, records: Sequence[SharedRecord]) -> tuple[SharedRecord, ...]:
        table = ReadSetTable(self._engine.database)
        return tuple(
            record._replace(reads=tuple((Digest(step), data) for step, data in table.made(record.key)))
            for record in records
        )

    def _layers(self, contents: Contents, packing: Packing) -> dict[Digest, SharedLayer]:
        named = {diff_id for record in contents.records for diff_id in record.layers}
        found = {diff_id: SharedLayer(contents.sizes.get(diff_id, 0), None) for diff_id in named}
        named.update(diff_id for _, stack in contents.bases for diff_id in stack)
        wanted = named if contents.wanted is None else named & contents.wanted

        def add(diff_id: Digest) -> None:
            layer = self._layer(diff_id, contents, packing)
            if layer is not None:
                found[diff_id] = layer

        run_parallel([partial(add, diff_id) for diff_id in sorted(wanted)])
        return found

    def _layer(self, diff_id: Digest, contents: Contents, packing: Packing) -> SharedLayer | None:
        stack = contents.stacks.get(diff_id, (diff_id,))
        parts = machinery(self._engine)
        if not self._engine.has_layer(diff_id) and not parts.snapshots.has(stack):
            if self._imported and (held := self._imported.source_of(diff_id)):
                source, layer = held
                assert layer.blob is not None
                self._elsewhere[layer.blob.digest] = source
                return layer
            return None
        try:
            blob = parts.forms.blob(stack, packing.codec, packing.level, force=packing.force)
        except (LayerMissing, WrongLayer):  # only a layer's name is left, or it is not what it says
            return None
        size = self._engine.layers.size(diff_id)
        return SharedLayer(contents.sizes.get(diff_id, 0) if size is None else size, blob)

    def _mounts(
        self, contents: Contents, packing: Packing, layers: dict[Digest, SharedLayer]
    ) -> tuple[SharedMount, ...]:
        """Pack the cache mounts, adding their layers; one that cannot be read is left out with a warning."""
        mounts = []
        for stem in contents.mounts:
            name = stem.rpartition("/")[2]
            try:
                diff_id, layer = self._pack(stem, packing)
            except (MoldarError, OSError) as error:
                self._events.publish(Warned(EXPORT_FAILED, f"exporting cache mount {name[:12]} failed: {error}"))
                continue
            layers[diff_id] = layer
            mounts.append(SharedMount(Digest(f"sha256:{name}"), diff_id))
        return tuple(mounts)

    def _pack(self, stem: str, packing: Packing) -> tuple[Digest, SharedLayer]:
        lock = acquire_idle(stem, _PATIENCE)
        if lock is None:
            raise HostTrouble("it is in use by another build")
        try:
            diff_id, size, blob = pack_directory(self._engine.blobs, stem, packing.codec)
        finally:
            lock.release()
        return diff_id, SharedLayer(size, blob)

    def _send(self, source: CacheSource, place: CachePlace, identity: str) -> int:
        """Copy to the place; how many bytes of blobs were not there yet."""
        sent = 0

        def progress(descriptor: Descriptor, current: int, total: int, done: bool) -> None:
            nonlocal sent
            if done:
                sent += current
                now = time.time()
                self._events.publish(VertexStatus(identity, descriptor.digest, current, total, now, completed=True))

        if place.kind == "local":
            layout = LayoutDirectory(place.place, place.get("tag", DEFAULT_TAG))
            self._copy(source, layout, layout.locked(), progress)
            return sent
        from moldar.app.registries import mount_sources, open_registry
        from moldar.remote.client import RegistryImage

        reference = parse_reference(place.place)
        with open_registry(self._engine, reference.registry) as registry:
            sink = RegistryImage(registry, reference, mount_sources(self._engine, reference))
            self._copy(source, sink, nullcontext(), progress)
        return sent

    def _copy(
        self, source: CacheSource, sink: ImageSink, held: AbstractContextManager[None], progress: Progress
    ) -> None:
        with held:
            copy(source, sink, progress=progress)


def stacks_of(roots: Iterable[Sequence[Digest]]) -> dict[Digest, Stack]:
    """For every layer of the root file systems the stack that ends with it."""
    stacks: dict[Digest, Stack] = {}
    for root in roots:
        for depth in range(1, len(root) + 1):
            stacks.setdefault(root[depth - 1], tuple(root[:depth]))
    return stacks

"""Build caches besides the store's own: those that a build reads and writes, and the verbs that do it without one.

None of it fails a build: what goes wrong is a warning with its reason.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from moldar.app.cache_export import EXPORT_FAILED, CacheExporter, Contents, Written, shared_record, stacks_of
from moldar.app.cache_import import ImportedCaches, LayerLost, fill_mount, open_caches
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.app.requests import BuildRequest, CachePlace
from moldar.app.stored_cache import same_results, stored_contents
from moldar.builder.cache import BuildCache
from moldar.builder.cache_mounts import stem_of, stems
from moldar.builder.graph import Graph, ImageOp, RunOp
from moldar.builder.plan import ImageRequest, Plan, ResolvedImage
from moldar.builder.progress import Event, EventSink, VertexCompleted, VertexStarted, Warned
from moldar.builder.read_sets import Kept, LentReadSets
from moldar.builder.shared_cache import SharedCache
from moldar.builder.solver import Key, Record, Result
from moldar.errors import MoldarError
from moldar.export.build_cache import (
    CacheDocument,
    SharedBase,
    SharedLayer,
    SharedRecord,
    inline_document,
)
from moldar.export.store_image import StoreSink
from moldar.image.config import INLINE_CACHE, encode_image_config
from moldar.image.model import Digest, Platform
from moldar.sandbox.unpacked import Stack
from moldar.store.cache import CacheTable
from moldar.store.read_sets import ReadSetRow, ReadSetTable

Results = tuple[Result | None, ...]


class BuildCaches:
    """The caches that one build, of however many platforms, reads and writes. A context manager."""

    def __init__(
        self, engine: Engine, request: BuildRequest, platforms: Sequence[Platform], events: EventSink
    ) -> None:
        self._engine = engine
        self._places = request.cache_to
        self._sources = request.cache_from
        self._events = events
        self._imported = ImportedCaches(engine, request.cache_from, platforms, events)
        self._shared: SharedCache | None = None
        self._bases: dict[tuple[str, Platform], tuple[ImageRequest, ResolvedImage]] = {}
        self._mounts: Sequence[str] = ()
        self._epoch: int | None = request.source_date_epoch

    def __enter__(self) -> Self:
        if self._sources:
            machinery(self._engine).lend(self._imported.bring)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sources:
            machinery(self._engine).lend(None)
        self._imported.close()

    # While the build runs

    def base(self, asked: ImageRequest, error: MoldarError) -> ResolvedImage | None:
        """A base image that its registry does not give, from a cache that was made with it."""
        return self._imported.base(asked, error)

    def resolved(self, asked: ImageRequest, found: ResolvedImage) -> None:
        """The build starts from this base image."""
        self._bases[str(asked.reference), asked.platform] = asked, found

    def fetch_base(self, op: ImageOp) -> bool:
        """Bring a base image's layers, if a cache has all that are missing."""
        if not self._sources or not self._imported.covers(op.diff_ids):
            return False
        try:
            self._imported.bring(op.diff_ids)
        except LayerLost:
            return False
        return True

    def read_sets(self, own: Kept) -> Kept:
        """The store's read sets with those of the caches beneath them."""
        return LentReadSets(own, self._imported.read_sets)

    def find(self, key: Key) -> Record | None:
        """A record of the store or of a cache."""
        return self._shared.find(key) if self._shared else None

    def before(self, kind: type) -> None:
        """A step of that kind is about to run."""
        if kind is RunOp and self._mounts:
            self._imported.bring_mounts(self._mounts)

    def solve(self, graph: Graph, own: BuildCache, run: Callable[[SharedCache, EventSink], Results]) -> Results:
        """Solve with the other caches beneath the own one, once more without any that broke on the way."""
        self._mounts = _cache_mounts(graph)
        while True:
            failures = self._imported.failures
            self._shared = SharedCache(own, self._imported)
            try:
                results = run(self._shared, _Again(self._events, self._imported))
                for target in _targets(graph, results) if self._sources else ():
                    machinery(self._engine).forms.bring(tuple(diff_id for diff_id, _ in target.layers))
                break
            except MoldarError:
                if self._imported.failures == failures:
                    raise
        self._shared.adopt()
        return results

    # When it is done

    def with_inline(self, planned: Plan, results: Sequence[Result | None]) -> Plan:
        """The plan of an image that carries the cache of its layers, if this is asked for.

        `results` are those of the plan's own graph: the steps of other platforms belong into other images.
        """
        if not any(place.kind == "inline" for place in self._places):
            return planned
        (target,) = _targets(planned.graph, results)
        inside = {diff_id for diff_id, _ in target.layers}
        made = {result.identity for result in results if result is not None}
        records: list[SharedRecord] = []
        layers: dict[Digest, SharedLayer] = {}
        for record, sizes in self._records():
            if record.identity not in made:
                continue
            if not inside.issuperset(record.layers):  # of another stage, whose words are not for the image
                record = record._replace(step="", parts=())
            if self._epoch is not None:
                record = record._replace(created=float(self._epoch))
            records.append(record)
            layers |= {diff_id: SharedLayer(size, None) for diff_id, size in sizes.items()}
        document = inline_document(CacheDocument(tuple(records), layers))
        return planned._replace(
            image=planned.image._replace(extra={**(planned.image.extra or {}), INLINE_CACHE: document})
        )

    def export(self, graph: Graph, results: Results) -> None:
        """Write every cache that is asked for; warnings for those that cannot be written."""
        for number, place in enumerate(self._places):
            if place.kind != "inline":
                self._export(place, f"cache-{number}", graph, results)

    def _export(self, place: CachePlace, identity: str, graph: Graph, results: Results) -> None:
        self._events.publish(VertexStarted(identity, f"exporting cache to {place}", time.time()))
        failure = ""
        try:
            exporter = CacheExporter(self._engine, self._events, self._imported)
            exporter.write(place, self._contents(place, graph, results), identity)
        except (MoldarError, OSError) as error:
            failure = str(error)
            self._events.publish(Warned(EXPORT_FAILED, f"exporting cache to {place} failed: {failure}"))
        self._events.publish(VertexCompleted(identity, time.time(), error=failure))

    def _contents(self, place: CachePlace, graph: Graph, results: Results) -> Contents:
        targets = _targets(graph, results)
        everything = place.get("mode", "min") == "max"
        roots = [result.layers for result in results if result is not None]
        sizes = dict(layer for root in roots for layer in root)
        mounts: list[str] = []
        if place.get("mounts", "false") == "true":
            used = {stem_of(self._engine.home.cachemounts, name) for name in _cache_mounts(graph)}
            mounts = [stem for stem in stems(self._engine.home.cachemounts) if stem in used]
        bases = [
            (_shared_base(asked, found), found.config.diff_ids)
            for asked, found in self._bases.values()
            if everything or any(_starts_with(target, found.config.diff_ids) for target in targets)
        ]
        stacks = stacks_of([[diff_id for diff_id, _ in root] for root in roots])
        wanted = None if everything else frozenset(diff_id for target in targets for diff_id, _ in target.layers)
        records = tuple(record for record, _ in self._records())
        return Contents(records, sizes, stacks, tuple(bases), tuple(mounts), wanted)

    def _records(self) -> list[tuple[SharedRecord, dict[Digest, int]]]:
        """What the build used and made, under all keys that the store knows, with the sizes of the layers."""
        assert self._shared is not None
        sizes = {diff_id: size for _, record in self._shared.used for diff_id, size in record.layers}
        used = [shared_record(key, record) for key, record in self._shared.used]
        everything = same_results(CacheTable(self._engine.database), used)
        return [(record, {each: sizes[each] for each in record.layers}) for record in everything]


class _Again:
    """Passes events on; what ends because the graph is about to be solved again has not failed."""

    def __init__(self, events: EventSink, imported: ImportedCaches) -> None:
        self._events = events
        self._imported = imported
        self._failures = imported.failures

    def publish(self, event: Event) -> None:
        if isinstance(event, VertexCompleted) and event.error and self._imported.failures > self._failures:
            event = event._replace(error="", reason="to be done again: the imported cache lacks layers below it")
        self._events.publish(event)


class Imported(NamedTuple):
    """What `cache import` brought into the store, in numbers."""

    records: int
    layers: int
    mounts: int


def export_cache(
    engine: Engine, place: CachePlace, names: Sequence[str], events: EventSink, *, mounts: bool = False
) -> Written:
    """Write the store's build cache, or that of the named images, to `place`; what goes wrong there is raised."""
    contents = stored_contents(engine, [engine.images.resolve(name) for name in names])
    if mounts:
        contents = contents._replace(mounts=tuple(stems(engine.home.cachemounts)))
    return CacheExporter(engine, events).write(place, contents, "cache")


def import_cache(engine: Engine, place: CachePlace, *, mounts: bool = True) -> Imported:
    """Bring a whole build cache into the store: its records, their layers, and cache mounts that are not here."""
    with ExitStack() as stack:
        (cache,) = open_caches(engine, place, (engine.platform,), stack)
        sink = StoreSink(machinery(engine).store)
        layers = 0
        for diff_id in {diff_id for record in cache.document.records for diff_id in record.layers}:
            layer = cache.document.layers[diff_id]
            if cache.source and layer.blob and not engine.has_layer(diff_id):
                sink.take_layer(cache.source, layer.blob, diff_id)
                layers += 1
        records = _keep(engine, cache.document)
        filled = 0
        for mount in cache.document.mounts if mounts else ():
            stem = f"{engine.home.cachemounts}/{mount.id.rpartition(':')[2]}"
            filled += fill_mount(engine, cache, mount, stem)
        return Imported(records, layers, filled)


def _keep(engine: Engine, document: CacheDocument) -> int:
    """Record what the document knows and whose layers are here; how many records were new."""
    table = CacheTable(engine.database)
    own = BuildCache(table, engine.layers, engine.blobs)
    read_sets = ReadSetTable(engine.database)
    known = {row.key for row in table.all()}
    kept = 0
    for shared in document.records:
        layers = tuple((diff_id, document.layers[diff_id].size) for diff_id in shared.layers)
        record = Record(layers, shared.identity, shared.created)
        if shared.key not in known and own.holds(record):
            own.store(Key(shared.key, shared.parts, shared.step), record)
            for step, data in shared.reads:
                read_sets.put(step, ReadSetRow(shared.key, data))
            kept += 1
    return kept


def _cache_mounts(graph: Graph) -> list[str]:
    """The ids of the cache mounts of all RUNs."""
    ops: Iterable[RunOp] = (vertex.op for vertex in graph.vertices if isinstance(vertex.op, RunOp))
    return sorted({mount.cache_id for op in ops for mount in op.mounts if mount.kind == "cache"})


def _shared_base(asked: ImageRequest, found: ResolvedImage) -> SharedBase:
    return SharedBase(str(asked.reference), asked.platform, found.digest or "", encode_image_config(found.config))


def _starts_with(target: Result, diff_ids: Stack) -> bool:
    return tuple(diff_id for diff_id, _ in target.layers[: len(diff_ids)]) == diff_ids


def _targets(graph: Graph, results: Sequence[Result | None]) -> list[Result]:
    """What is wanted of the graph."""
    return [result for target in graph.targets if (result := results[target]) is not None]

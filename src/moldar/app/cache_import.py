"""Build caches that a build reads besides the store's own: opened, asked for records, and their layers fetched late.

Nothing here fails a build. A cache that cannot be opened, or that turns out to lack what it promised, is left out
with a warning.
"""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.app.platforms import image_for
from moldar.app.requests import CachePlace
from moldar.builder.cache_mounts import acquire_idle, stem_of
from moldar.builder.keys import ENVIRONMENT
from moldar.builder.plan import ImageRequest, ResolvedImage
from moldar.builder.progress import EventSink, VertexCompleted, VertexStarted, VertexStatus, Warned
from moldar.builder.solver import Record
from moldar.errors import HostTrouble, MoldarError, NotFound
from moldar.export.build_cache import (
    CacheDocument,
    SharedLayer,
    SharedMount,
    SharedRecord,
    parse_inline,
    read_caches,
)
from moldar.export.cache_layout import DEFAULT_TAG, open_layout
from moldar.export.layer_forms import run_parallel
from moldar.export.mount_layers import unpack_directory
from moldar.export.store_image import StoreSink
from moldar.image.config import parse_image_config
from moldar.image.model import Descriptor, Digest, Platform, digest_of
from moldar.image.reference import parse_reference
from moldar.image.transfer import ImageSource
from moldar.store.read_sets import ReadSetRow

IMPORT_FAILED = "CacheImportFailed"
_PATIENCE = 2.0


class OpenCache(NamedTuple):
    """A cache to read from. `source` serves its blobs; None when all of its layers are in the store."""

    name: str
    document: CacheDocument
    records: dict[Digest, SharedRecord]
    source: ImageSource | None


class LayerLost(NotFound):
    """A layer that an imported cache promised could not be had; `diff_id` names it."""

    def __init__(self, diff_id: str, why: str = "could not be had from an imported cache") -> None:
        super().__init__(f"layer {diff_id} {why}", hint="build without it")
        self.diff_id = diff_id


def open_caches(
    engine: Engine, place: CachePlace, platforms: Sequence[Platform], stack: ExitStack
) -> list[OpenCache]:
    """The cache at `place`, open as long as `stack`; whatever its place raises.

    An index has a cache in the image of each platform: then it is those of `platforms`.
    """
    if place.kind == "image":
        own = [_in_store(engine, place, platform) for platform in platforms]
        if found := [cache for cache in own if cache is not None]:
            return found
    source: ImageSource
    if place.kind == "local":
        source = open_layout(place.place, place.get("tag", DEFAULT_TAG))
    else:
        from moldar.app.registries import open_registry
        from moldar.remote.client import RegistryImage

        reference = parse_reference(place.place)
        source = RegistryImage(stack.enter_context(open_registry(engine, reference.registry)), reference)
    return [_opened(str(place), document, source) for document in read_caches(source, platforms)]


def _in_store(engine: Engine, place: CachePlace, platform: Platform) -> OpenCache | None:
    """The cache in an image of the store; none when there is no such image, or no cache in it."""
    try:
        config = engine.blobs.read(image_for(engine, place.place, platform))
        return _opened(str(place), parse_inline(config, ()), None)
    except NotFound:
        return None


def _opened(name: str, document: CacheDocument, source: ImageSource | None) -> OpenCache:
    return OpenCache(name, document, {record.key: record for record in document.records}, source)


class ImportedCaches:
    """The caches that one build reads, opened when the store's own first lacks something. Safe for threads.

    Records count at first even if no cache has their layers: the name of a result is enough to go on to steps whose
    layers there are. When such a layer is needed after all, LayerLost is raised and they count no more.
    """

    def __init__(
        self, engine: Engine, places: Sequence[CachePlace], platforms: Sequence[Platform], events: EventSink
    ) -> None:
        self._engine = engine
        self._platforms = platforms
        self._places = places
        self._events = events
        self._stack = ExitStack()
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._fetches = 0
        self._opened: list[OpenCache] | None = None
        self._names_count = True
        self.failures = 0
        """How often something that was promised turned out not to be had; more of it is not promised again."""

    def _live(self) -> list[OpenCache]:
        """The caches that can be read. A copy: they may become fewer meanwhile."""
        with self._opening:
            if self._opened is None:
                self._opened = self._open_all()
            return list(self._opened)

    def _open_all(self) -> list[OpenCache]:
        found: list[OpenCache] = []
        for place in self._places:
            identity = f"import-{place}"
            self._events.publish(VertexStarted(identity, f"importing cache from {place}", time.time()))
            failure = ""
            try:
                found += open_caches(self._engine, place, self._platforms, self._stack)
            except (MoldarError, OSError) as error:
                failure = str(error)
                self._warn(f"importing cache from {place} failed: {failure}")
            self._events.publish(VertexCompleted(identity, time.time(), error=failure))
        return found

    def close(self) -> None:
        self._stack.close()

    # Records and base images

    def find(self, key: Digest) -> Record | None:
        for cache in self._live():
            record = cache.records.get(key)
            if record and (self._names_count or self.covers(record.layers)):
                layers = tuple((diff_id, cache.document.layers[diff_id].size) for diff_id in record.layers)
                return Record(layers, record.identity, record.created)
        return None

    def names(self, key: Digest) -> bool:
        return any(key in cache.records for cache in self._live())

    def parts_of(self, step: str) -> dict[str, str] | None:
        for cache in self._live():
            for record in cache.document.records:
                if record.step == step:
                    return {name: value for name, value in record.parts if name != ENVIRONMENT}
        return None

    def read_sets(self, step: str) -> list[ReadSetRow]:
        """The read sets of a step that came with records."""
        return [
            ReadSetRow(record.key, data)
            for cache in self._live()
            for record in cache.document.records
            for name, data in record.reads
            if name == step
        ]

    def base(self, asked: ImageRequest, error: MoldarError) -> ResolvedImage | None:
        """The base image as it was when the cache was made, for one whose registry says `error`."""
        for cache in self._live():
            for base in cache.document.bases:
                if base.reference == str(asked.reference) and base.platform == asked.platform:
                    try:
                        config = parse_image_config(base.config)
                    except MoldarError:
                        continue
                    self._warn(f"{error.message}: using {asked.reference} as the cache from {cache.name} knows it")
                    tag = asked.reference.tag
                    name = str(asked.reference._replace(digest=None)) if tag else asked.reference.name
                    return ResolvedImage(name, Digest(base.digest) if base.digest else None, config)
        return None

    # Layers

    def covers(self, diff_ids: Sequence[Digest]) -> bool:
        """Whether all of these layers are here or can be had."""
        return all(self._can_have(diff_id) for diff_id in diff_ids)

    def bring(self, diff_ids: Sequence[Digest]) -> None:
        """Fetch those of the layers that are not here and that a cache has; LayerLost when that fails."""
        with self._lock:
            absent = [each for each in dict.fromkeys(diff_ids) if not self._engine.has_layer(each)]
            self._check_names(absent)
            missing = [each for each in absent if self._held(each)]
            if not missing:
                return
            self._fetches += 1
            identity = f"cached-layers-{self._fetches}"
            self._events.publish(VertexStarted(identity, "[internal] fetching cached layers", time.time()))
            failure = ""
            try:
                run_parallel([partial(self._bring_one, each, identity) for each in missing])
            except MoldarError as error:
                failure = error.message
                raise
            finally:
                self._events.publish(VertexCompleted(identity, time.time(), error=failure))

    def _check_names(self, absent: Sequence[Digest]) -> None:
        """LayerLost for a layer that a cache only names."""
        for diff_id in absent:
            named = any(diff_id in cache.document.layers for cache in self._live())
            if self._names_count and named and not self._held(diff_id):
                self._names_count = False
                self.failures += 1
                raise LayerLost(diff_id, "is only named in the imported cache: its stage must be built")

    def _bring_one(self, diff_id: Digest, identity: str) -> None:
        sink = StoreSink(machinery(self._engine).store)
        while held := self._held(diff_id):
            cache, source, blob = held
            try:
                sink.take_layer(source, blob, diff_id)
            except (MoldarError, OSError) as error:
                self._drop(cache, f"layer {diff_id}: {error}")
                continue
            now = time.time()
            self._events.publish(VertexStatus(identity, blob.digest, blob.size, blob.size, now, completed=True))
            return
        raise LayerLost(diff_id)

    def source_of(self, diff_id: Digest) -> tuple[ImageSource, SharedLayer] | None:
        """Where a layer that is not here can be copied from."""
        held = self._held(diff_id)
        return (held[1], held[0].document.layers[diff_id]) if held else None

    def _held(self, diff_id: Digest) -> tuple[OpenCache, ImageSource, Descriptor] | None:
        for cache in self._live():
            layer = cache.document.layers.get(diff_id)
            if cache.source is not None and layer is not None and layer.blob is not None:
                return cache, cache.source, layer.blob
        return None

    def _can_have(self, diff_id: Digest) -> bool:
        return self._held(diff_id) is not None or self._engine.has_layer(diff_id)

    # Cache mounts

    def bring_mounts(self, names: Sequence[str]) -> None:
        """Fill the cache mounts with these ids that nobody has used here yet."""
        wanted = {digest_of(name.encode()): name for name in names}
        for cache in self._live():
            for mount in cache.document.mounts:
                stem = stem_of(self._engine.home.cachemounts, wanted.get(mount.id, ""))
                if mount.id in wanted and not os.path.isdir(stem):
                    try:
                        fill_mount(self._engine, cache, mount, stem)
                    except (MoldarError, OSError) as error:
                        self._warn(f"importing cache mount {wanted[mount.id]} from {cache.name} failed: {error}")

    def _drop(self, cache: OpenCache, why: str) -> None:
        with self._opening:
            left = [other for other in self._opened or () if other is not cache]
            if self._opened is None or len(left) == len(self._opened):
                return  # another thread was quicker
            self._opened = left
            self.failures += 1
        self._warn(f"importing cache from {cache.name} failed: {why}")

    def _warn(self, message: str) -> None:
        self._events.publish(Warned(IMPORT_FAILED, message))


def fill_mount(engine: Engine, cache: OpenCache, mount: SharedMount, stem: str) -> bool:
    """Make the directory of a cache mount that is not there; whether this was done. CorruptData, HostTrouble."""
    layer = cache.document.layers.get(mount.diff_id)
    if cache.source is None or layer is None or layer.blob is None:
        return False
    lock = acquire_idle(stem, _PATIENCE)
    if lock is None:
        raise HostTrouble("it is in use")
    try:
        if not lock.fresh:
            return False
        StoreSink(machinery(engine).store).take_layer(cache.source, layer.blob, mount.diff_id)
        unpack_directory(engine.blobs, layer.blob, mount.diff_id, stem)
        return True
    finally:
        lock.release()

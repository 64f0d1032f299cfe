"""The build verb: from a request to an image, with events for whoever watches.

What a fully cached build needs is imported here; machinery that runs steps, talks to registries or exports is
imported when it is needed.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from moldar.app.contexts import Opened, open_request
from moldar.app.engine import Engine
from moldar.app.requests import BuildRequest, Output, layer_epoch
from moldar.app.web import Downloads
from moldar.builder.cache import BuildCache, Explains
from moldar.builder.context import ignore_file_size
from moldar.builder.executor import BuildExecutor, Reuses, StepRunner
from moldar.builder.graph import HostEntry, ImageOp, Ulimit, Vertex
from moldar.builder.history import BuildRecorder
from moldar.builder.metadata import MetadataResolver
from moldar.builder.plan import (
    ImageRequest,
    Plan,
    PlanOptions,
    ResolvedImage,
    Unset,
    finish,
    located,
    parse_platform,
    plan,
)
from moldar.builder.progress import Event, EventSink, VertexCompleted, VertexStarted, VertexStatus
from moldar.builder.solver import Result, solve
from moldar.builder.sources import Sources
from moldar.dockerfile.instructions import Dockerfile
from moldar.dockerfile.reading import read_dockerfile
from moldar.dockerfile.source import Location
from moldar.errors import MoldarError, NotFound
from moldar.image.model import Digest
from moldar.image.ownership import ownership
from moldar.image.reference import Reference, parse_reference
from moldar.store.builds import BuildTable
from moldar.store.cache import CacheTable
from moldar.store.stat_index import StatIndex


class Built(NamedTuple):
    """What a build made. `image_id` is the config's digest, `references` the names that it got, `build_id` its row
    in the history; `metadata` is what --metadata-file writes."""

    image_id: Digest
    references: tuple[str, ...]
    metadata: dict[str, Any]


def build(engine: Engine, request: BuildRequest, events: EventSink | None = None) -> Built:
    """Build what `request` asks for, publishing events on the way for whoever draws or keeps them.

    Raises UserMistake (with the place in the Dockerfile when there is one), StepFailed, RegistryRefused and the other
    families of errors.
    """
    references = tuple(parse_reference(tag) for tag in request.tags)  # a mistake here costs no build
    with open_request(request, engine) as opened, Downloads(engine) as downloads:
        sink = events or Unheard()
        if len(request.platforms) < 2:
            return _Build(engine, request, references, opened, sink, downloads=downloads).run()

        gathered: dict[Any, Any] = {}

        def build_one(one: BuildRequest, heard: EventSink) -> Digest:
            return _Build(engine, one, (), opened, heard, downloads=downloads, gathered=gathered).run().image_id

        from moldar.app.platforms import build_platforms

        built = build_platforms(engine, request, references, sink, build_one)
        return Built(built.digest, tuple(str(reference) for reference in references), built.metadata)


class Unheard:
    """The sink of a build that nobody watches."""

    def publish(self, event: Event) -> None:
        return


class _Build:
    def __init__(
        self,
        engine: Engine,
        request: BuildRequest,
        references: tuple[Reference, ...],
        opened: Opened,
        events: EventSink,
        *,
        downloads: Downloads,
        gathered: dict[Any, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._multi_platform = gathered is not None
        self._gathered = {} if gathered is None else gathered  # by the caches of the other platforms' builds
        self._downloads = downloads
        self._request = request
        self._references = references
        self._opened = opened
        self._id = os.urandom(8).hex()
        table = BuildTable(engine.database)
        self._history = BuildRecorder(table, self._id, opened.directory, request.target, events)
        self._events: EventSink = self._history
        self._runners_lock = threading.Lock()
        self._runners: Any = None
        self._caches: Any = None
        self._explains: Explains | None = None

    def run(self) -> Built:
        try:
            built = self._run()
        except MoldarError as error:
            self._history.end(error=error.message)
            raise
        except KeyboardInterrupt:
            self._history.end(error="interrupted")
            raise
        self._history.end(image=built.image_id)
        return built

    def _run(self) -> Built:
        if not self._request.cache_from and not self._request.cache_to:
            return self._build()
        from moldar.app.caches import BuildCaches

        with BuildCaches(self._engine, self._request, self._events, self._gathered) as self._caches:
            return self._build()

    def _build(self) -> Built:
        dockerfile = self._load_definition()
        planned = self._plan(dockerfile)
        self._history.plan(planned.graph)
        self._load_ignore_file()
        engine = self._engine
        records = CacheTable(engine.database)
        self._sources = self._open_sources(planned)
        cache = BuildCache(records, engine.layers, engine.blobs, self._protect, self._explainer(planned))
        self._cache = cache
        executor = BuildExecutor(
            self._sources, self, self._runner, self._locator(dockerfile), self._sizes, reuses=self._reuses
        )
        caches = self._caches
        if caches is None:
            results = solve(planned.graph, cache, executor, self._events)
        else:
            results = caches.solve(
                planned, cache, lambda shared, events: solve(planned.graph, shared, executor, events)
            )
        self._history.made(results)
        target = results[planned.graph.target]
        assert target is not None
        created = [result.created if result else 0.0 for result in results]
        if caches is not None:
            planned = caches.with_inline(planned, target)
        config = finish(planned, [diff_id for diff_id, _ in target.layers], created)
        built = self._export(config, target)
        if caches is not None:
            caches.export(planned, results)
        return built

    # Definition

    def _load_definition(self) -> Dockerfile:
        opened = self._opened
        with self._vertex("definition", f"[internal] load build definition from {opened.dockerfile_name}"):
            data = opened.read_dockerfile()
            now = time.time()
            self._events.publish(
                VertexStatus("definition", "transferring dockerfile:", len(data), 0, now, completed=True)
            )
        return read_dockerfile(data, opened.dockerfile_name)

    def _load_ignore_file(self) -> None:
        """Tell what BuildKit tells here: 2 bytes of its protocol, and those of the ignore file."""
        opened = self._opened
        with self._vertex("ignore", "[internal] load .dockerignore"):
            size = 2 + ignore_file_size(opened.directory, opened.dockerfile_path)
            now = time.time()
            self._events.publish(VertexStatus("ignore", "transferring context:", size, 0, now, completed=True))

    def _plan(self, dockerfile: Dockerfile) -> Plan:
        request = self._request
        here = self._engine.platform
        self._platform = parse_platform(request.platforms[0]) if request.platforms else here
        options = PlanOptions(
            build_args=dict(request.build_args),
            target=request.target,
            labels=request.labels,
            platform=self._platform,
            build_platform=here,
            contexts=self._opened.named_contexts(),
            no_cache=request.no_cache,
            no_cache_filter=request.no_cache_filter,
            network=request.network,
            hosts=tuple(HostEntry(name, address) for name, address in request.hosts),
            shm_size=request.shm_size,
            ulimits=tuple(Ulimit(*limit) for limit in request.ulimits),
            source_date_epoch=_epoch_text(request),
            reproducible=request.reproducible,
            unset=Unset(request.unset_volumes, request.unset_ports, request.unset_variables, request.unset_labels),
            entitlements=frozenset({"security.insecure"} if request.security_insecure else ()),
            multi_platform=self._multi_platform,
            one_id=ownership().squashed,
        )

        resolved: dict[str, ResolvedImage] = {}

        def resolve(asked: ImageRequest) -> ResolvedImage:
            from moldar.app.bases import resolve_base

            try:
                fallback = self._caches.base if self._caches else None
                found = resolve_base(self._engine, asked, pull=request.pull, fallback=fallback)
                resolved[str(asked.reference)] = found
                if self._caches:
                    self._caches.resolved(asked, found)
                return found
            except MoldarError as error:
                raise located(error, dockerfile.source, Location(asked.line, asked.line)) from None

        planned = plan(dockerfile, options, MetadataResolver(resolve, self._events))
        self._check(dockerfile, options, resolved)
        return planned

    def _check(self, dockerfile: Dockerfile, options: PlanOptions, resolved: Mapping[str, ResolvedImage]) -> None:
        """Publish the warnings of the rules; ChecksFailed when the file asks for errors."""
        from moldar.app.checking import ChecksFailed, run_checks, warning_of

        def known(asked: ImageRequest) -> ResolvedImage:
            if str(asked.reference) not in resolved:  # a stage that is not built
                raise NotFound(str(asked.reference))
            return resolved[str(asked.reference)]

        report = run_checks(dockerfile, options, self._opened, known)
        for finding in report.findings:
            self._events.publish(warning_of(finding))
        if report.fail:
            raise ChecksFailed(report.rules)

    def _explainer(self, planned: Plan) -> Callable[[], Explains]:
        """What makes the explainer when a step runs, once; a cached build does without."""
        began = time.time()

        def explainer() -> Explains:
            with self._runners_lock:
                if self._explains is None:
                    from moldar.app.explaining import make_explainer

                    self._explains = make_explainer(self._engine, self._request, planned, self._sources, began)
                return self._explains

        return explainer

    def _open_sources(self, planned: Plan) -> Sources:
        return Sources(
            self._opened.directories(),
            StatIndex(self._engine.database),
            self._mount_stage,
            dockerfile=self._opened.dockerfile_path,
            downloads=self._downloads,
            epoch=planned.epoch,
            reproducible=self._request.reproducible,
        )

    def _locator(self, dockerfile: Dockerfile) -> Callable[[MoldarError, Vertex], MoldarError]:
        def locate(error: MoldarError, vertex: Vertex) -> MoldarError:
            return located(error, dockerfile.source, Location(vertex.line, vertex.end_line or vertex.line))

        return locate

    # What the executor asks

    def _protect(self, kind: str, keys: Iterable[str]) -> None:
        """Called from workers: the lease, which is made when first needed, must not be made twice."""
        with self._runners_lock:
            lease = self._engine.lease
        lease.protect(kind, keys)

    def _sizes(self, diff_ids: Sequence[Digest]) -> Sequence[int]:
        return [self._engine.layers.size(diff_id) or 0 for diff_id in diff_ids]

    def available(self, op: ImageOp) -> bool:
        """Whether all layers of a base image are here, in one form or the other."""
        return all(self._engine.has_layer(diff_id) for diff_id in op.diff_ids)

    def fetch(self, op: ImageOp, step: Any) -> None:
        """Pull a base image's layers."""
        from moldar.app.bases import fetch_base

        if self._caches and self._caches.fetch_base(op):
            return
        fetch_base(self._engine, op, step)

    def _runner(self, kind: type) -> StepRunner:
        runners = self._all_runners()
        if self._caches:
            with self._runners_lock:
                self._caches.before(kind)
        runner: StepRunner = runners.get(kind)
        return runner

    def _reuses(self) -> Reuses | None:
        """What finds steps that would do the same again."""
        reuses: Reuses | None = self._all_runners().read_sets
        return reuses

    def _all_runners(self) -> Any:
        with self._runners_lock:
            if self._runners is None:
                self._history.begin()
                self._runners = self._make_runners()
            return self._runners

    def _make_runners(self) -> Any:
        from moldar.app.steps import LazyRunners
        from moldar.store.read_sets import ReadSetTable

        table = ReadSetTable(self._engine.database)
        kept = self._caches.read_sets(table) if self._caches else table
        find = self._caches.find if self._caches else self._cache.lookup
        return LazyRunners(self._engine, self._request, self._sources, self._id, kept=kept, lookup=find)

    def _mount_stage(self, result: Result) -> AbstractContextManager[str]:
        from moldar.app.machinery import machinery

        parts = machinery(self._engine)
        stack = tuple(diff_id for diff_id, _ in result.layers)
        parts.forms.unpacked(stack)
        return parts.snapshots.mount(stack)

    # Results

    def _export(self, config: bytes, target: Result) -> Built:
        outputs = self._request.outputs or (Output("image"),)
        image = self._keep(config, target)
        for output in outputs:
            if output.kind == "image" and not self._request.annotations:
                self._name(image)
                continue
            from moldar.app import outputs as others

            made = ((self._platform, image),)
            result = others.Result(made, self._references, self._request.annotations, layer_epoch(self._request))
            if output.kind == "image":
                others.name_result(self._engine, result)
            else:
                others.write_output(self._engine, result, output, self._events)
        names = tuple(str(reference) for reference in self._references)
        metadata = {"containerimage.config.digest": image, "image.name": ",".join(names)}
        return Built(image, names, metadata)

    def _keep(self, config: bytes, target: Result) -> Digest:
        """Record the image in one transaction, so that the collector sees either nothing or all of it."""
        engine = self._engine
        image = engine.blobs.put(config)
        if engine.images.get(image) is None:
            with engine.database.transaction():
                if not engine.blobs.has(image):
                    engine.blobs.put(config)
                engine.images.add(image, sum(size for _, size in target.layers))
        return image

    def _name(self, image: Digest) -> None:
        with self._vertex("export", "exporting to image"):
            self._part("exporting layers")
            self._part(f"writing image {image}")
            moved = False
            for reference in self._references:
                known = self._engine.images.find_tag(reference)
                if known is None or known.image != image:
                    self._engine.images.tag(reference, image)
                    moved = moved or known is not None
                self._part(f"naming to {reference}")
            if moved:
                from moldar.store.layout import write_index

                write_index(self._engine.home, self._engine.images, self._engine.blobs)

    def _part(self, text: str) -> None:
        self._events.publish(VertexStatus("export", text, 0, 0, time.time(), completed=True))

    def _vertex(self, identity: str, name: str) -> "_Vertex":
        return _Vertex(self._events, identity, name)


def _epoch_text(request: BuildRequest) -> str:
    if request.source_date_epoch is None:
        return "0" if request.reproducible else ""
    return str(request.source_date_epoch)


class _Vertex:
    """Publishes the start and the end of work that is no step of the graph."""

    def __init__(self, events: EventSink, identity: str, name: str) -> None:
        self._events = events
        self._identity = identity
        self._name = name

    def __enter__(self) -> None:
        self._events.publish(VertexStarted(self._identity, self._name, time.time()))

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._events.publish(VertexCompleted(self._identity, time.time(), error=str(error) if error else ""))

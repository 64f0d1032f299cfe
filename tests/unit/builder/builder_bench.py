"""A store with a busybox image in it and everything that a build needs, put together as the application does it."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from moldar.builder.cache import BuildCache
from moldar.builder.copied_trees import StoredTrees
from moldar.builder.executor import BuildExecutor, StepRunner
from moldar.builder.explain import Explainer, images_of
from moldar.builder.graph import CopyOp, ImageOp, RunOp, Vertex, WorkdirOp
from moldar.builder.ops import CopyRunner, WorkdirRunner, Workshop, stack_of
from moldar.builder.plan import ImageRequest, PlanOptions, ResolvedImage, finish, located, plan
from moldar.builder.progress import EventSink, VertexCompleted, VertexLog, VertexStarted
from moldar.builder.read_sets import ReadSets
from moldar.builder.run import RunRunner
from moldar.builder.run_mounts import RunSettings, StepSecrets
from moldar.builder.solver import Result, StepContext, solve
from moldar.builder.sources import Sources
from moldar.dockerfile.reading import read_dockerfile
from moldar.dockerfile.source import Location
from moldar.errors import MoldarError, NotFound
from moldar.export.layer_forms import LayerForms
from moldar.image.config import DEFAULT_PATH, ContainerConfig, HistoryEntry, ImageConfig, parse_image_config
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_read import read_entries
from moldar.image.layer_write import write_layer
from moldar.image.model import Digest, Platform
from moldar.sandbox.choosing import choose_runtime, choose_snapshots
from moldar.store.blobs import BlobStore
from moldar.store.cache import CacheTable
from moldar.store.database import Database
from moldar.store.explanations import EvictionTable, InputTable
from moldar.store.home import Home
from moldar.store.layers import LayerTable
from moldar.store.leases import Lease
from moldar.store.read_sets import ReadSetTable
from moldar.store.stat_index import StatIndex

from .memory_executor import ListSink

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:app\napp:x:1000:\n"


def busybox_root(directory: Path) -> Path:
    for name in ("bin", "etc", "tmp", "root", "home/app", "dev", "proc", "sys"):
        (directory / name).mkdir(parents=True)
    (directory / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (directory / "bin/busybox").chmod(0o755)
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (directory / "bin" / applet).symlink_to("busybox")
    (directory / "etc/passwd").write_text(PASSWD)
    (directory / "etc/group").write_text(GROUP)
    (directory / "tmp").chmod(0o1777)
    os.chown(directory / "home/app", 1000, 1000)
    return directory


class Bench:
    """One store and one busybox. `build` returns the results; `last` is the sink of the latest build."""

    def __init__(self, base: Path, busybox: Path, driver: str) -> None:
        self.base = base
        self.context = base / "context"
        self.context.mkdir()
        home = Home.open(str(base / "home"))
        self.home = home
        database = Database(home)
        self.blobs, self.layers = BlobStore(home), LayerTable(database)
        self.database = database
        self.lease = Lease(home, database)
        self.snapshots = choose_snapshots(home.snapshots, self.layers, driver)
        self.forms = LayerForms(self.blobs, self.layers, self.snapshots, self.lease.protect)
        self.runtime = choose_runtime(str(base / "run"))
        self.secrets = StepSecrets()
        self.contexts: dict[str, str] = {}
        self.last = ListSink()
        self.wrap: Callable[[EventSink], EventSink] = lambda events: events
        self.sink: EventSink = self.last
        self.pulled = 0
        self.traced = False
        self.image = self._load(busybox)

    def _load(self, busybox: Path) -> ImageConfig:
        with self.blobs.writer() as writer:
            write_layer(diff_entries(str(busybox)), writer.write)
            diff_id = writer.commit()
        self.layers.record(diff_id, writer.size)
        config = ContainerConfig(env=(DEFAULT_PATH,), cmd=("sh",))
        history = (HistoryEntry("2020-01-01T00:00:00Z", "busybox base"),)
        return ImageConfig(Platform(), "2020-01-01T00:00:00Z", config=config, diff_ids=(diff_id,), history=history)

    # What the planner and the executor ask

    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
        for request in requests:
            if request.reference.repository != "library/busybox":
                raise NotFound(f"no image {request.reference}")
        return [ResolvedImage(str(request.reference), None, self.image) for request in requests]

    def available(self, op: ImageOp) -> bool:
        return True

    def fetch(self, op: ImageOp, step: StepContext) -> None:
        self.pulled += 1

    def mount_stage(self, result: Result) -> AbstractContextManager[str]:
        self.forms.unpacked(stack_of(result))
        return self.snapshots.mount(stack_of(result))

    def mounted(self, result: Result | None) -> AbstractContextManager[str]:
        assert result is not None
        return self.mount_stage(result)

    # Building

    def build(self, text: str, **options: object) -> Result:
        """Build the Dockerfile `text`; its target's result. The config is in `config`."""
        dockerfile = read_dockerfile(text.encode())
        planned = plan(dockerfile, PlanOptions(**options), self)  # type: ignore[arg-type]
        sources = Sources({"": str(self.context), **self.contexts}, StatIndex(self.database), self.mount_stage)
        self.last = ListSink()
        logs = self.base / "logs"
        logs.mkdir(exist_ok=True)
        executor = BuildExecutor(sources, self, self._runners(sources, logs), locator(dockerfile.source), self._sizes)
        self.sink = self.wrap(self.last)
        records = CacheTable(self.database)
        explainer = Explainer(
            records,
            InputTable(self.database),
            EvictionTable(self.database),
            sources,
            images_of(planned.graph),
            since=time.time(),
        )
        cache = BuildCache(records, self.layers, self.blobs, self.lease.protect, lambda: explainer)
        results = solve(planned.graph, cache, executor, self.sink)
        target = results[planned.graph.target]
        assert target is not None
        created = [result.created if result else 0.0 for result in results]
        self.raw = finish(planned, [diff_id for diff_id, _ in target.layers], created)
        self.config = parse_image_config(self.raw)
        return target

    def _sizes(self, diff_ids: Sequence[Digest]) -> Sequence[int]:
        return [self.layers.size(diff_id) or 0 for diff_id in diff_ids]

    def _runners(self, sources: Sources, logs: Path) -> Callable[[type], StepRunner]:
        shop = Workshop(
            self.blobs, self.layers, self.snapshots, self.forms, sources, self.lease.protect, self.home.ingest
        )
        settings = RunSettings(
            self.runtime,
            self.snapshots,
            self.home.cachemounts,
            str(logs),
            f"{self.home.snapshots}/work",
            self.secrets,
        )
        runners: Mapping[type, StepRunner] = {
            CopyOp: CopyRunner(shop),
            WorkdirOp: WorkdirRunner(shop),
            RunOp: RunRunner(shop, settings, self._read_sets(shop)),
        }
        return runners.__getitem__

    def _read_sets(self, shop: Workshop) -> ReadSets | None:
        if not self.traced:
            return None
        return ReadSets(ReadSetTable(self.database), lambda key: None, StoredTrees(shop))

    # Looking at what happened

    def ran(self) -> list[str]:
        """The names of the steps that were not cached, in the order in which they ended."""
        names = {event.id: event.name for event in self.last.events if isinstance(event, VertexStarted)}
        ended = [event for event in self.last.events if isinstance(event, VertexCompleted)]
        steps = [names[event.id] for event in ended if not event.cached]
        return [name.partition("] ")[2] for name in steps if name.startswith("[") and "internal" not in name]

    def reason(self, name: str) -> str:
        names = {event.id: event.name for event in self.last.events if isinstance(event, VertexStarted)}
        found = [
            event for event in self.last.events if isinstance(event, VertexCompleted) and name in names[event.id]
        ]
        return found[-1].reason

    def output(self) -> bytes:
        return b"".join(event.data for event in self.last.events if isinstance(event, VertexLog))

    def top_layer(self, result: Result) -> list[str]:
        """The paths in the top layer of `result`."""
        with self.forms.open_tar(stack_of(result)) as stream:
            return [entry.path for entry, _ in read_entries(stream, contents=False)]


def locator(source: object) -> Callable[[MoldarError, Vertex], MoldarError]:
    def locate(error: MoldarError, vertex: Vertex) -> MoldarError:
        return located(error, source, Location(vertex.line, vertex.end_line or vertex.line))  # type: ignore[arg-type]

    return locate

"""Images that no Dockerfile made: of a container's changes (commit), of a tar (import); and these changes (diff)."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

from moldar.app.containers import service
from moldar.app.engine import Engine
from moldar.app.supervising import supervision
from moldar.builder.plan import ImageRequest, PlanOptions, ResolvedImage, parse_platform, plan
from moldar.builder.plan.finish import format_time
from moldar.containers.changes import FileChange, list_changes
from moldar.containers.definition import Definition
from moldar.containers.service import NotRunning
from moldar.dockerfile.reading import read_dockerfile
from moldar.errors import HostTrouble, UserMistake
from moldar.image.config import ContainerConfig, HistoryEntry, ImageConfig, encode_image_config
from moldar.image.decompression import open_decompressed
from moldar.image.layer_read import Readable, read_entries
from moldar.image.layer_write import write_layer
from moldar.image.model import Digest, Platform
from moldar.image.reference import Reference, parse_reference
from moldar.store.blobs import BlobWriter
from moldar.store.layout import write_index

CHANGES = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME",
    "WORKDIR",
)  # fmt: skip
"""The instructions that a commit or import takes."""
_BASE = "base.invalid/image"
_CHUNK = 1 << 20


def diff(engine: Engine, container: str) -> list[FileChange]:
    """What a container added, changed and deleted in its image's files. ContainerNotFound."""
    containers = service(engine)
    stack = engine.images.config(containers.view(container).definition.image).diff_ids
    with containers.changes(container, stack) as (changes, lower):
        return list_changes(changes, lower)


def commit(
    engine: Engine,
    container: str,
    name: str = "",
    *,
    author: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    pause: bool = True,
    created: float | None = None,
) -> Digest:
    """Make an image of a container: its image with one more layer, and with what it was run with as defaults.

    `changes` are Dockerfile instructions, one of CHANGES each; `created` in seconds since the epoch, by default now.
    With `pause` the container does not go on meanwhile. ContainerNotFound, UserMistake.
    """
    reference = parse_reference(name) if name else None
    containers = service(engine)
    view = containers.view(container)
    definition = view.definition
    engine.lease.protect("image", [definition.image])
    base = engine.images.config(definition.image)
    config = _changed(base._replace(config=_as_run(base.config, definition)), changes, engine.platform)
    holding = (
        _paused(engine, container) if pause and view.status.running and not view.status.paused else nullcontext()
    )
    with holding, containers.changes(container, base.diff_ids) as (found, _), _layer(engine) as writer:
        write_layer(found, writer.write)
    command = " ".join(definition.args[len(definition.entrypoint) :])
    entry = HistoryEntry(_date(created), command, False, message, author)
    return _keep(engine, base._replace(config=config), _recorded(engine, writer), entry, reference)


def import_tar(
    engine: Engine,
    source: str | int,
    name: str = "",
    *,
    message: str = "",
    changes: Sequence[str] = (),
    platform: str = "",
    created: float | None = None,
) -> Digest:
    """Make an image of one layer from a tar, maybe compressed: a path, an http address or a descriptor.

    Otherwise as `commit`. Raises also BadLayer, HostTrouble, RegistryRefused.
    """
    reference = parse_reference(name) if name else None
    base = ImageConfig(parse_platform(platform) if platform else engine.platform)
    config = _changed(base, changes, engine.platform)
    with _opened(engine, source) as stream, _layer(engine) as writer:
        copied = _Copied(open_decompressed(stream), writer)
        for _ in read_entries(copied, contents=False):
            pass
        while copied.read(_CHUNK):
            pass
    shown = "-" if isinstance(source, int) else source
    entry = HistoryEntry(_date(created), "", False, message or f"Imported from {shown}")
    return _keep(engine, base._replace(config=config), _recorded(engine, writer), entry, reference)


def _date(created: float | None) -> str:
    return format_time(time.time() if created is None else int(created))


@contextmanager
def _paused(engine: Engine, container: str) -> Iterator[None]:
    containers = supervision(engine)
    with suppress(NotRunning):  # it may have ended at this moment
        containers.pause(container)
    try:
        yield
    finally:
        with suppress(UserMistake):
            containers.unpause(container)


class _Copied:
    """A stream that is written to the store while it is read."""

    def __init__(self, stream: Readable, writer: BlobWriter) -> None:
        self._stream = stream
        self._writer = writer

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._writer.write(data)
        return data


@contextmanager
def _opened(engine: Engine, source: str | int) -> Iterator[Readable]:
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        from moldar.app.web import download
        from moldar.builder.graph import HttpOp

        op = HttpOp(source)
        tree = download(engine, op)
        source = tree.locate(tree.children("")[0]).path
    try:
        file = open(source, "rb", buffering=0, closefd=isinstance(source, str))
    except OSError as error:
        raise HostTrouble(f"cannot read {source}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _layer(engine: Engine) -> Iterator[BlobWriter]:
    """A new layer, kept when the block ends without an error."""
    _ = engine.lease  # what is made from now on is in our hands
    with engine.blobs.writer() as writer:
        yield writer
        engine.lease.protect("blob", [writer.digest])
        writer.commit()


def _recorded(engine: Engine, writer: BlobWriter) -> Digest:
    engine.layers.record(writer.digest, writer.size)
    return writer.digest


def _as_run(image: ContainerConfig, definition: Definition) -> ContainerConfig:
    """The image's defaults as the container was told to change them."""
    own = {f"HOSTNAME={definition.hostname}", *(("TERM=xterm",) if definition.tty else ())}
    published = (f"{port.container_port}/{port.protocol}" for port in definition.ports)
    exposed = (port if "/" in port else f"{port}/tcp" for port in definition.exposed)
    anonymous = (mount.target for mount in definition.mounts if mount.anonymous)
    return image._replace(
        user=definition.user,
        exposed_ports=tuple(dict.fromkeys((*image.exposed_ports, *exposed, *published))),
        env=tuple(word for word in definition.env if word not in own),
        entrypoint=definition.entrypoint or None,
        cmd=definition.args[len(definition.entrypoint) :] or None,
        volumes=tuple(dict.fromkeys((*image.volumes, *anonymous))),
        working_dir=definition.cwd if image.working_dir or definition.cwd != "/" else "",
        labels=definition.labels,
        stop_signal=definition.stop_signal if image.stop_signal or definition.stop_signal != "SIGTERM" else "",
    )


class _Base:
    """Answers with one image, whatever is asked for."""

    def __init__(self, config: ImageConfig) -> None:
        self._config = config

    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
        return [ResolvedImage(str(request.reference), None, self._config) for request in requests]


def _changed(base: ImageConfig, changes: Iterable[str], host: Platform) -> ContainerConfig:
    """The base's defaults after the instructions `changes`. UserMistake, DockerfileError."""
    lines = [line for change in changes for line in change.splitlines() if line.strip()]
    for line in lines:
        word = line.split(None, 1)[0].upper()
        if word not in CHANGES:
            raise UserMistake(f"{word} is not a valid change command", hint=f"use one of {', '.join(CHANGES)}")
    if not lines:
        return base.config
    text = "\n".join([f"FROM {_BASE}", *lines]) + "\n"
    plain = base._replace(config=base.config._replace(on_build=()), diff_ids=(), history=())
    options = PlanOptions(platform=base.platform, build_platform=host)
    planned = plan(read_dockerfile(text.encode(), "--change"), options, _Base(plain)).image.config
    return planned._replace(on_build=(*base.config.on_build, *planned.on_build), extra=base.config.extra)


def _keep(
    engine: Engine, base: ImageConfig, layer: Digest, entry: HistoryEntry, reference: Reference | None
) -> Digest:
    """Record the image of `base` with one more layer, in one transaction, and name it."""
    claimed = sum(not known.empty_layer for known in base.history)
    unclaimed = (HistoryEntry(),) * (len(base.diff_ids) - claimed)
    diff_ids = (*base.diff_ids, layer)
    history = (*base.history, *unclaimed, entry)
    image = ImageConfig(base.platform, entry.created, entry.author, base.config, diff_ids, history)
    with engine.database.transaction():
        identity = engine.blobs.put(encode_image_config(image))
        engine.images.add(identity, engine.layers.total(diff_ids))
        if reference:
            engine.images.tag(reference, identity)
    write_index(engine.home, engine.images, engine.blobs)
    return identity

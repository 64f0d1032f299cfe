"""Outputs of a build besides the store: archives, directories, registries."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moldar.app.archives import opened
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.app.requests import Output
from moldar.builder.progress import EventSink, VertexCompleted, VertexStarted, VertexStatus
from moldar.errors import UserMistake
from moldar.export.layout_write import DirectoryTarget, LayoutWriter, TarTarget
from moldar.export.rewrite import clamp_times
from moldar.export.rootfs import write_directory, write_tar
from moldar.export.store_image import Packing, StoreImage
from moldar.image.compression import Codec
from moldar.image.model import Descriptor, Digest
from moldar.image.reference import Reference, parse_reference
from moldar.image.transfer import copy

CODECS: dict[str, Codec] = {"gzip": "gzip", "zstd": "zstd", "uncompressed": "none"}
TITLES = {
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
    "tar": "exporting to client tarball",
    "local": "exporting to client directory",
    "registry": "pushing image",
}


class Result(NamedTuple):
    """What was built: the image, the names asked for it, and annotations for its manifest.

    `epoch` is SOURCE_DATE_EPOCH in seconds, None when not given.
    """

    image: Digest
    references: tuple[Reference, ...]
    annotations: Mapping[str, str]
    epoch: int | None = None


def write_output(engine: Engine, result: Result, output: Output, events: EventSink) -> None:
    """Write one output of what was built; UserMistake for attributes that make no sense."""
    identity = f"output-{output.kind}-{output.dest}"
    events.publish(VertexStarted(identity, TITLES[output.kind], time.time()))
    error = ""
    try:
        _write(engine, result, output, events, identity)
    except BaseException as problem:
        error = str(problem)
        raise
    finally:
        events.publish(VertexCompleted(identity, time.time(), error=error))


def _write(engine: Engine, result: Result, output: Output, events: EventSink, identity: str) -> None:
    names = [parse_reference(name) for name in output.get("name").split(",") if name] or list(result.references)
    if output.get("rewrite-timestamp") == "true" and result.epoch is not None:
        parts = machinery(engine)
        result = result._replace(image=clamp_times(parts.store, parts.forms, result.image, result.epoch))
    if output.kind in ("tar", "local"):
        _write_files(engine, result.image, output)
        return
    parts = machinery(engine)
    source = StoreImage(
        parts.store, parts.forms, result.image, packing=packing_of(output), annotations=result.annotations
    )
    if output.kind == "registry":
        _push(engine, source, names, events, identity)
    elif output.kind == "docker" and not output.dest:
        for reference in names:
            engine.images.tag(reference, result.image)
    elif output.get("tar", "true") == "false":
        layout = LayoutWriter(DirectoryTarget(output.dest), docker=False)
        copy(source, layout.sink(names), jobs=1)
        layout.close()
    else:
        with opened(1 if output.dest == "-" else output.dest) as out:
            layout = LayoutWriter(TarTarget(out.write, out.descriptor), docker=True)
            copy(source, layout.sink(names), jobs=1)
            layout.close()


def packing_of(output: Output) -> Packing:
    """How an output's attributes want layers compressed; UserMistake."""
    name = output.get("compression", "gzip")
    if name not in CODECS:
        raise UserMistake(f"unsupported compression {name!r}", hint="use one of " + ", ".join(CODECS))
    level = output.get("compression-level")
    if level and not level.removeprefix("-").isdecimal():
        raise UserMistake(f"compression-level {level!r} is not a number")
    force = output.get("force-compression", "false") == "true"
    return Packing(CODECS[name], int(level) if level else None, force or bool(level) or name != "gzip")


def _write_files(engine: Engine, image: Digest, output: Output) -> None:
    parts = machinery(engine)
    stack = engine.images.config(image).diff_ids
    if output.kind == "local":
        write_directory(parts.forms, parts.snapshots, stack, output.dest)
    else:
        with opened(1 if output.dest == "-" else output.dest) as out:
            write_tar(parts.forms, parts.snapshots, stack, out.write)


def _push(engine: Engine, source: StoreImage, names: Sequence[Reference], events: EventSink, identity: str) -> None:
    from moldar.app.registries import open_registry
    from moldar.remote.client import RegistryImage

    if not names:
        raise UserMistake("nothing to push: the image has no name", hint="name it with -t REGISTRY/USER/NAME")

    def progress(descriptor: Descriptor, current: int, total: int, done: bool) -> None:
        events.publish(VertexStatus(identity, descriptor.digest, current, total, time.time(), done))

    for reference in names:
        with open_registry(engine, reference.registry) as registry:
            copied = copy(source, RegistryImage(registry, reference), progress=progress)
        engine.images.add_repository_digest(reference.name, copied.root.digest, copied.manifests[0].config.digest)

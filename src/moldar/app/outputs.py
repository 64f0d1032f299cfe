"""Outputs of a build besides the store: archives, directories, registries."""

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

from moldar.app.annotations import annotations_for
from moldar.app.archives import opened
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.app.requests import Output
from moldar.builder.progress import EventSink, VertexCompleted, VertexStarted, VertexStatus
from moldar.errors import UserMistake
from moldar.export.layout_write import DirectoryTarget, LayoutWriter, TarTarget
from moldar.export.rewrite import clamp_times
from moldar.export.rootfs import write_directory, write_platforms_tar, write_tar
from moldar.export.store_image import GZIP, Packing, StoreImage
from moldar.export.store_index import PlatformImage, StoreIndex
from moldar.image.compression import Codec
from moldar.image.model import Descriptor, Digest, Platform
from moldar.image.reference import Reference, parse_reference
from moldar.image.transfer import copy
from moldar.store.layout import write_index

CODECS: dict[str, Codec] = {"gzip": "gzip", "zstd": "zstd", "uncompressed": "none"}
TITLES = {
    "oci": "exporting to oci image format",
    "docker": "exporting to docker image format",
    "tar": "exporting to client tarball",
    "local": "exporting to client directory",
    "registry": "pushing image",
}


class Result(NamedTuple):
    """What was built: an image for each platform, the names asked for it, and annotations as they were given.

    With more than one platform (or with `index`) it leaves as an index. `epoch` is SOURCE_DATE_EPOCH in seconds, None
    when not given.
    """

    images: tuple[tuple[Platform, Digest], ...]
    references: tuple[Reference, ...]
    annotations: tuple[tuple[str, str], ...] = ()
    epoch: int | None = None

    @property
    def is_index(self) -> bool:
        return len(self.images) > 1


def source_of(engine: Engine, result: Result, packing: Packing = GZIP) -> StoreImage | StoreIndex:
    """What was built as something to copy from."""
    parts = machinery(engine)
    noted = [
        PlatformImage(
            platform,
            image,
            annotations_for("manifest", result.annotations, platform),
            annotations_for("manifest-descriptor", result.annotations, platform),
        )
        for platform, image in result.images
    ]
    if result.is_index:
        above = annotations_for("index", result.annotations)
        return StoreIndex(parts.store, parts.forms, noted, packing=packing, annotations=above)
    (only,) = noted
    return StoreImage(parts.store, parts.forms, only.image, packing=packing, annotations=only.annotations)


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
        result = result._replace(images=_rewritten(engine, result.images, result.epoch))
    if output.kind in ("tar", "local"):
        _write_files(engine, result, output)
        return
    packing = packing_of(output)
    if output.kind == "docker" and not output.dest:
        name_result(engine, result._replace(references=tuple(names)))
        return
    source = source_of(engine, result, packing)
    if output.kind == "registry":
        _push(engine, source, names, events, identity)
    elif output.get("tar", "true") == "false":
        layout = LayoutWriter(DirectoryTarget(output.dest), docker=False)
        copy(source, layout.sink(names), jobs=1)
        layout.close()
    else:
        with opened(1 if output.dest == "-" else output.dest) as out:
            layout = LayoutWriter(TarTarget(out.write, out.descriptor), docker=True)
            copy(source, layout.sink(names), jobs=1)
            layout.close()


def name_result(engine: Engine, result: Result) -> Digest:
    """Let the names point to the result in the store, and give the digest that it is known by.

    That is the image's, or the index's: then the names run as the image that fits this host best, and push as all.
    """
    images = dict(result.images)
    image = images.get(engine.platform, result.images[0][1])
    manifest = None
    if result.is_index or annotations_for("manifest", result.annotations, result.images[0][0]):
        made = source_of(engine, result).resolve()
        engine.images.add_manifest(made, image)
        manifest = made.digest
    for reference in result.references:
        engine.images.tag(reference, image, manifest)
    write_index(engine.home, engine.images, engine.blobs)
    return manifest if result.is_index and manifest else image


def keep_result(engine: Engine, result: Result, events: EventSink) -> Digest:
    """`name_result`, with events that tell of it."""
    events.publish(VertexStarted("export", "exporting to image", time.time()))
    digest = name_result(engine, result)
    parts = [
        *(f"writing image {image} for {platform}" for platform, image in result.images if result.is_index),
        f"writing {'index' if result.is_index else 'image'} {digest}",
        *(f"naming to {reference}" for reference in result.references),
    ]
    for part in parts:
        events.publish(VertexStatus("export", part, 0, 0, time.time(), completed=True))
    events.publish(VertexCompleted("export", time.time()))
    return digest


def _rewritten(
    engine: Engine, images: Sequence[tuple[Platform, Digest]], epoch: int
) -> tuple[tuple[Platform, Digest], ...]:
    parts = machinery(engine)
    return tuple((platform, clamp_times(parts.store, parts.forms, image, epoch)) for platform, image in images)


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


def _write_files(engine: Engine, result: Result, output: Output) -> None:
    """The files of the image; with several platforms those of each in a directory such as `linux_arm64`."""
    parts = machinery(engine)
    roots = [
        (str(platform).replace("/", "_") if result.is_index else "", engine.images.config(image).diff_ids)
        for platform, image in result.images
    ]
    if output.kind == "local":
        for prefix, stack in roots:
            write_directory(parts.forms, parts.snapshots, stack, os.path.join(output.dest, prefix))
        return
    with opened(1 if output.dest == "-" else output.dest) as out:
        if result.is_index:
            write_platforms_tar(parts.forms, parts.snapshots, roots, out.write)
        else:
            write_tar(parts.forms, parts.snapshots, roots[0][1], out.write)


def _push(
    engine: Engine, source: StoreImage | StoreIndex, names: Sequence[Reference], events: EventSink, identity: str
) -> None:
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

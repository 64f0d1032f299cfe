"""Named contexts of the form `oci-layout://DIRECTORY[:TAG][@DIGEST]`: images that lie in a directory."""

import os
from contextlib import ExitStack

from moldar.app.contexts import Layout, Opened
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.builder.plan import ImageRequest, ResolvedImage
from moldar.errors import NotFound, UserMistake
from moldar.export.archive_read import open_archive
from moldar.export.cache_layout import open_layout
from moldar.export.store_image import receive
from moldar.image.model import parse_digest
from moldar.image.transfer import ImageSource

PREFIX = "oci-layout://"
_REPOSITORY = "oci-layout.local/image"


def name_layouts(engine: Engine, opened: Opened) -> Opened:
    """`opened` with layout contexts named as images by their digests; UserMistake, NotFound for what is not there."""
    machinery(engine).store.protect("blob", ())  # made once, before several threads resolve images
    layouts: list[Layout] = []
    contexts: list[tuple[str, str]] = []
    for name, value in opened.contexts:
        if value.startswith(PREFIX):
            layouts.append(_find(engine, name, value))
            value = f"docker-image://{_REPOSITORY}@{layouts[-1].root}"
        contexts.append((name, value))
    return opened._replace(contexts=tuple(contexts), layouts=tuple(layouts))


def resolve_layout(engine: Engine, layout: Layout, asked: ImageRequest) -> ResolvedImage:
    """Bring a layout's image for the platform that is asked for into the store; NoSuchPlatform, CorruptData."""
    with ExitStack() as stack:
        source = _open(engine, stack, layout)
        image = receive(source, machinery(engine).store, platform=asked.platform)
    engine.lease.protect("image", [image])
    return ResolvedImage(_REPOSITORY, layout.root, engine.images.config(image))


def _find(engine: Engine, name: str, value: str) -> Layout:
    place, _, digest = value.removeprefix(PREFIX).partition("@")
    tag = ""
    if not os.path.isdir(place):
        place, _, tag = place.rpartition(":")
    if not place or not os.path.isdir(place):
        raise UserMistake(f"--build-context {name}={value}: no such directory")
    layout = Layout(os.path.abspath(place), tag, digest)
    with ExitStack() as stack:
        return layout._replace(root=_open(engine, stack, layout).resolve().digest)


def _open(engine: Engine, stack: ExitStack, layout: Layout) -> ImageSource:
    """The image of that digest, else of that tag; without either `latest`, or the only one that there is."""
    images = stack.enter_context(open_archive(layout.directory, engine.home.ingest))
    if layout.digest:
        wanted = parse_digest(layout.digest)
        for image in images:
            if image.source.resolve().digest == wanted:
                return image.source
        raise NotFound(f"the layout {layout.directory} has no image {layout.digest}")
    if not layout.tag and len(images) == 1:
        return images[0].source
    try:
        return open_layout(layout.directory, layout.tag or "latest")
    except NotFound:
        tag = layout.tag or "latest"
        raise NotFound(f"the layout {layout.directory} has no image with the tag {tag!r}") from None

"""Named contexts of the form `oci-layout://DIRECTORY[:TAG][@DIGEST]`: images that lie in a directory."""

import os
from contextlib import ExitStack

from moldar.app.contexts import Opened
from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.builder.plan import parse_platform
from moldar.errors import NotFound, UserMistake
from moldar.export.archive_read import open_archive
from moldar.export.cache_layout import open_layout
from moldar.export.store_image import receive
from moldar.image.model import Platform, parse_digest
from moldar.image.transfer import ImageSource

PREFIX = "oci-layout://"
_REPOSITORY = "oci-layout.local/image"


def bring_layouts(engine: Engine, opened: Opened, platforms: tuple[str, ...]) -> Opened:
    """`opened` with the images of layout contexts brought into the store, and named there by their digests."""
    platform = parse_platform(platforms[0]) if platforms else engine.platform
    contexts = [
        (name, _bring(engine, name, value, platform) if value.startswith(PREFIX) else value)
        for name, value in opened.contexts
    ]
    return opened._replace(contexts=tuple(contexts))


def _bring(engine: Engine, name: str, value: str, platform: Platform) -> str:
    place, _, digest = value.removeprefix(PREFIX).partition("@")
    tag = ""
    if not os.path.isdir(place):
        place, _, tag = place.rpartition(":")
    if not place or not os.path.isdir(place):
        raise UserMistake(f"--build-context {name}={value}: no such directory")
    with ExitStack() as stack:
        source = _find(engine, stack, os.path.abspath(place), tag, digest)
        root = source.resolve().digest
        image = receive(source, machinery(engine).store, platform=platform)
    engine.lease.protect("image", [image])
    engine.images.add_repository_digest(_REPOSITORY, root, image)
    return f"docker-image://{_REPOSITORY}@{root}"


def _find(engine: Engine, stack: ExitStack, directory: str, tag: str, digest: str) -> ImageSource:
    """The image of that digest, else of that tag; without either `latest`, or the only one that there is."""
    images = stack.enter_context(open_archive(directory, engine.home.ingest))
    if digest:
        wanted = parse_digest(digest)
        for image in images:
            if image.source.resolve().digest == wanted:
                return image.source
        raise NotFound(f"the layout {directory} has no image {digest}")
    if not tag and len(images) == 1:
        return images[0].source
    try:
        return open_layout(directory, tag or "latest")
    except NotFound:
        raise NotFound(f"the layout {directory} has no image with the tag {tag or 'latest'!r}") from None

"""Base images of a build: their configs when planning, their layers when a step needs them."""

import time
from collections.abc import Callable
from typing import Any

from moldar.app.engine import Engine
from moldar.builder.graph import ImageOp
from moldar.builder.plan import ImageRequest, ResolvedImage
from moldar.builder.progress import VertexStatus
from moldar.errors import MoldarError, NotFound
from moldar.image.config import parse_image_config
from moldar.image.model import Descriptor, Platform
from moldar.image.reference import Reference, parse_reference

Fallback = Callable[[ImageRequest, MoldarError], ResolvedImage | None]
"""What to do about a base image that its registry does not give: one from elsewhere, or none."""


def resolve_base(
    engine: Engine,
    asked: ImageRequest,
    *,
    pull: bool,
    any_platform: bool = False,
    fallback: Fallback | None = None,
) -> ResolvedImage:
    """The image that FROM names: from the store when it is there for this platform, else from its registry.

    With `any_platform` an image of another platform in the store will do, as it does for the checks.
    """
    if not pull:
        local = _in_store(engine, asked, any_platform=any_platform)
        if local is not None:
            return local
    try:
        return _from_registry(engine, asked)
    except MoldarError as error:
        found = fallback(asked, error) if fallback else None
        if found is None:
            raise
        return found


def _in_store(engine: Engine, asked: ImageRequest, *, any_platform: bool) -> ResolvedImage | None:
    try:
        image = engine.images.resolve(str(asked.reference))
        config = engine.images.config(image)
        if not any_platform and not _serves(config.platform, asked.platform):
            from moldar.app.platforms import image_for

            config = engine.images.config(image_for(engine, str(asked.reference), asked.platform))
    except NotFound:
        return None
    if not any_platform and not _serves(config.platform, asked.platform):
        return None
    tag = engine.images.find_tag(asked.reference)
    digest = asked.reference.digest or (tag.manifest if tag else None)
    return ResolvedImage(_name(asked.reference), digest, config)


def _serves(offered: Platform, wanted: Platform) -> bool:
    return offered[:2] == wanted[:2] and (
        not wanted.variant or not offered.variant or offered.variant == wanted.variant
    )


def _name(reference: Reference) -> str:
    return str(reference._replace(digest=None, tag=reference.tag)) if reference.tag else reference.name


def _from_registry(engine: Engine, asked: ImageRequest) -> ResolvedImage:
    """Manifest and config only; the layers follow when a step needs them."""
    from moldar.app.registries import open_registry
    from moldar.image.transfer import fetch_document, select_platform, verified
    from moldar.remote.client import RegistryImage

    with open_registry(engine, asked.reference.registry) as registry:
        source = RegistryImage(registry, asked.reference)
        resolved = source.resolve()
        document: Any = fetch_document(source, resolved)
        if hasattr(document, "manifests"):
            document = fetch_document(source, select_platform(document, asked.platform))
        with source.open_blob(document.config) as chunks:
            raw = b"".join(verified(chunks, document.config))
    return ResolvedImage(_name(asked.reference), resolved.digest, parse_image_config(raw))


def fetch_base(engine: Engine, op: ImageOp, step: Any) -> None:
    """Pull the layers of a base image, and keep the image under its name as `pull` does."""
    from moldar.app.machinery import machinery
    from moldar.app.registries import open_registry
    from moldar.export.store_image import receive
    from moldar.remote.client import RegistryImage
    from moldar.store.layout import write_index

    reference = parse_reference(op.reference)
    wanted = reference._replace(digest=op.digest) if op.digest else reference

    def progress(descriptor: Descriptor, current: int, total: int, done: bool) -> None:
        step.cancellation.check()
        step.events.publish(VertexStatus(step.id, descriptor.digest, current, total, time.time(), done))

    with open_registry(engine, reference.registry) as registry:
        receive(
            RegistryImage(registry, wanted),
            machinery(engine).store,
            (reference,),
            platform=op.platform,
            repository=reference.name,
            progress=progress,
        )
    write_index(engine.home, engine.images, engine.blobs)

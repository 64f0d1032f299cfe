"""What several platforms need more: their plans, made at the same time, and their images behind one name."""

from collections.abc import Callable, Sequence

from moldar.app.engine import Engine
from moldar.builder.plan import Plan
from moldar.errors import NotFound, UserMistake
from moldar.export.layer_forms import run_parallel
from moldar.image.model import Digest, Index, Manifest, Platform, parse_manifest
from moldar.image.reference import parse_reference
from moldar.image.transfer import select_platform


def plan_each(platforms: Sequence[Platform], plan_one: Callable[[Platform], Plan]) -> list[Plan]:
    """The plans of `platforms`, in their order; the first error that any of them meets is raised.

    At the same time, because each may have to ask registries.
    """
    plans: dict[Platform, Plan] = {}

    def make(platform: Platform) -> Callable[[], None]:
        def work() -> None:
            plans[platform] = plan_one(platform)

        return work

    run_parallel([make(platform) for platform in platforms])
    return [plans[platform] for platform in platforms]


def image_for(engine: Engine, name: str, platform: Platform) -> Digest:
    """The image of the store that `name` stands for on `platform`, where it names an index of several; NotFound.

    A name that stands for one image gives it, whatever its platform.
    """
    image = engine.images.resolve(name)
    try:
        tag = engine.images.find_tag(parse_reference(name))
    except UserMistake:  # it is an ID
        return image
    if tag is None or tag.image != image or tag.manifest is None or not engine.blobs.has(tag.manifest):
        return image
    document = parse_manifest(engine.blobs.read(tag.manifest))
    if not isinstance(document, Index):
        return image
    entry = select_platform(document, platform)
    manifest = parse_manifest(engine.blobs.read(entry.digest), entry.media_type)
    if not isinstance(manifest, Manifest) or engine.images.get(manifest.config.digest) is None:
        raise NotFound(f"the image of {name} for {platform} is not here")
    return manifest.config.digest

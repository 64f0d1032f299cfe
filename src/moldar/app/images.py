"""Verbs on images: list, look at, name, remove, save, load, prune."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from moldar.app.engine import Engine
from moldar.errors import UserMistake
from moldar.image.config import container_config_json
from moldar.image.model import Digest
from moldar.image.reference import DEFAULT_REGISTRY, Reference, parse_reference
from moldar.store.gc import Collected, Collector, Policy
from moldar.store.images import Tag

FILTERS = ("dangling", "reference", "label", "label!", "before", "since", "until")


class ImageSummary(NamedTuple):
    """A line of `image ls`: one per tag, or one without a tag. `created` is RFC 3339, `size` in bytes."""

    id: Digest
    repository: str
    tag: str
    digest: str
    created: str
    size: int


class HistoryLine(NamedTuple):
    """A line of `history`, newest first. `image_id` is given for the newest only; `size` in bytes."""

    image_id: str
    created: str
    created_by: str
    size: int
    comment: str


class Pruned(NamedTuple):
    """The IDs of images that a prune removed, the bytes that it freed, and what it did in Docker's words."""

    removed: tuple[str, ...]
    freed: int
    lines: tuple[str, ...] = ()


class ImageInUse(UserMistake):
    """An image cannot be removed while something uses it."""

    def __init__(self, name: str, why: str, hint: str) -> None:
        super().__init__(f"conflict: unable to remove {name}: {why}", hint=hint)


def list_images(engine: Engine, *, pattern: str = "", filters: Iterable[tuple[str, str]] = ()) -> list[ImageSummary]:
    """The images, newest first. `pattern` is a repository, with or without tag, and may hold `*`.

    `filters` are pairs of name and value: dangling, reference, label, before, since, until. Several references are
    alternatives, several labels must all be there. UserMistake for other names.
    """
    wanted = _wanted(engine, filters)
    lines = []
    for image in engine.images.all():
        config = engine.images.config(image.id)
        if not _passes(dict(config.config.labels), config.created, wanted):
            continue
        digests = dict(engine.images.repository_digests(image.id))
        tags = engine.images.tags(image.id)
        named: list[tuple[str, Tag | None]] = [(_familiar(tag.repository), tag) for tag in tags]
        for name, tag in named or [("", None)]:
            if not _fits(name, tag, pattern) or not any(_fits(name, tag, each) for each in wanted.references):
                continue
            if wanted.dangling is not None and wanted.dangling != (tag is None):
                continue
            digest = (digests.get(tag.repository) or tag.manifest or "") if tag else ""
            lines.append(ImageSummary(image.id, name, tag.tag if tag else "", digest, config.created, image.size))
    return sorted(lines, key=lambda line: line.created, reverse=True)


class _Wanted(NamedTuple):
    """What filters ask for; times as RFC 3339."""

    dangling: bool | None
    references: tuple[str, ...]
    labels: tuple[str, ...]
    not_labels: tuple[str, ...]
    before: str
    since: str


def _wanted(engine: Engine, filters: Iterable[tuple[str, str]]) -> _Wanted:
    from moldar.containers.logs import moment

    given: dict[str, list[str]] = {}
    for key, value in filters:
        if key not in FILTERS:
            raise UserMistake(f"invalid filter '{key}'", hint=f"use one of {', '.join(FILTERS)}")
        given.setdefault(key, []).append(value)

    def created(name: str) -> str:
        return engine.images.config(engine.images.resolve(name)).created

    dangling = [value.lower() in ("1", "true") for value in given.get("dangling", ())]
    before = [*map(created, given.get("before", ())), *map(moment, given.get("until", ()))]
    return _Wanted(
        dangling[-1] if dangling else None,
        tuple(given.get("reference", ("",))),
        tuple(given.get("label", ())),
        tuple(given.get("label!", ())),
        min(before, default="9999"),
        max(map(created, given.get("since", ())), default=""),
    )


def _passes(labels: dict[str, str], created: str, wanted: _Wanted) -> bool:
    if not all(_has_label(labels, each) for each in wanted.labels):
        return False
    if any(_has_label(labels, each) for each in wanted.not_labels):
        return False
    return (not wanted.since or wanted.since < created) and created < wanted.before


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _fits(name: str, tag: Tag | None, pattern: str) -> bool:
    if not pattern:
        return True
    if tag is None:
        return False
    import fnmatch

    full = f"{name}:{tag.tag}"
    slashed = pattern.rpartition("/")[2]
    return fnmatch.fnmatchcase(full if ":" in slashed else name, pattern) or fnmatch.fnmatchcase(tag.name, pattern)


def _familiar(repository: str) -> str:
    return repository.removeprefix(f"{DEFAULT_REGISTRY}/library/").removeprefix(f"{DEFAULT_REGISTRY}/")


def history(engine: Engine, name: str) -> list[HistoryLine]:
    """How the image came to be, newest instruction first; ImageNotFound."""
    image = engine.images.resolve(name)
    config = engine.images.config(image)
    diff_ids = list(config.diff_ids)
    lines = []
    entries = config.history or ()
    for entry in entries:
        size = 0 if entry.empty_layer or not diff_ids else engine.layers.size(diff_ids.pop(0)) or 0
        lines.append(HistoryLine("", entry.created, entry.created_by, size, entry.comment))
    if lines:
        lines[-1] = lines[-1]._replace(image_id=image)
    return lines[::-1]


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    """What `docker image inspect` tells; ImageNotFound."""
    image = engine.images.resolve(name)
    config = engine.images.config(image)
    tags = engine.images.tags(image)
    stored = engine.images.get(image)
    digests = [f"{_familiar(repository)}@{digest}" for repository, digest in engine.images.repository_digests(image)]
    document: dict[str, Any] = {
        "Id": image,
        "RepoTags": [f"{_familiar(tag.repository)}:{tag.tag}" for tag in tags],
        "RepoDigests": digests,
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "DockerVersion": "",
        "Created": config.created,
        "Author": config.author,
        "Config": _inspected_config(container_config_json(config.config)),
        "Architecture": config.platform.architecture,
        "Os": config.platform.os,
        "Size": stored.size if stored else 0,
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": ""},
    }
    if config.platform.variant:
        document["Variant"] = config.platform.variant
    return document


def _inspected_config(config: dict[str, Any]) -> dict[str, Any]:
    """Docker shows these members even when they are empty."""
    shown: dict[str, Any] = {
        "User": "",
        "Env": None,
        "Cmd": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "Labels": None,
    }
    return {**shown, **config}


def tag(engine: Engine, source: str, target: str) -> None:
    """Let the name `target` point to the image `source`; ImageNotFound, UserMistake for a malformed name."""
    reference = parse_reference(target)
    if reference.digest:
        raise UserMistake(f"invalid target {target!r}: a tag cannot hold a digest")
    image = engine.images.resolve(source)
    engine.images.tag(reference, image, _manifest_of(engine, source))
    _refresh_index(engine)


def _manifest_of(engine: Engine, name: str) -> Digest | None:
    """The manifest that `name` is known by, so that another name for it pushes the same bytes."""
    try:
        known = engine.images.find_tag(parse_reference(name))
    except UserMistake:
        return None
    return known.manifest if known else None


def remove(engine: Engine, name: str, *, force: bool = False) -> list[str]:
    """Remove a name, or an image when it is the last one; what was done, in Docker's words.

    Raises ImageNotFound, and ImageInUse when containers or (for an ID) several names use it and not `force`.
    """
    image = engine.images.resolve(name)
    tags = engine.images.tags(image)
    named = _tag_meant(engine, name)
    if named and len(tags) > 1:
        engine.images.untag(named.name)
        _refresh_index(engine)
        return [f"Untagged: {_familiar(named.repository)}:{named.tag}"]
    _refuse_if_used(engine, name, image, tags, named=named is not None, force=force)
    untagged = [f"Untagged: {_familiar(tag.repository)}:{tag.tag}" for tag in tags]
    untagged += [
        f"Untagged: {_familiar(where)}@{digest}" for where, digest in engine.images.repository_digests(image)
    ]
    engine.images.remove(image)
    _refresh_index(engine)
    collect_garbage(engine)
    return [*untagged, f"Deleted: {image}"]


def _tag_meant(engine: Engine, name: str) -> Tag | None:
    """The tag when `name` is one, None when it is an ID."""
    try:
        reference: Reference = parse_reference(name)
    except UserMistake:
        return None
    return None if reference.digest else engine.images.find_tag(reference)


def _refuse_if_used(
    engine: Engine, name: str, image: Digest, tags: Sequence[Tag], *, named: bool, force: bool
) -> None:
    from moldar.store.containers import ContainerTable

    containers = ContainerTable(engine.database).using(image)
    if containers and not force:
        first = containers[0].id[:12]
        raise ImageInUse(name, f"container {first} is using its image", "remove the container first, or use -f")
    repositories = {tag.repository for tag in tags}
    if not named and len(repositories) > 1 and not force:
        raise ImageInUse(name, "image is referenced in multiple repositories", "remove the names, or use -f")


def _refresh_index(engine: Engine) -> None:
    from moldar.store.layout import write_index

    write_index(engine.home, engine.images, engine.blobs)


def save(engine: Engine, names: Sequence[str], output: str | int) -> None:
    """Write images with their names to an archive that is both an OCI layout and what `docker load` reads.

    `output` is a path, written whole or not at all, or a file descriptor.
    """
    from moldar.app.archives import save_archive

    save_archive(engine, names, output)
    _refresh_index(engine)


def load(engine: Engine, source: str | int) -> list[str]:
    """Read the images of an archive (or OCI layout directory); their names, or IDs where they have none."""
    from moldar.app.archives import load_archive

    loaded = load_archive(engine, source)
    _refresh_index(engine)
    return loaded


def prune(engine: Engine, *, everything: bool = False, filters: Iterable[tuple[str, str]] = ()) -> Pruned:
    """Remove images without a name or, with `everything`, all that no container uses.

    The filters until, label and label! spare what does not pass, and dangling=false means `everything`.
    """
    given = tuple(filters)
    everything = everything or any(key == "dangling" and value.lower() in ("0", "false") for key, value in given)
    return prune_by(engine, Policy(images="unused" if everything else "dangling"), given)


def prune_by(engine: Engine, policy: Policy, filters: Iterable[tuple[str, str]]) -> Pruned:
    """Remove what `policy` gives up, without the images that do not pass the filters. UserMistake."""
    names: dict[str, list[str]] = {}
    for tag in engine.images.tags():
        names.setdefault(tag.image, []).append(f"{_familiar(tag.repository)}:{tag.tag}")
    collected = collect_garbage(engine, policy._replace(spared=_spared(engine, filters)))
    lines: list[str] = []
    for image in collected.images:
        lines += [*(f"untagged: {name}" for name in names.get(image, ())), f"deleted: {image}"]
    return Pruned(collected.images, collected.freed, tuple(lines))


def _spared(engine: Engine, filters: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The images that a prune with these filters leaves."""
    given = [(key, value) for key, value in filters if key != "dangling"]
    for key, _ in given:
        if key not in ("until", "label", "label!"):
            raise UserMistake(f"invalid filter '{key}'", hint="use until, label or label!")
    if not given:
        return frozenset()
    wanted = _wanted(engine, given)
    configs = {image.id: engine.images.config(image.id) for image in engine.images.all()}
    return frozenset(
        image for image, config in configs.items() if not _passes(dict(config.config.labels), config.created, wanted)
    )


def collect_garbage(engine: Engine, policy: Policy | None = None) -> Collected:
    """Remove from disk what nothing reaches any more."""
    from moldar.app.machinery import machinery

    snapshots = machinery(engine).snapshots
    snapshots.sweep()
    collected = Collector(engine.home, engine.database, snapshots).collect(policy or Policy())
    if collected.images:
        _refresh_index(engine)
    return collected

"""The page that compares two images of a repository, `/r/<repository>:<old>?with=<new>`: layers, config, packages,
files."""

from typing import Any, NamedTuple

from starlette.responses import Response

from moldar.hub.layers.image import ImageView, command_text
from moldar.hub.layers.listing import Item
from moldar.hub.layers.stack import ADDED, CHANGED, DELETED, SAME, Difference, Stack, compare_files, compare_packages
from moldar.hub.registry.repositories import Repository
from moldar.hub.web.pages import Pages, Visit, byte_query, shown_name
from moldar.hub.web.tags import Subject, TagPages, address
from moldar.image.config import ImageConfig

_SHOWN = 300


class Line(NamedTuple):
    """A line of a comparison."""

    name: str
    old: str
    new: str
    change: str


class LayerLine(NamedTuple):
    """A layer of either image."""

    instruction: str
    digest: str
    size: int
    change: str


class FileLine(NamedTuple):
    """A file that differs. Sizes are None where there is no file."""

    name: str
    old: int | None
    new: int | None
    change: str


class ComparePage:
    """Handler of the page."""

    def __init__(self, pages: Pages, tags: TagPages) -> None:
        self._pages = pages
        self._tags = tags

    async def show(self, visit: Visit, repository: Repository, reference: str) -> Response:
        parameters = byte_query(visit.request)
        platform = parameters.get("platform", "")
        old = self._tags.subject(repository.name, reference, platform)
        new = self._tags.subject(repository.name, parameters.get("with", ""), platform)
        if old is None or new is None or old.image is None or new.image is None:
            return self._pages.not_found(visit)
        values: dict[str, Any] = {
            "repository": repository,
            "old": old,
            "new": new,
            "old_link": address(repository.name, old.reference),
            "new_link": address(repository.name, new.reference),
            "grown": new.image.size - old.image.size,
            "layers": _layers(old.image, new.image),
            "settings": _settings(old.image.config, new.image.config),
            **await self._contents(repository.name, old, new),
        }
        return self._pages.render(visit, "compare.html", values)

    async def _contents(self, repository: str, old: Subject, new: Subject) -> dict[str, Any]:
        """What differs in packages and files; `waits` while layers are being read."""
        images = [subject.image for subject in (old, new) if subject.image and subject.image.config]
        if len(images) < 2:
            return {"waits": False, "packages": [], "files": [], "more": 0, "cut": False}
        one, other = await self._tags.stack(repository, old), await self._tags.stack(repository, new)
        if one is None or other is None:
            return {"waits": True, "packages": [], "files": [], "more": 0, "cut": False}
        return await self._pages.hub.in_thread(_compared, one, other)


def _compared(one: Stack, other: Stack) -> dict[str, Any]:
    packages, files = compare_packages(one, other), compare_files(one, other)
    counts = {change: sum(entry.change == change for entry in files) for change in (ADDED, CHANGED, DELETED)}
    return {
        "waits": False,
        "packages": [
            Line(shown_name(e.name), str(e.old or ""), str(e.new or ""), e.change) for e in packages[:_SHOWN]
        ],
        "more_packages": max(len(packages) - _SHOWN, 0),
        "files": [_file(entry) for entry in files[:_SHOWN]],
        "more": max(len(files) - _SHOWN, 0),
        "counts": counts,
        "cut": any(layer.cut for layer in (*one.layers, *other.layers)),
    }


def _file(entry: Difference) -> FileLine:
    old = entry.old.size if isinstance(entry.old, Item) else None
    new = entry.new.size if isinstance(entry.new, Item) else None
    return FileLine(shown_name(entry.name[:400]), old, new, entry.change)


def _layers(old: ImageView, new: ImageView) -> list[LayerLine]:
    """The old image's layers that are gone, then the new one's, marked as shared or added."""
    before, after = ({layer.digest for layer in image.layers} for image in (old, new))
    gone = [LayerLine(la.instruction, la.digest, la.size, DELETED) for la in old.layers if la.digest not in after]
    kept = [
        LayerLine(la.instruction, la.digest, la.size, SAME if la.digest in before else ADDED) for la in new.layers
    ]
    shared = 0
    while shared < len(kept) and kept[shared].change == SAME:
        shared += 1
    return [*kept[:shared], *gone, *kept[shared:]]


def _settings(old: ImageConfig | None, new: ImageConfig | None) -> list[Line]:
    """The settings that differ, each as a line of text."""
    one, other = _named(old), _named(new)
    return [
        Line(name, one.get(name, ""), other.get(name, ""), _change(one.get(name), other.get(name)))
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def _change(old: str | None, new: str | None) -> str:
    return ADDED if old is None else DELETED if new is None else CHANGED


def _named(image: ImageConfig | None) -> dict[str, str]:
    if image is None:
        return {}
    config = image.config
    named = {
        "ENTRYPOINT": command_text(config.entrypoint),
        "CMD": command_text(config.cmd),
        "WORKDIR": config.working_dir,
        "USER": config.user,
        "EXPOSE": " ".join(map(str, config.exposed_ports)),
        "VOLUME": " ".join(map(str, config.volumes)),
    }
    for entry in config.env:
        name, _, value = str(entry).partition("=")
        named[f"ENV {name}"] = value
    for name, value in config.labels:
        named[f"LABEL {name}"] = str(value)
    return {shown_name(name)[:200]: str(value)[:2000] for name, value in named.items() if value}

"""The page of one image, `/r/<repository>:<tag>` or `/r/<repository>@<digest>`, with its layers' files.

Parameters: `platform` of an index, `layer` (a number, or `all` for the image as a container sees it), `path` of the
directory that is shown. Names come from archives of strangers: they are looked up and shown, never opened.
"""

import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.responses import Response

from moldar.errors import UserMistake
from moldar.hub.access.decisions import DELETE
from moldar.hub.layers.image import ImageView, ImageViews, PlatformLink
from moldar.hub.layers.stack import DELETED, File, Row, Stack, directory
from moldar.hub.layers.views import LayerViews
from moldar.hub.registry.repositories import Repository
from moldar.hub.web.pages import Pages, Visit, byte_link, byte_query, shown_name
from moldar.image.model import Digest, parse_digest
from moldar.remote.wire import valid_tag

ALL = "all"
_SHOWN_ROWS = 500
_REFERRERS = 50
_KIND_BITS = {
    "file": stat.S_IFREG,
    "link": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}


class Subject(NamedTuple):
    """What a page is about: a tag or digest, and the image of one platform behind it."""

    reference: str
    platforms: tuple[PlatformLink, ...]
    platform: str
    image: ImageView | None


class RowView(NamedTuple):
    """A line of the file browser. `href` is empty for what has no directory to open."""

    name: str
    href: str
    size: int
    change: str
    rights: str
    target: str


class TagPages:
    """Handlers of the pages of images."""

    def __init__(self, pages: Pages, views: ImageViews, layers: LayerViews) -> None:
        self._pages = pages
        self._hub = pages.hub
        self._views = views
        self._layers = layers

    async def show(self, visit: Visit, repository: Repository, reference: str) -> Response:
        """The page of a tag or digest of a repository that the visitor may see."""
        parameters = byte_query(visit.request)
        subject = self.subject(repository.name, reference, parameters.get("platform", ""))
        if subject is None:
            return self._pages.not_found(visit)
        stack = await self.stack(repository.name, subject)
        values: dict[str, Any] = {
            "repository": repository,
            **subject._asdict(),
            "here": address(repository.name, reference),
            "is_tag": ":" not in reference,
            "may_delete": self._pages.may(visit, DELETE, repository.name),
            "stack": stack,
            "waste": [(shown_name(path[:400]), copies, size) for path, copies, size in stack.waste] if stack else [],
            "browser": await self._browser(repository.name, subject, stack, parameters),
            "referrers": self._referrers(repository.name, subject),
            "other_tags": self._other_tags(repository.name, reference),
        }
        if stack is not None and values["browser"] is None:
            return self._pages.not_found(visit)
        return self._pages.render(visit, "tag.html", values)

    def subject(self, repository: str, reference: str, platform: str) -> Subject | None:
        """None when there is no such tag or digest, or no such platform."""
        if not _valid_reference(reference) or self._hub.manifests.get(repository, reference) is None:
            return None
        platforms = self._views.platforms(repository, reference)
        chosen = next((link for link in platforms if link.name == platform), None)
        if platform and chosen is None:
            return None
        chosen = chosen or (platforms[0] if platforms else None)
        image = self._views.image(repository, chosen.digest if chosen else reference)
        return Subject(reference, platforms, chosen.name if chosen else "", image)

    async def stack(self, repository: str, subject: Subject) -> Stack | None:
        """The image's layers; None while they are being read, and for what is no image."""
        if subject.image is None or subject.image.config is None:
            return None
        return await self._layers.stack(repository, [layer.digest for layer in subject.image.layers])

    async def _browser(
        self, repository: str, subject: Subject, stack: Stack | None, parameters: dict[str, str]
    ) -> dict[str, Any] | None:
        """What the file browser shows; None when the parameters name nothing."""
        if stack is None:
            return None
        layer = parameters.get("layer", ALL)
        files = _files(stack, layer)
        if files is None:
            return None
        path = parameters.get("path", "").strip("/")
        rows = await self._hub.in_thread(directory, files, path)
        if rows is None:
            return None
        here = address(repository, subject.reference)
        platform = subject.platform if "platform" in parameters else ""

        def link(to: str, of: str = layer) -> str:
            return byte_link(here, platform=platform, layer=of, path=to) + "#files"

        return {
            "layer": layer,
            "rows": [_row(row, link(row.path)) for row in rows[:_SHOWN_ROWS]],
            "more": max(len(rows) - _SHOWN_ROWS, 0),
            "crumb_root": link(""),
            "crumbs": _crumbs(path, link),
            "links": [link("", str(number)) for number in range(1, len(stack.layers) + 1)],
            "all": link("", ALL),
            "up": link(path.rpartition("/")[0]) if path else "",
        }

    def _referrers(self, repository: str, subject: Subject) -> list[tuple[str, str, int]]:
        stored = self._hub.manifests.get(repository, subject.reference)
        if stored is None:
            return []
        digests = dict.fromkeys([stored.digest, *([Digest(subject.image.digest)] if subject.image else [])])
        found = [entry for digest in digests for entry in self._hub.manifests.referrers(repository, digest)]
        return [
            (str(entry.get("artifactType") or entry["mediaType"]), entry["digest"], entry["size"])
            for entry in found[:_REFERRERS]
        ]

    def _other_tags(self, repository: str, reference: str) -> list[str]:
        tags = self._hub.manifests.tags(repository, limit=_REFERRERS)
        return [tag.name for tag in tags if tag.name != reference]


def address(repository: str, reference: str) -> str:
    """The path of the page of a tag or digest."""
    return f"/r/{repository}{'@' if ':' in reference else ':'}{reference}"


def split_address(path: str) -> tuple[str, str]:
    """Repository and reference (or "") of what follows `/r/`."""
    name, at, digest = path.partition("@")
    if at:
        return name, digest if ":" in digest else "@"
    name, colon, tag = path.partition(":")
    return name, tag or colon


def _valid_reference(reference: str) -> bool:
    if ":" not in reference:
        return valid_tag(reference)
    try:
        parse_digest(reference)
    except UserMistake:
        return False
    return True


def _files(stack: Stack, layer: str) -> Sequence[File] | None:
    if layer == ALL:
        return stack.merged
    if not layer.isascii() or not layer.isdigit() or not 1 <= int(layer[:6]) <= len(stack.layers):
        return None
    return stack.layers[int(layer[:6]) - 1].files


def _crumbs(path: str, link: Any) -> list[tuple[str, str]]:
    """The directories on the way to `path`, the middle left out when they are many."""
    parts = path.split("/") if path else []
    crumbs = [(shown_name(part), link("/".join(parts[: number + 1]))) for number, part in enumerate(parts[:64])]
    return crumbs if len(crumbs) <= 12 else [*crumbs[:4], ("…", ""), *crumbs[-6:]]


def _row(row: Row, href: str) -> RowView:
    item = row.item
    opens = row.is_directory and not (row.change == DELETED and not row.below)
    rights = stat.filemode(_KIND_BITS[item.kind] | (item.mode & 0o7777)) if item else ""
    target = shown_name(item.target[:300]) if item and item.kind in ("link", "symlink") else ""
    return RowView(shown_name(row.name[:300]), href if opens else "", row.size, row.change, rights, target)

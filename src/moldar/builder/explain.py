"""Finds out why a step runs: compares its key with the nearest earlier record, and keeps what later ones will need.

Imported only when a step runs; a build that is fully cached neither reads nor writes any of it.
"""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from moldar.builder.entry import Entry
from moldar.builder.executor import image_identity
from moldar.builder.file_reasons import File
from moldar.builder.graph import CopyOp, Graph, ImageOp
from moldar.builder.inputs import MOST_FILES, Listed, files_of, lines_of, pack, texts, unpack
from moldar.builder.keys import COPIED, ENVIRONMENT, MOUNTS
from moldar.builder.reasons import GONE, NEVER, Difference, Image, Known, alike, differences, evicted, likeness
from moldar.builder.selection import Selection
from moldar.builder.solver import BELOW, Explanation, Key
from moldar.builder.tree import Tree
from moldar.errors import HostTrouble
from moldar.store.cache import CacheRow, CacheTable
from moldar.store.explanations import EvictionTable, InputTable

MOST_DETAILS = 50
MOST_OF_STAGES = 64 << 20
"""In bytes: what a step reads of other stages is looked at once more to be described, if it is no more than that."""


class Described(Protocol):
    """What knows which files a digest in a key stands for."""

    def described(self, digest: str) -> tuple[CopyOp, Selection] | None: ...

    def watch_stages(self, watch: Callable[[str, CopyOp, Selection], None]) -> None: ...


class Explainer:
    """Explains the misses of one build. `ignoring` says what makes steps ignore the cache. Safe for threads.

    `images` are base images by the identity of their root file systems; `since` is when the build began, for its
    own records explain nothing.
    """

    def __init__(
        self,
        records: CacheTable,
        inputs: InputTable,
        evictions: EvictionTable,
        sources: Described,
        images: Mapping[str, Image],
        *,
        since: float,
        ignoring: str = "",
    ) -> None:
        self._records = records
        self._inputs = inputs
        self._evictions = evictions
        self._sources = sources
        self._images = images
        self._since = since
        self._ignoring = ignoring
        self._lock = threading.Lock()
        self._remembered: set[str] = set()
        self._lists: dict[str, list[Listed]] = {}
        self._here: dict[str, tuple[Tree, Entry]] = {}
        self._known = Known(self._files, self._lines, self._image)
        sources.watch_stages(self._describe_stage)

    def explain(self, key: Key, *, ignored: bool = False, foreign: Mapping[str, str] | None = None) -> Explanation:
        """Why nothing was found for `key`. `foreign` are the parts of a record in a cache from elsewhere."""
        if ignored:
            return _because(f"{self._ignoring or '--no-cache'} was given")
        if self._records.has(key.digest):
            return _because(GONE, cause="evicted")
        if (gone := self._evictions.get(key.digest)) is not None:
            return _because(evicted(gone.when, gone.cause, gone.amount), cause="evicted")
        before = self._nearest(key)
        parts = key.parts
        if before is None and foreign is not None:
            before = foreign
            if ENVIRONMENT not in foreign:  # shared caches carry no variables
                parts = tuple(part for part in parts if part[0] != ENVIRONMENT)
        if before is None:
            return _because(NEVER, cause="new")
        return _explanation(differences(before, parts, self._known), key, self._known)

    def remember(self, key: Key) -> None:
        """Keep what the digests in the parts of `key` stand for."""
        try:
            for _, value in key.parts:
                for digest in _digests(value):
                    self._keep(digest)
        except HostTrouble:
            pass  # an explanation is not worth a build

    # Earlier records

    def _nearest(self, key: Key) -> Mapping[str, str] | None:
        """The parts of the record of the same step that has most in common; else of one worded much like it."""
        rows = [row for row in self._records.like(key.step) if row.created < self._since]
        if not rows:
            kind = key.step.partition(" ")[0]
            below = dict(key.parts).get(BELOW, "")
            found = [row for row in self._records.over(kind, below) if row.created < self._since]
            rows = [row for row in found if alike(row.step, key.step)]
        parts = [known for known in map(_parts, rows) if known is not None]
        now = dict(key.parts)

        def nearness(before: Mapping[str, str]) -> tuple[int, bool]:
            return likeness(before, now), before.get(BELOW) == now.get(BELOW)

        best = max(map(nearness, parts), default=None)
        nearest = [known for known in parts if nearness(known) == best]
        return next(filter(self._is_listed, nearest), nearest[0] if nearest else None)

    def _is_listed(self, parts: Mapping[str, str]) -> bool:
        """Whether it is known which files a record was made of."""
        digests = (digest for name in (COPIED, MOUNTS) for digest in _digests(parts.get(name, "")))
        return any(self._inputs.get(digest, "files") is not None for digest in digests)

    # What digests stand for

    def _files(self, digest: str) -> list[File] | None:
        described = self._sources.described(digest)
        if described is not None:
            found = self._list(digest, described)
            self._here.update((file.content, (tree, entry)) for file, tree, entry in found if file.kind == "file")
            return [file for file, _, _ in found]
        data = self._inputs.get(digest, "files")
        return None if data is None else unpack(data)

    def _list(self, digest: str, described: tuple[CopyOp, Selection]) -> list[Listed]:
        """The files of a selection, looked at once."""
        if digest not in self._lists:
            self._lists[digest] = files_of(*described)
        return self._lists[digest]

    def _lines(self, content: str) -> bytes | None:
        kept = self._inputs.get(content, "lines")
        if kept is None and content in self._here:
            return lines_of(*self._here[content])
        return kept

    def _image(self, identity: str) -> Image | None:
        if identity in self._images:
            return self._images[identity]
        data = self._inputs.get(identity, "image")
        if data is None:
            return None
        reference, _, digest = data.decode(errors="replace").partition("\n")
        return Image(reference, digest)

    def _keep(self, digest: str) -> None:
        with self._lock:
            if digest in self._remembered:
                return
            self._remembered.add(digest)
        if digest in self._images:
            image = self._images[digest]
            self._inputs.put([(digest, "image", f"{image.reference}\n{image.digest}".encode())])
            return
        described = self._sources.described(digest)
        if described is None or sum(len(pick.entries) for pick in described[1]) > MOST_FILES:
            return
        self._put_files(digest, self._list(digest, described))

    def _describe_stage(self, digest: str, op: CopyOp, selection: Selection) -> None:
        """Keep what is selected of stages while it can be looked at; its paths begin with a slash."""
        entries = [entry for pick in selection for entry in (*pick.entries, pick.top)]
        if len(entries) > MOST_FILES or sum(entry.size for entry in entries) > MOST_OF_STAGES:
            return
        try:
            found = [(_of_stage(file), tree, entry) for file, tree, entry in files_of(op, selection)]
            self._put_files(digest, found)
        except HostTrouble:
            pass

    def _put_files(self, digest: str, found: list[Listed]) -> None:
        known = self._inputs.known(file.content for file, _, _ in found if file.kind == "file")
        rows = [(digest, "files", pack([file for file, _, _ in found]))]
        rows += [(content, "lines", hashes) for content, hashes in dict(texts(found, known)).items()]
        self._inputs.put(rows)


def _of_stage(file: File) -> File:
    return file._replace(path=f"/{file.path}", same_as=f"/{file.same_as}" if file.same_as else "")


def images_of(graph: Graph) -> dict[str, Image]:
    """The base images of a build by the identity of their root file systems."""
    ops = [vertex.op for vertex in graph.vertices if isinstance(vertex.op, ImageOp)]
    return {image_identity(op): Image(_familiar(op.reference), op.digest) for op in ops}


def _familiar(reference: str) -> str:
    """The name as a person writes it."""
    return reference.removeprefix("docker.io/").removeprefix("library/")


def _explanation(found: list[Difference], key: Key, known: Known) -> Explanation:
    if not found:
        return _because(GONE, cause="evicted")
    details = [clause for difference in found for clause in difference.clauses]
    cut = details[:MOST_DETAILS]
    if len(details) > MOST_DETAILS:
        cut.append(f"and {len(details) - MOST_DETAILS} more differences")
    first = found[0]
    cause = ""
    if first.part == BELOW and known.image(dict(key.parts).get(BELOW, "")) is None:
        cause = "below"
    elif first.text == "the copied files changed" or first.text.startswith("what the bind mount"):
        cause = "beside"
    return Explanation(f"ran because {first.text}", tuple(cut), cause)


def _because(text: str, *, cause: str = "") -> Explanation:
    return Explanation(f"ran because {text}", (text,), cause)


def _digests(value: str) -> list[str]:
    """The digests in a part: alone, in a row, or at the end of each mount."""
    if value.startswith("["):
        try:
            rows = json.loads(value)
        except ValueError:
            return []
        words = [str(row[-1]) for row in rows if isinstance(row, list) and row]
    else:
        words = value.split()
    return [word for word in words if word.startswith("sha256:")]


def _parts(row: CacheRow) -> dict[str, str] | None:
    try:
        return dict(json.loads(row.parts))
    except (ValueError, TypeError):
        return None

"""A bench for copies: make trees and layers from short specifications, copy, and read the layer that comes out."""

import io
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from moldar.builder.context import open_context
from moldar.builder.copying import CopyOutcome, run_copy
from moldar.builder.graph import CopyOp
from moldar.builder.rootview import DirectoryLayer, Layer, RootView, TarLayer
from moldar.builder.selection import select, selection_digest
from moldar.builder.tree import LocalTree, Tree
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_write import LayerWriter
from moldar.image.unpack import unpack

Spec = Mapping[str, Any]
"""Path to content (a file), None (a directory), `-> target` as ("link", target), ("hard", path) or ("fifo",)."""


def make_tree(root: Path, spec: Spec) -> Path:
    """Files below `root`; a path may end in `@mode` (octal)."""
    root.mkdir(parents=True, exist_ok=True)
    for named, what in spec.items():
        name, _, mode = named.partition("@")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if what is None:
            path.mkdir(exist_ok=True)
        elif isinstance(what, str | bytes):
            path.write_bytes(what.encode() if isinstance(what, str) else what)
        elif what[0] == "link":
            path.symlink_to(what[1])
        elif what[0] == "hard":
            os.link(root / what[1], path)
        elif what[0] == "fifo":
            os.mkfifo(path)
        if mode:
            path.chmod(int(mode, 8))
        if not path.is_symlink():
            os.utime(path, (1_600_000_000, 1_600_000_000))
    return root


class Made:
    """A layer's tar and what is in it: `entries` by path, `files` with their contents."""

    def __init__(self, raw: bytes, outcome: CopyOutcome) -> None:
        self.raw = raw
        self.outcome = outcome
        self.entries: dict[str, tarfile.TarInfo] = {}
        self.files: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            self.order = archive.getnames()
            for member in archive:
                self.entries[member.name] = member
                content = archive.extractfile(member) if member.isfile() or member.islnk() else None
                if content is not None:
                    self.files[member.name] = content.read()

    def shape(self) -> dict[str, str]:
        """What each path is: contents of files, `dir MODE`, `-> target`, `= hard link`."""
        return {name: self._describe(member) for name, member in self.entries.items()}

    def _describe(self, member: tarfile.TarInfo) -> str:
        if member.isdir():
            return f"dir {member.mode:o}"
        if member.issym():
            return f"-> {member.linkname}"
        if member.islnk():
            return f"= {member.linkname}"
        return self.files[member.name].decode() if member.isfile() else f"type {member.type.decode()}"


class Bench:
    """One temporary place with a context, layers below the copy, and the copy itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.context = path / "context"
        self.context.mkdir()
        self.layers: list[Layer] = []

    def files(self, spec: Spec) -> None:
        make_tree(self.context, spec)

    def tar(self, entries: Sequence[tuple[LayerEntry, bytes]]) -> Path:
        """A layer's tar on disk."""
        path = self.path / f"layer{len(list(self.path.glob('layer*')))}.tar"
        with path.open("wb") as file:
            writer = LayerWriter(file.write)
            for entry, content in entries:
                writer.add(entry._replace(size=len(content)), content)
            writer.close()
        return path

    def below(
        self, *entries: LayerEntry, contents: Mapping[str, bytes] | None = None, unpacked: bool = False
    ) -> None:
        """One more layer below the copy."""
        path = self.tar([(entry, (contents or {}).get(entry.path, b"")) for entry in entries])
        if unpacked:
            directory = path.with_suffix(".d")
            directory.mkdir()
            with path.open("rb") as file:
                unpack(file, str(directory), whiteouts="overlay")
            self.layers.append(DirectoryLayer(str(directory)))
        else:
            self.layers.append(TarLayer(str(path)))

    @property
    def view(self) -> RootView:
        return RootView(self.layers)

    def tree(self, **options: Any) -> LocalTree:
        return open_context(str(self.context), **options)

    def copy(self, *words: str, tree: Tree | None = None, **options: Any) -> Made:
        """COPY: sources and destination as `words`."""
        op = CopyOp(tuple((1, source) for source in words[:-1]), words[-1], **options)
        selection = select(op, [None, tree or self.tree()])
        out = bytearray()
        outcome = run_copy(op, selection, self.view, out.extend, str(self.path))
        return Made(bytes(out), outcome)

    def digest(self, *sources: str, tree: Tree | None = None, **options: Any) -> str:
        op = CopyOp(tuple((1, source) for source in sources), "/", **options)
        return selection_digest(op, select(op, [None, tree or self.tree()]))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, Spec], Path]:
    return lambda name, spec: make_tree(tmp_path / name, spec)

"""What steps read besides their root: build contexts, files in the Dockerfile, downloads, and other stages.

This is on the path of a cached build: contexts are walked and hashed here, and nothing is mounted unless a stage's
files must be looked at.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from moldar.builder.context import open_context
from moldar.builder.graph import ContextOp, CopyOp, GitOp, HttpOp, InlineOp, Vertex
from moldar.builder.selection import Selection, select, selection_digest
from moldar.builder.solver import Inputs, Result
from moldar.builder.tree import InlineTree, LocalTree, Tree
from moldar.errors import Unsupported
from moldar.store.stat_index import StatIndex

MountStage = Callable[[Result], AbstractContextManager[str]]
"""Shows a stage's root file system at a path, to read."""


class Downloads(Protocol):
    """Fetches what ADD names by URL."""

    def tree(self, op: HttpOp | GitOp) -> Tree: ...


class Sources:
    """The sources of one build.

    `contexts` are directories by name, the main one under ""; `dockerfile` is the Dockerfile's path on the host
    (empty when it has none), which may have an ignore file of its own. `downloads` is None where there are none.
    """

    def __init__(
        self,
        contexts: Mapping[str, str],
        index: StatIndex | None,
        mount_stage: MountStage,
        *,
        dockerfile: str = "",
        downloads: Downloads | None = None,
        epoch: int | None = None,
        reproducible: bool = False,
    ) -> None:
        self._contexts = contexts
        self._index = index
        self._mount_stage = mount_stage
        self._dockerfile = dockerfile
        self._downloads = downloads
        self._epoch = epoch
        self._reproducible = reproducible
        self._trees: dict[tuple[type, object], Tree] = {}
        self._selections: dict[tuple[CopyOp, tuple[Vertex, ...]], Selection] = {}
        self._described: dict[str, tuple[CopyOp, Selection]] = {}
        self._watch: Callable[[str, CopyOp, Selection], None] | None = None

    def copied(self, op: CopyOp, sources: Sequence[Vertex], inputs: Inputs) -> str:
        """The digest of what `op` selects."""
        with ExitStack() as mounts:
            selection = self.select(op, sources, inputs, mounts)
            digest = selection_digest(op, selection)
            if all(inputs[position] is None for position, _ in op.sources):
                self._described[digest] = op, selection
            elif self._watch is not None:
                self._watch(digest, op, selection)
            return digest

    def described(self, digest: str) -> tuple[CopyOp, Selection] | None:
        """What a digest given by `copied` stands for; nothing for files of stages, which are mounted no longer."""
        return self._described.get(digest)

    def watch_stages(self, watch: Callable[[str, CopyOp, Selection], None]) -> None:
        """Have `watch` called with digests and what they stand for, where that is files of stages, still mounted."""
        self._watch = watch

    def select(self, op: CopyOp, sources: Sequence[Vertex], inputs: Inputs, mounts: ExitStack) -> Selection:
        """What `op` copies. Stages stay mounted until `mounts` is closed."""
        key = (op, tuple(sources))
        if key in self._selections:
            return self._selections[key]
        used = {position for position, _ in op.sources}
        trees = [
            self._tree(vertex, result, mounts) if position in used else None
            for position, (vertex, result) in enumerate(zip(sources, inputs, strict=True))
        ]
        selection = select(op, trees)
        if all(inputs[position] is None for position in used):
            self._selections[key] = selection
        return selection

    def mounted(self, source: Vertex, result: Result | None, path: str) -> str:
        """The digest of what a bind mount of `path` shows."""
        op = CopyOp(((0, path),), "/")
        return self.copied(op, (source,), (result,))

    def context(self, name: str) -> LocalTree:
        """The build context of that name."""
        tree = self.tree(ContextOp(name))
        assert isinstance(tree, LocalTree)
        return tree

    def tree(self, op: object) -> Tree:
        """The tree of a source that is no stage."""
        key = (type(op), op)
        if key not in self._trees:
            self._trees[key] = self._open(op)
        return self._trees[key]

    def _tree(self, vertex: Vertex, result: Result | None, mounts: ExitStack) -> Tree:
        if result is None:
            return self.tree(vertex.op)
        return LocalTree(mounts.enter_context(self._mount_stage(result)), keeps_owners=True)

    def _open(self, op: object) -> Tree:
        if isinstance(op, ContextOp):
            dockerfile = "" if op.name else self._dockerfile
            return open_context(
                self._contexts[op.name], dockerfile=dockerfile, index=self._index, reproducible=self._reproducible
            )
        if isinstance(op, InlineOp):
            return InlineTree(op.files, int(time.time()) if self._epoch is None else self._epoch)
        if isinstance(op, HttpOp | GitOp) and self._downloads:
            return self._downloads.tree(op)
        raise Unsupported("ADD from a URL is not possible yet")

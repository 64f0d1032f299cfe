"""The copied layers of a build as trees that can be asked: snapshots where they are unpacked, else their tars."""

from moldar.builder.ops import Stack, Workshop
from moldar.builder.read_sets import CountedTree
from moldar.sandbox.readset.trees import DirectoryTree, RootAttributes, TarTree, directory_root


class StoredTrees:
    """Layers of one store."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def tree(self, stack: Stack, position: int) -> CountedTree | None:
        """The layer at `position`; None where layers are not kept one by one."""
        snapshots = self._workshop.snapshots
        if snapshots.whiteouts == "apply":
            return None
        below = stack[: position + 1]
        if snapshots.has(below):
            return DirectoryTree(snapshots.directories(below)[-1])
        blobs = self._workshop.blobs
        if not blobs.has(stack[position]):
            self._workshop.unpack(below)
            return DirectoryTree(snapshots.directories(below)[-1])
        return TarTree(blobs.path(stack[position]), self._root(stack, position))

    def _root(self, stack: Stack, position: int) -> RootAttributes | None:
        """What the root directory of the layer at `position` begins with: it is that of the layer below."""
        if not position:
            return None
        tree = self.tree(stack, position - 1)
        if isinstance(tree, TarTree):
            return tree.root
        return directory_root(self._workshop.snapshots.directories(stack[:position])[-1])

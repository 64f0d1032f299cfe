"""Where unpacked layers lie, for whoever only looks at them: no mounts, no processes, little to import."""

import os
from typing import Protocol

from moldar.errors import HostTrouble
from moldar.image.layer_entry import Whiteouts
from moldar.image.model import Digest, chain_ids
from moldar.image.ownership import ownership
from moldar.sandbox.remembered import recall

Stack = tuple[Digest, ...]
_TREE = "tree"
TREE_FOLDER = _TREE + "-"
"""How the folders of whole trees begin."""


class MissingSnapshot(HostTrouble):
    """A layer was to be mounted that nobody has unpacked."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the layer {key} is not unpacked", hint="run `moldar system check`")
        self.key = key


class Unpacked(Protocol):
    """The finished snapshots of a store. `whiteouts`: how they say that something is deleted."""

    @property
    def whiteouts(self) -> Whiteouts: ...

    def keys(self, stack: Stack) -> tuple[str, ...]:
        """The keys of the snapshots that `stack` needs; those not unpacked count too."""
        ...

    def has(self, stack: Stack) -> bool:
        """Whether `stack` can be mounted now."""
        ...

    def directories(self, stack: Stack) -> tuple[str, ...]:
        """The directories that together are `stack`, lowest first, with overlay whiteouts; MissingSnapshot."""
        ...


class UnpackedLayers:
    """Every layer by itself, below `base` (the store's `snapshots` folder), under its diff ID.

    A layer that relies on its parents lies under the chain ID of its stack. `style`: that of overlayfs's marks.
    """

    def __init__(self, base: str, style: Whiteouts = "overlay") -> None:
        self.base = base
        self.whiteouts: Whiteouts = style

    def keys(self, stack: Stack) -> tuple[str, ...]:
        keys: list[str] = []
        for depth, diff_id in enumerate(stack):
            key: str = diff_id
            if not os.path.isdir(self.directory(key)):
                merged = merged_key(stack[: depth + 1])
                if os.path.isdir(self.directory(merged)):
                    key = merged
            keys.append(key)
        return tuple(keys)

    def has(self, stack: Stack) -> bool:
        return all(os.path.isdir(self.directory(key)) for key in self.keys(stack))

    def directories(self, stack: Stack) -> tuple[str, ...]:
        paths = tuple(self.directory(key) for key in self.keys(stack))
        for path, key in zip(paths, stack, strict=True):
            if not os.path.isdir(path):
                raise MissingSnapshot(key)
        return paths

    def directory(self, key: str) -> str:
        """Where the snapshot of that key is, or would be."""
        return _directory(self.base, key)


class UnpackedTrees:
    """Every stack as one whole tree, below `base`, under its chain ID."""

    whiteouts: Whiteouts = "apply"

    def __init__(self, base: str) -> None:
        self.base = base

    def keys(self, stack: Stack) -> tuple[str, ...]:
        return (f"{_TREE}:{chain_ids(stack)[-1].partition(':')[2]}",) if stack else ()

    def has(self, stack: Stack) -> bool:
        return all(os.path.isdir(self.directory(key)) for key in self.keys(stack))

    def directories(self, stack: Stack) -> tuple[str, ...]:
        if not stack:
            return (f"{self.base}/empty",)
        path = self.directory(self.keys(stack)[0])
        if not os.path.isdir(path):
            raise MissingSnapshot(stack[-1])
        return (path,)

    def directory(self, key: str) -> str:
        """Where the snapshot of that key is, or would be."""
        return _directory(self.base, key)


def known_unpacked(base: str) -> Unpacked | None:
    """The snapshots in `base`, if it was found out before which driver works there; see `choose_snapshots`."""
    try:
        answer = recall(driver_answer(base), driver_facts(base))
    except FileNotFoundError:
        return None
    if answer is None:
        return None
    style: Whiteouts = answer["whiteouts"]
    return UnpackedTrees(base) if style == "apply" else UnpackedLayers(base, style)


def driver_answer(base: str) -> str:
    """The file that says which driver works in `base`."""
    return f"{base}/driver.json"


def driver_facts(base: str) -> list[object]:
    """What that depends on: the file system, and whether we are root there."""
    return [os.stat(base).st_dev, ownership().in_namespace]


def users_mark(base: str) -> str:
    """The file that says that the layers in `base` carry the marks of users and not those of root."""
    return f"{base}/userxattr"


def merged_key(stack: Stack) -> str:
    """The key of a top layer that can be unpacked only over those beneath it."""
    return f"merged:{chain_ids(stack)[-1].partition(':')[2]}"


def _directory(base: str, key: str) -> str:
    return f"{base}/layers/{key.replace(':', '-', 1)}"

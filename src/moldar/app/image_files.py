"""What lies in the layers of images, file by file, and how two images differ."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.errors import MoldarError
from moldar.image.layer_entry import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, LayerEntry
from moldar.image.layer_read import read_entries
from moldar.image.model import Digest

_CHUNK = 1 << 20


class FileState(NamedTuple):
    """What a program can see of a file, times apart. `content` is a digest, or where a link leads."""

    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    content: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()


_GONE = FileState("gone")


def layer_files(engine: Engine, stack: Sequence[Digest]) -> tuple[LayerEntry, ...]:
    """The members of the top layer of `stack`; none when the layer is not here."""
    try:
        with machinery(engine).forms.open_tar(tuple(stack)) as stream:
            return tuple(entry for entry, _ in read_entries(stream, contents=False))
    except MoldarError:
        return ()


def differences(engine: Engine, one: str, other: str) -> frozenset[str]:
    """The paths at which two images of the store differ in their files; modification times do not count."""
    first, second = engine.images.layers(one), engine.images.layers(other)
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    left, right = _states(engine, first, shared), _states(engine, second, shared)
    return frozenset(path for path in left.keys() | right.keys() if left.get(path) != right.get(path))


def _states(engine: Engine, stack: Sequence[Digest], start: int) -> dict[str, FileState]:
    states: dict[str, FileState] = {}
    for position in range(start, len(stack)):
        with machinery(engine).forms.open_tar(tuple(stack[: position + 1])) as stream:
            for entry, content in read_entries(stream, contents=True):
                digest = sha256()
                while content is not None and (chunk := content.read(_CHUNK)):
                    digest.update(chunk)
                _apply(states, entry, digest.hexdigest() if entry.kind == "file" else entry.target)
    return states


def _apply(states: dict[str, FileState], entry: LayerEntry, content: str) -> None:
    directory, slash, name = entry.path.rpartition("/")
    if name == OPAQUE_WHITEOUT:
        _remove(states, directory)
    elif name.startswith(WHITEOUT_PREFIX):
        path = directory + slash + name.removeprefix(WHITEOUT_PREFIX)
        _remove(states, path)
        states[path] = _GONE
    elif entry.kind == "link":
        states[entry.path] = states.get(entry.target, FileState("link", content=entry.target))
    else:
        states[entry.path] = FileState(entry.kind, entry.mode, entry.uid, entry.gid, content, entry.xattrs)


def _remove(states: dict[str, FileState], directory: str) -> None:
    for path in _below(states, directory):
        del states[path]


def _below(states: dict[str, FileState], directory: str) -> Iterator[str]:
    return iter([path for path in states if path.startswith(directory + "/")])

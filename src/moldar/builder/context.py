"""Build contexts: which directory, seen through which ignore file."""

import os

from moldar.builder.hashing import UnreadableSource
from moldar.builder.tree import LocalTree, PlainTree
from moldar.dockerfile.ignore import Patterns, read_ignore_file
from moldar.errors import UserMistake
from moldar.store.stat_index import StatIndex

IGNORE_FILE = ".dockerignore"
_LARGEST_IGNORE_FILE = 1 << 24


class NoContext(UserMistake):
    """The directory of a context cannot be used. `path` as written."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"unable to prepare context: path {path!r} {why}")
        self.path = path


def open_context(
    directory: str, *, dockerfile: str = "", index: StatIndex | None = None, reproducible: bool = False
) -> LocalTree:
    """The context in `directory`, without what its ignore file says.

    `dockerfile` is the path of the Dockerfile on the host when this is the main context: `<dockerfile>.dockerignore`
    rules in place of `.dockerignore` where it exists. `reproducible`: copies of the context are alike.

    Raises NoContext, DockerfileError, UnreadableSource.
    """
    if not os.path.isdir(directory):
        raise NoContext(directory, "is not a directory" if os.path.lexists(directory) else "not found")
    root = os.path.realpath(directory)
    kind = PlainTree if reproducible else LocalTree
    return kind(root, ignore=read_ignore_patterns(find_ignore_file(root, dockerfile)), index=index)


def find_ignore_file(directory: str, dockerfile: str = "") -> str:
    """The path of the ignore file that rules the context `directory`, empty when there is none."""
    candidates = [f"{dockerfile}{IGNORE_FILE}"] if dockerfile else []
    for path in (*candidates, os.path.join(directory, IGNORE_FILE)):
        if os.path.isfile(path):
            return path
    return ""


def ignore_file_size(directory: str, dockerfile: str = "") -> int:
    """The bytes of that file; 0 when there is none or it cannot be looked at."""
    path = find_ignore_file(directory, dockerfile)
    try:
        return os.stat(path).st_size if path else 0
    except OSError:
        return 0


def read_ignore_patterns(path: str) -> Patterns | None:
    """The patterns in an ignore file, None for an empty path. Raises DockerfileError, UnreadableSource."""
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_IGNORE_FILE)
    except OSError as error:
        raise UnreadableSource(path, error) from error
    return read_ignore_file(data, os.path.basename(path))

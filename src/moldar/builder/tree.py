"""The source of a copy: a tree of files that is looked at where it lies, never copied.

`LocalTree` is a directory: a build context seen through its ignore rules, or the mounted root of another stage.
`InlineTree` holds files written in the Dockerfile, `FileTree` one file under a name of its own (a download).
Paths are relative to the tree's root, with `/` between parts and no leading one; the root itself is "". No path leads
outside: symbolic links are resolved here, below the root.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from operator import attrgetter
from typing import Protocol

from moldar.builder.entry import Entry, Place
from moldar.builder.hashing import UnreadableSource, fingerprint, fingerprint_files
from moldar.dockerfile.ignore import Patterns
from moldar.errors import UserMistake
from moldar.store.stat_index import StatIndex

LINK_LIMIT = 255
_TYPE = 0o170000
_KINDS = {
    0o100000: "file", 0o040000: "dir", 0o120000: "symlink", 0o010000: "fifo",
    0o020000: "char", 0o060000: "block", 0o140000: "socket",
}  # fmt: skip
_by_name = attrgetter("name")


class Tree(Protocol):
    """A copy's source. `keeps_owners`: false gives everything to root. `literal`: names are no patterns."""

    @property
    def keeps_owners(self) -> bool: ...

    @property
    def literal(self) -> bool: ...

    def lookup(self, path: str) -> Entry | None:
        """The entry at `path` itself, links not followed."""
        ...

    def children(self, path: str) -> list[Entry]:
        """What is in the directory `path`, sorted by name."""
        ...

    def walk(self, path: str, prune: Callable[[str], bool] | None = None) -> list[Entry]:
        """All below the directory `path`, parents first, siblings by name; not below directories to `prune`."""
        ...

    def read_link(self, entry: Entry) -> str:
        """The target of a symbolic link, as stored."""
        ...

    def fingerprints(self, entries: Sequence[Entry]) -> list[bytes]:
        """What identifies the contents of each of these files."""
        ...

    def locate(self, entry: Entry) -> Place | bytes:
        """Where the content of a file is, or the content itself."""
        ...


class LinkLoop(UserMistake):
    """Symbolic links lead round in a circle. `path` is where the search began."""

    def __init__(self, path: str) -> None:
        super().__init__(f"too many symbolic links: /{path}")
        self.path = path


def resolve(tree: Tree, path: str) -> str:
    """`path` with every symbolic link followed, the last one too, and `..` kept within the tree.

    What does not exist is kept as it is. Raises LinkLoop.
    """
    return resolve_links(path, lambda at: _link_target(tree, at))


def resolve_links(path: str, read_link: Callable[[str], str | None]) -> str:
    """Follow links within a root; `read_link` gives a path's target, or None for what is no link."""
    todo = path.split("/")[::-1]
    done: list[str] = []
    followed = 0
    while todo:
        part = todo.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            del done[-1:]
            continue
        at = "/".join([*done, part])
        target = read_link(at)
        if target is None:
            done.append(part)
            continue
        followed += 1
        if followed > LINK_LIMIT:
            raise LinkLoop(path)
        if target.startswith("/"):
            done.clear()
        todo += target.split("/")[::-1]
    return "/".join(done)


def _link_target(tree: Tree, path: str) -> str | None:
    entry = tree.lookup(path)
    return tree.read_link(entry) if entry is not None and entry.kind == "symlink" else None


class LocalTree:
    """A directory of the host. `root` is trusted, what it holds is not. Raises UnreadableSource, SourceChanged."""

    literal = False

    def __init__(
        self, root: str, *, ignore: Patterns | None = None, index: StatIndex | None = None, keeps_owners: bool = False
    ) -> None:
        self.root = root
        self.keeps_owners = keeps_owners
        self._ignore = ignore
        self._index = index

    @property
    def filtered(self) -> bool:
        """Whether ignore rules may hide something."""
        return self._ignore is not None

    def lookup(self, path: str) -> Entry | None:
        try:
            found = _entry(path, os.lstat(self._host_path(path)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnreadableSource(self._host_path(path), error) from error
        if path and self._ignore and self._ignore.ignores(path) and not self._has_exceptions(found):
            return None
        return found

    def is_ignored(self, path: str) -> bool:
        """Whether ignore rules hide `path`, be it there or not."""
        return self._ignore is not None and self._ignore.ignores(path)

    def children(self, path: str) -> list[Entry]:
        prefix = f"{path}/" if path else ""
        found = []
        for item in self._list(path):
            entry = self._stat(prefix + item.name, item)
            if self._ignore and self._ignore.ignores(entry.path) and not self._has_exceptions(entry):
                continue
            found.append(entry)
        return found

    def walk(self, path: str, prune: Callable[[str], bool] | None = None) -> list[Entry]:
        if self._ignore is None and prune is None:
            return self._walk_all(path)
        found: list[Entry] = []
        hidden: list[Entry] = []  # ignored directories that are there only if something below them is
        stack: list[tuple[str, Iterator[os.DirEntry[str]]]] = [(path, iter(self._list(path)))]
        while stack:
            directory, items = stack[-1]
            item = next(items, None)
            if item is None:
                stack.pop()
                if hidden and hidden[-1].path == directory:
                    hidden.pop()
                continue
            at = f"{directory}/{item.name}" if directory else item.name
            ignored = self._ignore is not None and self._ignore.ignores(at)
            is_directory = item.is_dir(follow_symlinks=False)
            if ignored and not (is_directory and self._ignore and not self._ignore.can_skip(at)):
                continue
            entry = self._stat(at, item)
            if ignored:
                hidden.append(entry)
            else:
                found += hidden
                hidden.clear()
                found.append(entry)
            if is_directory and not (prune and prune(at)):
                stack.append((at, iter(self._list(at))))
        return found

    def read_link(self, entry: Entry) -> str:
        path = self._host_path(entry.path)
        try:
            return os.readlink(path)
        except OSError as error:
            raise UnreadableSource(path, error) from error

    def fingerprints(self, entries: Sequence[Entry]) -> list[bytes]:
        return fingerprint_files(self.root, entries, self._index)

    def locate(self, entry: Entry) -> Place:
        return Place(self._host_path(entry.path), entry.key)

    def _host_path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _has_exceptions(self, entry: Entry) -> bool:
        """Whether an ignored directory is there all the same, because something below it is."""
        if entry.kind != "dir" or self._ignore is None or self._ignore.can_skip(entry.path):
            return False
        return bool(self.walk(entry.path))

    def _list(self, path: str) -> list[os.DirEntry[str]]:
        host_path = self._host_path(path)
        try:
            with os.scandir(host_path) as items:
                return sorted(items, key=_by_name)
        except OSError as error:
            raise UnreadableSource(host_path, error) from error

    def _stat(self, path: str, item: os.DirEntry[str]) -> Entry:
        try:
            return _entry(path, item.stat(follow_symlinks=False))
        except OSError as error:
            raise UnreadableSource(item.path, error) from error

    def _walk_all(self, path: str) -> list[Entry]:
        """`walk` without rules: the loop that large contexts spend their time in."""
        found: list[Entry] = []
        stack: list[tuple[str, Iterator[os.DirEntry[str]]]] = [(f"{path}/" if path else "", iter(self._list(path)))]
        kinds = _KINDS
        try:
            while stack:
                prefix, items = stack[-1]
                for item in items:
                    at = prefix + item.name
                    st = item.stat(follow_symlinks=False)
                    mode = st.st_mode
                    kind = kinds[mode & _TYPE]
                    found.append(
                        Entry(
                            at, kind, mode & 0o7777, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns,
                            st.st_dev, st.st_ino, st.st_nlink, st.st_rdev,
                        )
                    )  # fmt: skip
                    if kind == "dir":
                        stack.append((at + "/", iter(self._list(at))))
                        break
                else:
                    stack.pop()
        except OSError as error:
            raise UnreadableSource(error.filename or self._host_path(path), error) from error
        return found


class PlainTree(LocalTree):
    """A directory with the modes that git keeps (0644; 0755 for directories and what the owner may execute).

    Hard links are files of their own. So copies made under another umask or by other tools are alike.
    """

    def lookup(self, path: str) -> Entry | None:
        found = super().lookup(path)
        return None if found is None else _plain(found)

    def children(self, path: str) -> list[Entry]:
        return [_plain(entry) for entry in super().children(path)]

    def walk(self, path: str, prune: Callable[[str], bool] | None = None) -> list[Entry]:
        return [_plain(entry) for entry in super().walk(path, prune)]


def _plain(entry: Entry) -> Entry:
    if entry.kind == "file":
        return entry._replace(mode=0o755 if entry.mode & 0o100 else 0o644, links=1)
    return entry._replace(mode=0o755) if entry.kind == "dir" else entry


def _entry(path: str, st: os.stat_result) -> Entry:
    mode = st.st_mode
    return Entry(
        path, _KINDS[mode & _TYPE], mode & 0o7777, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns,
        st.st_dev, st.st_ino, st.st_nlink, st.st_rdev,
    )  # fmt: skip


class InlineTree:
    """Files written in the Dockerfile: pairs of name and content. Mode 0644, modification time `mtime` (seconds)."""

    literal = True
    keeps_owners = False

    def __init__(self, files: Sequence[tuple[str, bytes]], mtime: int = 0) -> None:
        self._contents = {name.strip("/"): content for name, content in files}
        self._mtime = mtime * 1_000_000_000

    def lookup(self, path: str) -> Entry | None:
        if not path:
            return Entry("", "dir", 0o755, mtime=self._mtime)
        content = self._contents.get(path)
        return None if content is None else Entry(path, "file", 0o644, size=len(content), mtime=self._mtime)

    def children(self, path: str) -> list[Entry]:
        return self.walk(path)

    def walk(self, path: str, prune: Callable[[str], bool] | None = None) -> list[Entry]:
        entries = [self.lookup(name) for name in sorted(self._contents)] if not path else []
        return [entry for entry in entries if entry is not None]

    def read_link(self, entry: Entry) -> str:
        raise LinkLoop(entry.path)  # there are no links

    def fingerprints(self, entries: Sequence[Entry]) -> list[bytes]:
        return [sha256(self._contents[entry.path]).digest() for entry in entries]

    def locate(self, entry: Entry) -> bytes:
        return self._contents[entry.path]


class FileTree:
    """One file of the host under another name, mode and time (seconds): what ADD downloaded.

    `known` is the file's fingerprint where somebody knows it already.
    """

    literal = True
    keeps_owners = False

    def __init__(
        self, name: str, host_path: str, *, mode: int = 0o600, mtime: int = 0, known: bytes | None = None
    ) -> None:
        try:
            found = _entry(name, os.stat(host_path))
        except OSError as error:
            raise UnreadableSource(host_path, error) from error
        self._place = Place(host_path, found.key)
        self._known = known
        self._file = found._replace(mode=mode, uid=0, gid=0, links=1, mtime=mtime * 1_000_000_000)

    def lookup(self, path: str) -> Entry | None:
        if not path:
            return Entry("", "dir", 0o755, mtime=self._file.mtime)
        return self._file if path == self._file.path else None

    def children(self, path: str) -> list[Entry]:
        return [] if path else [self._file]

    def walk(self, path: str, prune: Callable[[str], bool] | None = None) -> list[Entry]:
        return self.children(path)

    def read_link(self, entry: Entry) -> str:
        raise LinkLoop(entry.path)  # there are no links

    def fingerprints(self, entries: Sequence[Entry]) -> list[bytes]:
        return [self._known or fingerprint(self._place) for _ in entries]

    def locate(self, entry: Entry) -> Place:
        return self._place

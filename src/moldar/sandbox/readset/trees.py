"""The two forms of a layer that can be asked: its snapshot directory, and its tar that need not be unpacked.

Both give the same answers for the same layer, so that what a step saw in one is compared with the other. Where a tar
does not tell what unpacking would make (access control lists, which change modes), its answers equal no directory's:
then the step runs again.
"""

import errno
import os
import stat
from collections.abc import Callable

from moldar.errors import HostTrouble
from moldar.image.layer_entry import OVERLAY_XATTRS
from moldar.sandbox.readset.answers import (
    ABSENT,
    MISSING,
    WHITEOUT,
    WITH_DEVICE,
    Facts,
    attributes_answer,
    bytes_digest,
    content_digest,
    entry_answer,
    linked_answer,
    listing_digest,
    names_answer,
)
from moldar.sandbox.readset.observations import ATTRIBUTE, ATTRIBUTES, CONTENT, ENTRY, NAMES, TARGET, Question
from moldar.sandbox.readset.tar_index import Node, RootAttributes, read_index, walk

__all__ = ["DirectoryTree", "RootAttributes", "TarTree", "directory_root"]

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo", stat.S_IFCHR: "char",
    stat.S_IFBLK: "block", stat.S_IFSOCK: "socket",
}  # fmt: skip


class TarTree:
    """The layer in the raw tar at `path`, asked as if it were unpacked to where the root has the attributes `root`.

    With `make_parents`, parents that the tar does not list are made; else NeedsParents is raised, because then they
    would come from the layers beneath. Headers are read when the first question comes, contents only when asked for.
    """

    def __init__(self, path: str, root: RootAttributes | None = None, *, make_parents: bool = False) -> None:
        self._path = path
        self._attributes = root if root else RootAttributes(0o755, os.geteuid(), os.getegid())
        self._make_parents = make_parents
        self._index: Node | None = None
        self._digests: dict[Node, str] = {}
        self._answers: dict[str, Callable[[Node], str]] = {
            ENTRY: self._entry, NAMES: _names, CONTENT: self._read, TARGET: _target, ATTRIBUTES: _attributes,
        }  # fmt: skip

    @property
    def files(self) -> int:
        """How many names there are besides directories and marks of deleted names."""
        return sum(node.children is None and not node.facts.is_whiteout for _, node in walk(self._root()))

    @property
    def root(self) -> RootAttributes:
        """What the root directory of the layer above begins with."""
        node = self._root()
        xattrs = tuple(sorted(pair for pair in (node.xattrs or {}).items() if not pair[0].startswith(OVERLAY_XATTRS)))
        return RootAttributes(node.facts.mode, node.facts.uid, node.facts.gid, xattrs)

    def answer(self, question: Question) -> str:
        """See LayerTree; CorruptData when the tar cannot be unpacked by itself."""
        node = self._find(question.path)
        if node is None:
            return MISSING
        if question.kind.startswith(ATTRIBUTE):
            return _attribute(node, question.kind[len(ATTRIBUTE) :])
        return self._answers[question.kind](node)

    def _root(self) -> Node:
        if self._index is None:
            descriptor = self._open()
            try:
                self._index = read_index(descriptor, self._attributes, refuse=not self._make_parents)
            finally:
                os.close(descriptor)
        return self._index

    def _find(self, path: str) -> Node | None:
        node: Node | None = self._root()
        for name in path.split("/") if path else ():
            node = node.children.get(name) if node is not None and node.children is not None else None
        return node

    def _entry(self, node: Node) -> str:
        if node.unforeseen:
            return _unforeseen(node)
        answer = entry_answer(node.facts)
        if node.names is None or len(node.names) == 1 or node.facts.is_whiteout:
            return answer
        return linked_answer(answer, node.names)

    def _read(self, node: Node) -> str:
        return self._content(node) if node.facts.kind == "file" else MISSING

    def _content(self, node: Node) -> str:
        known = self._digests.get(node)
        if known is None:
            descriptor = self._open()
            try:
                known = self._digests[node] = content_digest(descriptor, node.offset, node.facts.size)
            except OSError as error:
                raise HostTrouble(f"cannot read {self._path}: {error.strerror}") from error
            finally:
                os.close(descriptor)
        return known

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HostTrouble(f"cannot open {self._path}: {error.strerror}") from error


def _names(node: Node) -> str:
    if node.children is None:
        return MISSING
    return names_answer((name, _shown_kind(child.facts)) for name, child in node.children.items())


def _target(node: Node) -> str:
    return bytes_digest(os.fsencode(node.target)) if node.facts.kind == "symlink" else MISSING


def _attribute(node: Node, name: str) -> str:
    if node.unforeseen:
        return _unforeseen(node)
    value = (node.xattrs or {}).get(name)
    return ABSENT if value is None else bytes_digest(value)


def _attributes(node: Node) -> str:
    return _unforeseen(node) if node.unforeseen else attributes_answer(node.xattrs or ())


def _unforeseen(node: Node) -> str:
    """Equal for equal members of two tars, and never equal to what a directory answers."""
    pairs = sorted((node.xattrs or {}).items())
    lines = [f"{name}={bytes_digest(value)}" for name, value in pairs]
    return f"unforeseen {entry_answer(node.facts)} {listing_digest(lines)}"


def _shown_kind(facts: Facts) -> str:
    return WHITEOUT if facts.is_whiteout else facts.kind


class DirectoryTree:
    """The layer in the directory at `path`, as overlayfs takes it. It must not change while it is asked."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._directories: dict[str, bool] = {"": True}
        self._groups: dict[int, list[str]] | None = None

    @property
    def files(self) -> int:
        """How many names there are besides directories and marks of deleted names."""
        return sum(not stat.S_ISDIR(found.st_mode) and not _facts(found).is_whiteout for _, found in self._walk())

    @property
    def root(self) -> RootAttributes:
        """What the root directory of the layer above begins with."""
        return directory_root(self._path)

    def answer(self, question: Question) -> str:
        """See LayerTree."""
        path = question.path
        if not self._is_directory(path.rpartition("/")[0]):
            return MISSING
        where = f"{self._path}/{path}" if path else self._path
        try:
            status = _status(where)
            if status is None:
                return MISSING
            if question.kind.startswith(ATTRIBUTE):
                return _read_attribute(where, question.kind[len(ATTRIBUTE) :])
            if question.kind == ENTRY:
                return self._entry(path, status)
            return _READERS[question.kind](where, status)
        except OSError as error:
            raise HostTrouble(f"cannot read {where}: {error.strerror}") from error

    def _is_directory(self, path: str) -> bool:
        """Whether all of `path` is directories of this layer: links on the way are not followed."""
        known = self._directories.get(path)
        if known is None:
            status = _status(f"{self._path}/{path}") if self._is_directory(path.rpartition("/")[0]) else None
            known = self._directories[path] = status is not None and stat.S_ISDIR(status.st_mode)
        return known

    def _entry(self, path: str, status: os.stat_result) -> str:
        facts = _facts(status)
        answer = entry_answer(facts)
        if status.st_nlink < 2 or facts.kind == "dir" or facts.is_whiteout:
            return answer
        return linked_answer(answer, self._names_of(status.st_ino))

    def _names_of(self, inode: int) -> list[str]:
        if self._groups is None:
            self._groups = {}
            for path, status in self._walk():
                if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                    self._groups.setdefault(status.st_ino, []).append(path)
        return self._groups[inode]

    def _walk(self) -> list[tuple[str, os.stat_result]]:
        found: list[tuple[str, os.stat_result]] = []
        pending = [""]
        try:
            while pending:
                prefix = pending.pop()
                with os.scandir(f"{self._path}/{prefix}") as members:
                    for member in members:
                        status = member.stat(follow_symlinks=False)
                        found.append((prefix + member.name, status))
                        if stat.S_ISDIR(status.st_mode):
                            pending.append(f"{prefix}{member.name}/")
        except OSError as error:
            raise HostTrouble(f"cannot read {self._path}: {error.strerror}") from error
        return found


def directory_root(path: str) -> RootAttributes:
    """What a layer's root directory begins with that is unpacked above the snapshot directory `path`."""
    try:
        status = os.stat(path)
        names = sorted(name for name in os.listxattr(path) if not name.startswith(OVERLAY_XATTRS))
        xattrs = tuple((name, os.getxattr(path, name)) for name in names)
    except OSError as error:
        raise HostTrouble(f"cannot read {path}: {error.strerror}") from error
    return RootAttributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, xattrs)


def _facts(status: os.stat_result) -> Facts:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    numbers = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in WITH_DEVICE else (0, 0)
    return Facts(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_size, numbers)


def _status(where: str) -> os.stat_result | None:
    try:
        return os.lstat(where)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return None
        raise


def _listed_names(where: str, status: os.stat_result) -> str:
    if not stat.S_ISDIR(status.st_mode):
        return MISSING
    with os.scandir(where) as members:
        return names_answer([(member.name, _member_kind(member)) for member in members])


def _member_kind(member: "os.DirEntry[str]") -> str:
    if member.is_symlink():
        return "symlink"
    if member.is_dir(follow_symlinks=False):
        return "dir"
    if member.is_file(follow_symlinks=False):
        return "file"
    return _shown_kind(_facts(member.stat(follow_symlinks=False)))


def _read_content(where: str, status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return MISSING
    descriptor = os.open(where, _READ)
    try:
        return content_digest(descriptor, 0, status.st_size)
    finally:
        os.close(descriptor)


def _read_target(where: str, status: os.stat_result) -> str:
    return bytes_digest(os.fsencode(os.readlink(where))) if stat.S_ISLNK(status.st_mode) else MISSING


def _read_attribute(where: str, name: str) -> str:
    """Overlayfs's marks are asked for in root's form; a layer of a user has the other one, and never both."""
    root_form, user_form = OVERLAY_XATTRS
    forms = (name, user_form + name[len(root_form) :]) if name.startswith(root_form) else (name,)
    for form in forms:
        try:
            return bytes_digest(os.getxattr(where, form, follow_symlinks=False))
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EINVAL, errno.ERANGE, errno.EPERM):
                raise
    return ABSENT


def _list_attributes(where: str, status: os.stat_result) -> str:
    return attributes_answer(os.listxattr(where, follow_symlinks=False))


_READERS: dict[str, Callable[[str, os.stat_result], str]] = {
    NAMES: _listed_names, CONTENT: _read_content, TARGET: _read_target, ATTRIBUTES: _list_attributes,
}  # fmt: skip

"""What a layer's tar unpacks to, from its headers alone: `image.unpack` in overlayfs's style, done in memory.

Every rule here is one of there: parents through symbolic links, later members in place of earlier ones, marks for
deleted names against the layer's own members. What only the file system decides is said to be so (`unforeseen`).
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from moldar.errors import CorruptData
from moldar.image.layer_entry import (
    META_PREFIX,
    OPAQUE_WHITEOUT,
    OVERLAY_OPAQUE,
    OVERLAY_XATTRS,
    WHITEOUT_PREFIX,
    BadLayer,
    LayerEntry,
    NeedsParents,
    is_metadata,
)
from moldar.image.layer_read import scan_entries
from moldar.image.ownership import ownership
from moldar.sandbox.readset.answers import OPAQUE_VALUE, Facts

_LINKS = 40
_SPACES = ("user.", "trusted.", "security.", "system.")
_DEFAULT_ACL = "system.posix_acl_default"


class RootAttributes(NamedTuple):
    """What a layer's root directory has before the layer is unpacked: that of the layer beneath it."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


class Node:
    """A file, link, device or directory; hard links to it are the same node."""

    __slots__ = ("children", "facts", "names", "offset", "target", "xattrs")

    def __init__(self, facts: Facts, offset: int = 0, target: str = "") -> None:
        self.facts = facts
        self.offset = offset
        self.target = target
        self.xattrs: dict[str, bytes] | None = None
        self.children: dict[str, Node] | None = {} if facts.kind == "dir" else None
        self.names: list[str] | None = None
        """Where there is more than one."""

    @property
    def unforeseen(self) -> bool:
        """Whether the file system changes its mode and attributes in ways that we do not work out: access lists."""
        return self.xattrs is not None and any(name.startswith("system.") for name in self.xattrs)


class _Replay:
    """One tar on its way into one tree."""

    def __init__(self, root: RootAttributes, refuse: bool) -> None:
        self.root = Node(Facts("dir", root.mode, root.uid, root.gid))
        self.root.xattrs = dict(root.xattrs)
        self._inherited = self.root.xattrs.copy()
        self._linked: list[Node] = []
        self._refuse = refuse
        self._ownership = ownership()
        group = root.gid if root.mode & stat.S_ISGID else os.getegid()
        self._made = Facts("dir", 0o755 | root.mode & stat.S_ISGID, os.geteuid(), group)
        self._last: tuple[str | None, Node] = (None, self.root)

    def add(self, entry: LayerEntry, offset: int) -> None:
        path, kind = entry.path, entry.kind
        parent, _, name = path.rpartition("/")
        if META_PREFIX in path and is_metadata(path):
            return
        if not path:
            self._describe(self.root, entry)
            return
        if parent == self._last[0]:
            directory = self._last[1]
        else:
            directory = self._directory(parent, make=True)
            self._last = (parent, directory)
        assert directory.children is not None
        if name.startswith(WHITEOUT_PREFIX):
            self._whiteout(directory, name, entry)
        elif kind == "dir":
            self._add_directory(directory.children, name, entry)
        elif kind == "link":
            self._forget(directory.children.pop(name, None))  # its target may have been in there, and is gone
            directory.children[name] = self._source(entry)
        else:
            self._forget(directory.children.get(name))
            directory.children[name] = self._node(entry, offset)

    def finish(self) -> Node:
        """The root; every node with several names knows them."""
        linked = set(self._linked)
        if linked:
            for path, node in walk(self.root):
                if node in linked:
                    node.names = [*(node.names or ()), path]
        return self.root

    def _add_directory(self, children: dict[str, Node], name: str, entry: LayerEntry) -> None:
        found = children.get(name)
        if found is None or found.children is None:
            made = children[name] = Node(self._made)
            if found is not None and found.facts.is_whiteout:
                made.xattrs = {OVERLAY_OPAQUE: OPAQUE_VALUE}
            self._forget(found)
            found = made
        self._describe(found, entry)

    def _describe(self, node: Node, entry: LayerEntry) -> None:
        """Of several members for one directory, the last one's attributes are set, on top of the opaque mark."""
        kept = dict(self._inherited) if node is self.root else {}
        if node.xattrs and OVERLAY_OPAQUE in node.xattrs:
            kept[OVERLAY_OPAQUE] = OPAQUE_VALUE
        node.xattrs = kept | _settable(entry) if kept or entry.xattrs else None
        node.facts = Facts("dir", entry.mode, *self._ownership.shown(entry.uid, entry.gid))

    def _node(self, entry: LayerEntry, offset: int) -> Node:
        size = entry.size if entry.kind == "file" else len(os.fsencode(entry.target))
        owner = self._ownership.shown(entry.uid, entry.gid)
        numbers = (entry.major, entry.minor) if entry.kind in ("char", "block") else (0, 0)
        node = Node(Facts(entry.kind, entry.mode, *owner, size, numbers), offset, entry.target)
        if entry.xattrs:
            node.xattrs = _settable(entry)
        return node

    def _whiteout(self, directory: Node, name: str, entry: LayerEntry) -> None:
        if name == OPAQUE_WHITEOUT:
            _make_opaque(directory)
            return
        hidden = name[len(WHITEOUT_PREFIX) :]
        if hidden in ("", ".", ".."):
            raise BadLayer("a whiteout of nothing", entry.path)
        assert directory.children is not None
        found = directory.children.get(hidden)
        if found is None:
            directory.children[hidden] = Node(Facts("char", 0, 0, 0))
        elif found.children is not None:
            _make_opaque(found)

    def _source(self, entry: LayerEntry) -> Node:
        """What a hard link is a name of."""
        directory, _, base = entry.target.rpartition("/")
        children = self._directory(directory, make=False, member=entry).children or {}
        node = children.get(base)
        if node is None:
            raise self._missing(entry.target, entry.path)
        if node.children is not None:
            raise BadLayer(f"a hard link to {entry.target!r}, which is a directory", entry.path)
        self._linked.append(node)
        return node

    def _directory(self, path: str, *, make: bool, member: LayerEntry | None = None) -> Node:
        """The directory at `path`, links followed as a process with this root would."""
        trail, names, links = [self.root], path.split("/")[::-1], 0
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            children = trail[-1].children
            assert children is not None
            node = children.get(name)
            if node is None and make:
                if self._refuse:
                    raise NeedsParents(path)
                node = children[name] = Node(self._made)
            if node is not None and node.facts.kind == "symlink":
                links += 1
                if links > _LINKS:
                    raise BadLayer("too many levels of symbolic links", path)
                names += reversed(node.target.split("/"))
                if node.target.startswith("/"):
                    trail = [self.root]
                continue
            if node is None or node.children is None:
                raise self._missing(member.target if member else path, member.path if member else path)
            trail.append(node)
        return trail[-1]

    def _missing(self, what: str, member: str) -> CorruptData:
        return NeedsParents(what) if self._refuse else BadLayer(f"{what!r} is missing or no directory", member)

    def _forget(self, replaced: Node | None) -> None:
        """A directory may be gone that the last member's parent was, or was below."""
        if replaced is not None and replaced.children is not None:
            self._last = (None, self.root)


def read_index(descriptor: int, root: RootAttributes, *, refuse: bool) -> Node:
    """The tree that the raw tar in a seekable file unpacks to.

    `refuse`: raise NeedsParents, as unpacking does, when it needs directories or files of the layers beneath; else
    missing parents are made. BadLayer for what cannot be unpacked at all.
    """
    if any(name == _DEFAULT_ACL for name, _ in root.xattrs):
        raise BadLayer("every file inherits an access control list of the root directory")
    replay = _Replay(root, refuse)
    for entry, offset in scan_entries(descriptor):
        replay.add(entry, offset)
    return replay.finish()


def walk(root: Node) -> Iterator[tuple[str, Node]]:
    """Every name beneath the directory `root`."""
    pending = [("", root)]
    while pending:
        prefix, directory = pending.pop()
        for name, node in (directory.children or {}).items():
            path = prefix + name
            yield path, node
            if node.children is not None:
                pending.append((path + "/", node))


def _make_opaque(directory: Node) -> None:
    directory.xattrs = {**(directory.xattrs or {}), OVERLAY_OPAQUE: OPAQUE_VALUE}


def _settable(entry: LayerEntry) -> dict[str, bytes]:
    """The attributes that a file system keeps: `user.` ones are for files and directories only (xattr(7))."""
    spaces = _SPACES if entry.kind in ("file", "dir") else _SPACES[1:]
    return {
        name: value for name, value in entry.xattrs if name.startswith(spaces) and not name.startswith(OVERLAY_XATTRS)
    }

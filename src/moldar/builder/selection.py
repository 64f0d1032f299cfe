"""What a COPY or ADD selects from its sources, and the digest of it that names the step in the cache.

The digest covers names, types, modes and owners as they will arrive, link targets, contents and hard links. It does
not cover modification times, so that a fresh clone of a context meets the cache of the old one.

This module is on the path of a cached build and imports nothing heavy.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from moldar.builder.chmod import ModeChange, parse_mode
from moldar.builder.collector import CollectorPaused
from moldar.builder.entry import Entry
from moldar.builder.graph import CopyOp
from moldar.builder.tree import LocalTree, Tree, resolve
from moldar.dockerfile.globs import has_wildcards, match
from moldar.dockerfile.ignore import Patterns
from moldar.dockerfile.suggestions import did_you_mean
from moldar.errors import UserMistake
from moldar.image.model import Digest

_FORMAT = "moldar copy 1"


class MissingSource(UserMistake):
    """A source of a copy does not exist. `path` begins with a slash; `ignored` when ignore rules hide it."""

    def __init__(self, path: str, ignored: bool = False, hint: str = "") -> None:
        super().__init__(f'"{path}": not found', hint="it is excluded by .dockerignore" if ignored else hint)
        self.path = path
        self.ignored = ignored


class Pick(NamedTuple):
    """One thing that is copied: a file, or what is in a directory.

    `name` is the last part of the name that was asked for, before links were followed. `entries` are what is
    copied from below the directory `top`, parents first. `implied` are paths of directories among them that were
    not selected themselves and come along for something below them.
    """

    tree: Tree
    name: str
    top: Entry
    entries: list[Entry]
    implied: frozenset[str] = frozenset()

    def below(self, entry: Entry) -> str:
        """The path of `entry` relative to `top`."""
        return entry.path[len(self.top.path) + 1 :] if self.top.path else entry.path


Selection = tuple[Pick, ...]


def select(op: CopyOp, trees: Sequence[Tree | None]) -> Selection:
    """Everything that `op` copies, in order. `trees` are the sources by input; the destination's place is None.

    Raises MissingSource, LinkLoop, UnreadableSource.
    """
    exclude = Patterns(op.exclude) if op.exclude else None
    picks: list[Pick] = []
    with CollectorPaused():
        for number, source in op.sources:
            tree = trees[number]
            assert tree is not None, "a copy's source is a tree"
            if tree.literal:
                picks += _pick(tree, source.lstrip("/"), None, exclude, source)
            elif op.parents:
                picks += _pick_parents(tree, source, exclude)
            else:
                for path in expand(tree, source):
                    picks += _pick(tree, path, None, exclude, source)
    return tuple(picks)


def expand(tree: Tree, pattern: str) -> list[str]:
    """The paths that `pattern` (wildcards as in Go's filepath.Match) names, in order; unresolved and unchecked if
    there is no wildcard in it. Links are followed in the part before the first wildcard only."""
    parts = clean(pattern).split("/")
    first = next((at for at, part in enumerate(parts) if has_wildcards(part)), len(parts))
    if first == len(parts):
        return ["/".join(parts)]
    found = [resolve(tree, "/".join(parts[:first]))]
    for at, part in enumerate(parts[first:], first):
        found = list(_expand_part(tree, found, part, last=at == len(parts) - 1))
    return found


def clean(path: str) -> str:
    """`path` without leading slash, empty parts and `.`; `..` stops at the root."""
    done: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del done[-1:]
        elif part and part != ".":
            done.append(part)
    return "/".join(done)


def selection_digest(op: CopyOp, selection: Selection) -> Digest:
    """The digest of what is copied and how it arrives, modification times and the destination apart."""
    change = parse_mode(op.chmod)
    running = sha256(_FORMAT.encode())
    with CollectorPaused():
        for pick in selection:
            lines, files = _describe(op, pick, change)
            running.update(b"\0".join(map(_encode, lines)))
            running.update(b"\0\0")
            running.update(b"".join(pick.tree.fingerprints(files)))
    return Digest("sha256:" + running.hexdigest())


def _expand_part(tree: Tree, directories: Iterable[str], pattern: str, last: bool) -> Iterable[str]:
    wild = has_wildcards(pattern)
    for directory in directories:
        if not wild:
            path = f"{directory}/{pattern}" if directory else pattern
            entry = tree.lookup(path)
            candidates = [entry] if entry else []
        else:
            top = tree.lookup(directory)
            candidates = tree.children(directory) if top is not None and top.kind == "dir" else []
        for entry in candidates:
            if (last or entry.kind == "dir") and (not wild or match(pattern, entry.name)):
                yield entry.path


def _pick(tree: Tree, path: str, include: Patterns | None, exclude: Patterns | None, source: str) -> list[Pick]:
    """The thing at `path`, or nothing when it is a file that is excluded.

    `--exclude` goes for files that the source itself names too, as Docker's reference says (BuildKit forgets it).
    """
    name = path.rpartition("/")[2]
    resolved = resolve(tree, path)
    top = tree.lookup(resolved)
    if top is None:
        raise _missing(tree, resolved, source, path)
    if top.kind != "dir":
        return [] if exclude and exclude.ignores(name) else [Pick(tree, name, top, [])]
    prune = _prune(top.path, include, exclude)
    entries = tree.walk(top.path, prune)
    if include is None and exclude is None:
        return [Pick(tree, name, top, entries)]
    return [_filter(Pick(tree, name, top, entries), include, exclude)]


def _missing(tree: Tree, resolved: str, source: str, path: str) -> MissingSource:
    """The error for a source that is not there, with what may help."""
    hidden = isinstance(tree, LocalTree) and tree.is_ignored(resolved)
    parent, _, name = resolved.rpartition("/")
    top = tree.lookup(parent)
    beside = tree.children(parent) if top is not None and top.kind == "dir" else []
    hint = did_you_mean(name, [entry.name for entry in beside])
    if ".." in source.split("/"):
        hint = "a source cannot lie outside of the build context: `..` stops at its root"
    return MissingSource("/" + (path if has_wildcards(source) else clean(source)), hidden, hint)


def _pick_parents(tree: Tree, source: str, exclude: Patterns | None) -> list[Pick]:
    """`--parents`: what a pattern matches below the part of the source before `/./`, with its parents."""
    pivot, cut, rest = source.partition("/./")
    if not cut:
        pivot, rest = "", source
    pattern = clean(rest)
    picks: list[Pick] = []
    for path in expand(tree, pivot):
        if pattern:
            picks += _pick(tree, path, Patterns([pattern]), exclude, source)
        else:
            picks += _pick(tree, path, None, exclude, source)
    if pattern and not any(map(has_wildcards, pattern.split("/"))) and not any(pick.entries for pick in picks):
        raise _missing(tree, clean(source), source, clean(source))
    return picks


def _prune(top: str, include: Patterns | None, exclude: Patterns | None) -> Callable[[str], bool] | None:
    """Which directories need no look, given patterns relative to `top`."""
    if include is None and exclude is None:
        return None
    start = len(top) + 1 if top else 0

    def prune(directory: str) -> bool:
        below = directory[start:]
        if exclude and exclude.ignores(below) and exclude.can_skip(below):
            return True
        return include is not None and not include.ignores(below) and not include.may_match_below(below)

    return prune


def _filter(pick: Pick, include: Patterns | None, exclude: Patterns | None) -> Pick:
    """Drops what is not included or is excluded, but keeps the directories above what stays."""
    kept: list[Entry] = []
    implied: set[str] = set()
    waiting: list[Entry] = []
    for entry in pick.entries:
        while waiting and not entry.path.startswith(waiting[-1].path + "/"):
            waiting.pop()
        below = pick.below(entry)
        if (include is None or include.ignores(below)) and not (exclude and exclude.ignores(below)):
            implied.update(parent.path for parent in waiting)
            kept += waiting
            waiting.clear()
            kept.append(entry)
        elif entry.kind == "dir":
            waiting.append(entry)
    return pick._replace(entries=kept, implied=frozenset(implied))


def _describe(op: CopyOp, pick: Pick, change: ModeChange) -> tuple[list[str], list[Entry]]:
    """What the digest says of each entry but its content, and the files, whose contents follow in this order."""
    owners = pick.tree.keeps_owners and not op.chown
    is_directory = pick.top.kind == "dir"
    lines = ["dir" if is_directory else f"file {pick.name}"]
    files: list[Entry] = []
    firsts: dict[tuple[int, int], str] = {}
    modes: dict[tuple[str, int], str] = {}
    start = len(pick.top.path) + 1 if pick.top.path and is_directory else 0
    for entry in pick.entries if is_directory else (pick.top,):
        path, kind, mode, uid, gid, _, _, _, device, inode, links, special = entry
        if kind == "socket":
            continue  # no layer can carry one
        shown = modes.get((kind, mode))
        if shown is None:
            arriving = 0o777 if kind == "symlink" else change.apply(mode, kind == "dir")
            shown = modes[kind, mode] = f"{kind} {arriving:o}"
        line = f"{shown} {path[start:] if is_directory else ''}"
        if owners:
            line += f"\0{uid}:{gid}"
        if kind == "file":
            files.append(entry)
            if links > 1 and (first := firsts.setdefault((device, inode), path)) is not path:
                line += f"\0link {first[start:]}"
        elif kind == "symlink":
            line += "\0" + pick.tree.read_link(entry)
        elif kind in {"char", "block"}:
            line += f"\0{special}"
        elif path in pick.implied:
            line += "\0implied"
        lines.append(line)
    return lines, files


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

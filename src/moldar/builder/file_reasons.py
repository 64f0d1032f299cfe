"""What differs between two lists of copied files, in a person's words: pure functions over descriptions.

A list is what a COPY selected or a bind mount shows; the words name the file as it is called in its source.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

HASH_SIZE = 3
"""Bytes of each line's hash: enough to see that a line changed, and nothing of what it says."""
_KINDS = {"dir": "a directory", "symlink": "a symbolic link", "file": "a file"}


class File(NamedTuple):
    """One copied entry. `content` is a file's fingerprint in hexadecimal, or a symbolic link's target.

    `owner` is empty where the copy gives everything to root; `same_as` is the path of its first hard link.
    """

    path: str
    kind: str
    mode: int = 0o644
    owner: str = ""
    content: str = ""
    same_as: str = ""


Lines = Callable[[str], bytes | None]
"""The hashes of the lines of a small text file, by fingerprint; None when they are not known."""


def file_changes(before: Sequence[File], after: Sequence[File], lines: Lines) -> list[str]:
    """What changed, a clause for each file: other content first, then what came or went, then attributes."""
    old = {file.path: file for file in before}
    new = {file.path: file for file in after}
    edited: list[str] = []
    altered: list[str] = []
    for path in sorted(old.keys() & new.keys()):
        clause, weighty = _change(old[path], new[path], lines)
        if clause:
            (edited if weighty else altered).append(clause)
    return [*edited, *_came_and_went(old, new), *altered]


def first_changed_line(before: bytes, after: bytes) -> int:
    """The number of the first line that differs, by hashes of lines. What was cut off counts as its last line."""
    count = min(len(before), len(after)) // HASH_SIZE
    for number in range(count):
        at = number * HASH_SIZE
        if before[at : at + HASH_SIZE] != after[at : at + HASH_SIZE]:
            return number + 1
    return max(1, min(count + 1, len(after) // HASH_SIZE))


def summary(changes: Sequence[str]) -> str:
    """The first change, and how many more there are."""
    more = len(changes) - 1
    if more <= 0:
        return changes[0] if changes else ""
    return f"{changes[0]}, and {more} more file{'s' if more > 1 else ''} changed"


def _change(old: File, new: File, lines: Lines) -> tuple[str, bool]:
    """What differs, and whether it is what one reads first: content rather than attributes."""
    path = shown(new.path)
    if old.kind != new.kind:
        return f"{path} is {_kind(new)} now (was {_kind(old)})", True
    if old.content != new.content:
        if new.kind == "symlink":
            return f"{path} points to {shown(new.content)} now (was {shown(old.content)})", True
        return f"{path} changed{_line(old, new, lines)}", True
    if old.mode != new.mode:
        return f"{path} has mode {new.mode:04o} now (was {old.mode:04o})", False
    if old.owner != new.owner:
        return f"{path} belongs to {new.owner or '0:0'} now (was {old.owner or '0:0'})", False
    if old.same_as != new.same_as:
        word = f"is a hard link to {shown(new.same_as)} now" if new.same_as else "is no hard link any more"
        return f"{path} {word}", False
    return "", False


def _line(old: File, new: File, lines: Lines) -> str:
    before, after = lines(old.content), lines(new.content)
    if not before or not after:
        return ""
    return f" (line {first_changed_line(before, after)})"


def _came_and_went(old: Mapping[str, File], new: Mapping[str, File]) -> Iterable[str]:
    gone = {path: old[path] for path in sorted(old.keys() - new.keys())}
    came = {path: new[path] for path in sorted(new.keys() - old.keys())}
    by_content = {(file.kind, file.content): path for path, file in reversed(gone.items()) if file.kind == "file"}
    clauses = []
    for path, file in list(came.items()):
        source = by_content.pop((file.kind, file.content), "")
        if source:
            clauses.append(f"{shown(source)} was renamed to {shown(path)}")
            del gone[source], came[path]
    clauses += [f"{shown(path)} was added" for path in _without_directories(came)]
    clauses += [f"{shown(path)} was removed" for path in _without_directories(gone)]
    return clauses


def _without_directories(files: Mapping[str, File]) -> list[str]:
    """The paths, without directories that hold others of them: `a/b was added` says all of it."""
    parents = {path.rpartition("/")[0] for path in files}
    return [path for path, file in files.items() if file.kind != "dir" or path not in parents]


def _kind(file: File) -> str:
    return _KINDS.get(file.kind, "a special file")


def shown(text: str) -> str:
    """`text` from outside, fit for one line of a terminal."""
    plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in plain)

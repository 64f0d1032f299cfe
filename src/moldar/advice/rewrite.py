"""Writes the safe advice into the Dockerfile's text; lines that no advice is about stay as they are."""

import posixpath
import re

from moldar.advice.cache_mounts import Missing, find_missing
from moldar.advice.facts import Facts
from moldar.advice.order import Move, find_moves

_LISTS = re.compile(
    r"[ \t]*(?:\\\r?\n[ \t]*)?(?:&&|;)[ \t]*(?:\\\r?\n[ \t]*)?rm -rf? /var/lib/apt/lists/\*(?=[ \t]*\r?\n?\Z)"
)
_NO_CACHE = re.compile(r"[ \t]+--no-cache-dir(?=[ \t\r\n]|\Z)")


def rewrite(text: str, facts: Facts) -> str:
    """`text`, whose parsed form `facts` has, with copies moved and cache mounts added."""
    lines: list[str] = re.findall(r"[^\n]*\n|[^\n]+", text)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    for missing in find_missing(facts):
        if missing.fixable:
            _add_mounts(lines, missing)
    # From the bottom, so that the places of what stands above stay right.
    for move in sorted(find_moves(facts), key=lambda found: -found.copy.origin.location.start):
        _apply(lines, move)
    return "".join(lines)


def _add_mounts(lines: list[str], missing: Missing) -> None:
    """Put the flags after the word RUN, and take out what would empty or avoid the caches. Line counts stay."""
    start, end = missing.run.origin.location
    block = "".join(lines[start - 1 : end])
    match = re.match(r"([ \t]*\S+)([ \t]+)", block)
    if match is None:
        return
    flags = " ".join(missing.flags)
    rest = block[match.end() :]
    if "pip" in missing.managers:
        rest = _NO_CACHE.sub("", rest)
    if "apt" in missing.managers:
        rest = _LISTS.sub("", rest)
    pieces = re.findall(r"[^\n]*\n|[^\n]+", match.group(1) + " " + flags + match.group(2) + rest)
    pieces += [""] * (end - start + 1 - len(pieces))
    lines[start - 1 : end] = pieces


def _apply(lines: list[str], move: Move) -> None:
    start, end = move.copy.origin.location
    first = start
    while first > 1 and lines[first - 2].lstrip().startswith("#") and not _is_directive(lines, first - 1):
        first -= 1
    block = lines[first - 1 : end]
    below = move.last.origin.location.end
    manifests = [] if not move.manifests else [_manifest_copy(lines[start - 1], move)]
    lines[below:below] = block
    lines[first - 1 : end] = manifests


def _is_directive(lines: list[str], number: int) -> bool:
    """Whether the comment at `number` is at the file's head, where it may be for the parser."""
    return all(line.lstrip().startswith("#") for line in lines[:number])


def _manifest_copy(line: str, move: Move) -> str:
    """The COPY of the manifests. Those of different directories keep them: only one directory is copied at once."""
    keyword = move.copy.origin.keyword
    flags = "".join(
        f"--{name}={value} " for name, value in (("chown", move.copy.chown), ("chmod", move.copy.chmod)) if value
    )
    flags += "--link " if move.copy.link else ""
    indent = line[: len(line) - len(line.lstrip())]
    end = "\r\n" if line.endswith("\r\n") else "\n"
    groups: dict[str, list[str]] = {}
    for path, below in move.manifests:
        groups.setdefault(posixpath.dirname(below), []).append(path)
    text = ""
    for directory, paths in groups.items():
        top = move.copy.destination.rstrip("/") or "/"
        destination = posixpath.normpath(posixpath.join(top, directory)).rstrip("/")
        destination = "./" if destination == "." else destination + "/"
        text += f"{indent}{keyword} {flags}{' '.join(paths)} {destination}{end}"
    return text

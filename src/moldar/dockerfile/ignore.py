"""What `.dockerignore` and --exclude keep out: reading the patterns and asking them while walking a tree.

Rules: Dockerfile reference, ".dockerignore files", and what moby's pattern matcher does. `**` is any number of
directories, none included, `!` brings back, the last pattern that matches decides, and a pattern that matches a
directory matches all that is in it. As in BuildKit's walk, a pattern is asked only when it could change the answer
so far: `a/b` followed by `!a` keeps `a/b` out, because `!a` had nothing to bring back at `a`.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from moldar.dockerfile.globs import BadPattern, compiled, match, read_class
from moldar.dockerfile.source import DockerfileError, Location, Source
from moldar.dockerfile.words import BLANKS

_ANYTHING = r"[\s\S]*"
_IN_LINE = ".*"
_DIRECTORIES = "(?:.*/)?"
_UNTIL_SLASH = "[^/]*"


class _Pattern(NamedTuple):
    """One pattern. `text` is cleaned and without `!`; `parts` are its components up to the first unbounded one."""

    text: str
    exception: bool
    regex: re.Pattern[str]
    parts: tuple[str, ...]
    unbounded: bool


def read_ignore_file(data: bytes, name: str = ".dockerignore") -> "Patterns":
    """The patterns in an ignore file called `name`. DockerfileError, with its place, for one that cannot be read."""
    lines = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape").split("\n")
    texts = []
    for number, line in enumerate(lines, 1):
        text = _trimmed(_cleaned_line(line))
        try:
            if text:
                _parse(text)
                texts.append(text)
        except BadPattern as error:
            source = Source(name, tuple(line.rstrip("\r") for line in lines))
            raise DockerfileError(error.message, source=source, location=Location(number, number)) from None
    return Patterns(texts)


def _cleaned_line(line: str) -> str:
    """The pattern in a line of an ignore file, empty for a comment (`#` in column one) or a blank line."""
    text = line.strip(BLANKS)
    if line.startswith("#") or not text:
        return ""
    exception = text.startswith("!")
    path = text[1:].strip(BLANKS) if exception else text
    if path:
        path = clean(path)
        path = path[1:] if len(path) > 1 and path.startswith("/") else path
    return ("!" if exception else "") + path


def clean(path: str) -> str:
    """The shortest equivalent path, as Go's filepath.Clean: no `.`, no empty parts, `..` resolved where it can be."""
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and rooted:
            continue
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if rooted else "") + "/".join(parts) or "."


class Patterns:
    """A list of patterns, asked about paths relative to the root of a tree (`a/b`, no leading slash).

    Walk from the top: ask `ignores` for each entry, and do not go into an ignored directory when `can_skip` says
    that nothing in it can come back.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """BadPattern for a pattern that cannot be read."""
        self._patterns = [_parse(text) for text in map(_trimmed, patterns) if text]
        self.has_exceptions = any(pattern.exception for pattern in self._patterns)
        alternatives = "|".join(f"(?:{pattern.regex.pattern})" for pattern in self._patterns) or "(?!)"
        # Ending at a slash, a match is one of a directory above.
        self._any = re.compile(f"(?:{alternatives})(?:/|\\Z)")
        self._directories: dict[str, int] = {"": 0}

    @property
    def keeping_out(self) -> tuple[str, ...]:
        """The patterns that keep out (those without `!`), cleaned."""
        return tuple(pattern.text for pattern in self._patterns if not pattern.exception)

    def ignores(self, path: str) -> bool:
        """Whether `path` is kept out, by itself or through a directory above it."""
        if self._any.match(path) is None:
            return False
        if not self.has_exceptions:
            return True
        return self._ask(path)[0]

    def can_skip(self, directory: str) -> bool:
        """Whether nothing below the ignored `directory` can be brought back by a `!`."""
        if not self.has_exceptions:
            return True
        parts = directory.split("/")
        return not any(pattern.exception and _reaches_below(pattern, parts) for pattern in self._patterns)

    def may_match_below(self, directory: str) -> bool:
        """Whether some pattern can match anything below `directory`, which does not match itself."""
        parts = directory.split("/")
        return any(not pattern.exception and _reaches_below(pattern, parts) for pattern in self._patterns)

    def _ask(self, path: str) -> tuple[bool, int]:
        """Whether `path` is kept out, and a bit for each pattern that matched it or a directory above it."""
        above = self._above(path.rpartition("/")[0])
        ignored = False
        matched = 0
        for number, pattern in enumerate(self._patterns):
            bit = 1 << number
            if not above & bit and (pattern.exception != ignored or pattern.regex.fullmatch(path) is None):
                continue
            matched |= bit
            ignored = not pattern.exception
        return ignored, matched

    def _above(self, directory: str) -> int:
        """The bits of `directory`, with those above it worked out first."""
        missing = []
        while directory not in self._directories:
            missing.append(directory)
            directory = directory.rpartition("/")[0]
        for path in reversed(missing):
            self._directories[path] = self._ask(path)[1]
        return self._directories[missing[0] if missing else directory]


def _trimmed(text: str) -> str:
    text = text.strip(BLANKS)
    return clean(text) if text else ""


def _parse(text: str) -> _Pattern:
    exception = text.startswith("!")
    body = text[1:] if exception else text
    if not body:
        raise BadPattern(text, "illegal exclusion pattern")
    compiled(body)  # the syntax is that of a path pattern
    parts: list[str] = []
    unbounded = False
    for part in body.split("/"):
        # A class can match a slash, and an escape may stand before one.
        if "**" in part or "[" in part or "\\" in part:
            unbounded = True
            break
        parts.append(part)
    return _Pattern(body, exception, re.compile(_expression(body)), tuple(parts), unbounded)


def _reaches_below(pattern: _Pattern, directory: list[str]) -> bool:
    """Whether `pattern` could match something below `directory`, judged by the components of both."""
    if not pattern.unbounded and len(pattern.parts) <= len(directory):
        return False
    return all(match(part, name) for part, name in zip(pattern.parts, directory, strict=False))


def _expression(pattern: str) -> str:
    """`pattern` as a regular expression that must match the whole path."""
    if pattern.startswith("**") and not any(char in pattern[2:] for char in "*?[]\\"):
        # Only the end counts: `**/foo` is any foo, `**.o` whatever ends so.
        end = pattern[2:]
        directories = f"(?:{_ANYTHING}/)?"
        return directories + re.escape(end[1:]) if end.startswith("/") else _ANYTHING + re.escape(end)
    if pattern.endswith("**") and not any(char in pattern[:-2] for char in "*?[]\\"):
        return re.escape(pattern[:-2]) + _ANYTHING
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*" and pattern.startswith("*", position):
            position += 2 if pattern.startswith("/", position + 1) else 1
            out.append(_DIRECTORIES if position < len(pattern) else _IN_LINE)
        elif char == "*":
            out.append(_UNTIL_SLASH)
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, position = read_class(pattern, position)
            out.append(text)
        elif char == "\\":
            out.append(re.escape(pattern[position : position + 1]))
            position += 1
        else:
            out.append(re.escape(char))
    return "".join(out)

"""Wildcards in paths as COPY and ADD know them: the rules of Go's filepath.Match.

`*` is any text and `?` any character except a slash, `[a-z]` and `[^a-z]` are classes (which may match a slash), a
backslash makes the next character literal. A pattern matches a whole path.
"""

import re
from functools import lru_cache

from moldar.errors import UserMistake

_WILDCARDS = r"(?s)\\.|([*?[])"
_CLASS_CHARS = frozenset("\\]^-[&~|#")


class BadPattern(UserMistake):
    """A pattern that cannot be read. `pattern` as written."""

    def __init__(self, pattern: str, why: str = "syntax error in pattern") -> None:
        super().__init__(f"{why}: {pattern}")
        self.pattern = pattern


def has_wildcards(text: str) -> bool:
    """Whether `text` holds a wildcard that is not escaped."""
    if "*" not in text and "?" not in text and "[" not in text:
        return False
    return any(match.group(1) for match in re.finditer(_WILDCARDS, text))


def split(pattern: str) -> tuple[str, tuple[str, ...]]:
    """The leading directory without wildcards, and the components from the first one with a wildcard on."""
    parts = pattern.split("/")
    for count, part in enumerate(parts):
        if has_wildcards(part):
            return "/".join(parts[:count]), tuple(parts[count:])
    return pattern, ()


def match(pattern: str, path: str) -> bool:
    """Whether the whole of `path` (or of one component) matches. BadPattern."""
    return compiled(pattern).match(path) is not None


@lru_cache(maxsize=512)
def compiled(pattern: str) -> "re.Pattern[str]":
    """`pattern` as a regular expression for `match`. BadPattern."""
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            if out[-1:] != ["[^/]*"]:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, position = read_class(pattern, position)
            out.append(text)
        elif char == "\\":
            if position == len(pattern):
                raise BadPattern(pattern)
            out.append(re.escape(pattern[position]))
            position += 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out) + r"\Z")


def read_class(pattern: str, position: int) -> tuple[str, int]:
    """The class after the `[` before `position`, as part of a regular expression, and where it ends. BadPattern."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    possible = False
    while True:
        if position < len(pattern) and pattern[position] == "]" and ranges:
            break
        low, position = _class_char(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_char(pattern, position + 1)
        if low <= high:
            possible = True
            ranges.append(f"{_in_class(low)}-{_in_class(high)}")
        else:
            ranges.append("")
    if not possible:
        # A range that runs backwards matches nothing.
        return ("[\\s\\S]" if negated else "(?!)"), position + 1
    return f"[{'^' if negated else ''}{''.join(ranges)}]", position + 1


def _class_char(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "-]":
        raise BadPattern(pattern)
    if pattern[position] == "\\":
        position += 1
    # Something must follow: at least the closing bracket.
    if position + 1 >= len(pattern):
        raise BadPattern(pattern)
    return pattern[position], position + 1


def _in_class(char: str) -> str:
    return "\\" + char if char in _CLASS_CHARS else char

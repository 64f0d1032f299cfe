"""Patterns of tags, as people write them: `v*`, `release-*`, `latest`."""

import re
from fnmatch import fnmatchcase
from typing import NamedTuple

from moldar.errors import UserMistake

_PATTERN = re.compile(r"[a-zA-Z0-9_.*-]{1,128}\Z")
_LIMIT = 20


class InvalidPattern(UserMistake):
    """A text that holds something else than patterns."""

    def __init__(self) -> None:
        super().__init__("patterns have letters, digits, . - _ and *, with spaces between them; at most 20")


class TagPatterns(NamedTuple):
    """Patterns, any of which may match. `*` stands for any characters."""

    patterns: tuple[str, ...] = ()

    def match(self, tag: str) -> str:
        """The first pattern that matches, empty when none does."""
        return next((pattern for pattern in self.patterns if fnmatchcase(tag, pattern)), "")

    def __str__(self) -> str:
        return " ".join(self.patterns)


def parse_patterns(text: str) -> TagPatterns:
    """From words with spaces or commas between them. Raises InvalidPattern."""
    words = tuple(dict.fromkeys(text.replace(",", " ").split()))
    if len(words) > _LIMIT or not all(_PATTERN.match(word) for word in words):
        raise InvalidPattern
    return TagPatterns(words)

"""Heredocs: `<<WORD`, `<<-WORD` (leading tabs dropped) and quoted words (nothing expanded)."""

import re
from typing import NamedTuple

from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import Style, process_words

_WRITTEN = r"([0-9]*)<<(-?)\s*([^<]*)\Z"
_LEADING_TABS = r"(?m)^\t+"
_AS_WRITTEN = Style(keep_quotes=True, keep_escapes=True, keep_unset=True)
_UNQUOTED = Style(keep_unset=True)
_QUOTED = Style(keep_quotes=True, keep_unset=True)


class Heredoc(NamedTuple):
    """`name` ends the text; `expand` is False for a quoted word; `chomp` drops leading tabs.

    `content` is the text as it stands in the file, line ends and tabs included.
    """

    name: str
    expand: bool
    chomp: bool
    content: str = ""

    @property
    def text(self) -> str:
        """The content as it is meant: without leading tabs for `<<-`."""
        return re.sub(_LEADING_TABS, "", self.content) if self.chomp else self.content


def _unset(name: str) -> str | None:
    return None


def parse_heredoc(word: str) -> Heredoc | None:
    """The heredoc that `word` announces, if it does. DockerfileError for quotes that do not close."""
    match = re.match(_WRITTEN, word) if "<<" in word else None
    if match is None or not match.group(3):
        return None
    written = match.group(3)
    names = process_words(written, _unset, style=_UNQUOTED)
    if len(names) != 1:
        return None
    raw = "".join(process_words(written, _unset, style=_QUOTED))
    return Heredoc(names[0], expand=_quotes(names[0]) == _quotes(raw), chomp=match.group(2) == "-")


def heredocs_of_line(line: str) -> list[Heredoc]:
    """All heredocs that an instruction's line announces, in order. DockerfileError.

    A line whose quotes or substitutions are wrong announces none: it may be right for the shell that reads it.
    """
    if "<<" not in line:
        return []
    try:
        words = process_words(line, _unset, style=_AS_WRITTEN)
    except DockerfileError:
        return []
    return [heredoc for heredoc in map(parse_heredoc, words) if heredoc is not None]


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')

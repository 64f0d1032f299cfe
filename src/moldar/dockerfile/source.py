"""Where text stands in a Dockerfile, and the one error that points at it."""

from typing import NamedTuple

from moldar.errors import UserMistake

CONTEXT_LINES = 3
WIDEST_LINE = 400
MOST_LINES = 40
_RULE = "--------------------"


class Location(NamedTuple):
    """A range of lines, counted from 1, both ends included. `Location(0, 0)` is nowhere."""

    start: int
    end: int


class Source(NamedTuple):
    """A text that people wrote: its display name (`Dockerfile`, `docker/App.Dockerfile`) and its lines."""

    name: str
    lines: tuple[str, ...] = ()

    def excerpt(self, location: Location) -> str:
        """The numbered lines at `location` with a few around them, the ones meant marked with `>>>`."""
        if location.start < 1 or not self.lines:
            return ""
        last = min(max(location.end, location.start), location.start + MOST_LINES)
        first_shown = max(1, location.start - CONTEXT_LINES)
        last_shown = min(len(self.lines), last + CONTEXT_LINES)
        shown = []
        for number in range(first_shown, last_shown + 1):
            mark = ">>>" if location.start <= number <= last else "   "
            shown.append(f"{number:4} | {mark} {_shown(self.lines[number - 1])}".rstrip())
        return "\n".join([f"{self.name}:{location.start}", _RULE, *shown, _RULE])


class DockerfileError(UserMistake):
    """Text that cannot be right. `problem` is the bare complaint; `message` begins with file and line once known.

    Code that does not know where its text came from raises without a location; `at` adds it further up.
    """

    def __init__(
        self,
        problem: str,
        *,
        hint: str = "",
        source: Source | None = None,
        location: Location | None = None,
    ) -> None:
        problem = printable(problem)
        message, excerpt = problem, ""
        if source is not None:
            known = location is not None and location.start > 0
            place = f"{source.name}:{location.start}" if known and location is not None else source.name
            message = f"{place}: {problem}"
            excerpt = source.excerpt(location) if location is not None else ""
        super().__init__(message, hint=printable(hint), excerpt=excerpt)
        self.problem = problem
        self.source = source
        self.location = location

    def at(self, source: Source, location: Location) -> "DockerfileError":
        """The same complaint with its place, unless it has one already."""
        if self.source is not None:
            return self
        return type(self)(self.problem, hint=self.hint, source=source, location=location)


def printable(text: str) -> str:
    """`text` with what no terminal or JSON document can carry (lone surrogates, control characters) replaced."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def _shown(line: str) -> str:
    cut = line if len(line) <= WIDEST_LINE else line[:WIDEST_LINE] + "…"
    return printable(cut)

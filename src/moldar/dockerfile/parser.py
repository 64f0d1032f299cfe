"""From the bytes of a Dockerfile to nodes: one per instruction, with its lines, flags, comments and heredocs.

Owns everything about lines: the byte order mark, line ends, comments, continuation, parser directives, heredocs.
Rules: Dockerfile reference, "Format", "Parser directives", "Here-Documents". Where the reference is silent the rules
are BuildKit's: blank and comment lines inside a continued instruction are dropped, a line that ends in two escape
characters is not continued, a line end in CRLF loses both characters except in a heredoc.
"""

import re
from typing import NamedTuple

from moldar.dockerfile.arguments import Split, json_words, split_line
from moldar.dockerfile.heredocs import Heredoc, heredocs_of_line
from moldar.dockerfile.source import DockerfileError, Location, Source
from moldar.dockerfile.words import BLANKS

DIRECTIVES = ("syntax", "escape", "check")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DIRECTIVE = r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*\Z"
_TAKES_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_SURROGATE = "[\udc80-\udcff]"


class Node(NamedTuple):
    """One instruction as text. `line` is the whole of it, continued lines joined; `rest` what follows the flags."""

    keyword: str
    flags: tuple[str, ...]
    rest: str
    line: str
    location: Location
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


class ParsedFile(NamedTuple):
    """All nodes and directives of a file. `empty_continuations`: see `instructions.Dockerfile`."""

    source: Source
    nodes: tuple[Node, ...]
    escape: str
    directives: dict[str, str]
    empty_continuations: tuple[int, ...]


def parse(data: bytes, name: str = "Dockerfile") -> ParsedFile:
    """The nodes of the file `data`, called `name` in errors. DockerfileError with its place for any mistake."""
    return _Parser(data, name).run()


class _Parser:
    """The state of one pass over one file."""

    def __init__(self, data: bytes, name: str) -> None:
        text = data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")
        # Lines with their ends: heredocs keep them. Only \n ends a line.
        self.raw = re.findall(r"[^\n]*\n|[^\n]+", text)
        self.source = Source(name, tuple(line.rstrip("\r\n") for line in self.raw))
        self.at = 0
        self.escape = "\\"
        self.directives: dict[str, str] = {}
        self.directives_over = False
        self.comments: list[str] = []
        self.nodes: list[Node] = []
        self.empty_continuations: list[int] = []

    def run(self) -> ParsedFile:
        while self.at < len(self.raw):
            line = self.source.lines[self.at].lstrip(BLANKS)
            self.at += 1
            if self._directive(line) or self._comment(line):
                continue
            if line.strip(BLANKS):
                self._instruction(line)
        if not self.nodes:
            raise DockerfileError("file with no instructions", hint="begin with FROM", source=self.source)
        return ParsedFile(
            self.source, tuple(self.nodes), self.escape, self.directives, tuple(self.empty_continuations)
        )

    def _directive(self, line: str) -> bool:
        """Take `line` if it is a parser directive; these stand before anything else, an ordinary comment included."""
        if self.directives_over:
            return False
        match = re.match(_DIRECTIVE, line[1:].lstrip(BLANKS)) if line.startswith("#") else None
        key = match.group(1).lower() if match else ""
        if match is None or key not in DIRECTIVES:
            self.directives_over = True
            return False
        here = Location(self.at, self.at)
        if key in self.directives:
            raise DockerfileError(f"only one {key} parser directive can be used", source=self.source, location=here)
        self.directives[key] = match.group(2)
        if key == "escape":
            if match.group(2) not in ("\\", "`"):
                raise DockerfileError(
                    f"the escape character can be \\ or `, not {match.group(2)}", source=self.source, location=here
                )
            self.escape = match.group(2)
        return True

    def _comment(self, line: str) -> bool:
        if not line.startswith("#"):
            return False
        comment = line[1:].strip(BLANKS)
        # An empty comment parts what is above it from the instruction below.
        self.comments = [*self.comments, comment] if comment else []
        return True

    def _instruction(self, line: str) -> None:
        first = self.at
        text = self._continued(line)
        location = Location(first, self.at)
        try:
            split = split_line(text, self.escape)
            heredocs = self._heredocs(text, split, location)
            location = Location(first, self.at)
            if "\0" in text:
                raise DockerfileError("a NUL character can stand only in a heredoc")
        except DockerfileError as error:
            raise error.at(self.source, location) from None
        comments = tuple(self.comments)
        self.comments = []
        self.nodes.append(Node(*split, text, location, comments, heredocs))

    def _continued(self, line: str) -> str:
        """The instruction that begins with `line`, its continuation lines appended without their line ends."""
        pieces: list[str] = []
        had_empty = False
        while True:
            cut = _without_continuation(line, self.escape)
            pieces.append(line if cut is None else cut)
            if cut is None:
                break
            found = self._next_continuation()
            had_empty = had_empty or found[1]
            if found[0] is None:
                break
            line = found[0]
        if had_empty:
            self.empty_continuations.append(self.at)
        # Bytes that are no UTF-8 have a meaning in heredocs only.
        text = "".join(pieces)
        return text if text.isascii() else re.sub(_SURROGATE, "\ufffd", text)

    def _next_continuation(self) -> tuple[str | None, bool]:
        """The next line that is neither comment nor blank (None at the end), and whether a blank one was passed."""
        passed_blank = False
        while self.at < len(self.raw):
            line = self.source.lines[self.at]
            self.at += 1
            stripped = line.lstrip(BLANKS)
            if not stripped:
                passed_blank = True
            elif not stripped.startswith("#"):
                return line, passed_blank
        return None, passed_blank

    def _heredocs(self, text: str, split: Split, location: Location) -> tuple[Heredoc, ...]:
        if "<<" not in text or not _may_hold_heredocs(split, self.escape):
            return ()
        return tuple(self._heredoc_body(heredoc, location) for heredoc in heredocs_of_line(text))

    def _heredoc_body(self, heredoc: Heredoc, location: Location) -> Heredoc:
        content: list[str] = []
        while self.at < len(self.raw):
            raw = self.raw[self.at]
            self.at += 1
            end = raw.rstrip("\r\n")
            if (end.lstrip("\t") if heredoc.chomp else end) == heredoc.name:
                return heredoc._replace(content="".join(content))
            content.append(raw)
        raise DockerfileError(
            f"unterminated heredoc: no line holds only {heredoc.name}", source=self.source, location=location
        )


def _without_continuation(line: str, escape: str) -> str | None:
    """`line` without the escape character that continues it, None when it is not continued."""
    trimmed = line.rstrip(" \t")
    return trimmed[:-1] if trimmed.endswith(escape) and not trimmed.endswith(escape * 2) else None


def _may_hold_heredocs(split: Split, escape: str) -> bool:
    if split.keyword.upper() == "ONBUILD":
        split = split_line(split.rest, escape)
    return split.keyword.upper() in _TAKES_HEREDOCS and json_words(split.rest) is None

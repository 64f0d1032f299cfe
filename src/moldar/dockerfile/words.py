"""Quotes, escapes and variables in the words of a Dockerfile, with the rules of BuildKit's shell lexer.

The forms are `$name` and `${name}` with the modifiers `:-` `-` `:+` `+` `:?` `?` (default, alternative, required),
`#` `##` `%` `%%` (trim a shell pattern) and `/` `//` (replace). Unlike in a shell, positional and special parameters
are never set, and an unknown modifier is an error. Rules: Dockerfile reference, "Environment replacement".
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from moldar.dockerfile.patterns import PatternMistake, replace, trim_prefix, trim_suffix
from moldar.dockerfile.source import DockerfileError

Lookup = Callable[[str], str | None]

# The blanks of Unicode, which are not quite Python's: no separators of the C0 set.
BLANKS = " \t\n\v\f\r\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
DEEPEST_NESTING = 60
MOST_SUBSTITUTED = 16 << 20  # characters put in for variables in one text; doubling ENVs would fill the memory
_SPECIAL_PARAMETERS = frozenset("@*#?-$!0")
_QUOTED_LENGTH = 60
_MEANINGFUL = "$'\""


class Style(NamedTuple):
    """How quotes, escapes and unset variables are treated.

    `keep_quotes` and `keep_escapes` leave these characters in the result (they still have their effect),
    `plain_quotes` makes quotes ordinary characters, `keep_unset` leaves variables that are not set as written.
    """

    keep_quotes: bool = False
    keep_escapes: bool = False
    plain_quotes: bool = False
    keep_unset: bool = False


_PLAIN = Style()
_HEREDOC = Style(plain_quotes=True)


class Expander:
    """Expands words with `lookup` (None: not set). Remembers which names it found (`used`) or not (`unmatched`)."""

    def __init__(self, lookup: Lookup, escape: str = "\\") -> None:
        self.lookup = lookup
        self.escape = escape
        self.used: dict[str, None] = {}
        self.unmatched: dict[str, None] = {}

    def word(self, text: str) -> str:
        """`text` with variables substituted and quotes removed, blanks kept. DockerfileError (without place)."""
        if self._means_itself(text):
            return text
        return self._process(text, _PLAIN)[0]

    def words(self, text: str, style: Style = _PLAIN) -> list[str]:
        """As `word`, split at blanks outside of quotes, also at those that come out of variables."""
        return self._process(text, style)[1]

    def heredoc(self, text: str) -> str:
        """The text of a heredoc: variables are substituted, quotes are plain characters, the escape is `\\`."""
        scan = _Scan(text, "\\", _HEREDOC, self)
        return _failing_with(text, scan)[0]

    def title(self, text: str) -> str:
        """`text` for showing to people: variables substituted where set, everything else as written."""
        if self._means_itself(text):
            return text
        return self._process(text, Style(keep_quotes=True, keep_unset=True))[0]

    def get(self, name: str) -> str | None:
        """The value of `name`, remembered in `used` or `unmatched`."""
        value = self.lookup(name)
        (self.unmatched if value is None else self.used)[name] = None
        return value

    def _means_itself(self, text: str) -> bool:
        return not any(char in text for char in _MEANINGFUL) and self.escape not in text

    def _process(self, text: str, style: Style) -> tuple[str, list[str]]:
        return _failing_with(text, _Scan(text, self.escape, style, self))


def process_word(text: str, lookup: Lookup, escape: str = "\\") -> str:
    """`text` expanded once; see `Expander.word`."""
    return Expander(lookup, escape).word(text)


def process_words(text: str, lookup: Lookup, escape: str = "\\", style: Style = _PLAIN) -> list[str]:
    """`text` expanded and split once; see `Expander.words`."""
    return Expander(lookup, escape).words(text, style)


def _failing_with(text: str, scan: "_Scan") -> tuple[str, list[str]]:
    try:
        return scan.until("", scan.style.keep_escapes)
    except DockerfileError as error:
        shown = text if len(text) <= _QUOTED_LENGTH else text[:_QUOTED_LENGTH] + "…"
        raise DockerfileError(f'failed to process "{shown}": {error.problem}', hint=error.hint) from None


class _Splitter:
    """Collects words: blanks in loose text end a word, blanks in fixed text (quoted, escaped) belong to it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.current: list[str] = []

    def loose(self, text: str) -> None:
        if _BLANK.isdisjoint(text):
            self.fixed(text)
            return
        start = 0
        for match in re.finditer(_BLANK_RUN, text):
            if match.start() > start:
                self.current.append(text[start : match.start()])
            self.end_word()
            start = match.end()
        if start < len(text):
            self.current.append(text[start:])

    def fixed(self, text: str) -> None:
        if text:
            self.current.append(text)

    def end_word(self) -> None:
        if self.current:
            self.words.append("".join(self.current))
            self.current = []


_BLANK_RUN = f"[{BLANKS}]+"
_BLANK = frozenset(BLANKS)
# Characters that mean something somewhere; everything between them is taken in one go.
_ORDINARY = {"\\": r"""[^\\$'"<}/]+""", "`": r"""[^`$'"<}/]+"""}
_IN_DOUBLE_QUOTES = {"\\": r'[^\\$"]+', "`": r'[^`$"]+'}


class _Scan:
    """One pass over one text."""

    def __init__(self, text: str, escape: str, style: Style, names: Expander) -> None:
        self.text = text
        self.position = 0
        self.escape = escape
        self.ordinary = re.compile(_ORDINARY[escape])
        self.in_double_quotes = re.compile(_IN_DOUBLE_QUOTES[escape])
        self.style = style
        self.keep_escapes = style.keep_escapes
        self.names = names
        self.depth = 0
        self.substituted = 0

    def until(self, stop: str, keep_escapes: bool) -> tuple[str, list[str]]:
        """Process up to the unquoted character `stop` (consumed), or to the end when `stop` is empty."""
        outer, self.keep_escapes = self.keep_escapes, keep_escapes
        self.depth += 1
        if self.depth > DEEPEST_NESTING:
            raise DockerfileError("substitutions are nested too deeply")
        result: list[str] = []
        words = _Splitter()
        ended = not stop
        while self.position < len(self.text):
            if stop and self.text[self.position] == stop:
                self.position += 1
                ended = True
                break
            self._step(result, words)
        self.depth -= 1
        self.keep_escapes = outer
        if not ended:
            raise DockerfileError(f"syntax error: missing '{stop}'")
        words.end_word()
        return "".join(result), words.words

    def _step(self, result: list[str], words: _Splitter) -> None:
        ordinary = self.ordinary.match(self.text, self.position)
        if ordinary:
            self.position = ordinary.end()
            result.append(ordinary.group())
            words.loose(ordinary.group())
            return
        char = self.text[self.position]
        if char == "$":
            piece = self._dollar()
            words.loose(piece)
        elif char in "'\"" and not self.style.plain_quotes:
            piece = self._single_quoted() if char == "'" else self._double_quoted()
            words.fixed(piece)
        elif char == "<":
            piece = self._angle()
            words.fixed(piece)
        elif char == self.escape:
            piece = self._escaped()
            words.fixed(piece)
        else:
            self.position += 1
            piece = char
            words.loose(piece)
        result.append(piece)

    def _escaped(self) -> str:
        # An escape at the very end disappears, as at the end of a line.
        following = self.text[self.position + 1 : self.position + 2]
        self.position += 2
        return (self.escape if self.keep_escapes else "") + following

    def _angle(self) -> str:
        # "<<" keeps the blanks after it, so that a heredoc's operator and its word stay one word.
        match = re.compile(_ANGLES).match(self.text, self.position)
        assert match is not None
        self.position = match.end()
        return match.group()

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise DockerfileError("a single quote is not closed")
        quoted = self.text[self.position : end + 1]
        self.position = end + 1
        return quoted if self.style.keep_quotes else quoted[1:-1]

    def _double_quoted(self) -> str:
        quote = '"' if self.style.keep_quotes else ""
        pieces = [quote]
        self.position += 1
        while self.position < len(self.text):
            ordinary = self.in_double_quotes.match(self.text, self.position)
            if ordinary:
                self.position = ordinary.end()
                pieces.append(ordinary.group())
                continue
            char = self.text[self.position]
            if char == '"':
                self.position += 1
                return "".join([*pieces, quote])
            pieces.append(self._dollar() if char == "$" else self._escaped_in_double_quotes())
        raise DockerfileError("a double quote is not closed")

    def _escaped_in_double_quotes(self) -> str:
        following = self.text[self.position + 1 : self.position + 2]
        kept = self.escape if self.keep_escapes else ""
        if following and following in '"$' + self.escape:
            self.position += 2
            return kept + following
        # Before any other character the escape is an ordinary one.
        self.position += 1
        return kept + (self.escape if following else "")

    def _dollar(self) -> str:
        self.position += 1
        if self.text[self.position : self.position + 1] == "{":
            self.position += 1
            return self._braces()
        name = self._name()
        if not name:
            return "$"
        value = self._get(name)
        if value is None:
            return f"${name}" if self.style.keep_unset else ""
        return value

    def _name(self) -> str:
        text, start = self.text, self.position
        if start >= len(text):
            return ""
        end = start
        if text[start].isdecimal():
            while end < len(text) and text[end].isdecimal():
                end += 1
        elif text[start] in _SPECIAL_PARAMETERS:
            end += 1
        else:
            while end < len(text) and (text[end] == "_" or text[end].isalpha() or text[end].isdecimal()):
                end += 1
        self.position = end
        return text[start:end]

    def _next(self) -> str:
        char = self.text[self.position : self.position + 1]
        self.position += 1
        return char

    def _get(self, name: str) -> str | None:
        value = self.names.get(name)
        if value:
            self.substituted += len(value)
            if self.substituted > MOST_SUBSTITUTED:
                raise DockerfileError(f"the value of {name} makes the text longer than {MOST_SUBSTITUTED} characters")
        return value

    def _braces(self) -> str:
        opening = self.text[self.position : self.position + 1]
        if not opening:
            raise DockerfileError("syntax error: missing '}'")
        if opening in "{}:":
            raise DockerfileError("syntax error: bad substitution")
        name = self._name()
        modifier = self._next()
        if modifier == "":
            raise DockerfileError("syntax error: missing '}'")
        if modifier == "}":
            value = self._get(name)
            if value is None:
                return f"${{{name}}}" if self.style.keep_unset else ""
            return value
        if modifier == "/":
            return self._replace(name)
        if modifier == ":":
            return self._choose(name, self._next(), empty_is_unset=True)
        return self._choose(name, modifier, empty_is_unset=False)

    def _choose(self, name: str, modifier: str, *, empty_is_unset: bool) -> str:
        written = (":" if empty_is_unset else "") + modifier
        trims = modifier in ("#", "%")
        if modifier not in ("-", "+", "?", "#", "%") or (trims and empty_is_unset):
            raise DockerfileError(
                f"unsupported modifier ({written}) in substitution",
                hint="the modifiers are :- - :+ + :? ? # ## % %% / //",
            )
        word, _ = self.until("}", keep_escapes=trims)
        value = self._get(name)
        if value is None and self.style.keep_unset:
            return f"${{{name}{written}{word}}}"
        if trims:
            return _trim(modifier, word, value or "")
        is_set = value is not None and not (empty_is_unset and value == "")
        if modifier == "+":
            return word if is_set else ""
        if is_set and value is not None:
            return value
        if modifier == "-":
            return word
        raise DockerfileError(f"{name}: {word or _demand(value)}")

    def _replace(self, name: str) -> str:
        every = self.text[self.position : self.position + 1] == "/"
        if every:
            self.position += 1
        pattern, _ = self.until("/", keep_escapes=True)
        replacement, _ = self.until("}", keep_escapes=True)
        value = self._get(name)
        if value is None and self.style.keep_unset:
            return f"${{{name}/{'/' if every else ''}{pattern}/{replacement}}}"
        try:
            return replace(pattern, replacement, value or "", every=every)
        except PatternMistake as mistake:
            raise DockerfileError(f"invalid pattern ({pattern}) in substitution: {mistake}") from None


_ANGLES = r"<<[\t\r ]*|<"


def _demand(value: str | None) -> str:
    return "is not allowed to be unset" if value is None else "is not allowed to be empty"


def _trim(modifier: str, pattern: str, value: str) -> str:
    longest = pattern.startswith(modifier)
    pattern = pattern[1:] if longest else pattern
    try:
        trim = trim_prefix if modifier == "#" else trim_suffix
        return trim(pattern, value, longest=longest)
    except PatternMistake as mistake:
        raise DockerfileError(f"invalid pattern ({pattern}) in substitution: {mistake}") from None

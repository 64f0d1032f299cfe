"""The ways in which instructions split what follows their keyword: JSON, words, key=value pairs, flags.

Nothing is expanded here. Rules: Dockerfile reference, "Format", "Shell and exec form", and what BuildKit's line
parsers do beyond it (text that looks like JSON but is none is shell form; an array with anything but strings is
an error).
"""

import json
import re
from typing import NamedTuple, NoReturn

from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import BLANKS

# Blanks between the words of a line: not line ends, which cannot be there, and not the blanks of Unicode.
_GAP = re.compile(r"[\t\v\f\r ]+")
_SURROGATE = "[\ud800-\udfff]"
_WORD_CHARS = {"\\": f"[^\\\\'\"{BLANKS}]+", "`": f"[^`'\"{BLANKS}]+"}


class Split(NamedTuple):
    """An instruction's line in its parts; `rest` is trimmed."""

    keyword: str
    flags: tuple[str, ...]
    rest: str


def split_line(line: str, escape: str) -> Split:
    """Keyword, flags (`--name=value`, quotes removed) and the rest of a line."""
    parts = _GAP.split(line.strip(BLANKS), maxsplit=1)
    if len(parts) == 1:
        return Split(parts[0], (), "")
    flags, rest = _take_flags(parts[1], escape)
    return Split(parts[0], tuple(flags), rest.strip(BLANKS))


def _take_flags(text: str, escape: str) -> tuple[list[str], str]:
    flags: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position] in BLANKS:
            position += 1
        if not text.startswith("--", position):
            return flags, text[position:]
        word, quoted, position = _flag_word(text, position, escape)
        if word == "--":
            return flags, text[position:]
        if word or quoted:
            flags.append(word)


def _flag_word(text: str, position: int, escape: str) -> tuple[str, bool, int]:
    """The flag that begins at `position`, whether any of it was quoted, and where it ends."""
    pieces: list[str] = []
    quote = ""
    quoted = False
    while position < len(text):
        char = text[position]
        if char == escape:
            position += 1
            pieces.append(text[position : position + 1])
        elif quote:
            if char == quote:
                quote = ""
            else:
                pieces.append(char)
        elif char in BLANKS:
            break
        elif char in "'\"":
            quote, quoted = char, True
        else:
            pieces.append(char)
        position += 1
    return "".join(pieces), quoted, position


def json_words(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array; None when `text` is no JSON array. DockerfileError for other elements."""
    if not text.lstrip(BLANKS).startswith("["):
        return None
    try:
        values = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    for value in values:
        if not isinstance(value, str):
            raise DockerfileError(
                f"a JSON array may hold only strings here, not {_shown(value)}",
                hint='write numbers and words in double quotes, for example ["sleep", "5"]',
            )
        if "\0" in value:
            raise DockerfileError("a NUL character can stand only in a heredoc")
    return tuple(value if value.isascii() else re.sub(_SURROGATE, "\ufffd", value) for value in values)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _shown(value: object) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        return "a nested value"
    return text if len(text) < 40 else text[:40] + "…"


def blank_separated(text: str) -> tuple[str, ...]:
    """The words of `text`, with no regard to quotes."""
    return tuple(_GAP.split(text)) if text else ()


def quoted_words(text: str, escape: str) -> list[str]:
    """The words of `text`; blanks in quotes or after an escape belong to a word. Quotes and escapes are kept."""
    ordinary = re.compile(_WORD_CHARS[escape])
    words: list[str] = []
    current: list[str] = []
    quote = ""
    position = 0
    while position < len(text):
        plain = ordinary.match(text, position)
        if plain:
            current.append(plain.group())
            position = plain.end()
            continue
        char = text[position]
        if char == escape and quote != "'":
            # An escape at the end of the text disappears.
            current.append(text[position : position + 2] if position + 1 < len(text) else "")
            position += 2
            continue
        position += 1
        if not quote and char in BLANKS:
            if current:
                words.append("".join(current))
                current = []
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        current.append(char)
    if "".join(current):
        words.append("".join(current))
    return words


class KeyValue(NamedTuple):
    """A pair as written; `legacy` when a blank and no `=` separates it."""

    key: str
    value: str
    legacy: bool


def key_values(text: str, name: str, escape: str) -> list[KeyValue]:
    """The pairs of ENV and LABEL (`name`): `k=v k=v`, or the old form `k the rest`. DockerfileError."""
    words = quoted_words(text, escape)
    if not words:
        return []
    if "=" not in words[0]:
        parts = _GAP.split(text, maxsplit=1)
        if len(parts) < 2:
            raise DockerfileError(f"{name} must have two arguments", hint=f"write {name} {parts[0]}=value")
        return [KeyValue(parts[0], parts[1], True)]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(
                f'can\'t find = in "{word}": {name} takes name=value pairs',
                hint="quote a value that holds blanks",
            )
        pairs.append(KeyValue(key, value, False))
    return pairs

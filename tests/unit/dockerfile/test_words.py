"""Quotes, escapes, variables and word splitting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moldar.dockerfile.patterns import PatternMistake, replace, tokens, trim_prefix, trim_suffix
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import MOST_SUBSTITUTED, Expander, Style, process_word, process_words

VALUES = {"HOME": "/root", "EMPTY": "", "TWO": "x  y", "V": "a.b.c", "P": "a/b/c", "STAR": "*", "한": "국"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words  kept", "plain words  kept"),
        ("$HOME/x", "/root/x"),
        ("${HOME}x$한!", "/rootx국!"),
        ("'$HOME'\"$HOME\"", "$HOME/root"),
        ("\"it's\" 'say \"'", "it's say \""),
        (r"\$HOME \\ \a", r"$HOME \ a"),
        (r'"\$HOME \\ \a \""', r'$HOME \ \a "'),
        (r"'\$HOME'", r"\$HOME"),
        ("end\\", "end"),
        ("$ $. $5x [$@] $$", "$ $. x [] "),
        ("${NO:-d}${EMPTY:-d}${HOME:-d}", "dd/root"),
        ("${NO-d}${EMPTY-d}", "d"),
        ("${NO:+d}${EMPTY:+d}${HOME:+d}", "d"),
        ("${NO+d}${EMPTY+d}", "d"),
        ("${EMPTY?must}${HOME:?must}", "/root"),
        ("${NO:-${NO:-<$HOME>}}", "</root>"),
        ("${NO:-'q'}\"${NO:-'q'}\"", "qq"),
        ("${NO:-a\\}b}", "a}b"),
        ("${P#*/} ${P##*/} ${P%/*} ${P%%/*}", "b/c c a/b a"),
        ("${P#x} ${P%?} ${P#} ${NO#x}", "a/b/c a/b/ a/b/c "),
        ("${V/./-} ${V//./-} ${V/.*/}", "a-b.c a-b-c a"),
        ("${P/\\//-} ${P//[/x}", "a-b/c a/b/c"),
        ("${V/$STAR/z}", "z"),
        ("${V/\\*/z}", "a.b.c"),
        ("a<b <<c", "a<b <<c"),
    ],
)
def test_word(text: str, expected: str) -> None:
    assert process_word(text, VALUES.get) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`$HOME \\$HOME c:\\dir", "$HOME \\/root c:\\dir"),
        ('"``" `"', '` "'),
        ("${NO:-a`}b}", "a}b"),
    ],
)
def test_the_other_escape(text: str, expected: str) -> None:
    assert process_word(text, VALUES.get, "`") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("'x", "a single quote is not closed"),
        ('"x', "a double quote is not closed"),
        ("${", "missing '}'"),
        ("${HOME", "missing '}'"),
        ("${HOME:-x", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${HOME!x}", r"unsupported modifier \(!\)"),
        ("${HOME:=x}", r"unsupported modifier \(:=\)"),
        ("${HOME:#x}", r"unsupported modifier \(:#\)"),
        ("${NO?}", "NO: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NO:?pass $HOME}", "NO: pass /root"),
        ("${V/x", "missing '/'"),
        ("${V/x/y", "missing '}'"),
        ("${V/\\x/y}", "invalid pattern"),
        ("${V#\\x}", "invalid pattern"),
        ("${a:-" * 100, "nested too deeply"),
    ],
)
def test_mistakes(text: str, problem: str) -> None:
    with pytest.raises(DockerfileError, match=problem):
        process_word(text, VALUES.get)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a  b ", ["a", "b"]),
        ("$TWO", ["x", "y"]),
        ('"$TWO"', ["x  y"]),
        ("a$TWO.", ["ax", "y."]),
        (r"a\ b", ["a b"]),
        ("''", []),
        ("1${NO:-2 3}", ["12", "3"]),
        ("<< EOF x", ["<< EOF", "x"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert process_words(text, VALUES.get) == expected


def test_names_found_and_not_found_are_remembered() -> None:
    expander = Expander(VALUES.get)
    expander.word("$HOME ${NO:-$OTHER} '$QUOTED' \\$ESCAPED")
    assert list(expander.used) == ["HOME"]
    assert sorted(expander.unmatched) == ["NO", "OTHER"]


def test_heredoc_text_keeps_its_quotes() -> None:
    text = "it's \"$HOME\" \\$HOME ${NO:-'q'}\n"
    assert Expander(VALUES.get, "`").heredoc(text) == "it's \"/root\" $HOME 'q'\n"


def test_title_keeps_what_it_cannot_fill_in() -> None:
    assert Expander(VALUES.get).title('echo "$HOME" $NO ${NO:-x}') == 'echo "/root" $NO ${NO:-x}'


def test_doubling_values_end_in_an_error() -> None:
    with pytest.raises(DockerfileError, match="the value of BIG"):
        process_word("$BIG" * 20, {"BIG": "x" * (MOST_SUBSTITUTED // 10)}.get)


WORD = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text)
ESCAPES = st.sampled_from(["\\", "`"])


def single_quoted(word: str) -> str:
    return "'" + word.replace("'", "'\"'\"'") + "'"


def double_quoted(word: str, escape: str) -> str:
    return '"' + "".join(escape + char if char in '"$' + escape else char for char in word) + '"'


def escaped(word: str, escape: str) -> str:
    return "".join(escape + char for char in word)


@given(st.lists(WORD, max_size=5), ESCAPES, st.integers(0, 2))
def test_quoted_words_come_back(words: list[str], escape: str, way: int) -> None:
    quote = [single_quoted, lambda word: double_quoted(word, escape), lambda w: escaped(w, escape)]
    text = "  ".join(quote[way](word) for word in words)
    assert process_words(text, VALUES.get, escape) == words
    assert process_word(text, VALUES.get, escape) == "  ".join(words)


@given(st.text(max_size=30), ESCAPES)
def test_raw_style_changes_nothing_without_substitutions(text: str, escape: str) -> None:
    text = text.replace("$", "")
    try:
        assert process_words(text, VALUES.get, escape, Style(keep_quotes=True, keep_escapes=True)) is not None
    except DockerfileError as error:
        assert "quote is not closed" in error.problem


def brute_lengths(pattern: str, value: str) -> list[int]:
    """All lengths of prefixes of `value` that `pattern` matches."""

    def matches(wanted: list[tuple[bool, str]], text: str) -> bool:
        if not wanted:
            return not text
        (wildcard, char), rest = wanted[0], wanted[1:]
        if wildcard and char == "":
            return any(matches(rest, text[cut:]) for cut in range(len(text) + 1) if "\n" not in text[:cut])
        if not text or (text[0] != char if not wildcard else text[0] == "\n"):
            return False
        return matches(rest, text[1:])

    wanted = tokens(pattern)
    return [length for length in range(len(value) + 1) if matches(wanted, value[:length])]


PATTERNS = st.text("ab*?\n", max_size=5)


@given(PATTERNS, st.text("ab\n", max_size=8), st.booleans())
def test_trimming_matches_brute_force(pattern: str, value: str, longest: bool) -> None:
    lengths = brute_lengths(pattern, value) or [0]
    cut = max(lengths) if longest else min(lengths)
    assert trim_prefix(pattern, value, longest=longest) == value[cut:]
    mirrored = trim_suffix(pattern[::-1], value[::-1], longest=longest)
    assert mirrored == value[cut:][::-1]


@given(PATTERNS.filter(bool), st.text("ab\n", max_size=8))
def test_replacing_matches_brute_force(pattern: str, value: str) -> None:
    expected, position, last = "", 0, -1
    while position <= len(value):
        lengths = [n for n in brute_lengths(pattern, value[position:]) if n or position != last]
        if lengths and (max(lengths) or position != last):
            expected += "<>"
            if max(lengths):
                position = last = position + max(lengths)
                continue
            last = position
        expected += value[position : position + 1]
        position += 1
    assert replace(pattern, "<>", value, every=True) == expected


@pytest.mark.parametrize("pattern", ["\\", "\\x", "\\\\\\"])
def test_patterns_may_escape_only_their_own_characters(pattern: str) -> None:
    with pytest.raises(PatternMistake):
        tokens(pattern)

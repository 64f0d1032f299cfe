"""Heredoc words: names, quotes, and what is none."""

import pytest

from moldar.dockerfile.heredocs import Heredoc, heredocs_of_line, parse_heredoc
from moldar.dockerfile.parser import parse
from moldar.dockerfile.source import DockerfileError


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", Heredoc("EOF", True, False)),
        ("<<-EOF", Heredoc("EOF", True, True)),
        ("3<<EOF", Heredoc("EOF", True, False)),
        ("<< EOF", Heredoc("EOF", True, False)),
        ("<<- EOF", Heredoc("EOF", True, True)),
        ("<< -EOF", Heredoc("-EOF", True, False)),
        ("<<'EOF'", Heredoc("EOF", False, False)),
        ('<<EO"F"', Heredoc("EOF", False, False)),
        (r"<<eo\'f", Heredoc("eo'f", True, False)),
        (r"<<'e'o\'f", Heredoc("eo'f", False, False)),
        ("<<'one two'", Heredoc("one two", False, False)),
        ("<<$EOF", Heredoc("$EOF", True, False)),
        ("<<a.txt", Heredoc("a.txt", True, False)),
        ("", None),
        ("EOF", None),
        ("<<", None),
        ("<<-", None),
        ("<EOF", None),
        ("<<<EOF", None),
        ("<<EOF sh", None),
        ("<<''", None),
    ],
)
def test_words(word: str, expected: Heredoc | None) -> None:
    assert parse_heredoc(word) == expected


@pytest.mark.parametrize("word", ["<<'EOF", '<<"EOF', "<<EOF'", '<<EOF"', "<<${EOF"])
def test_words_that_do_not_close(word: str) -> None:
    with pytest.raises(DockerfileError):
        parse_heredoc(word)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("RUN <<A <<-B cat", ["A", "B"]),
        ("RUN <<  EOF  > foo", ["EOF"]),
        ("RUN '<<EOF' \"<<EOF\" \\<<EOF", []),
        ("RUN echo it's <<EOF", []),
        ("RUN echo ${X:?no} <<EOF", ["EOF"]),
        ("RUN cat <<<EOF", []),
        ("RUN a<<EOF", []),
        ("RUN $((1<<2))", []),
    ],
)
def test_lines(line: str, names: list[str]) -> None:
    assert [heredoc.name for heredoc in heredocs_of_line(line)] == names


def test_only_some_instructions_have_heredocs() -> None:
    parsed = parse(b"FROM a\nUSER <<X\nENV A=<<X\nRUN <<X\nUSER b\nX\nUSER c\n")
    assert [node.keyword for node in parsed.nodes] == ["FROM", "USER", "ENV", "RUN", "USER"]
    assert parsed.nodes[3].heredocs[0].content == "USER b\n"


def test_heredocs_may_hold_any_bytes() -> None:
    parsed = parse(b"FROM a\nCOPY <<E /x\n\xff\0\nE\n")
    assert parsed.nodes[1].heredocs[0].content.encode("utf-8", "surrogateescape") == b"\xff\0\n"


def test_tabs_are_dropped_where_asked() -> None:
    assert Heredoc("E", True, True, "\t\ta\n b\n\tc\td\n").text == "a\n b\nc\td\n"
    assert Heredoc("E", True, False, "\ta\n").text == "\ta\n"

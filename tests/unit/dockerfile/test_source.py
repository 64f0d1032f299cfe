"""Locations, excerpts and the words that are suggested."""

import pytest

from moldar.dockerfile.source import DockerfileError, Location, Source
from moldar.dockerfile.suggestions import did_you_mean, nearest

SOURCE = Source("app/Dockerfile", ("one", "two", "three", "four", "five", "six", "seven\x1b[31m", "x" * 500))


def test_excerpts_mark_the_lines_meant() -> None:
    assert SOURCE.excerpt(Location(4, 5)).splitlines() == [
        "app/Dockerfile:4",
        "--------------------",
        "   1 |     one",
        "   2 |     two",
        "   3 |     three",
        "   4 | >>> four",
        "   5 | >>> five",
        "   6 |     six",
        "   7 |     seven\ufffd[31m",
        "   8 |     " + "x" * 400 + "…",
        "--------------------",
    ]
    assert SOURCE.excerpt(Location(0, 0)) == ""


def test_long_instructions_are_cut() -> None:
    source = Source("D", tuple(map(str, range(1000))))
    assert len(source.excerpt(Location(1, 1000)).splitlines()) < 60


def test_an_error_gets_its_place_once() -> None:
    error = DockerfileError("wrong", hint="right").at(SOURCE, Location(2, 2))
    assert (error.message, error.problem, error.hint) == ("app/Dockerfile:2: wrong", "wrong", "right")
    assert error.at(SOURCE, Location(3, 3)) is error


def test_messages_can_be_printed() -> None:
    assert DockerfileError("bad \udcff\0").message == "bad \ufffd\ufffd"


@pytest.mark.parametrize(
    ("word", "expected"),
    [("COPPY", "COPY"), ("rnu", ""), ("RNU", "RUN"), ("COPY", ""), ("xyz", ""), ("x" * 100, "")],
)
def test_nearest(word: str, expected: str) -> None:
    assert nearest(word, ["COPY", "RUN"]) == expected


def test_nearest_without_case() -> None:
    assert did_you_mean("coppy", ["COPY"], ignore_case=True) == "did you mean COPY?"
    assert did_you_mean("copy", ["COPY"], ignore_case=True) == ""

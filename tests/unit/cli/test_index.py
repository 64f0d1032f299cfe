"""Every command that the index names exists, and every alias leads somewhere."""

import importlib
from pathlib import Path

import pytest

from moldar.cli import help as texts
from moldar.cli import index
from moldar.cli.tables import duration, size


@pytest.mark.parametrize("name", sorted(index.COMMANDS))
def test_a_command_is_where_the_index_says(name: str) -> None:
    module = importlib.import_module("moldar.cli." + index.COMMANDS[name].module)
    commands = {" ".join(command.path): command for command in module.COMMANDS}
    assert name in commands
    assert commands[name].summary == index.COMMANDS[name].summary
    assert texts.usage(commands[name])


@pytest.mark.parametrize("alias", sorted(index.ALIASES))
def test_an_alias_leads_to_a_command(alias: str) -> None:
    assert index.ALIASES[alias] in index.COMMANDS


def test_the_longest_name_wins() -> None:
    assert index.find(["image", "ls", "x"]) == ("image ls", 2)
    assert index.find(["images"]) == ("image ls", 1)
    assert index.find(["hub", "user", "add", "alice"]) == ("hub user add", 3)
    assert index.find(["nope"]) is None


def test_a_directory_wins_over_a_command_of_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert index.find(["build", "logs"]) == ("build logs", 2)
    assert index.find(["build", "history", "-q"]) == ("build history ls", 2)
    (tmp_path / "logs").mkdir()
    (tmp_path / "history").mkdir()
    assert index.find(["build", "logs"]) == ("build", 1)
    assert index.find(["build", "history"]) == ("build", 1)
    assert index.find(["build", "history", "logs"]) == ("build logs", 3)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (999, "999B"), (1250, "1.25kB"), (133_400_000, "133MB"), (999_900, "1MB")]
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (7200, "2 hours"),
        (1_300_000, "2 weeks"),
    ],
)
def test_durations_are_words(seconds: int, text: str) -> None:
    assert duration(seconds) == text

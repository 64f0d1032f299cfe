"""Docker's flag grammar."""

import pytest

from moldar.cli.argv import Arguments, Command, Flag, HelpAsked, UsageError, parse

FLAGS = (
    Flag("detach", "d", "bool"),
    Flag("publish", "p", "list"),
    Flag("name"),
    Flag("time", "t", "int", "10"),
    Flag("pull", "", "optional", "missing", bare="always"),
)
RUN = Command(("run",), "IMAGE", "", lambda _: 0, FLAGS, 1, -1, interspersed=False)
BUILD = Command(("build",), "PATH", "", lambda _: 0, FLAGS, 1, 1)


def test_joined_short_flags_end_with_one_that_takes_a_value() -> None:
    arguments = parse(RUN, ["-dp", "127.0.0.1:5000:5000", "image"])
    assert arguments.on("detach")
    assert arguments.many("publish") == ["127.0.0.1:5000:5000"]
    assert arguments.positional == ["image"]


def test_a_short_flag_takes_the_rest_of_its_word() -> None:
    assert parse(RUN, ["-p80:80", "-p=81:81", "image"]).many("publish") == ["80:80", "81:81"]


def test_flags_after_the_image_belong_to_the_container() -> None:
    assert parse(RUN, ["image", "-d", "--name", "x"]).positional == ["image", "-d", "--name", "x"]


def test_flags_may_follow_arguments_elsewhere() -> None:
    arguments = parse(BUILD, [".", "--name=x", "--detach=false"])
    assert (arguments.positional, arguments.text("name"), arguments.on("detach")) == (["."], "x", False)


def test_an_optional_value_needs_the_equals_sign() -> None:
    assert parse(BUILD, ["--pull", "."]).text("pull") == "always"
    assert parse(BUILD, ["--pull=never", "."]).text("pull") == "never"
    assert parse(BUILD, ["."]).text("pull") == "missing"


def test_two_dashes_end_the_flags() -> None:
    assert parse(BUILD, ["--", "-d"]).positional == ["-d"]


def test_given_names_what_was_written() -> None:
    arguments = parse(BUILD, ["--time", "3", "."])
    assert arguments.given == {"time"}
    assert arguments.number("time") == 3


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--nam", "x", "."], "unknown flag: --nam (did you mean --name?)", 125),
        (["-x", "."], "unknown shorthand flag: 'x' in -x", 125),
        (["--name"], "flag needs an argument: --name", 125),
        (["-p"], "flag needs an argument: -p", 125),
        (["--detach=perhaps", "."], "invalid argument", 125),
        (["--time", "soon", "."], "invalid argument", 125),
        ([], "'moldar build' requires exactly 1 argument", 1),
        (["a", "b"], "'moldar build' requires exactly 1 argument", 1),
    ],
)
def test_mistakes(words: list[str], message: str, code: int) -> None:
    with pytest.raises(UsageError) as caught:
        parse(BUILD, words)
    assert caught.value.message.startswith(message)
    assert caught.value.exit_code == code


def test_help_is_asked_by_either_flag() -> None:
    for word in ("--help", "-h"):
        with pytest.raises(HelpAsked):
            parse(BUILD, [word])


def test_arguments_are_typed() -> None:
    arguments = Arguments({"name": "x"}, frozenset(), [])
    assert arguments.text("name") == "x"

"""Docker's command-line grammar: flags as data, and reading them from argv.

Long flags take `--name value` or `--name=value`, short ones `-n value`, `-nvalue` and may be joined (`-dp 80:80`).
Boolean flags take a value only after `=`. Written by hand because argparse neither follows this grammar nor loads
quickly enough for a cached build.
"""

from collections.abc import Callable
from typing import NamedTuple

from moldar.errors import UserMistake

_TRUE = frozenset(("1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))


class Flag(NamedTuple):
    """One option. `kind`: bool, string, int, list (may be repeated) or optional (bare `--name` means `bare`)."""

    name: str
    short: str = ""
    kind: str = "string"
    default: str | bool = ""
    value: str = ""
    help: str = ""
    bare: str = ""


class Arguments:
    """What argv said: the values of flags by name, and the positional arguments."""

    def __init__(
        self, values: dict[str, list[str] | str | bool], given: frozenset[str], positional: list[str]
    ) -> None:
        self._values = values
        self.given = given
        self.positional = positional

    def text(self, name: str) -> str:
        value = self._values[name]
        assert isinstance(value, str)
        return value

    def has(self, name: str) -> bool:
        """Whether the command knows the flag."""
        return name in self._values

    def many(self, name: str) -> list[str]:
        value = self._values[name]
        assert isinstance(value, list)
        return value

    def on(self, name: str) -> bool:
        value = self._values[name]
        assert isinstance(value, bool)
        return value

    def number(self, name: str) -> int:
        return int(self.text(name) or "0")


class Command(NamedTuple):
    """A verb: how it is called, what it says of itself, and the function that does it.

    `path` are its words (`("image", "ls")`). `interspersed` False ends the flags at the first argument, as `run`
    and `exec` need. `minimum` and `maximum` count positional arguments; maximum -1 means any number.
    """

    path: tuple[str, ...]
    usage: str
    summary: str
    run: Callable[[Arguments], int]
    flags: tuple[Flag, ...] = ()
    minimum: int = 0
    maximum: int = -1
    interspersed: bool = True

    @property
    def name(self) -> str:
        return "moldar " + " ".join(self.path)


class UsageError(UserMistake):
    """The command line itself is wrong. `command` is empty when no command was recognised."""

    def __init__(self, message: str, command: str, exit_code: int = 125) -> None:
        super().__init__(message, hint=f"See '{command} --help'.")
        self.exit_code = exit_code


class HelpAsked(Exception):
    """The person asked for --help."""


def parse(command: Command, words: list[str]) -> Arguments:
    """Read `words` by the flags of `command`; UsageError (exit code 125, as Docker's) when they do not fit."""
    reader = _Reader(command, words)
    reader.read()
    _check_count(command, len(reader.positional))
    return Arguments(reader.values, frozenset(reader.given), reader.positional)


class _Reader:
    def __init__(self, command: Command, words: list[str]) -> None:
        self.command = command
        self.words = words
        self.at = 0
        self.long = {flag.name: flag for flag in command.flags}
        self.short = {flag.short: flag for flag in command.flags if flag.short}
        self.values: dict[str, list[str] | str | bool] = {flag.name: _initial(flag) for flag in command.flags}
        self.given: set[str] = set()
        self.positional: list[str] = []

    def read(self) -> None:
        while self.at < len(self.words):
            word = self.words[self.at]
            self.at += 1
            if word == "--":
                self.positional += self.words[self.at :]
                return
            if word.startswith("--"):
                self.long_flag(word[2:])
            elif word.startswith("-") and word != "-":
                self.short_flags(word[1:])
            else:
                self.positional.append(word)
                if not self.command.interspersed:
                    self.positional += self.words[self.at :]
                    return

    def long_flag(self, word: str) -> None:
        name, equals, value = word.partition("=")
        flag = self.long.get(name)
        if flag is None:
            if name == "help":
                raise HelpAsked
            raise UsageError(f"unknown flag: --{name}{_near(name, self.long)}", self.command.name)
        if equals:
            self.set(flag, value)
        elif flag.kind == "bool":
            self.set(flag, "true")
        elif flag.kind == "optional":
            self.set(flag, flag.bare)
        else:
            self.set(flag, self.next_word(f"--{name}"))

    def short_flags(self, letters: str) -> None:
        word = "-" + letters
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self.short.get(letter)
            if flag is None:
                if letter == "h":
                    raise HelpAsked
                raise UsageError(f"unknown shorthand flag: {letter!r} in {word}", self.command.name)
            if flag.kind == "bool":
                if letters.startswith("="):
                    self.set(flag, letters[1:])
                    return
                self.set(flag, "true")
            else:
                self.set(flag, letters.removeprefix("=") if letters else self.next_word(f"-{letter}"))
                return

    def next_word(self, flag: str) -> str:
        if self.at >= len(self.words):
            raise UsageError(f"flag needs an argument: {flag}", self.command.name)
        self.at += 1
        return self.words[self.at - 1]

    def set(self, flag: Flag, value: str) -> None:
        self.given.add(flag.name)
        if flag.kind == "bool":
            if value.lower() not in _TRUE | _FALSE:
                raise self.invalid(flag, value, "expected true or false")
            self.values[flag.name] = value.lower() in _TRUE
        elif flag.kind == "list":
            values = self.values[flag.name]
            assert isinstance(values, list)
            values.append(value)
        else:
            if flag.kind == "int" and not value.removeprefix("-").isdecimal():
                raise self.invalid(flag, value, "expected a whole number")
            self.values[flag.name] = value

    def invalid(self, flag: Flag, value: str, why: str) -> UsageError:
        return UsageError(f'invalid argument "{value}" for "--{flag.name}" flag: {why}', self.command.name)


def _initial(flag: Flag) -> list[str] | str | bool:
    if flag.kind == "list":
        return []
    if flag.kind == "bool":
        return bool(flag.default)
    return str(flag.default or "")


def _check_count(command: Command, count: int) -> None:
    if command.minimum <= count and (command.maximum < 0 or count <= command.maximum):
        return
    if command.minimum == command.maximum:
        need = f"exactly {command.minimum}" if command.minimum else "no"
    elif command.maximum < 0:
        need = f"at least {command.minimum}"
    else:
        need = f"{command.minimum} to {command.maximum}"
    plural = "argument" if need.endswith(" 1") else "arguments"
    verb = "accepts" if need == "no" else "requires"
    raise UsageError(f"'{command.name}' {verb} {need} {plural}", command.name, exit_code=1)


def _near(name: str, known: dict[str, Flag]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean --{close[0]}?)" if close else ""

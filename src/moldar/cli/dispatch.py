"""From argv to the command's function, and from its errors to words on stderr and an exit code."""

import importlib
import sys

from moldar.cli import index
from moldar.cli.argv import Command, HelpAsked, UsageError, parse
from moldar.cli.environment import set_home
from moldar.errors import MoldarError


def run(words: list[str]) -> int:
    """Run the command that `words` name and return the exit code."""
    try:
        return _dispatch(_global_options(words))
    except MoldarError as error:
        sys.stdout.flush()
        print(render_error(error), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        sys.stdout.flush()
        if isinstance(error, BrokenPipeError):
            raise
        print(f"ERROR: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
        return 1


def render_error(error: MoldarError) -> str:
    """The lines that a person reads: the excerpt, what happened, and what to do about it."""
    lines = [error.excerpt.rstrip("\n")] if error.excerpt else []
    if isinstance(error, UsageError):
        return "\n".join([f"ERROR: {error.message}", "", error.hint])
    lines.append(f"ERROR: {error.message}")
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def _global_options(words: list[str]) -> list[str]:
    while words and words[0].startswith("-"):
        option, equals, value = words[0].partition("=")
        if option == "--home":
            if not equals and len(words) < 2:
                raise UsageError("flag needs an argument: --home", "moldar")
            set_home(value if equals else words[1])
            words = words[1:] if equals else words[2:]
        elif option in ("-v", "--version"):
            return ["version", "--short"]
        elif option in ("-h", "--help"):
            return ["help"]
        else:
            raise UsageError(f"unknown flag: {option}", "moldar")
    return words


def _dispatch(words: list[str]) -> int:
    found = index.find(words)
    if found is None:
        return _no_command(words)
    name, count = found
    command = _load(name)
    try:
        arguments = parse(command, words[count:])
    except HelpAsked:
        from moldar.cli import help as texts

        print(texts.usage(command))
        return 0
    return command.run(arguments)


def _load(name: str) -> Command:
    module = importlib.import_module("moldar.cli." + index.COMMANDS[name].module)
    for command in module.COMMANDS:
        if " ".join(command.path) == name:
            assert isinstance(command, Command)
            return command
    raise AssertionError(f"cli/index.py names {name!r}, which {module.__name__} does not have")


def _no_command(words: list[str]) -> int:
    from moldar.cli import help as texts

    words = [word for word in words if word not in ("help", "--help", "-h")]
    if not words:
        print(texts.overview())
        return 0
    if words[0] in index.GROUPS and (len(words) == 1 or words[1].startswith("-")):
        print(texts.group(words[0]))
        return 0
    found = index.find(words)
    if found is not None:
        print(texts.usage(_load(found[0])))
        return 0
    import difflib

    typed = " ".join(words[:2]) if words[0] in index.GROUPS else words[0]
    close = difflib.get_close_matches(typed, [*index.COMMANDS, *index.ALIASES, *index.GROUPS], n=1)
    near = f" (did you mean 'moldar {close[0]}'?)" if close else ""
    raise UsageError(f"'{typed}' is not a moldar command{near}", "moldar", exit_code=1)

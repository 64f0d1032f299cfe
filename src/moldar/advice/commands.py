"""What a RUN does with package managers, read from its text; None for text that is not plainly understood.

Understood are words without substitutions, joined by `&&` or `;`. Anything else may do anything.
"""

import re
import shlex
from typing import NamedTuple

from moldar.dockerfile.instructions import Run

_ODD = re.compile(r"[$`|<>(){}!~\n]|(?<!&)&(?!&)")
_REMOVES = re.compile(r"rm -r?f?r? (?:/[\w./*-]+ ?)+\Z")
_PYTHONS = re.compile(r"(?:/\S*/)?python[\d.]*\Z")
_PIPS = re.compile(r"(?:/\S*/)?pip[\d.]*\Z")
_HARMLESS = frozenset({"echo", "true", "set"})
_VALUED = {
    "pip": {
        "-i",
        "--index-url",
        "--extra-index-url",
        "--trusted-host",
        "-f",
        "--find-links",
        "--timeout",
        "--retries",
    },
    "apt": {"-t", "-o", "--target-release"},
}


class Part(NamedTuple):
    """One command of a RUN. `manager` is pip, npm, yarn, apt, apk, cargo or go, empty for others.

    `verb` is the manager's subcommand. `manifests` are files that it needs (as written, from the directory in which
    it runs), `optional` those that it takes when they are there. `pure` when it can read nothing else of its own.
    """

    words: tuple[str, ...]
    manager: str = ""
    verb: str = ""
    manifests: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    pure: bool = False


def manager_parts(run: Run) -> tuple[Part, ...]:
    """The commands of `run` that call a package manager, as far as they can be told in any text."""
    text = " ".join(run.command.args)
    found = []
    for piece in re.split(r"&&|\|\||;|\n|\|", text):
        words = tuple(piece.split())
        while words and re.match(r"\w+=", words[0]):
            words = words[1:]
        part = read_part(words)
        if part.manager:
            found.append(part)
    return tuple(found)


def plain_parts(run: Run) -> tuple[Part, ...] | None:
    """Every command of `run`, when all of it is plainly understood; else None."""
    if (
        run.files
        or run.summary
        or not run.command.shell
        or run.network != "default"
        or run.security != "sandbox"
        or run.devices
    ):
        return None
    text = re.sub(r"[ \t]+", " ", run.command.args[0]).strip()
    if _ODD.search(text):
        return None
    parts = []
    for piece in re.split(r"&&|;", text):
        try:
            words = tuple(shlex.split(piece))
        except ValueError:
            return None
        if not words:
            return None
        part = read_part(words)
        if _REMOVES.match(piece.strip()) or words[0] in _HARMLESS:
            part = part._replace(pure=True)
        elif any(char in piece for char in "*?["):
            return None
        parts.append(part)
    return tuple(parts)


def read_part(words: tuple[str, ...]) -> Part:
    """What one command is."""
    if not words:
        return Part(words)
    if _PYTHONS.match(words[0]) and words[1:3] == ("-m", "pip"):
        return _pip(words, words[3:])
    if _PIPS.match(words[0]):
        return _pip(words, words[1:])
    reader = {
        "npm": _npm,
        "yarn": _yarn,
        "apt-get": _apt,
        "apt": _apt,
        "apk": _apk,
        "go": _go,
        "cargo": _cargo,
    }.get(words[0])
    return reader(words) if reader else Part(words)


def _pip(words: tuple[str, ...], rest: tuple[str, ...]) -> Part:
    verb = next((word for word in rest if not word.startswith("-")), "")
    part = Part(words, "pip", verb)
    if verb != "install":
        return part
    manifests: list[str] = []
    pure = True
    at = rest.index("install") + 1
    while at < len(rest):
        word = rest[at]
        if word in ("-r", "--requirement", "-c", "--constraint"):
            manifests += rest[at + 1 : at + 2]
            at += 1
        elif word.startswith(("--requirement=", "--constraint=")):
            manifests.append(word.partition("=")[2])
        elif word in _VALUED["pip"]:
            at += 1
        elif (
            word in ("-e", "--editable", "-t", "--target", "--prefix")
            or word.startswith(("--editable=", "-r", "-e"))
            or (not word.startswith("-") and not _is_requirement(word))
        ):
            pure = False
        at += 1
    return part._replace(manifests=tuple(manifests), pure=pure)


def _is_requirement(word: str) -> bool:
    """Whether pip fetches this from an index: no path, no archive of the context."""
    return bool(
        re.match(r"[A-Za-z0-9][\w.-]*(?:\[[\w,.-]+\])?(?:[=<>~!]=?[\w.*,<>=!~-]+)?\Z", word)
    ) and not re.search(r"\.(?:whl|zip|tar|gz|bz2|tgz)\Z", word)


def _npm(words: tuple[str, ...]) -> Part:
    bare = [word for word in words[1:] if not word.startswith("-")]
    verb = bare[0] if bare else ""
    part = Part(words, "npm", verb)
    if verb == "cache":
        return part._replace(pure=True)
    if verb not in ("ci", "install", "i", "add"):
        return part
    if "-g" in words or "--global" in words:
        return part._replace(pure=all(_is_package(word) for word in bare[1:]) and bool(bare[1:]))
    pure = not bare[1:] and not any(word.startswith(("--prefix", "-C", "--workspace", "-w")) for word in words)
    required = ("package.json", "package-lock.json") if verb == "ci" else ("package.json",)
    optional = (".npmrc", "npm-shrinkwrap.json") if verb == "ci" else ("package-lock.json", ".npmrc")
    return part._replace(manifests=required, optional=optional, pure=pure)


def _is_package(word: str) -> bool:
    return bool(re.match(r"(?:@[\w.-]+/)?[\w][\w-]*(?:@[\w.^~-]+)?\Z", word))


def _yarn(words: tuple[str, ...]) -> Part:
    bare = [word for word in words[1:] if not word.startswith("-")]
    verb = bare[0] if bare else "install"
    part = Part(words, "yarn", verb)
    if verb == "cache":
        return part._replace(pure=True)
    if verb != "install" or bare[1:] or any(word.startswith(("--cwd", "--modules-folder")) for word in words):
        return part
    return part._replace(manifests=("package.json",), optional=("yarn.lock", ".npmrc", ".yarnrc"), pure=True)


def _apt(words: tuple[str, ...]) -> Part:
    bare = _without_values(words[1:], _VALUED["apt"])
    verb = bare[0] if bare else ""
    pure = verb in ("update", "install", "clean", "autoremove", "upgrade", "remove", "purge")
    return Part(words, "apt", verb, pure=pure and not any("/" in word for word in bare[1:]))


def _apk(words: tuple[str, ...]) -> Part:
    bare = [word for word in words[1:] if not word.startswith("-")]
    verb = bare[0] if bare else ""
    pure = verb in ("add", "update", "del", "upgrade") and not any("/" in word or ".apk" in word for word in bare[1:])
    return Part(words, "apk", verb, pure=pure)


def _go(words: tuple[str, ...]) -> Part:
    verb = " ".join(words[1:3]) if words[1:2] == ("mod",) else "".join(words[1:2])
    if verb not in ("mod download", "build", "install", "test", "get"):
        return Part(words, "", verb)
    part = Part(words, "go", verb)
    if words[1:] == ("mod", "download"):
        return part._replace(manifests=("go.mod",), optional=("go.sum",), pure=True)
    return part


def _cargo(words: tuple[str, ...]) -> Part:
    verb = "".join(words[1:2])
    return Part(words, "cargo" if verb in ("build", "fetch", "install", "test") else "", verb)


def _without_values(words: tuple[str, ...], valued: set[str]) -> list[str]:
    kept = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in valued:
            skip = True
        elif not word.startswith("-"):
            kept.append(word)
    return kept

"""Fuzzing of all that reads text in the Dockerfile room: only located user mistakes may come out.

A normal run takes a few seconds. `FUZZ_SECONDS=600 pytest tests/fuzz` goes on for that long, `FUZZ_SEED=n` repeats a
run. An input that fails is printed, and belongs into a unit test.
"""

import os
import random
import time
from collections.abc import Callable

import pytest

from moldar.dockerfile.checks.checking import check
from moldar.dockerfile.checks.facts import BaseImage, Facts
from moldar.dockerfile.checks.fixes import mend
from moldar.dockerfile.globs import match
from moldar.dockerfile.ignore import read_ignore_file
from moldar.dockerfile.instructions import Arg, Env, Expose, Onbuild
from moldar.dockerfile.reading import NAMES, read_dockerfile, read_trigger
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import Expander, Style
from moldar.errors import UserMistake

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("FUZZ_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
LONGEST_CASE = 5  # seconds of CPU: an input that takes longer is a finding too

FRAGMENTS = [
    *NAMES, *(name.lower() for name in NAMES), "FROM a\n", "FROM a AS b\n", "FROM --platform=$X a\n", "ARG X=1\n",
    "RUN --mount=type=cache,target=/x", "--mount=", "type=secret,id=x", 'target="a,b"', ",", "size=1g", "mode=0755",
    "COPY --from=b --chmod=755", "HEALTHCHECK --interval=1s CMD x", "ONBUILD", "EXPOSE 80-90/tcp", "STOPSIGNAL 9",
    "<<EOF", "<<-EOF", "<<'EOF'", '<<"E F"', "<<", "EOF\n", "\tEOF\n", "3<<A", "A\n", "\n", "\r\n", "\n\n", " ", "\t",
    "\\\n", "\\", "\\\\", "`\n", "`", "# escape=`\n", "# check=skip=all;error=true\n", "# syntax=x\n", "#", "# c\n",
    "$", "${", "}", "$X", "${X}", "${X:-", "${X:+", "${X?", "${X#*", "${X%%?", "${X/a/", "//", "/", ":", "$$", "$1",
    "'", '"', "=", "A=1", "A=$A$A", "[", "]", '["a"]', '["a",', '["\\ud800"]', "[1]", "{", "\0", "\x85", "\u2028",
    "é", "\ufeff", "!", "*", "**", "**/", "?", "[^", "[a-z]", "-", "..", "./", "a", "b/c", "1e999", "9" * 30, "-1",
]  # fmt: skip
GARBAGE = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x00"]
VALUES = {"A": "x", "X": "a b", "EMPTY": ""}
FACTS = Facts({"X": "1"}, {"TARGETPLATFORM": "linux/amd64"}, None, lambda name, platform: BaseImage(VALUES))


def text(chance: random.Random) -> str:
    pieces = chance.choices(FRAGMENTS, k=chance.randrange(1, 30))
    return "".join(piece + chance.choice(("", "", " ", "\n")) for piece in pieces)


def instructions(chance: random.Random) -> str:
    """Lines that begin as instructions do, so that more than the first is read."""
    lines = []
    for _ in range(chance.randrange(1, 6)):
        pieces = [piece for piece in chance.choices(FRAGMENTS, k=chance.randrange(5)) if "\n" not in piece]
        lines.append(f"{chance.choice(NAMES)} {' '.join(pieces)}\n")
    return "".join(lines)


def data(chance: random.Random) -> bytes:
    whole = (text(chance) if chance.random() < 0.5 else instructions(chance)).encode()
    if chance.random() < 0.2:
        at = chance.randrange(len(whole) + 1)
        whole = whole[:at] + chance.choice(GARBAGE) + whole[at:]
    if chance.random() < 0.05:
        whole *= chance.randrange(2, 400)
    return b"FROM a\n" + whole if chance.random() < 0.7 else whole


def fuzz_dockerfile(chance: random.Random) -> object:
    content = data(chance)
    try:
        file = read_dockerfile(content)
        check(file, FACTS)
    except DockerfileError as error:
        assert error.message.startswith("Dockerfile"), content
        assert error.message.isprintable() or "\n" in error.message or "\t" in error.message, content
        f"{error.message}{error.excerpt}{error.hint}".encode()
        return content
    for stage in file.stages:
        for instruction in stage.instructions:
            try:
                expander = Expander(VALUES.get, file.escape)
                expanded = instruction.expand(expander)
                if isinstance(expanded, Expose):
                    expanded.exposed()
                if isinstance(instruction, Arg):
                    [expander.word(argument.value or "") for argument in instruction.arguments]
                if isinstance(instruction, Onbuild):
                    read_trigger(instruction.trigger, stage.origin)
            except DockerfileError as error:
                assert isinstance(instruction, Arg) or error.location is not None, content
    return content


def fuzz_fixes(chance: random.Random) -> object:
    """What reads and checks without a mistake does so after mending, with no finding that was said to be mended."""
    content = data(chance)
    try:
        if check(read_dockerfile(content), FACTS).error is not None:
            return content
    except DockerfileError:
        return content
    mended = mend(content, FACTS)
    after = check(read_dockerfile(mended.data), FACTS)
    assert after.error is None, content
    assert len(after.findings) == len(mended.left), content
    assert environment(content) == environment(mended.data), content
    return content


def environment(content: bytes) -> list[tuple[str, str]]:
    """What the ENVs of a file set."""
    file = read_dockerfile(content)
    expander = Expander(VALUES.get, file.escape)
    found = [each for stage in file.stages for each in stage.instructions if isinstance(each, Env)]
    return [(pair.key, pair.value) for each in found for pair in each.expand(expander).pairs]


def fuzz_words(chance: random.Random) -> object:
    content = text(chance)
    style = Style(*(chance.random() < 0.5 for _ in range(4)))
    expander = Expander(VALUES.get, chance.choice("\\`"))
    for expand in (expander.word, expander.heredoc, expander.title, lambda words: expander.words(words, style)):
        try:
            expand(content)
        except DockerfileError as error:
            assert error.problem
    return content


def fuzz_ignore(chance: random.Random) -> object:
    content = data(chance)
    path = text(chance).strip("/\n")[:200] or "a"
    try:
        patterns = read_ignore_file(content)
    except DockerfileError as error:
        assert error.message.startswith(".dockerignore:"), content
        return content
    patterns.ignores(path)
    patterns.can_skip(path)
    patterns.may_match_below(path)
    return content


def fuzz_globs(chance: random.Random) -> object:
    pattern = text(chance)[:60]
    try:
        match(pattern, text(chance)[:100])
    except UserMistake as error:
        assert error.message
    return pattern


@pytest.mark.parametrize("target", [fuzz_dockerfile, fuzz_fixes, fuzz_words, fuzz_ignore, fuzz_globs])
def test_fuzz(target: Callable[[random.Random], object]) -> None:
    end = time.monotonic() + SECONDS / 5
    seed = SEED
    while time.monotonic() < end:
        chance = random.Random(seed)
        start = time.process_time()
        try:
            target(chance)
        except Exception as error:
            raise AssertionError(f"FUZZ_SEED={seed} {target.__name__}: {error!r}") from error
        assert time.process_time() - start < LONGEST_CASE, f"FUZZ_SEED={seed} {target.__name__} took too long"
        seed += 1

"""Patterns of .dockerignore: reading them, asking them, pruning by them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moldar.dockerfile.ignore import Patterns, clean, read_ignore_file
from moldar.dockerfile.source import DockerfileError


def kept(patterns: str, paths: str) -> list[str]:
    matcher = read_ignore_file(patterns.encode())
    return [path for path in paths.split() if not matcher.ignores(path)]


@pytest.mark.parametrize(
    ("patterns", "paths", "expected"),
    [
        (
            "*.log\nsub/x\ntemp?\nname",
            "a.log sub/b.log sub/x sub/y temp1 temp12 name/in deep/name",
            "sub/b.log sub/y temp12 deep/name",
        ),
        ("# a\n  b  \n\n\t\n #c", "a b #c", "a"),
        ("\ufeff# a\n", "a", "a"),
        ("\ufeffa\r\nb\r", "a b c", "c"),
        ("/lead\n./dot\ntrail/\nx/../up", "lead dot trail/f up sub/lead", "sub/lead"),
        (
            "**/*.o\n**/cache\ndocs/**/draft",
            "a.o x/y/b.o cache/f x/cache/f docs/draft docs/a/b/draft draft x.c",
            "draft x.c",
        ),
        (
            "*\n!src/**/*.c\n!Makefile",
            "Makefile src/a.c src/b.h src/lib/c.c other/e.c",
            "Makefile src/a.c src/lib/c.c",
        ),
        ("*.md\n!README.md\nREADME-*.md", "README.md OTHER.md README-x.md", "README.md"),
        ("build\n!build/keep", "build build/keep build/drop", "build/keep"),
        ("! keep\n*", "keep", ""),
        ("*\n! keep", "keep", "keep"),
        ("only/*", "only only/a only/a/b", "only"),
        ("abc/**", "abc abc/d", "abc"),
        ("**", "a a/b", ""),
        ("**/**", "a a/b", ""),
        ("a**/*.txt", "a/f.txt a/d/f.txt b/f.txt", "b/f.txt"),
        ("**file", "file xfile d/file d/xfile filex", "filex"),
        ("a\\*b\n[x-z]?", "a*b ab xx yy ax", "ab ax"),
        ("a.b\nc+d", "a.b axb c+d ccd", "axb ccd"),
        ("", "a", "a"),
        (".", "a", "a"),
        # An exception is asked only when there is something to bring back.
        ("a/b\n!a", "a/b a/c", "a/c"),
        ("a\n!a", "a/b", "a/b"),
        ("!a\na/b", "a/b a/c", "a/c"),
        ("a\n!a/b\na/b/c", "a/b a/b/c/d a/b/e", "a/b a/b/e"),
    ],
)
def test_what_is_kept(patterns: str, paths: str, expected: str) -> None:
    assert kept(patterns, paths) == expected.split()


@pytest.mark.parametrize(("patterns", "line"), [("a\n!\n", 2), ("# x\n\n[", 3), ("a\\", 1)])
def test_bad_patterns_are_located(patterns: str, line: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        read_ignore_file(patterns.encode(), "app.dockerignore")
    assert caught.value.message.startswith(f"app.dockerignore:{line}: ")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "."),
        ("a//b/./c/", "a/b/c"),
        ("/../a", "/a"),
        ("../a", "../a"),
        ("a/../..", ".."),
        ("/", "/"),
        ("a/..", "."),
    ],
)
def test_clean(path: str, expected: str) -> None:
    assert clean(path) == expected


@pytest.mark.parametrize(
    ("patterns", "directory", "skip"),
    [
        ("a", "a", True),
        ("*\n!src/*.c", "src", False),
        ("*\n!src/*.c", "src/lib", True),
        ("*\n!src/*.c", "other", True),
        ("*\n!**/*.c", "other", False),
        ("*\n!a/**/x", "b", True),
        ("*\n!a/**/x", "a/b/c", False),
        ("*\n!Makefile", "Makefile", True),
        ("*\n![ab]/c", "b", False),
    ],
)
def test_what_can_be_skipped(patterns: str, directory: str, skip: bool) -> None:
    assert read_ignore_file(patterns.encode()).can_skip(directory) is skip


def test_a_hundred_thousand_paths_are_asked_quickly() -> None:
    matcher = Patterns(["*", "!d1", "!**/*.py", "**/file1*", "d5/e*/x"])
    paths = [f"d{n % 100}/e{n % 1000}/file{n}.{'py' if n % 3 else 'o'}" for n in range(100_000)]
    start = time.process_time()
    ignored = sum(map(matcher.ignores, paths))
    assert 0 < ignored < len(paths)
    assert time.process_time() - start < 3  # 0.2 s on a quiet machine


def naive_match(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if pattern.startswith("**"):
        rest = pattern[2:].removeprefix("/")
        return not rest or any(
            (cut == 0 or path[cut - 1] == "/") and naive_match(rest, path[cut:]) for cut in range(len(path) + 1)
        )
    if pattern[0] == "*":
        return any("/" not in path[:cut] and naive_match(pattern[1:], path[cut:]) for cut in range(len(path) + 1))
    if pattern[0] == "?":
        return bool(path) and path[0] != "/" and naive_match(pattern[1:], path[1:])
    return path[:1] == pattern[0] and naive_match(pattern[1:], path[1:])


def naive_ignores(patterns: list[str], path: str) -> bool:
    """Walk down to `path`, keeping for each pattern whether it has matched on the way."""
    matched = [False] * len(patterns)
    ignored = False
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        ignored = False
        for number, pattern in enumerate(patterns):
            exception = pattern.startswith("!")
            if not matched[number] and exception is ignored:
                matched[number] = naive_match(pattern.removeprefix("!"), "/".join(parts[:depth]))
            if matched[number]:
                ignored = not exception
    return ignored


PART = st.sampled_from(["a", "b", "ab", "*", "a*", "?", "**", "b?"])
PATTERN = st.builds(
    lambda exception, parts: exception + clean("/".join(parts)),
    st.sampled_from(["", "", "!"]),
    st.lists(PART, min_size=1, max_size=3),
)
PATH = st.lists(st.sampled_from(["a", "b", "ab", "ba", "c"]), min_size=1, max_size=4).map("/".join)


@given(st.lists(PATTERN, max_size=4), PATH)
def test_asking_agrees_with_the_naive_way(patterns: list[str], path: str) -> None:
    assert Patterns(patterns).ignores(path) is naive_ignores(patterns, path)


@given(st.lists(PATTERN, max_size=4), PATH, PATH)
def test_nothing_comes_back_below_what_can_be_skipped(patterns: list[str], directory: str, below: str) -> None:
    matcher = Patterns(patterns)
    if matcher.ignores(directory) and matcher.can_skip(directory):
        assert matcher.ignores(f"{directory}/{below}")
    if not matcher.ignores(directory) and not matcher.may_match_below(directory):
        assert not matcher.ignores(f"{directory}/{below}")

"""Wildcards of COPY's sources."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moldar.dockerfile.globs import BadPattern, has_wildcards, match, split


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("[a-ζ]*", "α", True),
        ("a?b", "a/b", False),
        ("a[/]b", "a/b", True),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[x\\-]", "z", False),
        ("*x", "xxx", True),
        ("[z-a]", "z", False),
        ("[^z-a]", "q", True),
        ("[!a]", "!", True),
        ("a.b", "axb", False),
        ("", "", True),
        ("", "x", False),
        ("[[:x]", ":", True),
        ("x\n", "x", False),
    ],
)
def test_match(pattern: str, path: str, expected: bool) -> None:
    assert match(pattern, path) is expected


@pytest.mark.parametrize(
    "pattern", ["[", "[^", "[a", "[]a]", "[-]", "[x-]", "[-x]", "[a-", "\\", "a[", "[\\", "[^bc", "[]"]
)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(BadPattern) as caught:
        match(pattern, "a")
    assert caught.value.pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/b/c", ("a/b/c", ())),
        ("a/b*/c", ("a", ("b*", "c"))),
        ("*", ("", ("*",))),
        ("/a/?", ("/a", ("?",))),
        ("a\\*/b", ("a\\*/b", ())),
    ],
)
def test_split(pattern: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert split(pattern) == expected
    assert has_wildcards(pattern) is bool(expected[1])


def naive(pattern: str, path: str) -> bool:
    """One character at a time; classes are only `[ab]` and `[^ab]`."""
    if not pattern:
        return not path
    if pattern[0] == "*":
        return any("/" not in path[:cut] and naive(pattern[1:], path[cut:]) for cut in range(len(path) + 1))
    if pattern[0] == "[":
        negated = pattern.startswith("[^")
        members, _, rest = pattern[2 if negated else 1 :].partition("]")
        return bool(path) and (path[0] in members) is not negated and naive(rest, path[1:])
    if pattern[0] == "?":
        return bool(path) and path[0] != "/" and naive(pattern[1:], path[1:])
    return path[:1] == pattern[0] and naive(pattern[1:], path[1:])


PIECES = st.sampled_from(["a", "b", "/", "*", "?", "[ab]", "[^a]", ".", "+", "-"])


@given(st.lists(PIECES, max_size=6).map("".join), st.text("ab/.+-", max_size=7))
def test_match_agrees_with_the_naive_way(pattern: str, path: str) -> None:
    assert match(pattern, path) is naive(pattern, path)

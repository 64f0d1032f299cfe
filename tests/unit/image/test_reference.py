"""References as Docker reads and shows them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moldar.errors import UserMistake
from moldar.image.model import digest_of
from moldar.image.reference import parse_reference

DIGEST = digest_of(b"x")


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("my-server", "docker.io/library/my-server:latest", "my-server:latest"),
        ("alice/app:v1", "docker.io/alice/app:v1", "alice/app:v1"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/library/a", "docker.io/library/a:latest", "a:latest"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        ("localhost:5000/a:b", "localhost:5000/a:b", "localhost:5000/a:b"),
        ("127.0.0.1:5050/alice/app", "127.0.0.1:5050/alice/app:latest", "127.0.0.1:5050/alice/app:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("ghcr.io/a/b/c_d__e.f-g--h:T.1_2", "ghcr.io/a/b/c_d__e.f-g--h:T.1_2", "ghcr.io/a/b/c_d__e.f-g--h:T.1_2"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
        (f"a:1@{DIGEST}", f"docker.io/library/a:1@{DIGEST}", f"a:1@{DIGEST}"),
        ("UPPER/a", "UPPER/a:latest", "UPPER/a:latest"),
    ],
)
def test_names_in_full_and_as_shown(text: str, full: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert (str(reference), reference.familiar) == (full, familiar)
    assert parse_reference(str(reference)) == reference == parse_reference(reference.familiar)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty|invalid repository"), ("Upper", "lower case"), ("a/B", "lower case"), ("a:", "invalid tag"),
        ("a:-x", "invalid tag"), ("a:" + "x" * 129, "invalid tag"), ("a b", "invalid repository"),
        ("a//b", "invalid repository"), ("a/", "invalid repository"), ("/a", "invalid"), ("a.b/", "empty"),
        ("a_-b", "invalid repository"), ("-a", "invalid repository"), ("a@sha256:12", "invalid digest"),
        ("a@", "invalid digest"), ("http://a/b", "invalid"), ("-bad-.io/a", "invalid registry"),
        ("a" * 300, "invalid repository"), ("../a", "invalid"), ("a/../b", "invalid repository"),
    ],
)  # fmt: skip
def test_malformed_names_say_why(text: str, why: str) -> None:
    with pytest.raises(UserMistake, match=why):
        parse_reference(text)


@given(st.text(st.sampled_from("ab/:@.-_A0[] é\0"), max_size=30))
def test_anything_parses_or_is_a_mistake(text: str) -> None:
    try:
        reference = parse_reference(text)
    except UserMistake:
        return
    assert parse_reference(str(reference)) == reference
    assert "/../" not in f"/{reference.repository}/"

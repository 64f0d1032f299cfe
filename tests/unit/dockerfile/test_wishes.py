"""`# moldar:ttl=…` above a RUN."""

import pytest

from moldar.dockerfile.instructions import Run
from moldar.dockerfile.reading import read_dockerfile
from moldar.dockerfile.source import DockerfileError


def life(comments: str) -> float | None:
    (stage,) = read_dockerfile(f"FROM a\n{comments}RUN b\n".encode()).stages
    (run,) = stage.instructions
    assert isinstance(run, Run)
    return run.max_age


@pytest.mark.parametrize(
    ("comments", "seconds"),
    [
        ("", None),
        ("# a word about ttl\n", None),
        ("# moldar:ttl=24h\n", 86400),
        ("#moldar:ttl=90s\n# why\n", 90),
        ("# moldar:ttl = 7d\n", 7 * 86400),
        ("# moldar:ttl=2w\n", 14 * 86400),
        ("# moldar:ttl=0\n", 0),
        ("# moldar:ttl=1h\n#\n", None),  # an empty comment parts it from what is below
    ],
)
def test_how_long_a_result_lives(comments: str, seconds: float | None) -> None:
    assert life(comments) == seconds


@pytest.mark.parametrize(
    ("comment", "told"),
    [
        ("# moldar:tll=1h\n", "moldar:tll"),
        ("# moldar:ttl\n", "moldar:ttl"),
        ("# moldar:ttl=soon\n", 'invalid duration "soon"'),
        ("# moldar:ttl=-1h\n", "negative"),
    ],
)
def test_what_cannot_be_meant(comment: str, told: str) -> None:
    with pytest.raises(DockerfileError, match=told) as caught:
        life(comment)
    assert caught.value.location is not None
    assert caught.value.location.start == 3


def test_it_is_for_run_alone() -> None:
    with pytest.raises(DockerfileError, match="for RUN and not for COPY"):
        read_dockerfile(b"FROM a\n# moldar:ttl=1h\nCOPY a b\n")

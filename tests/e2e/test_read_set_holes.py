"""What a step knows without asking the copied layers: none of it may let an older run be reused.

What it can learn of the layers themselves is in tests/readset/test_holes.py; docs/dev/read-sets.md lists all of it.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import Moldar
from tests.e2e.test_build import steps
from tests.e2e.test_read_sets import files_of

Project = Callable[..., Path]


def outcome(moldar: Moldar, context: Path, *words: str) -> bool:
    """Build; whether the last step was found or reused."""
    done = moldar.run("build", *words, "-t", "app", context)
    assert done.returncode == 0, done.stderr
    return list(steps(done.stderr).values())[-1]


@pytest.fixture
def over_copied(project: Project) -> Callable[[str], Path]:
    """A project whose one RUN, or what stands in its place, reads nothing of what is copied."""

    def make(run: str) -> Path:
        return project(Dockerfile=f"FROM busybox\nARG VERSION=1\nCOPY . /app\n{run}\n", unread="1", **{"m/x": "1"})

    return make


def edit(context: Path) -> None:
    """Change what the step does not read, so that only an older run can serve."""
    (context / "unread").write_text((context / "unread").read_text() + "x")


def test_nothing_but_unread_files_changed(with_busybox: Moldar, over_copied: Callable[[str], Path]) -> None:
    """What the other tests here would show if what they change were not seen."""
    context = over_copied("RUN --mount=type=bind,source=m,target=/m echo $VERSION > /out")
    assert not outcome(with_busybox, context)
    edit(context)
    assert outcome(with_busybox, context)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("RUN true", ("--network=none",)),
        ("RUN true", ("--add-host=a:10.0.0.1",)),
        ("RUN true", ("--shm-size=8m",)),
        ("RUN true", ("--ulimit=nofile=64:64",)),
        ("RUN true", ("--build-arg=VERSION=2",)),
    ],
)
def test_flags_of_the_build(
    with_busybox: Moldar, over_copied: Callable[[str], Path], run: str, words: tuple[str, ...]
) -> None:
    context = over_copied(run)
    assert not outcome(with_busybox, context)
    edit(context)
    assert not outcome(with_busybox, context, *words)
    edit(context)
    assert outcome(with_busybox, context, *words)


def test_what_is_mounted(with_busybox: Moldar, over_copied: Callable[[str], Path]) -> None:
    context = over_copied("RUN --mount=type=bind,source=m,target=/m cat /m/x > /out")
    assert not outcome(with_busybox, context)
    edit(context)
    (context / "m/x").write_text("2")
    assert not outcome(with_busybox, context)
    assert with_busybox("run", "--rm", "app", "cat", "/out") == "2"


def test_what_a_mounted_stage_holds(with_busybox: Moldar, project: Project) -> None:
    text = (
        "FROM busybox AS made\nCOPY v /v\nFROM busybox\nCOPY unread /app/\n"
        "RUN --mount=from=made,source=/v,target=/v cat /v > /out\n"
    )
    context = project(Dockerfile=text, unread="1", v="1")
    assert not outcome(with_busybox, context)
    edit(context)
    assert outcome(with_busybox, context)
    edit(context)
    (context / "v").write_text("2")
    assert not outcome(with_busybox, context)
    assert with_busybox("run", "--rm", "app", "cat", "/out") == "2"


def test_a_step_with_the_powers_of_the_host(with_busybox: Moldar, over_copied: Callable[[str], Path]) -> None:
    """It could look past the view, and is never reused."""
    context = over_copied("RUN --security=insecure true")
    assert not outcome(with_busybox, context, "--allow=security.insecure")
    edit(context)
    assert not outcome(with_busybox, context, "--allow=security.insecure")
    assert outcome(with_busybox, context, "--allow=security.insecure")


def test_layers_that_steps_made(with_busybox: Moldar, project: Project) -> None:
    """They are shown natively, so that nothing of them is noted: they must be the same."""
    text = "FROM busybox\nCOPY v unread /app/\nRUN cat /app/v > /v\nRUN cat /v > /out\n"
    context = project(Dockerfile=text, unread="1", v="1")
    assert not outcome(with_busybox, context)
    edit(context)
    assert outcome(with_busybox, context)
    (context / "v").write_text("2")
    edit(context)
    assert not outcome(with_busybox, context)
    assert with_busybox("run", "--rm", "app", "cat", "/out") == "2"


def test_the_order_of_copied_layers(with_busybox: Moldar, project: Project) -> None:
    text = "FROM busybox\nCOPY one /app/\nCOPY two /app/\nRUN cat /app/x > /out\n"
    context = project(Dockerfile=text, **{"one/x": "1", "two/x": "2"})
    assert not outcome(with_busybox, context)
    (context / "Dockerfile").write_text("FROM busybox\nCOPY two /app/\nCOPY one /app/\nRUN cat /app/x > /out\n")
    assert not outcome(with_busybox, context)
    assert with_busybox("run", "--rm", "app", "cat", "/out") == "1"


def test_a_copied_directory_over_one_of_the_base(with_busybox: Moldar, project: Project, tmp_path: Path) -> None:
    """A name that comes between the step and what it read of the base."""
    base = project("base", Dockerfile="FROM busybox\nRUN mkdir /data && echo base > /data/x\n")
    with_busybox("build", "-t", "base", base)
    context = project(Dockerfile="FROM base\nCOPY files /\nRUN cat /data/x > /out\n", **{"files/unread": "1"})
    assert not outcome(with_busybox, context)
    (context / "files/data").mkdir()
    (context / "files/data/x").write_text("copied")
    assert not outcome(with_busybox, context)
    assert with_busybox("run", "--rm", "app", "cat", "/out") == "copied"
    (context / "files/data/x").unlink()
    (context / "files/data/y").write_text("beside it")
    outcome(with_busybox, context)
    assert with_busybox("run", "--rm", "app", "cat", "/out") == "base\n"


def test_names_like_those_of_whiteouts(with_busybox: Moldar, project: Project, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN mkdir /app && echo 1 > /app/hidden\nCOPY files /app/\nRUN ls -a /app > /out\n"
    context = project(Dockerfile=text, **{"files/a": "1", "files/.wh.old": ""})
    outcome(with_busybox, context)
    (context / "files/.wh.old").unlink()
    (context / "files/.wh.hidden").write_text("")
    outcome(with_busybox, context)
    with_busybox("build", "--no-cache", "-t", "fresh", context)
    reused, fresh = (files_of(with_busybox, name, tmp_path) for name in ("app", "fresh"))
    assert {path: facts[4] for path, facts in reused.items()} == {path: facts[4] for path, facts in fresh.items()}

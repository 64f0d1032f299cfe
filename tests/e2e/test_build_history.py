"""Past builds: listed, shown, their logs read, and forgotten."""

import os
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar

Project = Callable[..., Path]


def test_the_history_of_builds(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nRUN echo one\nRUN echo two >&2\n")
    bad = project("bad", Dockerfile="FROM busybox\nRUN echo oops; exit 3\n")
    plain = with_busybox.run("build", "--progress=plain", context).stderr
    number = next(line.partition(" ")[0] for line in plain.splitlines() if line.endswith("RUN echo two >&2"))
    assert with_busybox("build", "logs", "--step", number[1:]) == "two\n"
    whole = with_busybox("build", "logs")
    assert "RUN echo one\none\n\n" in whole and whole.endswith("two\n\n")
    with_busybox.fails("build", bad)
    failed, good = with_busybox("build", "history", "ls", "-q").split()
    table = with_busybox("build", "history", "ls").splitlines()
    assert (
        table[0].startswith("BUILD ID") and str(bad) in table[1] and "Error" in table[1] and "Completed" in table[2]
    )
    assert "oops\n" in with_busybox("build", "logs", failed[:6])
    shown = with_busybox("build", "history", "show", failed)
    assert "exit code: 3" in shown and "ERROR" in shown
    with_busybox("build", context)
    assert "CACHED" in with_busybox("build", "history", "show")
    assert with_busybox("build", "history", "rm", good).strip() == good
    assert good not in os.listdir(with_busybox.home / "home" / "builds")
    listed = with_busybox("build", "history", "ls", "--format", "{{.ID}} {{.Status}}").splitlines()
    assert listed[-1] == f"{failed} Error"
    with_busybox("build", "history", "rm", "--all")
    assert with_busybox("build", "history", "ls", "-q") == ""
    assert os.listdir(with_busybox.home / "home" / "builds") == []


def test_builds_that_are_not_there(with_busybox: Moldar, project: Project) -> None:
    assert "there are no builds yet" in with_busybox.fails("build", "logs")
    with_busybox("build", project(Dockerfile="FROM busybox\nRUN true\n"))
    assert "no such build: nope" in with_busybox.fails("build", "history", "show", "nope")
    assert "has no step 99" in with_busybox.fails("build", "logs", "--step", "99")
    with_busybox.fails("build", "logs", "--step", "0", code=125)
    with_busybox.fails("build", "history", "rm", code=125)


def test_a_directory_called_logs_is_a_context(with_busybox: Moldar, project: Project, tmp_path: Path) -> None:
    project("logs", Dockerfile="FROM busybox\nRUN echo built > /built\n")
    with_busybox("build", "-t", "app", "logs", cwd=tmp_path)
    with_busybox("build", "logs", "-t", "app", cwd=tmp_path)

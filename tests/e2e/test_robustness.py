"""Many processes at once, and processes killed at any moment: the store stays sound and the next command works."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

Project = Callable[..., Path]
KILLS = 30
STEPS = """
FROM busybox
ARG ROUND
COPY . /app
RUN head -c 3000000 /dev/urandom > /random-$ROUND
RUN ls /app > /list-$ROUND
"""


def start(moldar: Moldar, *words: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "moldar", *map(str, words)],
        env=moldar.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes]) -> str:
    output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 0, output
    return output


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> None:
    """kill -9 after a while, if it still runs."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()


def assert_sound(moldar: Moldar) -> None:
    done = moldar.run("system", "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_builds_of_the_same_project_at_once(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=STEPS, **{"a.txt": "a"})
    builds = [start(with_busybox, "build", "-t", f"same:{number}", context) for number in range(3)]
    for build in builds:
        finish(build)
    assert with_busybox("images", "-q", "same").count("\n") == 3
    assert_sound(with_busybox)


def test_builds_of_different_projects_at_once(with_busybox: Moldar, project: Project) -> None:
    contexts = [project(f"p{number}", Dockerfile=STEPS, **{"a.txt": str(number)}) for number in range(3)]
    builds = [start(with_busybox, "build", "-t", f"image{number}", path) for number, path in enumerate(contexts)]
    for build in builds:
        finish(build)
    for number in range(3):
        assert with_busybox("run", "--rm", f"image{number}", "cat", "/app/a.txt") == str(number)
    assert_sound(with_busybox)


@pytest.mark.parametrize("what", ["build", "load", "prune"])
def test_a_killed_command_leaves_a_sound_store(
    with_busybox: Moldar, project: Project, busybox_archive: Path, what: str
) -> None:
    chance = random.Random(what)
    context = project(Dockerfile=STEPS, **{f"f{number}": "x" * number for number in range(50)})
    whole = time.monotonic()
    with_busybox("build", "--build-arg", "ROUND=first", "-t", "first", context)
    whole = time.monotonic() - whole
    for number in range(KILLS):
        words: dict[str, tuple[str | Path, ...]] = {
            "build": ("build", "--build-arg", f"ROUND={number}", "-t", "x", context),
            "load": ("load", "-i", busybox_archive),
            "prune": ("system", "prune", "-af"),
        }
        if what == "load":
            with_busybox.run("rmi", "-f", "busybox", "first", "x")
        kill_after(start(with_busybox, *words[what]), chance.uniform(0.02, whole * 1.1))
        if number % 5 == 0:
            assert_sound(with_busybox)
    assert_sound(with_busybox)
    with_busybox("load", "-i", busybox_archive)
    with_busybox("build", "-t", "x", context)
    assert with_busybox("run", "--rm", "x", "cat", "/app/f3") == "xxx"


def test_a_prune_during_builds_takes_nothing_that_they_need(with_busybox: Moldar, project: Project) -> None:
    for number in range(5):
        context = project(f"p{number}", Dockerfile=STEPS, **{"a.txt": str(number)})
        build = start(with_busybox, "build", "-t", f"image{number}", context)
        while build.poll() is None:
            finish(start(with_busybox, "builder", "prune", "-af"))
        finish(build)
        assert with_busybox("run", "--rm", f"image{number}", "cat", "/app/a.txt") == str(number)
    assert_sound(with_busybox)

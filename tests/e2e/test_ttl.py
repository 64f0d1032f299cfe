"""`# moldar:ttl=…`: a cached step runs again when its result has grown old."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar


def build(moldar: Moldar, context: Path) -> str:
    done = moldar.run("build", "--progress", "plain", context)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_young_result_is_used(with_busybox: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile="FROM busybox\n# moldar:ttl=1h\nRUN echo same > /file\n")
    build(with_busybox, context)
    assert "RUN echo same > /file\n#5 CACHED" in build(with_busybox, context)


def test_an_old_result_is_made_again(with_busybox: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile="FROM busybox\nRUN touch /before\n# moldar:ttl=1s\nRUN echo same > /file\n")
    build(with_busybox, context)
    time.sleep(1.1)
    told = build(with_busybox, context)
    assert "its result is older than 1 seconds (moldar:ttl)" in told
    assert "RUN touch /before\n#5 CACHED" in told


def test_no_life_at_all(with_busybox: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile="FROM busybox\n# moldar:ttl=0\nRUN cat /proc/uptime > /file\n")
    build(with_busybox, context)
    assert "moldar:ttl" in build(with_busybox, context)

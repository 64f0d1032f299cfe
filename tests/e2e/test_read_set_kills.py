"""A view's server is killed while a step runs over it: the build must not notice, and nothing may be left."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar
from tests.readset.laboratory import servers

Project = Callable[..., Path]
KILLS = 30
DOCKERFILE = """
FROM busybox
COPY . /app
RUN i=0; while [ $i -lt 20 ]; do ls -l /app/d$i /app/nope$i; sleep 0.02; i=$((i+1)); done; cat /app/read > /out
"""


def read_sets(moldar: Moldar) -> int:
    with sqlite3.connect(moldar.home / "home" / "moldar.db") as database:
        return int(database.execute("SELECT count(*) FROM read_sets").fetchone()[0])


def kill_server(home: Path, build: "subprocess.Popen[str]", wait: float) -> bool:
    """Kill the server of the running build `wait` seconds after it was seen; whether it was there to be killed."""
    while build.poll() is None:
        if pids := servers(home):
            time.sleep(wait)
            try:
                os.kill(pids[0], signal.SIGKILL)
            except ProcessLookupError:
                return False
            return True
        time.sleep(0.002)
    return False


def test_a_killed_server_is_survived(with_busybox: Moldar, project: Project) -> None:
    chance = random.Random(6)
    files = {f"d{number}/file": "x" for number in range(20)}
    context = project(Dockerfile=DOCKERFILE, read="", **files)
    kills = misses = 0
    while kills < KILLS and misses < KILLS:
        (context / "read").write_text(f"{kills} {misses}\n")
        before = read_sets(with_busybox)
        words = [sys.executable, "-m", "moldar", "build", "-t", "app", str(context)]
        build = subprocess.Popen(words, env=with_busybox.environment, stderr=subprocess.PIPE, text=True)
        wait = chance.choice([0, chance.uniform(0, 0.05), chance.uniform(0, 0.4)])
        killed = kill_server(with_busybox.home, build, wait)
        _, printed = build.communicate(timeout=60)
        assert build.returncode == 0, f"killed after {wait} s: {printed}"
        assert "ran because" in printed
        assert str(with_busybox.home) not in Path("/proc/mounts").read_text(), f"killed after {wait} s"
        assert not servers(with_busybox.home)
        assert not os.listdir(with_busybox.home / "home/snapshots/work")
        if killed:
            assert read_sets(with_busybox) == before, f"killed after {wait} s: a record of an incomplete log"
        kills += killed
        misses += not killed
    assert kills == KILLS
    assert with_busybox("run", "--rm", "app", "cat", "/out") == (context / "read").read_text()
    assert read_sets(with_busybox) <= misses
    (context / "read").write_text("last\n")
    before = read_sets(with_busybox)
    with_busybox("build", context)
    assert read_sets(with_busybox) == before + 1, "the step was not traced at all"

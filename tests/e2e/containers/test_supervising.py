"""`pause`, `top`, `stats`, `update`, `container prune`: containers by their processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moldar.containers.pausing import pause, unpause
from moldar.containers.processes import container_pids, look_at
from moldar.containers.status import ProcessName

House = Any
Moldar = Any

COUNTING = "i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.02; done"


def eventually(check: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def count(house: House) -> str:
    upper = house.parts.snapshots.rootfs_upper(house.containers.view("box").id)
    try:
        return Path(upper, "count").read_text()
    except FileNotFoundError:
        return ""


def test_a_paused_container_stands_still(house: House, moldar: Moldar) -> None:
    house.start("sh", "-c", COUNTING, name="box")
    eventually(lambda: count(house))
    assert moldar("pause", "box") == "box\n"
    before = count(house)
    assert "(Paused)" in moldar("ps", "--format", "{{.Status}}")
    assert moldar("ps", "-q", "--filter", "status=paused") != ""
    assert moldar("ps", "-q", "--filter", "status=running") == ""
    assert (
        moldar("inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}", "box")
        == "paused true true\n"
    )
    for words, why in (
        (("pause", "box"), "already paused"),
        (("exec", "box", "true"), "is paused, unpause it"),
        (("start", "box"), "cannot start a paused container"),
        (("attach", "--no-stdin", "box"), "is paused"),
        (("rm", "box"), "container is paused"),
    ):
        assert why in moldar.fails(*words)
    assert "sh -c" in moldar("top", "box")
    time.sleep(0.2)
    assert count(house) == before
    assert moldar("unpause", "box") == "box\n"
    eventually(lambda: count(house) not in ("", before))
    assert "is not paused" in moldar.fails("unpause", "box")
    assert moldar("ps", "--format", "{{.State}}") == "running\n"


@pytest.mark.parametrize("words", [("stop", "-t", "5"), ("kill",), ("kill", "-s", "TERM"), ("rm", "-f")])
def test_ending_a_paused_container(house: House, moldar: Moldar, words: tuple[str, ...]) -> None:
    house.start("sh", "-c", "trap 'exit 7' TERM; touch /count; while true; do sleep 0.02; done", name="box")
    eventually(lambda: Path(house.parts.snapshots.rootfs_upper(house.containers.view("box").id), "count").exists())
    moldar("pause", "box")
    moldar(*words, "box")
    if words[0] != "rm":
        assert house.containers.wait("box") == (137 if words == ("kill",) else 7)
        house.containers.start("box")
        assert not house.containers.view("box").status.paused, "the next run is not paused"


def test_only_running_containers_are_paused(house: House, moldar: Moldar) -> None:
    house.create("true", name="box")
    for words in (("pause", "box"), ("unpause", "box"), ("top", "box")):
        assert "container box is not running" in moldar.fails(*words)
    assert "no such container" in moldar.fails("pause", "nope")


NEST = """
import os, sys, time
if os.fork() == 0:
    while True: time.sleep(0.01); open(sys.argv[1], "a").write("x")
time.sleep(100)
"""


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process with a child in a pid name space, and no cgroup of their own; the child writes to a file."""
    file = tmp_path / "written"
    words = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", NEST, str(file)]
    process = subprocess.Popen(words)
    eventually(file.exists)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    yield int(children[0]), file
    process.kill()
    process.wait()


def test_without_cgroups_every_process_is_stopped(outside: tuple[int, Path], tmp_path: Path) -> None:
    init, file = outside
    pids = container_pids(init, "no-such-cgroup")
    assert len(pids) == 2
    pause(str(tmp_path), "no-such-cgroup", ProcessName.of(init))
    assert {process.state for process in look_at(pids)} == {"T"}
    size = file.stat().st_size
    time.sleep(0.1)
    assert file.stat().st_size == size
    unpause(str(tmp_path), "no-such-cgroup", ProcessName.of(init))
    eventually(lambda: file.stat().st_size > size)


def test_what_was_stopped_before_stays_so(outside: tuple[int, Path], tmp_path: Path) -> None:
    init, _ = outside
    writer = max(container_pids(init, "no-such-cgroup"))
    os.kill(writer, signal.SIGSTOP)
    eventually(lambda: look_at([writer])[0].state == "T")
    pause(str(tmp_path), "no-such-cgroup", ProcessName.of(init))
    unpause(str(tmp_path), "no-such-cgroup", ProcessName.of(init))
    assert [process.state for process in look_at([writer])] == ["T"]


def test_top(house: House, moldar: Moldar) -> None:
    house.start("sh", "-c", "sleep 60 & sleep 61; true", name="box")
    eventually(lambda: moldar("top", "box").count("sleep 6") == 4)
    lines = moldar("top", "box").splitlines()
    assert lines[0].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert len(lines) == 4
    by_ps = moldar("top", "box", "-o", "pid,comm").splitlines()
    assert by_ps[0].split() == ["PID", "COMMAND"]
    assert {line.split()[0] for line in by_ps[1:]} == {line.split()[1] for line in lines[1:]}
    assert len(moldar("top", "box", "aux").splitlines()) == 4
    assert "PID field" in moldar.fails("top", "box", "-o", "comm")
    assert "ps refused" in moldar.fails("top", "box", "--no-such-option")


def test_stats(house: House, moldar: Moldar) -> None:
    house.start("sh", "-c", "while true; do true; done", name="busy")
    house.start("sleep", "60", name="idle", network="host")
    house.create("true", name="off")
    lines = [json.loads(line) for line in moldar("stats", "--no-stream", "--format", "json").splitlines()]
    busy, idle = sorted(lines, key=lambda line: str(line["Name"]))
    assert float(busy["CPUPerc"].rstrip("%")) > 5
    assert float(idle["CPUPerc"].rstrip("%")) < 5
    assert idle["NetIO"] == "0B / 0B", "the host's network is not the container's"
    assert busy["PIDs"] == "1"
    assert idle["MemUsage"].endswith("iB")
    table = moldar("stats", "--no-stream", "-a", "off", "busy").splitlines()
    assert table[0].split("  ")[0] == "CONTAINER ID"
    assert "0B / 0B" in table[1]
    assert len(table[2].split()[0]) == 12
    assert "no such container" in moldar.fails("stats", "--no-stream", "nope")


def test_update(house: House, moldar: Moldar) -> None:
    house.start("sh", "-c", "while [ ! -e /stop ]; do sleep 0.02; done; rm /stop; exit 1", name="box")
    assert moldar("update", "--restart", "on-failure:1", "box") == "box\n"
    assert moldar("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "box") == "on-failure\n"
    house.execute("box", "touch", "/stop")
    eventually(lambda: house.containers.view("box").status.restarts == 1)
    assert "provide one or more flags" in moldar.fails("update", "box")
    assert "invalid restart policy" in moldar.fails("update", "--restart", "often", "box")
    removed = house.start("sleep", "60", remove=True)
    assert "AutoRemove" in moldar.fails("update", "--restart", "always", removed)


def test_limits_are_changed_where_there_are_cgroups(house: House, moldar: Moldar) -> None:
    identity = house.start("sleep", "60", name="box", memory=64 << 20)
    words = ("update", "-m", "32m", "--memory-swap", "-1", "--cpus", "0.5", "--pids-limit", "50", "box")
    if not house.parts.runtime.features.cgroups:
        assert "cgroups cannot be used" in moldar.fails(*words)
        return
    moldar(*words)
    group = Path("/sys/fs/cgroup")
    for version1, version2, value in (
        ("memory/moldar/{}/memory.limit_in_bytes", "moldar/{}/memory.max", 32 << 20),
        ("pids/moldar/{}/pids.max", "moldar/{}/pids.max", 50),
    ):
        (file,) = [*group.glob(version1.format(identity)), *group.glob(version2.format(identity))]
        assert int(file.read_text()) == value
    assert (
        moldar("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", "box") == f"{32 << 20} 500000000\n"
    )
    assert "--memory-swap" in moldar.run("update", "--memory-swap", "16m", "box").err


def test_prune_with_filters(house: House, moldar: Moldar) -> None:
    house.create("true", name="kept", labels=(("keep", ""),))
    house.create("true", name="gone")
    assert moldar("container", "prune", "-f", "--filter", "until=1h").startswith("Total")
    house.containers.prune((("label!", "keep"),))
    assert moldar("ps", "-a", "--format", "{{.Names}}") == "kept\n"
    assert "invalid filter" in moldar.fails("container", "prune", "-f", "--filter", "colour=red")
    assert moldar("container", "prune", "-f", "--filter", "label=keep").startswith("Deleted Containers:")


def test_a_commit_pauses(house: House, moldar: Moldar, busybox: str) -> None:
    moldar("run", "-d", "--name", "box", busybox, "sleep", "60")
    moldar("commit", "box")
    assert not house.containers.view("box").status.paused
    moldar("pause", "box")
    moldar("commit", "box")
    assert house.containers.view("box").status.paused, "who was paused before stays so"


def test_stop_with_another_signal(house: House, moldar: Moldar) -> None:
    house.start("sh", "-c", "trap 'exit 5' USR1; touch /count; while true; do sleep 0.02; done", name="box")
    eventually(lambda: Path(house.parts.snapshots.rootfs_upper(house.containers.view("box").id), "count").exists())
    moldar("stop", "--signal", "USR1", "--timeout", "10", "box")
    assert house.containers.wait("box") == 5

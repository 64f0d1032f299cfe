"""Finding a container's cgroups in the texts of /proc, and what they tell, by either version."""

import os
from pathlib import Path

import pytest

from moldar.containers.cgroups import Cgroups, find_cgroups
from moldar.containers.figures import Sample, compare, measure

IDENTITY = "ab" * 32
VERSION1 = f"4:memory:/moldar/{IDENTITY}\n3:cpu,cpuacct:/moldar/{IDENTITY}/inner\n1:name=systemd:/\n0::/\n"
MOUNTS1 = """
30 29 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 29 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 29 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
""".strip()


def test_version_1() -> None:
    found = dict(find_cgroups(VERSION1, MOUNTS1, IDENTITY).directories)
    assert found == {
        "memory": f"/sys/fs/cgroup/memory/moldar/{IDENTITY}",
        "cpu": f"/sys/fs/cgroup/cpu,cpuacct/moldar/{IDENTITY}",
        "cpuacct": f"/sys/fs/cgroup/cpu,cpuacct/moldar/{IDENTITY}",
    }


def test_version_2_mounted_from_a_group_of_its_own() -> None:
    mounts = "32 29 0:28 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    found = find_cgroups(f"0::/outer/moldar/{IDENTITY}\n", mounts, IDENTITY)
    assert found.directories == (("", f"/sys/fs/cgroup/moldar/{IDENTITY}"),)


@pytest.mark.parametrize("groups", ["0::/\n", "4:memory:/user.slice\n0::/init.scope\n", ""])
def test_groups_of_the_host_are_nobodys(groups: str) -> None:
    assert find_cgroups(groups, MOUNTS1, IDENTITY).directories == ()


def test_files_and_processes(tmp_path: Path) -> None:
    group = tmp_path / "moldar" / IDENTITY
    (group / "inner").mkdir(parents=True)
    (group / "cgroup.procs").write_text("1\n2\n")
    (group / "inner/cgroup.procs").write_text("3\n")
    (group / "memory.current").write_text("4096\n")
    found = find_cgroups(f"0::/moldar/{IDENTITY}\n", f"1 1 0:1 / {tmp_path} rw - cgroup2 cgroup2 rw", IDENTITY)
    assert found.processes() == {1, 2, 3}
    assert found.read("memory", "memory.usage_in_bytes", "memory.current") == "4096\n"
    assert found.file("freezer", "freezer.state", "") == ""


VERSION2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    "memory.current": "3000\n",
    "memory.stat": "anon 5\ninactive_file 1000\n",
    "memory.max": "4000\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n",
}
BLKIO = "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n"


def test_figures_of_version_2(tmp_path: Path) -> None:
    for name, text in VERSION2.items():
        (tmp_path / name).write_text(text)
    sample = measure(Cgroups((("", str(tmp_path)),)), [1, 2])
    assert (sample.cpu, sample.memory, sample.limit) == (1.5, 2000, 4000)
    assert (sample.read, sample.written, sample.pids) == (11, 22, 2)


def test_figures_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "cpuacct.usage").write_text("2500000000\n")
    (tmp_path / "memory.usage_in_bytes").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("cache 9\ntotal_inactive_file 2000\n")
    (tmp_path / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "blkio.throttle.io_service_bytes").write_text(BLKIO)
    groups = Cgroups(tuple((name, str(tmp_path)) for name in ("cpuacct", "memory", "blkio")))
    sample = measure(groups, [1])
    assert (sample.cpu, sample.memory, sample.read, sample.written) == (2.5, 1000, 10, 20)
    assert 1 << 20 < sample.limit < 1 << 50, "no limit is all that there is"


def test_figures_without_cgroups() -> None:
    sample = measure(Cgroups(), [os.getpid()])
    assert sample.cpu > 0
    assert 1 << 20 < sample.memory < sample.limit
    assert sample.pids == 1


def test_shares_are_of_the_time_between() -> None:
    figures = compare(Sample(moment=10.0, cpu=1.0), Sample(moment=12.0, cpu=2.0, memory=50, limit=200))
    assert (figures.cpu, figures.memory_share) == (50.0, 25.0)
    assert compare(Sample(), Sample()).cpu == 0.0

"""Finding a container's cgroups in the texts of /proc, by either version."""

from pathlib import Path

import pytest

from moldar.containers.cgroups import find_cgroups

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

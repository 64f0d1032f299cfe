"""Where control groups of version 2 are on this host."""

from pathlib import Path

import pytest

_TREES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


@pytest.fixture
def unified_tree() -> str:
    """Hosts have it alone, or beside version 1."""
    mounted = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return next(tree for tree in _TREES if [tree, "cgroup2"] in mounted)

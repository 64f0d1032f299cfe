"""A RUN over views whose server dies before the process has even begun."""

import os
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from tests.readset.laboratory import servers

from moldar.builder.run import ProcessFailed
from moldar.sandbox.overlay import OverlaySnapshots, OverlayWorkspace
from moldar.sandbox.snapshots import Stack

from .builder_bench import Bench


class Fragile(OverlaySnapshots):
    """Kills the server of every workspace with views when it is ready."""

    killed = 0

    def prepare(self, stack: Stack, viewed: Collection[int] = ()) -> OverlayWorkspace:
        workspace = super().prepare(stack, viewed)
        if workspace.has_views:
            for server in servers(Path(self.base)):
                os.kill(server, signal.SIGKILL)
                self.killed += 1
        return workspace


@pytest.fixture
def traced(busybox: Path) -> Iterator[Bench]:
    base = Path(tempfile.mkdtemp(dir="/dev/shm"))
    bench = Bench(base, busybox, "overlay")
    bench.traced = True
    (bench.context / "f").write_text("one")
    yield bench
    bench.lease.release()
    bench.database.close()
    shutil.rmtree(base)


def kept(bench: Bench) -> int:
    return int(bench.database.rows("SELECT count(*) FROM read_sets")[0][0])


def test_what_a_step_read_is_kept(traced: Bench) -> None:
    traced.build("FROM busybox\nCOPY f /etc/\nRUN cat /etc/f > /out")
    assert kept(traced) == 1


def test_preparing_a_step_over_a_broken_view(traced: Bench) -> None:
    """The builder itself looks for the user there, and makes mount points: its failure is the view's as well."""
    traced.snapshots = Fragile(traced.home.snapshots, traced.layers)
    text = "FROM busybox\nCOPY f /etc/\nUSER app\nRUN cat /etc/f > /tmp/out"
    with traced.mounted(traced.build(text)) as root:
        assert Path(root, "tmp/out").read_text() == "one"
    assert traced.snapshots.killed == 1
    assert kept(traced) == 0
    assert str(traced.base) not in Path("/proc/mounts").read_text()


def test_what_fails_natively_too_is_said(traced: Bench) -> None:
    traced.snapshots = Fragile(traced.home.snapshots, traced.layers)
    with pytest.raises(ProcessFailed, match="exit code: 3"):
        traced.build("FROM busybox\nCOPY f /etc/\nRUN exit 3")
    assert traced.snapshots.killed == 1

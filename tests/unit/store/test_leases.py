"""What a lease of another process keeps from the collector, and that it ends with its process."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from moldar.image.config import ImageConfig, encode_image_config
from moldar.image.model import digest_of
from moldar.store.cache import CacheRow
from moldar.store.gc import Collector, Policy, Reachable
from moldar.store.leases import Lease, living, survey

OTHER = """
import sys
from moldar.store.database import Database
from moldar.store.home import Home
from moldar.store.leases import Lease
home = Home.open(sys.argv[1])
with Lease(home, Database(home)) as lease:
    for words in sys.argv[2:]:
        kind, key = words.split(" ")
        lease.protect(kind, [key])
    print(flush=True)
    sys.stdin.read()
"""
ALL = Policy(cache_age=-1.0, images="unused")


@pytest.fixture
def store(root: Path, worker: ModuleType) -> Any:
    return worker.Worker(str(root / "home"), 0)


@pytest.fixture
def other(root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that holds a lease on `kind key` pairs until its stdin is closed or it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OTHER, str(root / "home"), *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def add_snapshot(store: Any, key: str) -> None:
    Path(store.snapshot_path(key)).mkdir()
    store.layers.add_snapshot(key, 7)


def wait() -> None:
    """Until the file system's clock has gone on."""
    time.sleep(0.02)


@pytest.mark.parametrize("kind", ["blob", "layer"])
def test_a_leased_blob_stays(store: Any, other: Callable[..., subprocess.Popen[str]], kind: str) -> None:
    wanted, unwanted = store.blobs.put(b"wanted"), store.blobs.put(b"unwanted")
    wait()
    other(f"{kind} {wanted}")
    assert store.collector.collect(ALL).blobs == 1
    assert list(store.blobs) == [wanted]
    assert unwanted not in store.blobs


@pytest.mark.parametrize("kind", ["snapshot", "layer"])
def test_a_leased_snapshot_stays(store: Any, other: Callable[..., subprocess.Popen[str]], kind: str) -> None:
    wanted, unwanted = digest_of(b"wanted"), digest_of(b"unwanted")
    for key in (wanted, unwanted):
        add_snapshot(store, key)
    wait()
    other(f"{kind} {wanted}")
    assert store.collector.collect(ALL).snapshots == 1
    assert store.present() == {wanted}
    assert [key for key, _ in store.layers.snapshots()] == [wanted]


def test_a_leased_image_stays_with_all_that_it_is_made_of(
    store: Any, other: Callable[..., subprocess.Popen[str]]
) -> None:
    diff_ids = (store.blobs.put(b"layer"), digest_of(b"snapshot"))
    add_snapshot(store, diff_ids[1])
    image = store.blobs.put(encode_image_config(ImageConfig(diff_ids=diff_ids)))
    store.images.add(image, 5)
    wait()
    holder = other(f"image {image}")
    assert store.collector.collect(ALL) == ((), 0, 0, 0, 0)
    holder.kill()
    holder.wait()
    size = store.blobs.size(image)
    assert store.collector.collect(ALL) == ((image,), 0, 2, 1, size + 5 + 7)


def test_what_came_since_a_lease_began_stays(store: Any, other: Callable[..., subprocess.Popen[str]]) -> None:
    old = store.blobs.put(b"old")
    claimed = store.blobs.put(b"claimed")
    wait()
    holder = other()
    new = store.blobs.put(b"new")
    add_snapshot(store, digest_of(b"new snapshot"))
    store.layers.record(digest_of(b"new snapshot"), 1)
    image = store.blobs.put(encode_image_config(ImageConfig()))
    store.images.add(image, 0)
    assert store.blobs.claim(claimed)
    assert store.collector.collect(ALL) == ((), 0, 1, 0, 3)
    assert sorted(store.blobs) == sorted([new, claimed, image])
    assert old not in store.blobs
    assert store.layers.size(digest_of(b"new snapshot")) == 1
    holder.communicate("")
    assert store.collector.collect(ALL).blobs == 3
    assert store.layers.size(digest_of(b"new snapshot")) is None


def test_cache_records_looked_up_lately_stay_while_others_work(
    store: Any, other: Callable[..., subprocess.Popen[str]]
) -> None:
    lately, long_ago = digest_of(b"lately"), digest_of(b"long ago")
    for key in (lately, long_ago):
        store.cache.put(CacheRow(key, "", json.dumps([[key, 9]]), "", "[]", 1.0))
    store.database.write("UPDATE cache SET used = used - 7200 WHERE key = ?", (long_ago,))
    wait()
    holder = other()
    assert store.collector.collect(Policy(cache_age=0.0)).cache_records == 1
    assert store.collector.collect(Policy(cache_bytes=0)).cache_records == 0
    assert store.cache.get(lately)
    holder.communicate("")
    assert store.collector.collect(Policy(cache_bytes=0)).cache_records == 1


def test_a_lease_ends_with_its_process(store: Any, other: Callable[..., subprocess.Popen[str]]) -> None:
    holder = other("blob x")
    leases = survey(store.home)
    assert len(leases.alive) == 1
    assert not leases.dead
    holder.kill()
    holder.wait()
    alive, dead = living(store.home)
    assert (len(alive), len(dead)) == (0, 1)
    store.collector.collect(Policy())
    assert living(store.home) == (set(), set())
    assert store.database.rows("SELECT * FROM leases") == []


def test_a_dry_run_changes_nothing(store: Any) -> None:
    image = store.build()
    store.images.untag(store.images.tags(image)[0].name)
    before = store.collector.collect(ALL, dry_run=True)
    assert before == store.collector.collect(ALL, dry_run=True)
    assert before == store.collector.collect(ALL)
    assert store.collector.collect(ALL) == ((), 0, 0, 0, 0)
    assert list(store.blobs) == []


def test_a_snapshot_wanted_again_gets_its_row_back(store: Any) -> None:
    """Between the collector's steps a process may lease what the first one forgot."""
    wanted, unwanted = digest_of(b"wanted"), digest_of(b"unwanted")
    for key in (wanted, unwanted):
        add_snapshot(store, key)

    with Lease(store.home, store.database) as lease:

        class Interrupted(Collector):
            def _forget_layers(self, reachable: Reachable) -> None:
                assert store.layers.snapshots() == []
                lease.protect("snapshot", [wanted])

        collector = Interrupted(store.home, store.database, store)
        assert collector.collect(Policy()).snapshots == 1
        assert store.layers.snapshots() == [(wanted, 7)]
        assert store.present() == {wanted}

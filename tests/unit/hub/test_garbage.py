"""Garbage collection: what goes and what stays, and that no image is hurt while pushes, mounts and deletes go on."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from moldar.errors import NotFound
from moldar.hub import administration
from moldar.hub.registry.garbage import Collected
from moldar.hub.services import Hub
from moldar.image.model import Digest

from .actors import Actor, check_survivors
from .hubs import MANIFEST, Running, Tick, image_manifest, sha256

GRACE = 100
WEEK = 7 * 24 * 3600


def push(hub: Hub, repository: str, data: bytes) -> Digest:
    upload = hub.blobs.begin(repository, None)
    writer = hub.blobs.resume(upload)
    try:
        writer.write(data)
        hub.blobs.commit(upload, writer, Digest(sha256(data)))
    finally:
        writer.close()
    return Digest(sha256(data))


def push_image(hub: Hub, repository: str, *blobs: bytes) -> Digest:

    digests = [(push(hub, repository, data), len(data)) for data in blobs]
    raw = json.dumps(image_manifest(digests[0][0], digests[0][1], list(digests[1:]))).encode()
    return hub.manifests.put(repository, raw, MANIFEST, tags=["latest"]).digest


def collect(hub: Hub) -> Collected:
    preview = hub.collector.preview(GRACE, WEEK)
    found = hub.collector.collect(GRACE, WEEK)
    assert preview._replace(seconds=0) == found._replace(seconds=0)
    return found


def test_what_nothing_refers_to_goes_after_its_grace(hub: Hub, clock: Tick) -> None:
    push_image(hub, "a/kept", b"{}", b"layer")
    push(hub, "a/kept", b"unused")
    push(hub, "a/other", b"layer")
    clock.now += GRACE
    assert collect(hub).is_nothing
    clock.now += 1
    found = collect(hub)
    assert (found.holds, found.blobs, found.size) == (2, 1, len(b"unused"))
    assert hub.storage.size(Digest(sha256(b"unused"))) is None
    assert hub.blobs.size("a/other", Digest(sha256(b"layer"))) is None
    assert hub.blobs.size("a/kept", Digest(sha256(b"layer"))) == 5
    assert collect(hub).is_nothing


def test_a_deleted_image_goes_after_its_grace(hub: Hub, clock: Tick) -> None:
    digest = push_image(hub, "a/b", b"{}", b"layer")
    clock.now += 10 * GRACE
    hub.manifests.delete("a/b", digest)
    assert collect(hub).is_nothing
    clock.now += GRACE + 1
    assert collect(hub).blobs == 2
    assert list(hub.storage.digests()) == []


def test_a_deleted_tag_leaves_its_image(hub: Hub, clock: Tick) -> None:
    push_image(hub, "a/b", b"{}", b"layer")
    hub.manifests.delete("a/b", "latest")
    clock.now += 10 * GRACE
    assert collect(hub).is_nothing


def test_whoever_was_told_of_a_blob_has_time_to_use_it(hub: Hub, clock: Tick) -> None:
    digests = [push(hub, "a/b", name) for name in (b"pushed again", b"mounted", b"asked for", b"forgotten")]
    clock.now += GRACE
    push(hub, "a/b", b"pushed again")
    assert hub.blobs.mount("a/c", digests[1], "a/b") == 7
    hub.blobs.tell("a/b", digests[2])
    clock.now += 1
    found = collect(hub)
    assert (found.holds, found.blobs) == (2, 1)
    assert [hub.storage.size(digest) for digest in digests] == [12, 7, 9, None]
    assert hub.blobs.mount("a/d", digests[1], "a/b") is None


def test_a_blob_pushed_again_after_its_collection(hub: Hub, clock: Tick) -> None:
    upload = hub.blobs.begin("a/b", None)
    writer = hub.blobs.resume(upload)
    writer.write(b"same")
    digest = push(hub, "a/b", b"same")
    hub.blobs.delete("a/b", digest)
    assert collect(hub).blobs == 1
    hub.blobs.commit(upload, writer, digest)
    writer.close()
    assert collect(hub).is_nothing
    assert hub.storage.size(digest) == 4


def test_files_without_a_row_and_expired_uploads(hub: Hub, clock: Tick) -> None:
    kept = push(hub, "a/b", b"kept")
    hub.storage.begin("half")
    writer = hub.storage.resume("half", "sha256")
    writer.write(b"half a push")
    stray = Digest(sha256(b"half a push"))
    writer.seal(stray)
    writer.publish(stray)
    hub.blobs.begin("a/b", None)
    clock.now += WEEK + 1
    hub.blobs.tell("a/b", kept)
    found = collect(hub)
    assert (found.uploads, found.holds, found.strays) == (1, 0, 1)
    assert list(hub.storage.digests()) == [kept]
    assert list(hub.storage.uploads()) == []


def test_many_are_collected_in_steps(local_hub: Hub, clock: Tick) -> None:
    hub = local_hub
    for number in range(250):
        push(hub, f"a/r{number % 3}", str(number).encode())
    clock.now += GRACE + 1
    stopping = threading.Event()
    stopping.set()
    assert hub.collector.collect(GRACE, WEEK, stopping).is_nothing
    assert collect(hub).blobs == 250


def test_head_keeps_a_blob(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    running = Running(data, tmp_path / "log", allow_anonymous_push=True, gc_grace=3, gc_interval=0)
    with running.client() as client:
        asked, forgotten = client.push_blob("a/b", b"asked"), client.push_blob("a/b", b"forgotten")
        for _ in range(3):
            time.sleep(1.5)
            assert client.head(f"/v2/a/b/blobs/{asked}").status_code == 200
        found = administration.collect_garbage(data, grace=3)  # beside the server
        assert (found.holds, found.blobs) == (1, 1)
        assert client.get(f"/v2/a/b/blobs/{asked}").content == b"asked"
        assert client.head(f"/v2/a/b/blobs/{forgotten}").status_code == 404
    assert running.stop() == 0


def gc(data: str, *options: str) -> str:
    command = [sys.executable, "-m", "moldar", "hub", "gc", "--data", data, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_command(local_hub: Hub, clock: Tick) -> None:
    hub = local_hub
    push_image(hub, "a/b", b"{}", b"layer")
    clock.now = 0
    push(hub, "a/b", b"unused")
    assert "WOULD BE COLLECTED" in gc(hub.settings.data, "--dry-run")
    assert hub.storage.size(Digest(sha256(b"unused"))) == 6
    assert "6B" in gc(hub.settings.data).replace(" ", "")
    assert hub.storage.size(Digest(sha256(b"unused"))) is None
    with pytest.raises(NotFound):
        administration.collect_garbage(hub.settings.data + "/nowhere")


def test_pushes_mounts_deletes_and_collections_at_once(tmp_path: Path) -> None:
    """Without any grace: what is between push and manifest may go, and the client is told; an image never."""
    settings = {"allow_anonymous_push": True, "access_log": "none", "gc_grace": 0, "gc_interval": 0.05}
    running = Running(str(tmp_path / "data"), tmp_path / "log", **settings)
    sources = [f"stress/r{number}" for number in range(4)]
    actors = [Actor(running.url, number, sources) for number in range(4)]
    for actor in actors:
        actor.start()
    for _ in range(5):
        administration.collect_garbage(running.data, grace=0)
    for actor in actors:
        actor.join()
        assert actor.failures == []
    assert sum(actor.deleted for actor in actors) > 20
    assert sum(actor.mounted for actor in actors) > 20
    time.sleep(2.2)
    administration.collect_garbage(running.data, grace=0)
    hub = Hub(running.where)
    with running.client() as client:
        check_survivors(client, hub, actors)
    hub.close()
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()

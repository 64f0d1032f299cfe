"""`moldar hub backup` beside a server that is pushed to, and a hub that is restored from it."""

import os
import stat
import threading
from pathlib import Path

import pytest

from moldar.errors import CorruptData, NotFound, UserMistake
from moldar.hub.backups import back_up, restore
from moldar.hub.registry.checking import Checker
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings
from moldar.image.model import Digest

from .actors import pull_whole
from .hubs import PASSWORD, Running, Tick, run, sha256
from .test_garbage import GRACE, WEEK, push_image


def test_a_second_backup_copies_what_is_new(local_hub: Hub, clock: Tick, tmp_path: Path) -> None:
    target = str(tmp_path / "backup")
    digest = push_image(local_hub, "a/b", b"{}", b"layer")
    local_hub.accounts.create("alice", PASSWORD)
    local_hub.blobs.begin("a/b", None)
    assert back_up(local_hub.settings, target) == (2, 7, 2)
    push_image(local_hub, "a/c", b"{}", b"another layer")
    local_hub.manifests.delete("a/b", digest)
    clock.now += GRACE + 1
    local_hub.blobs.tell("a/c", Digest(sha256(b"{}")))
    local_hub.collector.collect(GRACE, WEEK)
    assert back_up(local_hub.settings, target) == (2, 15, 1)
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o700
    fresh = HubSettings(str(tmp_path / "fresh"))
    assert restore(fresh, target) == (2, 15, 2)
    hub = Hub(fresh, clock)
    assert Checker(hub.database, hub.storage).check() == (2, 15, 1, 0, ())
    assert hub.accounts.with_password("alice", PASSWORD)
    assert hub.form_secret == local_hub.form_secret
    assert list(hub.storage.uploads()) == []
    hub.close()
    with pytest.raises(UserMistake, match="already"):
        restore(fresh, target)


def test_a_damaged_blob_stops_a_backup_and_leaves_the_one_before(local_hub: Hub, tmp_path: Path) -> None:
    target = str(tmp_path / "backup")
    push_image(local_hub, "a/b", b"{}", b"layer")
    back_up(local_hub.settings, target)
    push_image(local_hub, "a/b", b"{}", b"second")
    Path(local_hub.settings.path("blobs", "sha256", sha256(b"second")[7:9], sha256(b"second")[7:])).write_bytes(b"x")
    with pytest.raises(CorruptData, match=sha256(b"second")):
        back_up(local_hub.settings, target)
    hub = Hub(HubSettings(target))
    assert Checker(hub.database, hub.storage).check().problems == ()
    hub.close()


def test_beside_pushes(tmp_path: Path) -> None:
    data, target = str(tmp_path / "data"), str(tmp_path / "backup")
    running = Running(data, tmp_path / "log", allow_anonymous_push=True, access_log="none")
    pushed: list[tuple[str, str]] = []
    enough = threading.Event()

    def push() -> None:
        with running.client() as client:
            while not enough.is_set():
                tag = f"t{len(pushed)}"
                pushed.append((tag, client.push_image("a/b", tag)))

    thread = threading.Thread(target=push)
    thread.start()
    try:
        for _ in range(3):
            known = list(pushed)
            assert "blobs" in run("moldar", "hub", "backup", "--data", data, target)
    finally:
        enough.set()
        thread.join()
        assert running.stop() == 0
    assert len(pushed) > len(known) > 0
    restore(HubSettings(str(tmp_path / "new")), target)
    again = Running(str(tmp_path / "new"), tmp_path / "log")
    with again.client() as client:
        for tag, digest in known:
            pull_whole(client, "a/b", tag, digest)
    assert again.stop() == 0


def test_what_cannot_be_backed_up(local_hub: Hub, tmp_path: Path) -> None:
    settings = local_hub.settings
    for target in (settings.data, settings.path("inside"), str(tmp_path)):
        with pytest.raises(UserMistake, match="outside"):
            back_up(settings, target)
    with pytest.raises(UserMistake, match="SQLite") as caught:
        back_up(HubSettings(settings.data, storage="s3://bucket"), str(tmp_path / "backup"))
    assert "pg_dump" in caught.value.hint
    with pytest.raises(NotFound):
        back_up(HubSettings(str(tmp_path / "nowhere")), str(tmp_path / "backup"))
    with pytest.raises(NotFound):
        restore(HubSettings(str(tmp_path / "new")), str(tmp_path / "nothing"))

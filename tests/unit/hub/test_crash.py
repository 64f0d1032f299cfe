"""The hub is killed while pushes go on: what was acknowledged is there, nothing half-written is served."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moldar.hub import administration
from moldar.hub.refusals import Refusal
from moldar.hub.registry.garbage import Collected
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings
from moldar.hub.storage.files import hash_file
from moldar.image.model import Digest

from .hubs import Client, Running, Tick, code_of, image_manifest, sha256, wait_for

SETTINGS = {"allow_anonymous_push": True, "access_log": "none"}


class Pusher(threading.Thread):
    """Pushes images until the hub is gone; remembers what the hub said it has."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__()
        self.repository = f"crash/p{number}"
        self.client = Client(url)
        self.blobs: dict[str, int] = {}
        self.tags: dict[str, str] = {}

    def run(self) -> None:
        try:
            for number in range(10_000):
                self.push(f"t{number}")
        except httpx.TransportError:
            pass
        finally:
            self.client.close()

    def push(self, tag: str) -> None:
        layer = os.urandom(300_000)
        answer = self.client.post(f"/v2/{self.repository}/blobs/uploads/")
        location = answer.headers["location"]
        for start in range(0, len(layer), 100_000):
            answer = self.client.patch(location, content=layer[start : start + 100_000])
            assert answer.status_code == 202
        assert self.client.put(location, params={"digest": sha256(layer)}).status_code == 201
        self.blobs[sha256(layer)] = len(layer)
        config = self.client.push_blob(self.repository, tag.encode())
        self.blobs[config] = len(tag)
        document = image_manifest(config, len(tag), [(sha256(layer), len(layer))])
        answer = self.client.push_manifest(self.repository, tag, document)
        assert answer.status_code == 201
        self.tags[tag] = answer.headers["docker-content-digest"]


def wait_for_tags(pushers: list[Pusher], count: int) -> None:
    """Until that many tags were acknowledged, however busy the machine is."""
    wait_for(lambda: sum(len(pusher.tags) for pusher in pushers) >= count, seconds=60)


def check(data: str, pushers: list[Pusher]) -> None:
    """Everything acknowledged is whole, and every blob in place has the bytes that its name says."""
    hub = Hub(HubSettings(data))
    try:
        for digest in hub.storage.digests():
            fd = os.open(os.path.join(data, "blobs", "sha256", digest[7:9], digest[7:]), os.O_RDONLY)
            assert hash_file(fd, "sha256", os.fstat(fd).st_size).hexdigest() == digest[7:]
            os.close(fd)
        for pusher in pushers:
            for digest, size in pusher.blobs.items():
                assert hub.blobs.size(pusher.repository, Digest(digest)) == size
                assert hub.storage.size(Digest(digest)) == size
            for tag, digest in pusher.tags.items():
                stored = hub.manifests.get(pusher.repository, tag)
                assert stored is not None
                assert stored.digest == digest
                assert sha256(stored.content) == digest
        with hub.database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    finally:
        hub.close()


def test_killed_again_and_again_during_pushes(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    survivors: list[Pusher] = []
    for round_ in range(4):
        running = Running(data, tmp_path / "log", **SETTINGS)
        pushers = [Pusher(running.url, 10 * round_ + number) for number in range(4)]
        for pusher in pushers:
            pusher.start()
        wait_for_tags(pushers, 3)
        time.sleep(round_ * 0.11)  # so that the kill comes at different moments of the pushes that go on
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        for pusher in pushers:
            pusher.join()
        survivors += pushers
        check(data, survivors)
    assert sum(len(pusher.tags) for pusher in survivors) > 10
    running = Running(data, tmp_path / "log", **SETTINGS)
    with running.client() as client:
        for pusher in survivors:
            for tag, digest in pusher.tags.items():
                answer = client.get(f"/v2/{pusher.repository}/manifests/{tag}")
                assert answer.headers["docker-content-digest"] == digest
    assert running.stop() == 0


def test_killed_during_fifty_uploads_and_a_collection(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    old: list[Digest] = []
    survivors: list[Pusher] = []
    for round_ in range(2):
        old += leave_garbage(data, 120)
        running = Running(data, tmp_path / "log", **SETTINGS, gc_interval=0.01)
        pushers = [Pusher(running.url, 100 * round_ + number) for number in range(25)]
        for pusher in pushers:
            pusher.start()
        time.sleep(0.6 + 0.5 * round_)
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        for pusher in pushers:
            pusher.join()
        survivors += pushers
        check(data, survivors)
    assert sum(len(pusher.blobs) for pusher in survivors) > 5
    administration.collect_garbage(data)
    check(data, survivors)
    hub = Hub(HubSettings(data))
    assert not set(old) & set(hub.storage.digests())
    assert hub.collector.preview(24 * 3600, 7 * 24 * 3600)._replace(seconds=0) == Collected()
    hub.close()


def leave_garbage(data: str, count: int) -> list[Digest]:
    """Blobs that nothing has referred to for years."""
    hub = Hub(HubSettings(data), Tick(1))
    digests = []
    for _ in range(count):
        upload = hub.blobs.begin("crash/old", None)
        writer = hub.blobs.resume(upload)
        content = os.urandom(100)
        writer.write(content)
        digests.append(Digest(sha256(content)))
        hub.blobs.commit(upload, writer, digests[-1])
        writer.close()
    hub.close()
    return digests


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    data = os.urandom(900_000)
    running = Running(str(tmp_path / "data"), tmp_path / "log", **SETTINGS)
    with running.client() as client:
        location = client.post("/v2/a/b/blobs/uploads/").headers["location"]
        answer = client.patch(location, content=data[:400_000], headers={"Content-Range": "0-399999"})
        assert answer.status_code == 202
    running.stop(signal.SIGKILL)
    running = Running(str(tmp_path / "data"), tmp_path / "log", **SETTINGS)
    with running.client() as client:
        status = client.get(location)
        assert (status.status_code, status.headers["range"]) == (204, "0-399999")
        assert client.patch(location, content=data[400_000:], headers={"Content-Range": "400000-899999"}).is_success
        assert client.put(location, params={"digest": sha256(data)}).status_code == 201
        assert client.get(f"/v2/a/b/blobs/{sha256(data)}").content == data
    assert running.stop() == 0


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "600000"}], ids=["chunked", "with a length"])
def test_an_upload_goes_on_after_the_connection_broke(open_server: Running, headers: dict[str, str]) -> None:
    data = os.urandom(200_000)

    def breaking() -> Iterator[bytes]:
        yield data
        raise ConnectionAbortedError

    with open_server.client() as client:
        location = client.post("/v2/broken/b/blobs/uploads/").headers["location"]
        with pytest.raises(ConnectionAbortedError):
            client.patch(location, content=breaking(), headers=headers)
        wait_for(lambda: client.get(location).headers["range"] == "0-199999")
        answer = client.patch(location, content=b"the end", headers={"Content-Range": "200000-200006"})
        assert answer.status_code == 202
        assert client.put(location, params={"digest": sha256(data + b"the end")}).status_code == 201


def refused(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.is_success else answer


def test_one_request_at_a_time_writes_to_an_upload(open_server: Running) -> None:
    with open_server.client() as client:
        location = client.post("/v2/broken/c/blobs/uploads/").headers["location"]
        host, port = open_server.host.split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc".encode())
            answer = wait_for(lambda: refused(client.patch(location, content=b"")))
            assert (answer.status_code, code_of(answer)) == (409, "BLOB_UPLOAD_INVALID")
            slow.sendall(b"defghi")
            assert slow.recv(100).startswith(b"HTTP/1.1 202")
        assert client.put(location, params={"digest": sha256(b"abcdefghi")}).status_code == 201


def test_old_uploads_and_strays_are_cleared(hub: Hub, clock: Tick) -> None:
    old = hub.blobs.begin("a/b", None)
    hub.storage.begin("stray")
    clock.now += 100
    young = hub.blobs.begin("a/b", None)
    assert hub.blobs.expire_uploads(50) == 1
    assert hub.blobs.offset(hub.blobs.find("a/b", young.id)) == 0
    with pytest.raises(Refusal):
        hub.blobs.find("a/b", old.id)
    assert list(hub.storage.uploads()) == [young.id]

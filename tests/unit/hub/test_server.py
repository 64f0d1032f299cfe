"""The process: starting, stopping, its address, its log, and administration beside it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moldar.errors import CorruptData, HostTrouble, NotFound, UserMistake
from moldar.hub import administration
from moldar.hub.server import serve
from moldar.hub.settings import HubSettings, parse_listen

from .hubs import PASSWORD, Running, sha256, wait_for


def test_a_taken_address(tmp_path: Path, server: Running) -> None:
    host, port = server.host.split(":")
    with pytest.raises(HostTrouble, match="in use"):
        serve(HubSettings(str(tmp_path), host=host, port=int(port)))


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(HostTrouble, match="cannot listen"):
        serve(HubSettings(str(tmp_path), host="203.0.113.1", port=0))


def test_a_data_directory_has_one_server(server: Running) -> None:
    with pytest.raises(HostTrouble, match="another hub"):
        serve(HubSettings(server.data, port=0))


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:65536", "host:-1"])
def test_malformed_addresses(text: str) -> None:
    with pytest.raises(UserMistake):
        parse_listen(text)


def test_administration_beside_a_server(server: Running) -> None:
    with server.client("dora", "first password") as client:
        assert client.get("/v2/").status_code == 401
        administration.add_user(server.where, "dora", "first password")
        assert client.get("/v2/").status_code == 200
        administration.set_password(server.where, "dora", "second password")
        assert client.get("/v2/").status_code == 401
    assert "dora" in [account.name for account in administration.list_users(server.where)]
    token, secret = administration.create_token(server.where, "dora", "ci", days=1)
    assert administration.list_tokens(server.where, "dora") == [token]
    with server.client("dora", secret) as client:
        assert client.get("/v2/").status_code == 200
    for wrong in (
        lambda: administration.create_token(server.where, "nobody", "ci"),
        lambda: administration.revoke_token(server.where, "dora", token.id + 1),
        lambda: administration.list_users(server.data + "/nowhere"),
        lambda: administration.set_disabled(server.where, "nobody", True),
    ):
        with pytest.raises(NotFound):
            wrong()


def test_sigterm_lets_a_request_end(tmp_path: Path) -> None:
    running = Running(str(tmp_path / "data"), tmp_path / "log", allow_anonymous_push=True)
    assert "anyone who can reach this hub may push" in running.log.read_text()
    data = os.urandom(200_000)
    started = threading.Event()

    def body() -> "object":
        for start in range(0, len(data), 20_000):
            yield data[start : start + 20_000]
            started.set()
            time.sleep(0.05)

    answers: list[httpx.Response] = []

    def push() -> None:
        with running.client() as client:
            answers.append(client.post("/v2/a/b/blobs/uploads/", params={"digest": sha256(data)}, content=body()))

    thread = threading.Thread(target=push)
    thread.start()
    started.wait(10)
    assert running.stop() == 0
    thread.join()
    assert answers[0].status_code == 201
    again = Running(str(tmp_path / "data"), tmp_path / "log")
    with again.client() as client:
        assert client.get(f"/v2/a/b/blobs/{sha256(data)}").content == data
    assert again.stop() == 0


def test_sigterm_ends_a_request_that_does_not(tmp_path: Path) -> None:
    running = Running(str(tmp_path / "data"), tmp_path / "log", allow_anonymous_push=True, stop_timeout=1)
    host, port = running.host.split(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.sendall(b"POST /v2/a/b/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        time.sleep(0.2)
        started = time.monotonic()
        running.stop()
        assert time.monotonic() - started < 8


def test_sigint_stops_too(tmp_path: Path) -> None:
    assert Running(str(tmp_path / "data"), tmp_path / "log").stop(signal.SIGINT) == 0


def test_the_log_holds_requests_and_no_secrets(server: Running) -> None:
    with server.client("alice") as client:
        client.get("/v2/", params={"secret": "in-the-query"})

    def line() -> dict[str, object] | None:
        lines = [json.loads(text) for text in server.log.read_text().splitlines() if text.startswith("{")]
        return next((entry for entry in lines if entry["path"] == "/v2/" and entry["status"] == 200), None)

    entry = wait_for(line)
    assert (entry["method"], entry["client"]) == ("GET", "127.0.0.1")
    text = server.log.read_text()
    assert "in-the-query" not in text
    assert PASSWORD not in text


def test_a_damaged_database_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"x" * 5000)
    with pytest.raises(CorruptData, match="cannot use the hub's database"):
        serve(HubSettings(str(tmp_path), port=0))


def test_health(server: Running) -> None:
    with server.client() as client:
        assert client.get("/health").text == "ok\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    target = tmp_path / "small"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "small", str(target)], check=True)
    yield target
    subprocess.run(["umount", str(target)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    running = Running(str(small_disk / "data"), tmp_path / "log", allow_anonymous_push=True)
    try:
        with running.client() as client:
            kept = client.push_image("full/app")
            large = os.urandom(20_000_000)
            answer = client.post("/v2/full/app/blobs/uploads/", params={"digest": sha256(large)}, content=large)
            assert answer.status_code == 507
            assert "no space" in answer.json()["errors"][0]["message"]
            location = client.post("/v2/full/app/blobs/uploads/").headers["location"]
            assert client.patch(location, content=large).status_code == 507
            assert client.get(location).status_code == 204
            assert client.delete(location).status_code == 204
            assert client.get("/v2/full/app/manifests/latest").headers["docker-content-digest"] == kept
            assert client.push_image("full/app", "again")
            assert not list((small_disk / "data" / "uploads").iterdir())
    finally:
        assert running.stop() == 0


def test_behind_a_proxy(tmp_path: Path) -> None:
    url = "https://hub.example.org"
    administration.add_user(str(tmp_path / "data"), "alice", PASSWORD)
    running = Running(str(tmp_path / "data"), tmp_path / "log", external_url=url)
    try:
        with running.client() as client:
            assert f'realm="{url}/auth/token"' in client.get("/v2/").headers["www-authenticate"]
            assert "moldar login hub.example.org<" in client.get("/").text
            assert "Secure" in client.get("/sign-in").headers["set-cookie"]
            for _ in range(9):  # as many as one address may fail for one account, and one more
                answer = client.get(
                    "/auth/token", auth=("alice", "guess guess"), headers={"X-Forwarded-For": "1.1.1.1, 10.0.0.1"}
                )
            assert answer.status_code == 429
            other = {"X-Forwarded-For": "10.0.0.1, 10.0.0.2"}
            assert client.get("/auth/token", auth=("alice", PASSWORD), headers=other).status_code == 200
    finally:
        assert running.stop() == 0


def test_nothing_is_read_for_a_client_that_is_gone(open_server: Running) -> None:
    size = 100_000_000
    with open_server.client() as client:
        location = client.post("/v2/gone/b/blobs/uploads/").headers["location"]
        data = b"x" * (size // 10)
        for _ in range(10):
            client.patch(location, content=data)
        digest = sha256(data * 10)
        assert client.put(location, params={"digest": digest}).status_code == 201
    host, port = open_server.host.split(":")
    for _ in range(5):  # the server learns of it a little later, and on a busy machine sometimes too late
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"GET /v2/gone/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connection.recv(1000)

    def sent() -> list[int]:
        lines = [json.loads(text) for text in open_server.log.read_text().splitlines() if text.startswith("{")]
        found = [int(entry["bytes"]) for entry in lines if entry["path"].endswith(digest)]
        return found if len(found) == 5 else []

    assert min(wait_for(sent, 30)) < size
    assert not [name for name in _open_files(open_server) if "/blobs/" in name]


def _open_files(server: Running) -> list[str]:
    directory = f"/proc/{server.process.pid}/fd"
    names = []
    for number in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"{directory}/{number}"))
    return names


def test_an_unknown_log_format(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="log format"):
        HubSettings(str(tmp_path), access_log="xml")

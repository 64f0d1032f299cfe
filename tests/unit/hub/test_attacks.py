"""Requests that mean harm, at the level of bytes on the wire."""

import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from .hubs import MANIFEST, Running, code_of, sha256


def raw_request(server: Running, request: bytes, timeout: float = 10) -> bytes:
    host, port = server.host.split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(request)
        received = b""
        while data := connection.recv(65536):
            received += data
    return received


def get(server: Running, target: bytes, method: bytes = b"GET") -> bytes:
    return raw_request(server, method + b" " + target + b" HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")


TRICKS = [
    b"/v2/../../../../etc/passwd",
    b"/v2/a/../../keys/forms.key",
    b"/v2/a/b/blobs/../../../hub.db",
    b"/v2/a/b/blobs/sha256:../../../hub.db",
    b"/v2/a/b/blobs/sha256:..%2f..%2f..%2fhub.db",
    b"/v2/a/b/blobs/sha256%3a%2e%2e%2f%2e%2e%2fkeys%2fforms.key",
    b"/v2/%2e%2e/%2e%2e/blobs/sha256:" + b"0" * 64,
    b"/v2/a%00b/tags/list",
    b"/v2/a/b/manifests/..%2f..%2fhub.db",
    b"/v2/a/b/manifests/%2e%2e",
    b"/v2/a/b/blobs/uploads/..%2f..%2fhub.db",
    b"/v2/a/b/blobs/uploads/%2fetc%2fpasswd",
    b"/v2/a/b/blobs/uploads/%00",
    b"/v2//etc/passwd/tags/list",
    b"/static/..%2froutes.py",
    b"/static/%2e%2e/routes.py",
    b"/static//etc/passwd",
    b"/r/..%2f..%2fetc",
    b"/u/..",
    b"/v2/" + b"a/" * 3000 + b"tags/list",
]


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"PUT", b"PATCH", b"POST"])
@pytest.mark.parametrize("target", TRICKS, ids=lambda target: str(target[:40]))
def test_path_tricks(open_server: Running, target: bytes, method: bytes) -> None:
    before = _files(open_server)
    status = int(get(open_server, target, method).split(b" ", 2)[1])
    assert 400 <= status < 500, status
    assert _files(open_server) == before


def _files(server: Running) -> set[str]:
    found = set()
    for parent, _, names in os.walk(server.data):
        found |= {os.path.join(parent, name) for name in names if not name.startswith("hub.db")}
    return found


@pytest.mark.parametrize("name", ["../../../tmp/escape", "a/../../b", "/etc", "%2e%2e"])
def test_tricks_in_parameters(open_server: Running, name: str) -> None:
    with open_server.client() as client:
        before = _files(open_server)
        mount = client.post("/v2/attack/x/blobs/uploads/", params={"mount": f"sha256:{name}", "from": name})
        assert (mount.status_code, code_of(mount)) == (400, "DIGEST_INVALID")
        single = client.post("/v2/attack/x/blobs/uploads/", params={"digest": f"sha256:{name}"}, content=b"x")
        assert single.status_code == 400
        assert client.post("/v2/attack/x/blobs/uploads/", params={"digest-algorithm": name}).status_code == 400
        assert client.get("/v2/attack/x/tags/list", params={"last": name, "n": 5}).status_code == 404
        assert _files(open_server) == before


@pytest.mark.parametrize(
    "text",
    [
        "' OR 1=1 --",
        '"; DROP TABLE tags; --',
        "%",
        "_",
        "\x00",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)
def test_odd_text_in_searches_and_names(open_server: Running, text: str) -> None:
    with open_server.client() as client:
        client.push_image("attack/search")
        for path, name in (("/", "q"), ("/v2/_catalog", "last"), ("/v2/attack/search/tags/list", "last")):
            assert client.get(path, params={name: text}).status_code == 200
        assert client.get("/v2/_catalog").json()["repositories"]
        assert client.get("/v2/", auth=(text or "x", text)).status_code in (200, 401)


def test_a_body_shorter_than_it_says(open_server: Running) -> None:
    digest = sha256(b"short")
    before = _files(open_server)
    target = f"/v2/attack/short/blobs/uploads/?digest={digest}"
    request = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nshort"
    host, port = open_server.host.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        connection.recv(65536)
    with open_server.client() as client:
        assert client.head(f"/v2/attack/short/blobs/{digest}").status_code == 404
    assert _files(open_server) == before


def test_two_lengths(open_server: Running) -> None:
    answer = raw_request(
        open_server,
        b"POST /v2/a/b/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
    )
    assert answer.split(b" ", 2)[1] == b"400"


def test_header_injection_by_a_name(open_server: Running) -> None:
    with open_server.client() as client:
        answer = client.post("/v2/attack/x%0d%0aSet-Cookie:%20a=b/blobs/uploads/")
        assert answer.status_code == 404
        assert "set-cookie" not in answer.headers


def test_a_manifest_that_lies_about_its_kind(open_server: Running) -> None:
    with open_server.client() as client:
        for raw in (b'{"mediaType": "text/html", "config": {}}', b'{"mediaType": 5}', b'{"annotations": [1]}'):
            answer = client.put("/v2/attack/x/manifests/a", content=raw, headers={"Content-Type": MANIFEST})
            assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_INVALID")


def test_a_blob_is_never_a_page(open_server: Running) -> None:
    with open_server.client() as client:
        page = b"<html><script>alert(1)</script>"
        digest = client.push_blob("attack/page", page)
        answer = client.get(f"/v2/attack/page/blobs/{digest}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_server_says_nothing_of_its_inside(open_server: Running) -> None:
    with open_server.client() as client:
        for target in ("/v2/a/b/blobs/x", "/nothing", "/v2/a/b/manifests/%ff"):
            text = client.get(target).text
            assert "Traceback" not in text
            assert str(Path(open_server.data).parent) not in text
    assert "Traceback" not in open_server.log.read_text()


def test_our_own_mistakes_are_logged_and_not_shown(tmp_path: Path) -> None:
    """A database that loses a table under the server stands for a bug."""
    running = Running(str(tmp_path / "data"), tmp_path / "log")
    with sqlite3.connect(tmp_path / "data" / "hub.db") as database:
        for table in ("tags", "accounts"):
            database.execute(f"DROP TABLE {table}")
    database.close()
    try:
        with running.client() as client:
            for target in ("/", "/v2/a/b/manifests/c", "/auth/token?scope=repository:a/b:pull"):
                answer = client.get(target)
                assert answer.status_code == 500
                assert "no such table" not in answer.text
    finally:
        running.stop()
    assert running.log.read_text().count("no such table") >= 3


def test_slow_uploads_keep_nobody_out_and_end(tmp_path: Path) -> None:
    """A hundred clients begin an upload and fall silent; others are served, a slow one that goes on is, too."""
    running = Running(str(tmp_path / "data"), tmp_path / "log", allow_anonymous_push=True, body_silence=1.5)
    host, port = running.host.split(":")
    with running.client() as client:
        places = [client.post("/v2/slow/app/blobs/uploads/").headers["location"] for _ in range(101)]
        head = "PATCH {} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
        sockets = [socket.create_connection((host, int(port)), timeout=30) for _ in places]
        for place, connection in zip(places, sockets, strict=True):
            connection.sendall(head.format(place).encode())
        *silent, slow = sockets
        began = time.monotonic()
        client.push_image("slow/other", "latest")
        assert client.get("/v2/slow/other/manifests/latest").status_code == 200
        assert time.monotonic() - began < 10
        for letter in b"defghi":
            time.sleep(0.5)
            slow.sendall(bytes([letter]))
        assert slow.recv(100).startswith(b"HTTP/1.1 202")
        for connection in silent:
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
            connection.close()
        slow.close()
        assert client.put(places[-1], params={"digest": sha256(b"abcdefghi")}).status_code == 201
        assert client.get(places[0]).headers["range"] == "0-2"  # what came stays: the client may go on
        assert client.patch(places[0], content=b"defghi").status_code == 202
    assert running.stop() == 0

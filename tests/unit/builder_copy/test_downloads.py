"""Files that ADD downloads: names, times, checksums, and asking again whether they changed."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moldar.builder.downloads import DownloadRefused, WebFiles, WrongChecksum
from moldar.builder.graph import HttpOp
from moldar.errors import RegistryRefused, UserMistake
from moldar.remote.config import RegistryConfig
from moldar.remote.session import RetryPolicy
from moldar.remote.web import WebSession
from moldar.store.blobs import BlobStore
from moldar.store.database import Database
from moldar.store.downloads import DownloadTable
from moldar.store.home import Home


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages`: path to (content, headers); a page `-> url` redirects. Counts answers by path and status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.answers: list[tuple[str, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content, headers = self.server.pages.get(self.path, (b"", {"status": "404"}))
        asked = self.headers.get("If-None-Match"), self.headers.get("If-Modified-Since")
        same = any(value and value in asked for value in (headers.get("ETag"), headers.get("Last-Modified")))
        status = 304 if same else int(headers.get("status", "200"))
        self.server.answers.append((self.path, status))
        self.send_response(status)
        for name, value in headers.items():
            if name != "status":
                self.send_header(name, value)
        self.send_header("Content-Length", "0" if status == 304 else str(len(content)))
        self.end_headers()
        if status != 304:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[WebFiles]:
    home = Home.open(str(tmp_path / "home"))
    database = Database(home)
    session = WebSession(RegistryConfig(), RetryPolicy(attempts=1))
    yield WebFiles(lambda: session, BlobStore(home), DownloadTable(database), lambda kind, keys: None)
    session.close()
    database.close()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/dir/page.html?x=1", "page.html"),
        ("/a%20b%2", "a b%2"),
        ("/a%2fb", "a%2fb"),
        ("/dir/", "dir"),
        ("/", "__unnamed__"),
        ("", "__unnamed__"),
        ("?q=/x", "__unnamed__"),
        ("/x#y/z", "x"),
        ("/caf%C3%A9", "café"),
    ],
)
def test_names_come_from_the_url(path: str, name: str) -> None:
    assert HttpOp("http://host" + path).name == name


def test_a_file_arrives_with_its_time(server: Server, files: WebFiles, bench: Any) -> None:
    server.pages["/page"] = (b"<p>", {"Last-Modified": "Sun, 13 Sep 2020 12:26:40 GMT"})
    server.pages["/moved"] = (b"", {"status": "302", "Location": "/page"})
    for path in ("/page", "/moved"):
        made = bench.copy(path, "/", tree=files.tree(HttpOp(server.url + path)), is_add=True)
        entry = made.entries[path[1:]]
        assert (made.files[path[1:]], entry.mode, entry.mtime) == (b"<p>", 0o600, 1_600_000_000)


@pytest.mark.parametrize("header", [{"ETag": '"1"'}, {"Last-Modified": "Sun, 13 Sep 2020 12:26:40 GMT"}])
def test_what_has_not_changed_is_not_sent_again(server: Server, files: WebFiles, header: dict[str, str]) -> None:
    server.pages["/f"] = (b"one", header)
    op = HttpOp(server.url + "/f")
    first, second = files.tree(op), files.tree(op)
    assert [first.fingerprints([entry]) for entry in first.children("")] == [[hashlib.sha256(b"one").digest()]]
    assert first.lookup("f") == second.lookup("f")
    server.pages["/f"] = (b"two", {"ETag": '"2"'})
    changed = files.tree(op)
    assert changed.fingerprints(changed.children("")) == [hashlib.sha256(b"two").digest()]
    assert [status for _, status in server.answers] == [200, 304, 200]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_checksums_are_checked(server: Server, files: WebFiles, algorithm: str) -> None:
    server.pages["/f"] = (b"f", {})
    right = f"{algorithm}:{hashlib.new(algorithm, b'f').hexdigest()}"
    wrong = f"{algorithm}:{hashlib.new(algorithm, b'g').hexdigest()}"
    for _ in range(2):
        with pytest.raises(WrongChecksum, match=wrong):
            files.tree(HttpOp(server.url + "/f", wrong))
    assert files.tree(HttpOp(server.url + "/f", right)).lookup("f")
    with pytest.raises(UserMistake, match="invalid digest"):
        files.tree(HttpOp(server.url + "/f", "md5:00"))


def test_a_known_checksum_needs_no_server(server: Server, files: WebFiles) -> None:
    server.pages["/f"] = (b"f", {"ETag": '"1"'})
    op = HttpOp(server.url + "/f", f"sha256:{hashlib.sha256(b'f').hexdigest()}")
    files.tree(op)
    files.tree(op)
    assert len(server.answers) == 1
    with pytest.raises(WrongChecksum):
        files.tree(op._replace(checksum="sha256:" + "0" * 64))


def test_refusals_and_silence_are_told(server: Server, files: WebFiles) -> None:
    with pytest.raises(DownloadRefused, match="/none: invalid response status 404") as caught:
        files.tree(HttpOp(server.url + "/none"))
    assert caught.value.status == 404
    server.pages["/out"] = (b"", {"status": "302", "Location": "file:///etc/passwd"})
    with pytest.raises(RegistryRefused, match="no http address"):
        files.tree(HttpOp(server.url + "/out"))
    with pytest.raises(RegistryRefused, match="cannot reach"):
        files.tree(HttpOp("http://127.0.0.1:1/f"))

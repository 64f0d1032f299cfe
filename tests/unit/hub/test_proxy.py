"""Copies of an upstream's content: fetched once, checked, kept, and served when the upstream fails."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from moldar.errors import UserMistake
from moldar.hub import administration
from moldar.hub.services import Hub, open_database
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Client, Running, code_of, image_manifest, sha256, wait_for
from .test_pages import submit
from .upstreams import Line, line_to

Start = Callable[..., Running]


@pytest.fixture
def line(server: Running) -> Iterator[Line]:
    """A line to the hub that is everybody's upstream here."""
    with line_to(server.url) as line:
        yield line


@pytest.fixture
def start(tmp_path: Path, either: dict[str, Any]) -> Iterator[Start]:
    """Starts hubs that keep copies."""
    running: list[Running] = []

    def begin(line: Line, **settings: Any) -> Running:
        root = tmp_path / str(len(running))
        root.mkdir()
        for name in ("alice", "boss"):
            where = HubSettings(str(root / "data"), **either)
            administration.add_user(where, name, PASSWORD, is_admin=name == "boss")
        settings = {"proxies": [f"up.test={line.url}"], "proxy_timeout": 2, "proxy_fresh": 300, **either, **settings}
        hub = Running(str(root / "data"), root / "log", **settings)
        running.append(hub)
        return hub

    yield begin
    for hub in running:
        assert hub.stop() == 0, hub.log.read_text()
        assert "Traceback" not in hub.log.read_text()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the upstream for this test alone."""
    return "alice/" + request.node.name.partition("[")[0].replace("_", "-")


def push(server: Running, name: str, size: int = 1000, tag: str = "latest") -> tuple[str, str, bytes]:
    """Pushes an image with one layer of random bytes: the manifest's digest, the layer's, the layer."""
    layer = os.urandom(size)
    with server.client("alice") as client:
        raw = b'{"architecture": "amd64", "os": "linux"}'
        config, digest = client.push_blob(name, raw), client.push_blob(name, layer)
        answer = client.push_manifest(name, tag, image_manifest(config, len(raw), [(digest, size)]))
        assert answer.status_code == 201, answer.text
    return answer.headers["docker-content-digest"], digest, layer


@pytest.mark.either
def test_a_pull_brings_a_copy(server: Running, line: Line, start: Start, name: str) -> None:
    digest, layer, data = push(server, name)
    hub = start(line)
    with hub.client() as client:
        for reference in ("latest", digest, "latest"):
            answer = client.get(f"/v2/up.test/{name}/manifests/{reference}")
            assert answer.status_code == 200, answer.text
            assert answer.headers["docker-content-digest"] == digest == sha256(answer.content)
        assert client.head(f"/v2/up.test/{name}/manifests/latest").headers["docker-content-digest"] == digest
        assert client.head(f"/v2/up.test/{name}/blobs/{layer}").headers["content-length"] == "1000"
        assert line.count("GET", layer) == 0
        for _ in range(2):
            answer = client.get(f"/v2/up.test/{name}/blobs/{layer}")
            assert answer.content == data
            assert answer.headers["docker-content-digest"] == layer
        part = client.get(f"/v2/up.test/{name}/blobs/{layer}", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, data[10:20])
    assert line.count("GET", "/manifests/") == 1
    assert line.count("GET", layer) == 1
    line.trouble = "down"
    with hub.client() as client:
        assert client.get(f"/v2/up.test/{name}/blobs/{layer}").content == data
        assert client.get(f"/v2/up.test/{name}/manifests/{digest}").status_code == 200


def test_a_range_waits_for_the_whole(server: Running, line: Line, start: Start, name: str) -> None:
    _, layer, data = push(server, name, 3_000_000)
    with start(line).client() as client:
        part = client.get(f"/v2/up.test/{name}/blobs/{layer}", headers={"Range": "bytes=-5"})
    assert (part.status_code, part.content) == (206, data[-5:])


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_one_fetch_for_twenty_clients(server: Running, line: Line, start: Start, name: str, size: int) -> None:
    _, layer, data = push(server, name, size)
    hub = start(line)
    line.trouble, line.only = "slow", layer

    def pull(_: int) -> bytes:
        return httpx.get(f"{hub.url}/v2/up.test/{name}/blobs/{layer}", timeout=30).content

    with ThreadPoolExecutor(20) as pool:
        assert all(got == data for got in pool.map(pull, range(20)))
    assert line.count("GET", layer) == 1


def test_one_question_for_twenty_clients(server: Running, line: Line, start: Start, name: str) -> None:
    digest, _, _ = push(server, name)
    hub = start(line)
    line.trouble, line.only = "slow", "/manifests/"

    def pull(_: int) -> str:
        answer = httpx.get(f"{hub.url}/v2/up.test/{name}/manifests/latest", timeout=30)
        return answer.headers["docker-content-digest"]

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(pull, range(20))) == {digest}
    assert line.count("GET", "/manifests/") == 1


def test_a_client_reads_while_the_blob_comes_in(server: Running, line: Line, start: Start, name: str) -> None:
    _, layer, data = push(server, name, 4_000_000)
    hub = start(line)
    line.trouble, line.only = "slow", layer
    with httpx.stream("GET", f"{hub.url}/v2/up.test/{name}/blobs/{layer}", timeout=30) as answer:
        moments = []
        got = b""
        for part in answer.iter_raw():
            moments.append(time.monotonic())
            got += part
    assert got == data
    assert moments[-1] - moments[0] > 0.4


def test_a_fetch_goes_on_without_its_client(server: Running, line: Line, start: Start, name: str) -> None:
    _, layer, data = push(server, name, 4_000_000)
    hub = start(line)
    line.trouble, line.only = "slow", layer
    with httpx.stream("GET", f"{hub.url}/v2/up.test/{name}/blobs/{layer}", timeout=30) as answer:
        next(answer.iter_raw())
    line.trouble = ""
    wait_for(lambda: _kept(hub, layer))
    assert httpx.get(f"{hub.url}/v2/up.test/{name}/blobs/{layer}").content == data
    assert line.count("GET", layer) == 1


def test_a_kill_while_a_blob_comes_in(server: Running, line: Line, start: Start, name: str) -> None:
    _, layer, data = push(server, name, 4_000_000)
    hub = start(line)
    line.trouble, line.only = "slow", layer
    with httpx.stream("GET", f"{hub.url}/v2/up.test/{name}/blobs/{layer}", timeout=30) as answer:
        next(answer.iter_raw())
        hub.process.kill()
        hub.process.wait()
    assert not _kept(hub, layer)
    again = Running(hub.data, hub.log.with_name("again"), proxies=[f"up.test={line.url}"])
    assert httpx.get(f"{again.url}/v2/up.test/{name}/blobs/{layer}", timeout=30).content == data
    assert again.stop() == 0
    hub.process.returncode = 0  # so that nobody complains of the kill


def test_a_full_disk(server: Running, line: Line, name: str, tmp_path: Path) -> None:
    _, large, _ = push(server, name, 20_000_000)
    _, small, data = push(server, name, tag="small")
    target = tmp_path / "disk"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "small", str(target)], check=True)
    try:
        hub = Running(str(target / "data"), tmp_path / "log", proxies=[f"up.test={line.url}"])
        with hub.client() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(f"/v2/up.test/{name}/blobs/{large}")
            late = client.get(f"/v2/up.test/{name}/blobs/{large}", headers={"Range": "bytes=0-1"})
            assert late.status_code == 507
            assert client.get(f"/v2/up.test/{name}/blobs/{small}").content == data
            assert os.listdir(target / "data" / "uploads") == []
        assert hub.stop() == 0
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_tag_is_asked_for_again(server: Running, line: Line, start: Start, name: str) -> None:
    first, _, _ = push(server, name)
    hub = start(line, proxy_fresh=1)
    with hub.client() as client:
        path = f"/v2/up.test/{name}/manifests/latest"
        assert client.get(path).headers["docker-content-digest"] == first
        time.sleep(1.1)
        assert client.get(path).headers["docker-content-digest"] == first
        assert (line.count("HEAD", "/manifests/"), line.count("GET", "/manifests/")) == (1, 1)
        second, _, _ = push(server, name)
        time.sleep(1.1)
        assert client.get(path).headers["docker-content-digest"] == second
        assert client.get(f"/v2/up.test/{name}/manifests/{first}").status_code == 200
        with server.client("alice") as owner:
            assert owner.delete(f"/v2/{name}/manifests/latest").status_code == 202
        time.sleep(1.1)
        assert code_of(client.get(path)) == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("trouble", ["down", "429", "500", "silent"])
def test_the_last_known_when_the_upstream_fails(
    server: Running, line: Line, start: Start, name: str, trouble: str
) -> None:
    digest, _, _ = push(server, name)
    hub = start(line, proxy_fresh=0, proxy_timeout=0.5)
    with hub.client() as client:
        path = f"/v2/up.test/{name}/manifests/latest"
        assert "warning" not in client.get(path).headers
        line.trouble = trouble
        answer = client.get(path)
        assert (answer.status_code, answer.headers["docker-content-digest"]) == (200, digest)
        assert answer.headers["warning"].startswith('110 moldar-hub "up.test ')
        unknown = client.get(f"/v2/up.test/{name}/manifests/other")
        assert unknown.status_code == {"down": 502, "429": 429, "500": 502, "silent": 504}[trouble]
        assert unknown.headers.get("retry-after") == ("7" if trouble == "429" else None)
        assert code_of(unknown) == ("TOOMANYREQUESTS" if trouble == "429" else "UNAVAILABLE")
        line.trouble = ""
        assert "warning" not in client.get(path).headers
    assert "may be old" in hub.log.read_text()


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_lies_are_not_kept(server: Running, line: Line, start: Start, name: str, size: int) -> None:
    digest, layer, data = push(server, name, size)
    hub = start(line)
    line.trouble = "lie"
    with hub.client() as client:
        assert client.get(f"/v2/up.test/{name}/manifests/{digest}").status_code == 502
        assert client.get(f"/v2/up.test/{name}/manifests/latest").status_code == 502
        if size == 1000:
            assert client.get(f"/v2/up.test/{name}/blobs/{layer}").status_code == 502
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(f"/v2/up.test/{name}/blobs/{layer}")
        assert not _kept(hub, layer)
        assert os.listdir(os.path.join(hub.data, "uploads")) == []
        line.trouble = ""
        assert client.get(f"/v2/up.test/{name}/blobs/{layer}").content == data


def test_a_broken_line_is_taken_up_again(server: Running, line: Line, start: Start, name: str) -> None:
    _, layer, data = push(server, name, 3_000_000)
    hub = start(line)
    line.trouble, line.only = "cut", layer

    def repair() -> None:
        wait_for(lambda: line.count("GET", layer) >= 1)
        line.trouble = ""

    threading.Thread(target=repair).start()
    assert httpx.get(f"{hub.url}/v2/up.test/{name}/blobs/{layer}", timeout=30).content == data
    assert line.count("GET", layer) == 2


def test_no_way_into_the_hubs_own_network(server: Running, line: Line, start: Start, name: str) -> None:
    _, layer, _ = push(server, name)
    hub = start(line)
    line.trouble, line.only = "away", layer
    answer = httpx.get(f"{hub.url}/v2/up.test/{name}/blobs/{layer}")
    assert answer.status_code == 502
    assert "169.254.169.254" in answer.text


def test_redirects_are_followed_without_credentials(
    server: Running, line: Line, start: Start, name: str, tmp_path: Path
) -> None:
    _, layer, data = push(server, name)
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"auths": {"up.test": {"username": "alice", "password": PASSWORD}}}))
    hub = start(line, proxy_credentials=str(secrets), proxy_pull="everyone")
    with server.client("alice") as owner:
        assert owner.get(f"/v2/{name}/tags/list").status_code == 200
    with line_to(server.url) as far, hub.client() as client:
        _make_private(server, name)
        assert client.get(f"/v2/up.test/{name}/manifests/latest").status_code == 200
        _make_private(server, name, is_public=True)
        line.trouble, line.only, line.elsewhere = "away", layer, far.url
        assert client.get(f"/v2/up.test/{name}/blobs/{layer}").content == data
        assert any(layer in path for path in line.credentials)
        assert far.count("GET", layer) == 1
        assert far.credentials == []


def test_an_upstream_that_knows_no_head(server: Running, line: Line, start: Start, name: str) -> None:
    digest, _, _ = push(server, name)
    hub = start(line, proxy_fresh=0)
    line.trouble = "no HEAD"
    with hub.client() as client:
        for _ in range(2):
            answer = client.get(f"/v2/up.test/{name}/manifests/latest")
            assert answer.headers["docker-content-digest"] == digest
            assert "warning" not in answer.headers


def test_the_way_out_of_a_closed_network(server: Running, line: Line, start: Start, name: str) -> None:
    digest, layer, data = push(server, name)
    hub = start(line, proxies=["far.test=http://registry.invalid"], proxy_via=[line.url, "", "intranet.test"])
    with hub.client() as client:
        answer = client.get(f"/v2/far.test/{name}/manifests/latest")
        assert answer.headers["docker-content-digest"] == digest
        assert client.get(f"/v2/far.test/{name}/blobs/{layer}").content == data


def test_nobody_takes_the_name_of_an_upstream(server: Running, line: Line, start: Start, tmp_path: Path) -> None:
    hub = start(line)
    with httpx.Client(base_url=hub.url) as browser:
        answer = submit(browser, "/sign-up", name="up.test", password=PASSWORD)
        assert answer.status_code == 400
        assert "reserved" in answer.text
    data = str(tmp_path / "other")
    administration.add_user(data, "up.test", PASSWORD)
    with pytest.raises(UserMistake, match="an account up"):
        Hub(HubSettings(data, proxies=["up.test"]))


def test_nobody_pushes_into_copies(server: Running, line: Line, start: Start, name: str) -> None:
    digest, layer, _ = push(server, name)
    hub = start(line)
    with hub.client() as anyone, hub.client("alice") as alice, hub.client("boss") as boss:
        assert anyone.get(f"/v2/up.test/{name}/manifests/latest").status_code == 200
        for client in (anyone, alice, boss):
            assert client.post(f"/v2/up.test/{name}/blobs/uploads/").status_code == 403
            assert client.put(f"/v2/up.test/{name}/manifests/x", content=b"{}").status_code == 403
        assert alice.delete(f"/v2/up.test/{name}/manifests/{digest}").status_code == 403
        assert boss.delete(f"/v2/up.test/{name}/manifests/{digest}").status_code == 202
        mounted = {"mount": layer, "from": f"up.test/{name}"}
        assert anyone.get(f"/v2/up.test/{name}/blobs/{layer}").status_code == 200
        assert alice.post("/v2/alice/mine/blobs/uploads/", params=mounted).status_code == 201
        assert "up.test" not in anyone.get("/v2/_catalog").text


def test_content_got_with_credentials_is_for_those_who_sign_in(
    server: Running, line: Line, start: Start, name: str, tmp_path: Path
) -> None:
    _, layer, _ = push(server, name)
    with server.client("alice") as owner:
        page = owner.get(f"/v2/{name}/tags/list")
        assert page.status_code == 200
    _make_private(server, name)
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"auths": {"up.test": {"username": "alice", "password": PASSWORD}}}))
    closed, opened = start(line, proxy_credentials=str(secrets)), None
    path = f"/v2/up.test/{name}/manifests/latest"
    with closed.client() as anyone, closed.client("alice") as alice:
        assert anyone.get(path).status_code == 401
        assert alice.get(path).status_code == 200
        assert anyone.get(path).status_code == 401
        assert anyone.get(f"/v2/up.test/{name}/blobs/{layer}").status_code == 401
        assert anyone.get(f"/v2/up.test/{name}/tags/list").status_code == 401
        assert anyone.get(f"/r/up.test/{name}").status_code == 404
        token = alice.get("/auth/token", params={"scope": f"repository:up.test/{name}:pull"}).json()["token"]
        with Client(closed.url, token=token) as bearer:
            assert bearer.get(path).status_code == 200
    opened = start(line, proxy_credentials=str(secrets), proxy_pull="everyone")
    with opened.client() as anyone:
        assert anyone.get(path).status_code == 200
    without = start(line)
    with without.client() as anyone:
        assert code_of(anyone.get(path)) == "NAME_UNKNOWN"


def test_names(server: Running, line: Line, start: Start, name: str) -> None:
    push(server, name)
    hub = start(line, mirror_of="up.test", allow_sign_up=False)
    with hub.client() as client, hub.client("alice") as alice:
        mine = alice.push_image("alice/mine")
        port = line.url.rpartition("/")[2]
        assert client.get(f"/v2/up.test/{name}/manifests/latest").status_code == 200
        assert client.get(f"/v2/{name}/manifests/latest", params={"ns": "up.test"}).status_code == 200
        assert client.get(f"/v2/{name}/manifests/latest", params={"ns": port}).status_code == 200
        assert code_of(client.get("/v2/alice/mine/manifests/latest", params={"ns": "ghcr.io"})) == "NAME_UNKNOWN"
        own = client.get("/v2/alice/mine/manifests/latest", params={"ns": hub.host})
        assert own.headers["docker-content-digest"] == mine
        # names of an account here are never the upstream's
        assert client.get(f"/v2/{name}/manifests/latest").status_code == 401
        assert alice.get(f"/v2/{name}/manifests/latest").status_code == 404
    with server.client("boss") as boss:
        theirs = boss.push_image("library/names")
    with hub.client() as client, hub.client("boss") as boss:
        answer = client.get("/v2/library/names/manifests/latest")
        assert answer.headers["docker-content-digest"] == theirs
        assert client.get("/v2/library/names/tags/list").json()["tags"] == ["latest"]
        token = client.get("/auth/token", params={"scope": "repository:library/names:pull"}).json()
        assert "repository:up.test/library/names:pull" in token["scope"]
        ours = boss.push_image("library/names")
        answer = client.get("/v2/library/names/manifests/latest")
        assert answer.headers["docker-content-digest"] == ours


def test_lists_are_the_upstreams(server: Running, line: Line, start: Start, name: str) -> None:
    digest, _, _ = push(server, name)
    for tag in ("a", "b", "c"):
        push(server, name, tag=tag)
    with server.client("alice") as owner:
        subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
        owner.push_image(name, "signature", subject=subject)
    hub = start(line)
    with hub.client() as client:
        path = f"/v2/up.test/{name}/tags/list"
        assert client.get(path).json()["tags"] == ["a", "b", "c", "latest", "signature"]
        answer = client.get(path, params={"n": 2})
        assert answer.json()["tags"] == ["a", "b"]
        following = answer.headers["link"].partition("<")[2].partition(">")[0]
        assert following.startswith(path)
        assert client.get(following).json()["tags"] == ["c", "latest"]
        referrers = client.get(f"/v2/up.test/{name}/referrers/{digest}").json()["manifests"]
        assert len(referrers) == 1
        assert client.get(f"/v2/up.test/{name}/manifests/a").status_code == 200
        line.trouble = "down"
        assert client.get(path).json()["tags"] == ["a"]


def test_what_nobody_pulls_is_forgotten(server: Running, line: Line, start: Start, name: str) -> None:
    digest, layer, _ = push(server, name)
    hub = start(line, proxy_keep=1, gc_interval=0.5, gc_grace=0)
    with hub.client() as client, hub.client("alice") as alice:
        assert client.get(f"/v2/up.test/{name}/manifests/latest").status_code == 200
        assert client.get(f"/v2/up.test/{name}/blobs/{layer}").status_code == 200
        mine = alice.push_image("alice/kept")
        wait_for(lambda: not _kept(hub, layer), 20)
        line.trouble = "down"
        assert client.get(f"/v2/up.test/{name}/manifests/{digest}").status_code == 502
        assert client.get(f"/v2/alice/kept/manifests/{mine}").status_code == 200


def test_the_program_says_what_it_cannot_use(tmp_path: Path) -> None:
    def fails(*flags: str) -> str:
        command = [sys.executable, "-m", "moldar", "hub", "serve", "--data", str(tmp_path / "data"), *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "invalid upstream" in fails("--proxy", "nonsense")
    assert "invalid address" in fails("--proxy", "hub.lan=ftp://hub.lan")
    assert "--proxy-pull" in fails("--proxy", "ghcr.io", "--proxy-pull", "nobody")
    assert "cannot read" in fails("--proxy", "ghcr.io", "--proxy-credentials", str(tmp_path / "none"))
    (tmp_path / "bad").write_text("{}")
    assert "credentials" in fails("--proxy", "ghcr.io", "--proxy-credentials", str(tmp_path / "bad"))
    assert "anybody" in fails("--mirror-of", "docker.io", "--allow-anonymous-push")


def _kept(hub: Running, digest: str) -> bool:
    name = digest.partition(":")[2]
    return (Path(hub.data) / "blobs" / "sha256" / name[:2] / name).exists()


def _make_private(server: Running, name: str, *, is_public: bool = False) -> None:
    database = open_database(HubSettings(server.data))
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE repositories SET is_public = ? WHERE name = ?", (is_public, name))
    database.close()

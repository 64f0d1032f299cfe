"""Several hubs on one PostgreSQL and one bucket: each may be asked anything, whatever the others were told."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from moldar.errors import UserMistake
from moldar.hub import administration
from moldar.hub.access.accounts import TOKEN_PREFIX
from moldar.hub.refusals import Refusal, Unavailable
from moldar.hub.registry.blobs import Upload
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings
from moldar.hub.storage.contract import UploadWriter
from moldar.image.model import Digest

from .actors import Actor, check_survivors, pull_whole
from .backends import S3, Postgres, running_postgres, running_s3
from .hubs import PASSWORD, Client, Running, code_of, sha256, wait_for


class Pair(NamedTuple):
    """Two hubs of one registry."""

    one: Running
    other: Running
    where: HubSettings


Start = Callable[..., Pair]


@pytest.fixture(scope="module")
def pair(postgres: Postgres, s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two hubs that are left alone, with the account alice."""
    root = tmp_path_factory.mktemp("two-hubs")
    settings = {"database_url": postgres.new_database(), **s3.new_bucket()}
    where = HubSettings(str(root / "commands"), **settings)
    administration.add_user(where, "alice", PASSWORD)
    settings |= {"allow_anonymous_push": True, "upload_patience": 0.3}
    one, other = (Running(str(root / name), root / f"{name}.log", **settings) for name in ("one", "other"))
    yield Pair(one, other, where)
    for running in (one, other):
        assert running.stop() == 0
        assert "Traceback" not in running.log.read_text()


@pytest.fixture
def shared(postgres: Postgres, s3: S3) -> dict[str, Any]:
    return {"database_url": postgres.new_database(), **s3.new_bucket()}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts two hubs for a test of its own; they must end well."""
    started: list[Running] = []

    def start(shared: dict[str, Any], **settings: Any) -> Pair:
        where = HubSettings(str(tmp_path / "commands"), **shared)
        administration.add_user(where, "alice", PASSWORD)
        for name in ("one", "other"):
            started.append(Running(str(tmp_path / name), tmp_path / f"{name}.log", **shared, **settings))
        return Pair(started[0], started[1], where)

    yield start
    for running in started:
        assert running.stop() in (0, -signal.SIGKILL)


def bearer(running: Running, scope: str, user: str = "alice", password: str = PASSWORD) -> str:
    with running.client(user, password) as client:
        return str(client.get("/auth/token", params={"scope": scope}).json()["token"])


def test_pushed_to_one_and_pulled_from_the_other(pair: Pair) -> None:
    scope = "repository:alice/app:pull,push,delete"
    with Client(pair.one.url, token=bearer(pair.other, scope)) as one, Client(pair.other.url) as other:
        for number in range(5):
            digest = one.push_image("alice/app", "latest")
            pull_whole(other, "alice/app", "latest", digest)
            assert one.delete(f"/v2/alice/app/manifests/{digest}").status_code == 202
            assert other.get("/v2/alice/app/manifests/latest").status_code == 404, number
        page = other.get("/r/alice/app")
        assert page.status_code == 200


def test_what_one_revokes_the_other_refuses_at_once(pair: Pair) -> None:
    administration.add_user(pair.where, "carol", PASSWORD)
    with pair.one.client("carol") as one:
        one.push_image("carol/app")
    path = "/v2/carol/app/tags/list"
    for _ in range(6):  # each is refused once: fewer than a hub puts up with
        token, secret = administration.create_token(pair.where, "carol", "short")
        held = bearer(pair.one, "repository:carol/app:pull", "carol", secret)
        with pair.other.client("carol", secret) as basic, Client(pair.other.url, token=held) as client:
            assert [basic.get(path).status_code, client.get(path).status_code] == [200, 200]
            administration.revoke_token(pair.where, "carol", token.id)
            assert [basic.get(path).status_code, client.get(path).status_code] == [401, 401]
    with Client(pair.other.url, token=bearer(pair.one, "repository:carol/app:pull", "carol")) as client:
        assert client.get(path).status_code == 200
        administration.set_disabled(pair.where, "carol", True)
        assert client.get(path).status_code == 401


def test_two_hubs_allow_no_more_guesses_than_one(pair: Pair) -> None:
    def tried(
        running: Running, name: str, password: str = f"{TOKEN_PREFIX}wrong"
    ) -> int:  # not slow as a password is
        with running.client(name, password) as client:
            return client.get("/auth/token").status_code

    hubs = [pair.one, pair.other] * 4
    assert [tried(running, "mallory") for running in hubs] == [401] * 8
    assert [tried(running, "mallory", "a password") for running in hubs[:2]] == [429] * 2
    assert [tried(running, "oscar") for running in hubs[:2]] == [401] * 2
    assert tried(pair.one, "alice", PASSWORD) == 200


def test_an_upload_goes_from_hub_to_hub(pair: Pair) -> None:
    data = os.urandom(9_000_000)
    with pair.one.client() as one, pair.other.client() as other:
        location = one.post("/v2/a/b/blobs/uploads/").headers["location"]
        for client, begin, end in ((other, 0, 3_000_000), (one, 3_000_000, 3_500_000), (other, 3_500_000, 9_000_000)):
            headers = {"Content-Range": f"{begin}-{end - 1}"}
            assert client.patch(location, content=data[begin:end], headers=headers).status_code == 202
            assert one.get(location).headers["range"] == f"0-{end - 1}"
        assert one.put(location, params={"digest": sha256(data)}).status_code == 201
        assert other.get(f"/v2/a/b/blobs/{sha256(data)}").content == data
        assert other.put(location, params={"digest": sha256(data)}).status_code == 404


def test_one_request_at_a_time_writes_to_an_upload(start: Start, shared: dict[str, Any]) -> None:
    """And the hold of a hub that dies goes with it."""
    pair = start(shared, allow_anonymous_push=True, upload_patience=0.3)
    go_on = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"abc"
        go_on.wait(20)

    def begin() -> None:
        with pytest.raises(httpx.TransportError):
            one.patch(location, content=slow())

    with pair.one.client() as one, pair.other.client() as other:
        location = other.post("/v2/a/b/blobs/uploads/").headers["location"]
        assert one.patch(location, content=b"kept").status_code == 202
        thread = threading.Thread(target=begin)
        thread.start()
        answer = wait_for(lambda: _refused(other.patch(location, content=b"")))
        assert (answer.status_code, code_of(answer)) == (409, "BLOB_UPLOAD_INVALID")
        pair.one.stop(signal.SIGKILL)
        go_on.set()
        thread.join()
        answer = wait_for(lambda: _taken(other.put(location, content=b"!", params={"digest": sha256(b"kept!")})))
        assert answer.status_code == 201
        assert other.get(f"/v2/a/b/blobs/{sha256(b'kept!')}").content == b"kept!"


def _refused(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.is_success else answer


def _taken(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.is_success else None


def test_collections_while_both_are_pushed_to(start: Start, shared: dict[str, Any]) -> None:
    """Without any grace: what is between push and manifest may go, and the client is told; an image never."""
    pair = start(shared, allow_anonymous_push=True, access_log="none", gc_grace=0, gc_interval=0.3)
    sources = [f"stress/r{number}" for number in range(4)]
    actors = [Actor(pair[number % 2].url, number, sources, rounds=6) for number in range(4)]
    for actor in actors:
        actor.start()
    for _ in range(5):
        administration.collect_garbage(pair.where, grace=0)
    for actor in actors:
        actor.join()
        assert actor.failures == []
    time.sleep(1.2)
    for running in pair[:2]:
        assert running.stop() == 0
    hub = Hub(pair.where)
    hub.collector.collect(-2, 7 * 24 * 3600)  # also what was pushed in this second
    last = Running(pair.one.data, pair.one.log, allow_anonymous_push=True, gc_interval=0, **shared)
    with last.client() as client:
        check_survivors(client, hub, actors)
    hub.close()
    assert last.stop() == 0


class Interrupted:
    """A writer that lets something happen right after it has published."""

    def __init__(self, writer: UploadWriter, happening: Callable[[], Any]) -> None:
        self._writer = writer
        self._happening = happening
        self.seal = writer.seal
        self.write = writer.write
        self.close = writer.close

    @property
    def offset(self) -> int:
        return self._writer.offset

    def publish(self, digest: Digest) -> None:
        self._writer.publish(digest)
        self._happening()


def test_bytes_that_wait_for_their_row(shared: dict[str, Any], tmp_path: Path) -> None:
    """Collection leaves them alone while their session lives, and takes them when it was cancelled."""
    hub = Hub(HubSettings(str(tmp_path), **shared))
    data, digest = b"announced", Digest(sha256(b"announced"))

    def collect() -> None:
        assert hub.collector.preview(-2, 1000).is_nothing
        assert hub.collector.collect(-2, 1000).is_nothing

    def push(happening: Callable[[Upload], Any]) -> None:
        upload = hub.blobs.begin("a/b", None)
        writer = hub.blobs.resume(upload)
        writer.write(data)
        hub.blobs.commit(upload, Interrupted(writer, lambda: happening(upload)), digest)
        writer.close()

    for _ in range(2):
        push(lambda upload: collect())
        assert (hub.storage.size(digest), hub.blobs.size("a/b", digest)) == (9, 9)
        hub.blobs.delete("a/b", digest)  # the second time its bytes and their row are there, and nobody holds them
    assert hub.collector.collect(-2, 1000).blobs == 1
    with pytest.raises(Refusal, match="unknown"):
        push(hub.blobs.cancel)
    assert hub.blobs.size("a/b", digest) is None
    assert hub.collector.collect(-2, 1000).strays == 1
    assert hub.storage.size(digest) is None
    hub.close()


def test_a_waiting_request_holds_nobody_up(pair: Pair) -> None:
    with pair.one.client("alice") as client:
        digest = client.push_image("alice/app")
        assert client.get("/v2/alice/app/tags/list").status_code == 200
    answers: list[int] = []

    def ask() -> None:
        with pair.one.client("alice") as client:
            answers.append(client.get("/v2/alice/app/tags/list").status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    with psycopg.connect(pair.where.database_url) as connection, pair.one.client() as client:
        connection.execute("LOCK TABLE tags")
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        for _ in range(10):
            assert client.get(f"/v2/alice/app/manifests/{digest}").status_code == 200
            assert client.get("/health").status_code == 200
        assert time.monotonic() - started < 2
        assert answers == []
        connection.rollback()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4


def test_a_database_that_goes_away_and_comes_back(start: Start, s3: S3) -> None:
    with running_postgres() as server:
        pair = start({"database_url": server.new_database(), **s3.new_bucket()})
        with pair.one.client("alice") as client:
            digest = client.push_image("alice/app")
            server.stop()
            for answer in (
                client.get("/v2/alice/app/manifests/latest"),
                client.post("/v2/alice/app/blobs/uploads/"),
                client.get("/auth/token"),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
                assert "database does not answer" in answer.json()["errors"][0]["message"]
            for language, words in (
                ("en", "database does not answer"),
                ("pt-BR", "O banco de dados do hub não responde"),
            ):
                page = client.get("/", headers={"Accept": "text/html", "Accept-Language": language})
                assert (page.status_code, page.headers["retry-after"]) == (503, "5")
                assert words in page.text
                assert f'<html lang="{language}">' in page.text
                assert "/sign-in" not in page.text
            plain = client.get("/health")
            assert (plain.status_code, plain.text[:23]) == (503, "the hub's database does")
            with pytest.raises(Unavailable, match="does not answer"):
                administration.list_users(pair.where)
            server.start()
            pull_whole(client, "alice/app", "latest", digest)
            assert client.push_image("alice/app", "again")
        with pair.other.client() as client:
            pull_whole(client, "alice/app", "latest", digest)
        assert [running.stop() for running in pair[:2]] == [0, 0]


def test_a_storage_that_goes_away_and_comes_back(start: Start, postgres: Postgres, tmp_path: Path) -> None:
    with running_s3(tmp_path / "s3.log") as server:
        bucket = server.new_bucket()
        pair = start({"database_url": postgres.new_database(), **bucket}, allow_anonymous_push=True)
        with pair.one.client() as client:
            digest = client.push_blob("a/b", b"blob")
            location = client.post("/v2/a/b/blobs/uploads/").headers["location"]
            server.stop()
            for answer in (
                client.get(f"/v2/a/b/blobs/{digest}"),
                client.post("/v2/a/b/blobs/uploads/"),
                client.patch(location, content=b"more"),
            ):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert client.head(f"/v2/a/b/blobs/{digest}").status_code == 200  # the database knows
            server.start()  # this one forgets, which real ones do not
            server.make_bucket(bucket["storage"].split("/")[2])
            assert client.get(f"/v2/a/b/blobs/{digest}").status_code == 404
            assert client.patch(location, content=b"more").status_code == 404
            assert client.push_blob("a/b", b"blob") == digest
            assert client.get(f"/v2/a/b/blobs/{digest}").content == b"blob"


def test_redirects_to_a_bucket_beside_sqlite(s3: S3, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    running = Running(
        str(tmp_path / "data"), tmp_path / "log", allow_anonymous_push=True, redirect_blobs=True, **bucket
    )
    with running.client() as client:
        digest = client.push_blob("a/b", b"elsewhere")
        answer = client.get(f"/v2/a/b/blobs/{digest}")
        assert answer.status_code == 307
        assert answer.headers["location"].startswith(bucket["s3_endpoint"])
        assert httpx.get(answer.headers["location"]).content == b"elsewhere"
        part = httpx.get(answer.headers["location"], headers={"Range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"wher")
        head = client.head(f"/v2/a/b/blobs/{digest}")
        assert (head.status_code, head.headers["content-length"]) == (200, "9")
        client.push_image("a/b")
    assert running.stop() == 0
    assert administration.collect_garbage(running.where).is_nothing


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"storage": "s3://no-such-bucket"}, UserMistake, "no-such-bucket"),
        ({"storage": "s3://"}, UserMistake, "invalid storage"),
        ({"s3_endpoint": "http://127.0.0.1:9"}, Unavailable, "storage does not answer"),
        ({"database_url": "postgresql://postgres:hidden@127.0.0.1:9/hub"}, Unavailable, "database does not answer"),
        ({"database_url": "mysql://127.0.0.1/hub"}, UserMistake, "mysql"),
        ({"database_url": "nonsense"}, UserMistake, "malformed"),
    ],
)
def test_what_cannot_be_used_is_told(
    shared: dict[str, Any], tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Hub(HubSettings(str(tmp_path), **{**shared, **change}))


def test_the_command_line(shared: dict[str, Any], tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MOLDAR_HOME": str(tmp_path),
        "MOLDAR_HUB_DATABASE": shared["database_url"],
        "MOLDAR_HUB_STORAGE": shared["storage"],
        "AWS_ENDPOINT_URL": shared["s3_endpoint"],
        "AWS_REGION": shared["s3_region"],
        "AWS_ACCESS_KEY_ID": shared["s3_key_id"],
        "AWS_SECRET_ACCESS_KEY": shared["s3_secret"],
    }

    def moldar(*arguments: str, text: str = "") -> str:
        command = [sys.executable, "-m", "moldar", "hub", *arguments]
        done = subprocess.run(command, env=environment, input=text, check=True, capture_output=True, text=True)
        return done.stdout

    moldar("user", "add", "--password-stdin", "alice", text=PASSWORD + "\n")
    assert "alice" in moldar("user", "ls")
    assert moldar("token", "create", "alice").startswith("mdl_")
    assert "COLLECTED" in moldar("gc")
    listing = moldar("user", "ls", "--database", shared["database_url"])
    assert "alice" in listing

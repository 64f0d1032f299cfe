"""The REST interface: what each operation does, who may do it, and how it says no."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moldar.hub.access.accounts import TOKEN_PREFIX
from moldar.hub.administration import add_user, create_token
from moldar.hub.rest.checking import problem_with
from moldar.hub.rest.routes import BODY_LIMIT, match
from moldar.hub.settings import HubSettings

from .hubs import MANIFEST, PASSWORD, Client, Running, wait_for
from .receivers import Receiver

API = "/api/v1"
HOOK = {"url": "https://example.org/hook"}


@pytest.fixture
def alice(server: Running) -> Iterator[Client]:
    with server.client("alice") as client:
        yield client


@pytest.fixture
def bob(server: Running) -> Iterator[Client]:
    with server.client("bob") as client:
        yield client


def limited(server: Running, *patterns: str, actions: tuple[str, ...] = ("pull", "push", "delete")) -> Client:
    secret = create_token(server.where, "alice", "limited", actions=actions, repositories=patterns)[1]
    return Client(server.url, ("alice", secret))


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem, after a look at its form."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() == {"type", "title", "status", "detail", "code"}
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]


def test_who_asks(server: Running, alice: Client) -> None:
    me = alice.get(f"{API}/me").json()
    assert (me["name"], me["is_admin"], me["token"], me["grants"]) == ("alice", False, None, None)
    with server.client() as nobody:
        answer = nobody.get(f"{API}/me")
        assert code(answer) == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Basic")
    token, secret = create_token(server.where, "alice", "ci", actions=("pull",), repositories=("alice/*",))
    with Client(server.url, token=secret) as bearer:
        me = bearer.get(f"{API}/me").json()
        assert me["token"] == token.id
        assert me["grants"] == [{"repositories": "alice/*", "actions": ["pull"]}]
        assert bearer.get("/v2/").status_code == 200  # the registry takes it, too
    with Client(server.url, token=TOKEN_PREFIX + "x" * 32) as wrong:
        assert code(wrong.get(f"{API}/me")) == (401, "UNAUTHORIZED")


@pytest.mark.either
def test_repositories_are_listed_in_pages(server: Running, alice: Client, bob: Client) -> None:
    for number in range(5):
        alice.push_image(f"alice/restlist-{number}")
    alice.patch(f"{API}/repositories/alice/restlist-0", json={"is_public": False})
    seen, path = [], f"{API}/repositories?q=RESTLIST&namespace=alice&per_page=2"
    while path:
        answer = alice.get(path)
        document = answer.json()
        seen += [entry["name"] for entry in document["items"]]
        path = answer.links.get("next", {}).get("url", "")
        assert document["has_more"] is bool(path)
    assert sorted(seen) == [f"alice/restlist-{number}" for number in range(5)]
    assert len(bob.get(f"{API}/repositories?q=restlist").json()["items"]) == 4
    with limited(server, "alice/restlist-1") as narrow:
        assert len(narrow.get(f"{API}/repositories?q=restlist").json()["items"]) == 4
    for query in ("page=0", "page=x", "per_page=101", "page=1&page=2", f"q={'x' * 101}", "namespace=../x"):
        assert code(alice.get(f"{API}/repositories?{query}")) == (400, "INVALID")


def test_a_repository_is_read_changed_and_deleted(server: Running, alice: Client, bob: Client) -> None:
    digest = alice.push_image("alice/rest/deep", "v1")
    path = f"{API}/repositories/alice/rest/deep"
    found = alice.get(path).json()
    assert found == alice.get(f"{API}/repositories/alice%2Frest%2Fdeep").json()
    assert (found["name"], found["tags"], found["is_public"], found["stars"]) == ("alice/rest/deep", 1, True, 0)
    changed = alice.patch(path, json={"description": "About\u00e9", "is_public": False}).json()
    assert (changed["description"], changed["is_public"]) == ("Abouté", False)
    assert code(bob.get(path)) == (404, "NAME_UNKNOWN")
    with server.client() as nobody:
        assert code(nobody.get(path)) == (401, "UNAUTHORIZED")
    alice.patch(path, json={"is_public": True})
    assert code(bob.patch(path, json={"description": "mine"})) == (403, "DENIED")
    assert code(bob.patch(path, json={"is_public": False})) == (403, "DENIED")
    assert code(bob.delete(path)) == (403, "DENIED")
    for body in ({}, {"colour": "red"}, {"description": 5}, {"description": "x" * 501}, {"is_public": 1}, [], "x"):
        assert code(alice.patch(path, json=body)) == (400, "INVALID")
    assert alice.delete(path).status_code == 204
    assert code(alice.get(path)) == (404, "NAME_UNKNOWN")
    assert alice.get(f"/v2/alice/rest/deep/manifests/{digest}").status_code == 404


def test_tokens_limit_what_may_be_changed(server: Running, alice: Client) -> None:
    alice.push_image("alice/restlimits")
    path = f"{API}/repositories/alice/restlimits"
    with limited(server, "alice/restlimits", actions=("pull", "push")) as pusher:
        assert pusher.patch(path, json={"description": "by a token"}).status_code == 200
        assert code(pusher.patch(path, json={"is_public": False})) == (403, "DENIED")
        assert code(pusher.delete(path)) == (403, "DENIED")
        assert code(pusher.delete(f"{path}/tags/latest")) == (403, "DENIED")
        assert code(pusher.post(f"{API}/webhooks", json={"place": "alice/restlimits", **HOOK})) == (403, "DENIED")
    with limited(server, "alice/other") as other:
        assert code(other.patch(path, json={"description": "x"})) == (403, "DENIED")
        assert code(other.put(f"{path}/star")) == (403, "DENIED")
        assert code(other.delete(path)) == (403, "DENIED")
    with limited(server, "alice/*") as whole:
        assert whole.patch(path, json={"is_public": False}).status_code == 200
        assert whole.delete(path).status_code == 204


def test_tags(alice: Client, bob: Client) -> None:
    for tag in ("v1", "v2", "v3"):
        digest = alice.push_image("alice/resttags", tag)
    path = f"{API}/repositories/alice/resttags/tags"
    answer = alice.get(path, params={"per_page": 2})
    assert len(answer.json()["items"]) == 2
    assert len(alice.get(answer.links["next"]["url"]).json()["items"]) == 1
    tag = alice.get(f"{path}/v3").json()
    assert (tag["name"], tag["digest"], tag["media_type"]) == ("v3", digest, MANIFEST)
    assert code(bob.delete(f"{path}/v3")) == (403, "DENIED")
    assert alice.delete(f"{path}/v3").status_code == 204
    assert code(alice.get(f"{path}/v3")) == (404, "NOT_FOUND")
    assert code(alice.delete(f"{path}/v3")) == (404, "MANIFEST_UNKNOWN")
    assert code(alice.delete(f"{path}/{digest}")) == (404, "NOT_FOUND")  # a manifest is no tag
    assert alice.get(f"/v2/alice/resttags/manifests/{digest}").status_code == 200


def test_stars(alice: Client, bob: Client, server: Running) -> None:
    alice.push_image("alice/reststars")
    path = f"{API}/repositories/alice/reststars/star"
    assert bob.get(path).json() == {"is_starred": False, "stars": 0}
    assert bob.put(path).json() == {"is_starred": True, "stars": 1}
    assert alice.get(path).json() == {"is_starred": False, "stars": 1}
    assert bob.delete(path).json() == {"is_starred": False, "stars": 0}
    with server.client() as nobody:
        assert code(nobody.put(path)) == (401, "UNAUTHORIZED")


@pytest.mark.either
def test_access_tokens(server: Running, alice: Client, bob: Client) -> None:
    wish = {"name": "rest", "actions": ["pull", "push"], "repositories": ["alice/*"], "days": 3}
    made = alice.post(f"{API}/tokens", json=wish)
    assert made.status_code == 201
    token = made.json()
    assert token["secret"].startswith(TOKEN_PREFIX)
    assert token["hint"] == token["secret"][-4:]
    assert "secret" not in alice.get(f"{API}/tokens").json()["items"][0]
    assert code(bob.delete(f"{API}/tokens/{token['id']}")) == (404, "NOT_FOUND")
    with Client(server.url, token=token["secret"]) as ci:
        assert [entry["id"] for entry in ci.get(f"{API}/tokens").json()["items"]] == [token["id"]]
        assert code(ci.post(f"{API}/tokens", json=wish)) == (403, "DENIED")
        other = alice.post(f"{API}/tokens", json={"name": "other", "actions": ["pull"]}).json()
        assert other["expires"] is None
        assert code(ci.delete(f"{API}/tokens/{other['id']}")) == (403, "DENIED")
        assert ci.delete(f"{API}/tokens/{token['id']}").status_code == 204
        assert code(ci.get(f"{API}/me")) == (401, "UNAUTHORIZED")
    assert alice.delete(f"{API}/tokens/{other['id']}").status_code == 204
    for change in ({"name": ""}, {"actions": []}, {"actions": ["fly"]}, {"repositories": ["../x"]}, {"days": 0}):
        assert code(alice.post(f"{API}/tokens", json={**wish, **change})) == (400, "INVALID")


@pytest.fixture
def telling(tmp_path: Path, either: dict[str, Any]) -> Iterator[tuple[Running, Receiver]]:
    """A hub of alice and bob whose webhooks may point to this machine, and a receiver here."""
    data = str(tmp_path / "data")
    for name in ("alice", "bob"):
        add_user(HubSettings(data, **either), name, PASSWORD)
    receiver, running = Receiver(), Running(data, tmp_path / "log", webhook_networks=["127.0.0.0/8"], **either)
    yield running, receiver
    assert running.stop() == 0
    receiver.close()


def test_webhooks(telling: tuple[Running, Receiver]) -> None:
    running, receiver = telling
    with running.client("alice") as alice, running.client("bob") as bob:
        alice.push_image("alice/app")
        wish = {"place": "alice/app", "url": f"{receiver.url}/one", "secret": "known"}
        made = alice.post(f"{API}/webhooks", json=wish)
        assert made.status_code == 201
        hook = made.json()
        assert (hook["events"], hook["secret"], hook["is_active"]) == (["push", "delete"], "known", True)
        path = f"{API}/webhooks/{hook['id']}"
        assert "secret" not in alice.get(path).json()
        namespace = alice.post(f"{API}/webhooks", json={"place": "alice/*", "url": f"{receiver.url}/all"}).json()
        assert len(namespace["secret"]) > 30
        assert [h["place"] for h in alice.get(f"{API}/webhooks").json()["items"]] == ["alice/*", "alice/app"]
        assert len(alice.get(f"{API}/webhooks", params={"place": "alice/app"}).json()["items"]) == 1
        first = alice.get(f"{API}/webhooks", params={"per_page": 1})
        assert ([h["place"] for h in first.json()["items"]], first.json()["has_more"]) == (["alice/*"], True)
        second = alice.get(first.links["next"]["url"]).json()
        assert ([h["place"] for h in second["items"]], second["has_more"]) == (["alice/app"], False)
        assert bob.get(f"{API}/webhooks").json()["items"] == []
        for answer in (
            bob.get(path),
            bob.patch(path, json={"is_active": False}),
            bob.delete(path),
            bob.get(f"{path}/deliveries"),
            bob.post(f"{path}/ping"),
            alice.get(f"{API}/webhooks/999999"),
            alice.get(f"{API}/webhooks/abc"),
        ):
            assert code(answer) == (404, "NOT_FOUND")
        for place in ("alice/app", "alice/*", "alice/missing", "library/*"):
            assert bob.post(f"{API}/webhooks", json={**wish, "place": place}).status_code in (403, 404)
        assert code(alice.post(f"{API}/webhooks", json={**wish, "place": "alice/missing"})) == (404, "NOT_FOUND")
        assert code(alice.post(f"{API}/webhooks", json={**wish, "place": "alice/a/*"})) == (400, "INVALID")
        assert code(alice.post(f"{API}/webhooks", json={**wish, "url": "file:///etc/passwd"})) == (400, "INVALID")


@pytest.mark.either
def test_deliveries_of_a_webhook(telling: tuple[Running, Receiver]) -> None:
    running, receiver = telling
    with running.client("alice") as alice:
        alice.push_image("alice/app")
        wish = {"place": "alice/app", "url": f"{receiver.url}/one"}
        path = f"{API}/webhooks/{alice.post(f'{API}/webhooks', json=wish).json()['id']}"
        alice.post(f"{API}/webhooks", json={"place": "alice/*", "url": f"{receiver.url}/all"})
        sent = alice.post(f"{path}/ping")
        assert sent.status_code == 202
        key = sent.json()["delivery"]
        got = wait_for(lambda: receiver.received)[0]
        assert json.loads(got.body)["delivery"] == key
        assert got.headers["x-moldar-event"] == "ping"

        def log() -> list[dict[str, Any]]:
            items = alice.get(f"{path}/deliveries").json()["items"]
            return items if items and items[0]["state"] == "delivered" else []

        assert wait_for(log)[0]["id"] == key
        assert alice.post(f"{path}/deliveries/{key}/redeliver").status_code == 202
        wait_for(lambda: len(receiver.received) == 2)
        assert receiver.received[0].body == receiver.received[1].body
        unknown = "00000000-0000-0000-0000-000000000000"
        assert code(alice.post(f"{path}/deliveries/{unknown}/redeliver")) == (404, "NOT_FOUND")

        assert alice.patch(path, json={"is_active": False, "events": ["delete"]}).json()["events"] == ["delete"]
        alice.push_image("alice/app", "v2")
        wait_for(lambda: len(receiver.received) == 3)
        assert receiver.received[2].path == "/all"
        assert alice.delete(path).status_code == 204
        assert code(alice.get(path)) == (404, "NOT_FOUND")

        assert alice.delete(f"{API}/repositories/alice/app").status_code == 204
        gone = wait_for(lambda: receiver.received[3:])[0]
        event = json.loads(gone.body)["events"][0]
        assert (event["action"], event["target"]) == ("delete", {"repository": "alice/app"})


def test_collecting_garbage(server: Running, alice: Client) -> None:
    path = f"{API}/administration/collect-garbage"
    assert code(alice.post(path, json={})) == (403, "DENIED")
    with server.client("boss") as boss:
        preview = boss.post(path, json={"dry_run": True})
        assert preview.json()["dry_run"] is True
        done = boss.post(path, json={}).json()
        assert (done["dry_run"], done["blobs"] >= 0) == (False, True)
    whole = create_token(server.where, "boss", "gc", actions=("delete",))[1]
    narrow = create_token(server.where, "boss", "gc", actions=("delete",), repositories=("boss/*",))[1]
    for secret, status in ((whole, 200), (narrow, 403)):
        with Client(server.url, token=secret) as client:
            assert client.post(path, json={"dry_run": True}).status_code == status


def test_malformed_requests(alice: Client) -> None:
    alice.push_image("alice/restbad")
    path = f"{API}/repositories/alice/restbad"

    def patch(content: bytes, media_type: str = "application/json") -> tuple[int, str]:
        return code(alice.patch(path, content=content, headers={"Content-Type": media_type}))

    assert patch(b'{"description": "x"}', "text/plain") == (415, "INVALID")
    assert patch(b"x" * (BODY_LIMIT + 1)) == (413, "INVALID")
    for content in (b"", b"{", b'{"description": NaN}', b"\xff", b"[" * 50_000, b'{"description": "\\ud800"}'):
        assert patch(content) == (400, "INVALID")
    assert patch(b'{"description": "a\\nb"}') == (400, "INVALID")
    answer = alice.post(path)
    assert code(answer) == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH"
    assert code(alice.get(f"{API}/nothing")) == (404, "NOT_FOUND")
    assert code(alice.get(f"{API}/")) == (404, "NOT_FOUND")
    assert code(alice.get(f"{API}/repositories/Alice/%FF")) == (400, "NAME_INVALID")
    assert alice.head(path).status_code == 200
    assert alice.head(path).content == b""


def test_other_sites_pages_cannot_use_a_remembered_password(alice: Client) -> None:
    alice.push_image("alice/restcsrf")
    path = f"{API}/repositories/alice/restcsrf/star"
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert code(alice.put(path, headers=headers)) == (403, "DENIED")
    assert alice.put(path, headers={"Origin": str(alice.base_url).rstrip("/")}).status_code == 200


def test_private_and_missing_look_the_same(server: Running, alice: Client, bob: Client) -> None:
    alice.push_image("alice/restprivate")
    alice.patch(f"{API}/repositories/alice/restprivate", json={"is_public": False})
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "", {}),
        ("PATCH", "", {"json": {"description": "x"}}),
        ("PATCH", "", {"json": {"is_public": True}}),
        ("DELETE", "", {}),
        ("GET", "/tags", {}),
        ("GET", "/tags/latest", {}),
        ("DELETE", "/tags/latest", {}),
        ("GET", "/readme", {}),
        ("PUT", "/readme", {"content": "x"}),
        ("GET", "/star", {}),
        ("PUT", "/star", {}),
    ]
    with server.client() as nobody:
        for client in (bob, nobody):
            for method, suffix, extra in requests:
                answers = [
                    client.request(method, f"{API}/repositories/alice/{name}{suffix}", **extra)
                    for name in ("restprivate", "restmissing")
                ]
                assert answers[0].status_code == answers[1].status_code in (401, 403, 404)
                assert answers[0].content == answers[1].content
        for name in ("restprivate", "restmissing"):
            assert code(bob.post(f"{API}/webhooks", json={"place": f"alice/{name}", **HOOK})) == (404, "NAME_UNKNOWN")


def test_paths() -> None:
    one, tags, tag = ("r", "{name}"), ("r", "{name}", "tags"), ("r", "{name}", "tags", "{tag}")
    assert match(one, ("r", "alice", "app")) == {"name": "alice/app"}
    assert match(one, ("r", "alice%2Fapp")) == {"name": "alice/app"}
    assert match(one, ("r", "alice%2Fapp", "tags")) is None
    assert match(tags, ("r", "alice%2fapp", "tags")) == {"name": "alice/app"}
    assert match(tags, ("r", "alice", "tags", "tags")) == {"name": "alice/tags"}
    assert match(tags, ("r", "tags")) is None
    assert match(tag, ("r", "a", "b", "tags", "v1")) == {"name": "a/b", "tag": "v1"}
    assert match(tag, ("r", "a", "", "tags", "v1")) is None
    assert match(one, ("r",)) is None
    assert match(("r", "{id}"), ("r", "1", "2")) is None


def test_the_checks_of_values() -> None:
    schema = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 3}, "uniqueItems": True}
    assert problem_with([1, 2], schema, "x") == ""
    assert problem_with([1, 4], schema, "x") == "x[1] must be from 1 to 3"
    assert problem_with([1, 1], schema, "x") == "x must not repeat entries"
    assert problem_with([True], schema, "x") == "x[0] must be integer"
    assert problem_with("ab\n", {"type": "string", "pattern": "^ab$"}, "x") == "x must match ^ab$"
    assert problem_with(None, {"type": ["integer", "null"], "minimum": 1}, "x") == ""


def test_a_moment_is_utc(alice: Client) -> None:
    alice.push_image("alice/resttime")
    pushed = alice.get(f"{API}/repositories/alice/resttime").json()["pushed"]
    assert abs(time.time() - time.mktime(time.strptime(pushed, "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60

"""Immutable tags, quotas, rate limits."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moldar.errors import UserMistake
from moldar.hub import administration
from moldar.hub.access.decisions import ANONYMOUS, Principal
from moldar.hub.access.rates import Rate, RateLimit, make_rates, parse_rate, rate_key
from moldar.hub.refusals import TooManyAttempts
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Client, Running, code_of, run, sha256
from .test_pages import form_token, sign_in


@pytest.fixture
def limited(tmp_path: Path, either: dict[str, Any]) -> Iterator[Running]:
    """A hub with small limits and the accounts alice and bob."""
    data = str(tmp_path / "data")
    for name in ("alice", "bob"):
        administration.add_user(HubSettings(data, **either), name, PASSWORD)
    running = Running(
        data,
        tmp_path / "log",
        quota=100_000,
        rate_pulls="3/h",
        rate_pushes="40/h",
        rate_tokens="4/h",
        rate_logins="5/h",
        **either,
    )
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.mark.either
def test_immutable_tags(server: Running) -> None:
    with server.client("alice") as client, httpx.Client(base_url=server.url, timeout=30) as browser:
        first = client.push_image("alice/fixed", "v1")
        client.push_image("alice/fixed", "latest")
        path = "/settings/immutable/alice/fixed"
        assert browser.get(path).headers["location"].startswith("/sign-in")
        sign_in(browser, "alice")
        form = {"form_token": form_token(browser, path)}
        assert browser.post(path, data={**form, "patterns": "v?"}).status_code == 400
        assert 'value="v* release"' in browser.post(path, data={**form, "patterns": "v*, release"}).text
        raw = client.get("/v2/alice/fixed/manifests/v1").content
        other = client.get("/v2/alice/fixed/manifests/latest").content
        assert client.push_manifest("alice/fixed", "v1", raw).status_code == 201
        refused = client.push_manifest("alice/fixed", "v1", other)
        assert (refused.status_code, code_of(refused)) == (409, "DENIED")
        assert "v1 is immutable" in refused.text
        by_digest = client.put(
            f"/v2/alice/fixed/manifests/{sha256(other)}",
            params={"tag": "v1"},
            content=other,
            headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
        )
        assert by_digest.status_code == 409
        assert client.push_manifest("alice/fixed", "latest", raw).status_code == 201
        assert client.push_manifest("alice/fixed", "v2", other).status_code == 201
        for reference in ("v1", first):
            answer = client.delete(f"/v2/alice/fixed/manifests/{reference}")
            assert (answer.status_code, code_of(answer)) == (409, "DENIED")
        page = browser.post("/r/alice/fixed", data={**form, "action": "delete-tag", "tag": "v1"})
        assert page.status_code == 409
        assert "v1 is immutable" in page.text
        assert client.delete("/v2/alice/fixed/manifests/latest").status_code == 202
        assert client.get("/v2/alice/fixed/manifests/v1").headers["docker-content-digest"] == first
        browser.post(path, data={**form, "patterns": ""})
        assert client.delete(f"/v2/alice/fixed/manifests/{first}").status_code == 202


@pytest.mark.either
def test_quota(limited: Running) -> None:
    big = os.urandom(60_000)
    with limited.client("alice") as client:
        client.push_blob("alice/a", big)
        client.push_blob("alice/b", big)  # the same bytes count once
        refused = client.post("/v2/alice/a/blobs/uploads/", params={"digest": "sha256:" + "0" * 64}, content=big)
        assert (refused.status_code, code_of(refused)) == (403, "DENIED")
        assert "alice uses 60.0 kB of its 100 kB: an upload of 60.0 kB does not fit" in refused.text
        assert "Delete images" in refused.text
        mount = client.post("/v2/alice/c/blobs/uploads/", params={"mount": sha256(big), "from": "alice/a"})
        assert mount.status_code == 201

        def stream() -> Iterator[bytes]:
            for _ in range(10):
                yield os.urandom(10_000)

        session = client.post("/v2/alice/a/blobs/uploads/").headers["location"]
        assert client.patch(session, content=stream()).status_code == 403
        session = client.post("/v2/alice/a/blobs/uploads/").headers["location"]
        data = os.urandom(30_000)
        assert client.patch(session, content=data).status_code == 202
        client.push_blob("alice/b", os.urandom(35_000))
        late = client.put(session, params={"digest": sha256(data)})
        assert (late.status_code, code_of(late)) == (403, "DENIED")
        assert client.get(session).status_code == 404
        assert limited.uploads() != []  # the stream's session may go on


def test_a_quota_of_its_own(limited: Running) -> None:
    with limited.client("alice") as client:
        client.push_blob("alice/a", os.urandom(95_000))
        assert "Space used" not in client.get("/u/alice").text
    quota = functools.partial(run, "moldar", "hub", "quota", "--data", limited.data)
    listed = quota("alice", "1m")
    assert "95kB" in listed
    with limited.client("alice") as client:
        client.push_blob("alice/a", os.urandom(60_000))
    assert "alice" in quota()
    quota("alice", "default")
    assert "alice" not in quota()
    assert "invalid size" in quota("alice", "much", fails=True)
    with httpx.Client(base_url=limited.url, timeout=30) as browser:
        sign_in(browser, "alice")
        assert "Space used: 155 kB of 100 kB" in browser.get("/u/alice").text
        assert "Space used" not in browser.get("/u/bob").text
    with limited.client("alice") as client:
        full = client.post("/v2/alice/a/blobs/uploads/")
        assert code_of(full) == "DENIED"
    with limited.client("bob") as client:
        client.push_blob("bob/mine", os.urandom(90_000))


def test_rates(limited: Running) -> None:
    with limited.client("alice") as client, limited.client() as anyone:
        client.push_image("alice/app")
        for _ in range(3):
            assert anyone.get("/v2/alice/app/manifests/latest").status_code == 200
        refused = anyone.get("/v2/alice/app/manifests/latest")
        assert (refused.status_code, code_of(refused)) == (429, "TOOMANYREQUESTS")
        assert 1100 < int(refused.headers["retry-after"]) <= 1201
        assert "too many pulls: wait" in refused.text
        assert anyone.head("/v2/alice/app/manifests/latest").status_code == 200
        assert client.get("/v2/alice/app/manifests/latest").status_code == 200
        answers = [anyone.get("/auth/token").status_code for _ in range(6)]
        assert answers == [200, 200, 200, 200, 429, 429]
        statuses = [client.post("/v2/alice/app/blobs/uploads/").status_code for _ in range(45)]
        assert statuses[0] == 202
        assert statuses[-1] == 429
    with Client(limited.url) as guesser:
        tries = [guesser.get("/v2/", auth=("alice", f"wrong password {n}")).status_code for n in range(5)]
        assert 429 in tries


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_buckets_fill_again() -> None:
    clock = Clock()
    limit = RateLimit(Rate(2, 10), "things", clock)
    limit.take("a")
    limit.take("a")
    with pytest.raises(TooManyAttempts) as caught:
        limit.take("a")
    assert caught.value.headers["Retry-After"] == "6"
    limit.take("b")
    clock.now = 5
    limit.take("a")
    with pytest.raises(TooManyAttempts):
        limit.take("a")
    clock.now = 1000
    for number in range(60_000):
        limit.take(f"key {number}")
        clock.now += 1
    assert len(limit._buckets) <= 50_001


def test_rates_as_people_write_them() -> None:
    assert parse_rate("100/6h") == Rate(100, 6 * 3600)
    assert parse_rate("5/s") == Rate(5, 1)
    assert make_rates("", "", "", "") == (None, None, None, None)
    for text in ("", "5", "0/s", "5/0s", "5/y", "-1/s"):
        with pytest.raises(UserMistake):
            parse_rate(text)


def test_whose_bucket_it_is() -> None:
    assert rate_key(Principal("alice", 1), "192.0.2.1") == "@alice"
    assert rate_key(ANONYMOUS, "192.0.2.1") == "192.0.2.1"
    assert rate_key(ANONYMOUS, "2001:db8::1:2") == rate_key(ANONYMOUS, "2001:db8::ffff:2")
    assert rate_key(ANONYMOUS, "::ffff:192.0.2.1") == "192.0.2.1"

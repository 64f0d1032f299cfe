"""What monitors see: /metrics by Prometheus' own parser, /healthz, /readyz, and the log's lines as JSON."""

import io
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from moldar.errors import UserMistake
from moldar.hub.access.decisions import ANONYMOUS, Grant, Principal, may_see_metrics
from moldar.hub.administration import add_user, create_token
from moldar.hub.logs import REQUEST_ID, logging_to
from moldar.hub.metrics import Metrics, exposition
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Client, Running, sha256, wait_for

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(client: Client, name: str, **labels: str) -> float:
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text).get((name, tuple(sorted(labels.items()))), 0)


def test_requests_are_counted_by_route(server: Running) -> None:
    route = {"route": "/v2/{name}/manifests/{reference}", "method": "GET"}
    with server.client("alice") as alice:
        alice.push_image("alice/counted")
        before = value(alice, "moldar_hub_requests_total", status="200", **route)
        sent = value(alice, "moldar_hub_sent_bytes_total", status="200", **route)
        length = len(alice.get("/v2/alice/counted/manifests/latest").content)
        alice.get("/v2/alice/counted/manifests/none")
        assert value(alice, "moldar_hub_requests_total", status="200", **route) == before + 1
        assert value(alice, "moldar_hub_requests_total", status="404", **route) >= 1
        assert value(alice, "moldar_hub_sent_bytes_total", status="200", **route) == sent + length
        found = samples(alice.get("/metrics").text)
        buckets = [
            (float(dict(labels)["le"]), number)
            for (name, labels), number in found.items()
            if name == "moldar_hub_request_duration_seconds_bucket" and dict(labels).items() >= route.items()
        ]
        counts = [number for _, number in sorted(buckets)]
        assert counts == sorted(counts)
        assert counts[-1] == found["moldar_hub_request_duration_seconds_count", tuple(sorted(route.items()))]
        received = {"route": "/v2/{name}/blobs/uploads/", "method": "POST", "status": "201"}
        before = value(alice, "moldar_hub_received_bytes_total", **received)
        alice.push_blob("alice/counted", b"x" * 12345)
        assert value(alice, "moldar_hub_received_bytes_total", **received) == before + 12345
        alice.get("/u/alice")
        assert value(alice, "moldar_hub_requests_total", route="/u/{name}", method="GET", status="200") >= 1


def test_invented_methods_and_paths_share_a_series(server: Running) -> None:
    with server.client() as client:
        for number in range(20):
            client.request(f"BREW{number}", "/v2/alice/x/tags/list")
            client.request(f"BREW{number}", f"/v2/nowhere{number}/x")
            client.get(f"/nowhere/{number}")
        text = client.get("/metrics").text
    assert "BREW" not in text
    assert "nowhere" not in text
    assert 'method="other"' in text


def test_what_the_hub_holds_and_does(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    add_user(data, "boss", PASSWORD, is_admin=True)
    running = Running(data, tmp_path / "log", gc_interval=0.2, gc_grace=0)
    try:
        with running.client("boss") as boss:
            boss.push_image("boss/app")
            found = samples(boss.get("/metrics").text)
            assert found["moldar_hub_repositories", ()] == 1
            assert found["moldar_hub_manifests", ()] == 1
            assert found["moldar_hub_blobs", ()] == 2
            assert found["moldar_hub_blob_bytes", ()] > 200
            assert found["process_resident_memory_bytes", ()] > 10_000_000
            with running.client("boss", "a wrong password") as stranger:
                assert stranger.get("/v2/").status_code == 401
            with running.client("boss", "mdl_wrong") as stranger:
                assert stranger.get("/v2/").status_code == 401
            assert value(boss, "moldar_hub_login_failures_total", kind="password") == 1
            assert value(boss, "moldar_hub_login_failures_total", kind="token") == 1
            wait_for(lambda: value(boss, "moldar_hub_gc_runs_total") > 0)
            assert value(boss, "moldar_hub_gc_last_timestamp_seconds") > 1_600_000_000
    finally:
        assert running.stop() == 0


def test_an_upload_in_flight(server: Running) -> None:
    seen: list[float] = []
    with server.client("alice") as alice, server.client() as monitor:

        def body() -> Any:
            yield b"x" * 100_000
            wait_for(lambda: value(monitor, "moldar_hub_uploads_in_flight") == 1)
            seen.append(1)
            yield b"y" * 100_000

        digest = sha256(b"x" * 100_000 + b"y" * 100_000)
        answer = alice.post("/v2/alice/flight/blobs/uploads/", params={"digest": digest}, content=body())
        assert answer.status_code == 201
        assert seen == [1]
        assert value(monitor, "moldar_hub_uploads_in_flight") == 0


@pytest.mark.parametrize("readers", ["local", "token", "public", "off"])
def test_who_may_read_metrics(tmp_path: Path, readers: str) -> None:
    data = str(tmp_path / "data")
    add_user(data, "boss", PASSWORD, is_admin=True)
    add_user(data, "bob", PASSWORD)
    whole = create_token(data, "boss", "prometheus", actions=("pull",))[1]
    narrow = create_token(data, "boss", "narrow", actions=("pull",), repositories=("boss/*",))[1]
    running = Running(data, tmp_path / "log", metrics=readers)
    try:
        proxied = {"X-Forwarded-For": "203.0.113.5"}
        expected = {"local": (200, 401), "token": (401, 401), "public": (200, 200), "off": (404, 404)}[readers]
        with running.client() as anyone:
            assert anyone.get("/metrics").status_code == expected[0]
            assert anyone.get("/metrics", headers=proxied).status_code == expected[1]
        for user, secret, status in (
            ("boss", PASSWORD, 200),
            ("boss", whole, 200),
            ("boss", narrow, 403),
            ("bob", PASSWORD, 403),
        ):
            with running.client(user, secret) as client:
                answer = client.get("/metrics", headers=proxied)
            assert answer.status_code == {"off": 404, "public": 200}.get(readers, status)
    finally:
        assert running.stop() == 0


def test_the_decision_about_metrics() -> None:
    boss = Principal("boss", 1, is_admin=True)
    assert may_see_metrics(boss)
    assert not may_see_metrics(boss._replace(grants=(Grant("boss/*", ("pull",)),)))
    assert not may_see_metrics(boss._replace(grants=(Grant("*", ("push",)),)))
    assert not may_see_metrics(Principal("bob", 2))
    assert not may_see_metrics(ANONYMOUS)


def test_unknown_readers(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="--metrics"):
        HubSettings(str(tmp_path), metrics="everybody")


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    metrics.answered('a"\\\nb', "GET", 200, 0.5, (1, 2))
    found = samples(exposition(metrics.requests()).decode())
    assert found["moldar_hub_requests_total", (("method", "GET"), ("route", 'a"\\\nb'), ("status", "200"))] == 1


def test_health_and_readiness(tmp_path: Path) -> None:
    data = tmp_path / "data"
    running = Running(str(data), tmp_path / "log")
    try:
        with running.client() as client:
            assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")
            assert (client.get("/readyz").status_code, client.get("/readyz").text) == (200, "ready\n")
            assert client.head("/readyz").status_code == 200
            assert client.post("/readyz").headers["allow"] == "GET, HEAD"
            assert not list((data / "uploads").iterdir())

            (data / "uploads").rename(data / "gone")
            assert wait_for(lambda: client.get("/readyz").status_code == 503)
            answer = client.get("/readyz").text
            assert answer == "storage: No such file or directory\n"
            assert client.get("/healthz").status_code == 200
            (data / "gone").rename(data / "uploads")
            assert wait_for(lambda: client.get("/readyz").status_code == 200)

            with sqlite3.connect(data / "hub.db") as database:
                database.execute("ALTER TABLE accounts RENAME TO elsewhere")
            database.close()
            assert wait_for(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/readyz").text.startswith("database: ")
            assert str(tmp_path) not in client.get("/readyz").text
    finally:
        running.stop()


def test_the_access_log_as_json(server: Running) -> None:
    given = "from-the-proxy.1"
    with server.client("alice") as alice:
        alice.push_image("alice/logged")
        answer = alice.get("/v2/alice/logged/tags/list", headers={"X-Request-ID": given})
        assert answer.headers["x-request-id"] == given
        assert alice.get("/v2/").headers["x-request-id"] != alice.get("/v2/").headers["x-request-id"]
        assert alice.get("/v2/", headers={"X-Request-ID": 'bad"id with spaces'}).headers["x-request-id"].isalnum()
        page = alice.get("/r/alice/logged").headers["x-request-id"]

    def entries() -> dict[str, dict[str, Any]]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        found = {str(line.get("id")): line for line in lines}
        return found if {given, page} <= found.keys() else {}

    found = wait_for(entries)
    entry = found[given]
    assert entry["route"] == "/v2/{name}/tags/list"
    assert entry["principal"] == "alice"
    assert (entry["client"], entry["method"], entry["status"]) == ("127.0.0.1", "GET", 200)
    assert entry["bytes"] == len(answer.content)
    assert (entry["received"], entry["path"]) == (0, "/v2/alice/logged/tags/list")
    assert entry["ms"] >= 0
    assert found[page]["route"] == "/r/{name:path}"


def test_the_hubs_own_lines() -> None:
    for style in ("json", "plain"):
        stream = io.StringIO()
        with logging_to(style, stream):
            REQUEST_ID.set("abc12345")
            logging.getLogger("moldar.hub").error("it\nbroke: %s", "badly")
            REQUEST_ID.set("")
        text = stream.getvalue()
        if style == "json":
            line = json.loads(text)
            assert (line["level"], line["message"], line["id"]) == ("error", "it\nbroke: badly", "abc12345")
        else:
            assert "error [abc12345] it\nbroke: badly" in text
    assert logging.getLogger("moldar.hub").handlers == []


def test_an_error_of_ours_is_a_json_line(tmp_path: Path) -> None:
    running = Running(str(tmp_path / "data"), tmp_path / "log")
    try:
        with sqlite3.connect(tmp_path / "data" / "hub.db") as database:
            database.execute("ALTER TABLE repositories RENAME TO elsewhere")
        database.close()
        with running.client() as client:
            answer = client.get("/v2/a/b/tags/list")
            assert answer.status_code == 500
            request = answer.headers["x-request-id"]
        lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        own = [line for line in lines if line.get("level") == "error"]
        assert own[0]["id"] == request
        assert "Traceback" in own[0]["message"]
    finally:
        running.stop()

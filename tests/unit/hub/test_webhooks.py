"""Webhooks: what receivers get and when, over real sockets; what must not be reached; kills, retries, two hubs."""

import asyncio
import hashlib
import hmac
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from moldar.errors import NotFound, UserMistake
from moldar.hub.access.decisions import (
    ACTIONS,
    ADMIN,
    ANONYMOUS,
    PULL,
    PUSH,
    Grant,
    Membership,
    Principal,
    Role,
    manageable,
    may_configure,
)
from moldar.hub.administration import add_user
from moldar.hub.data.schema import WEBHOOK_DELIVERIES
from moldar.hub.registry.events import DELIVERED, FAILED, WAITING
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings
from moldar.hub.webhooks.courier import ATTEMPTS, LOG_LENGTH, Courier
from moldar.hub.webhooks.hooks import HOOKS_LIMIT, Delivery, InvalidHook
from moldar.hub.webhooks.sending import Letter, send
from moldar.hub.webhooks.targets import allowed, parse_target

from .hubs import MANIFEST, PASSWORD, Running, Tick, image_manifest, sha256, wait_for
from .receivers import Receiver

LOOPBACK = ["127.0.0.0/8"]
ALLOWED = [ip_network("127.0.0.0/8")]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def start(tmp_path: Path, **settings: Any) -> Running:
    data = str(tmp_path / "data")
    if not (tmp_path / "data").exists():
        add_user(data, "alice", PASSWORD)
    chosen = {"webhook_networks": LOOPBACK, "webhook_pause": 1, "webhook_timeout": 1, **settings}
    return Running(data, tmp_path / "log", **chosen)


def make_hook(tmp_path: Path, place: str, url: str, events: tuple[str, ...] = ("push", "delete")) -> int:
    hub = Hub(HubSettings(str(tmp_path / "data")))
    try:
        return hub.hooks.create(place, url, events, "the secret").id
    finally:
        hub.close()


def deliveries(tmp_path: Path, number: int) -> list[Delivery]:
    hub = Hub(HubSettings(str(tmp_path / "data")))
    try:
        return hub.hooks.deliveries(number)
    finally:
        hub.close()


def test_a_push_and_its_deletion_are_told(tmp_path: Path, receiver: Receiver) -> None:
    running = start(tmp_path, external_url="")
    try:
        number = make_hook(tmp_path, "alice/*", receiver.url + "/hook?x=1")
        with running.client("alice") as alice:
            digest = alice.push_image("alice/app", "v1")
            wait_for(lambda: receiver.received)
            assert alice.delete("/v2/alice/app/manifests/v1").status_code == 202
            assert alice.delete(f"/v2/alice/app/manifests/{digest}").status_code == 202
        pushed, untagged, deleted = wait_for(lambda: receiver.received[:3] if len(receiver.received) > 2 else None)
        assert (pushed.path, pushed.headers["content-type"]) == ("/hook?x=1", "application/json")
        expected = hmac.new(b"the secret", pushed.body, hashlib.sha256).hexdigest()
        assert pushed.headers["x-moldar-signature-256"] == f"sha256={expected}"
        assert pushed.headers["x-moldar-event"] == "push"
        body = json.loads(pushed.body)
        assert body["delivery"] == pushed.headers["x-moldar-delivery"]
        assert body["repository"]["repo_name"] == "alice/app"
        assert (body["repository"]["namespace"], body["repository"]["name"]) == ("alice", "app")
        assert (body["push_data"]["tag"], body["push_data"]["pusher"]) == ("v1", "alice")
        event = body["events"][0]
        assert event["action"] == "push"
        assert event["actor"] == {"name": "alice"}
        assert event["target"].items() >= {"tag": "v1", "digest": digest, "mediaType": MANIFEST}.items()
        assert json.loads(untagged.body)["events"][0]["target"]["tag"] == "v1"
        assert json.loads(untagged.body)["events"][0]["target"]["digest"] == digest
        target = json.loads(deleted.body)["events"][0]["target"]
        assert (target["digest"], "tag" in target, untagged.headers["x-moldar-event"]) == (digest, False, "delete")
        log = wait_for(lambda: [d for d in deliveries(tmp_path, number) if d.state == DELIVERED] or None)
        assert all((one.status, one.attempts, one.error) == (204, 1, "") for one in log)
    finally:
        assert running.stop() == 0


@pytest.mark.either
def test_only_the_repository_and_the_events_asked_for(hub: Hub) -> None:
    push(hub, "alice/app")
    one = hub.hooks.create("alice/app", "https://example.org/", ["delete"])
    all_of_bob = hub.hooks.create("bob/*", "https://example.org/", ["push"])
    off = hub.hooks.create("bob/*", "https://example.org/", ["push"])
    hub.hooks.change(off.id, is_active=False)
    for name in ("alice/app", "bob/app", "bobby/app"):
        push(hub, name, "v1", "v2")
    hub.manifests.delete("alice/app", "v1")
    hub.manifests.delete("bob/app", "v1")
    assert [found.event for found in hub.hooks.deliveries(one.id)] == ["delete"]
    assert [found.event for found in hub.hooks.deliveries(all_of_bob.id)] == ["push", "push"]
    assert hub.hooks.deliveries(off.id) == []


def push(hub: Hub, name: str, *tags: str) -> str:
    upload = hub.blobs.begin(name, None)
    writer = hub.blobs.resume(upload)
    writer.write(b"{}")
    hub.blobs.commit(upload, writer, sha256(b"{}"))  # type: ignore[arg-type]
    raw = json.dumps(image_manifest(sha256(b"{}"), 2, [])).encode()
    return hub.manifests.put(name, raw, MANIFEST, tags=tags).digest


@pytest.mark.either
def test_lists_hold_just_what_one_may_manage(hub: Hub) -> None:
    for name in ("alice/app", "alice/app_x", "alice/appyx", "team/one", "team/two"):
        push(hub, name)
    places = ["alice/*", "alice/app", "alice/app_x", "alice/appyx", "team/*", "team/one", "team/two", "zoe/*"]
    for place in reversed(places):
        hub.hooks.create(place, "https://example.org/", ["push"])
    whole, part = Grant("*", ("*",)), Grant("team/*", (PULL, PUSH))
    roles = (Role("team/one", ADMIN), Role("team/two", "write"), Role("alice/app_x", ADMIN))
    alice = Principal("alice", 1, memberships=(Membership("team", True), Membership("zoe", False)))
    seen = set()
    for base in (ANONYMOUS, alice, Principal("bob", 2, roles=roles), Principal("boss", 3, is_admin=True)):
        for grants in (None, (), (whole,), (part, Grant("team/one", ("delete",))), (Grant("alice/*", ACTIONS), part)):
            for robot_of in ("", "team"):
                who = base._replace(grants=grants, robot_of=robot_of)
                found = [hook.place for hook in hub.hooks.search(manageable(who))]
                assert found == [place for place in places if may_configure(who, place)], who
                seen.add(tuple(found))
    assert len(seen) == 7
    everything = manageable(Principal("boss", 3, is_admin=True))
    assert [hook.place for hook in hub.hooks.search(everything, offset=1, limit=2)] == places[1:3]
    assert [hook.place for hook in hub.hooks.search(everything, place="team/*")] == ["team/*"]


@pytest.mark.either
def test_the_last_delivery_of_each_hook(hub: Hub) -> None:
    one, two, quiet = (
        hub.hooks.create(place, "https://example.org/", ["push"]).id for place in ("a/*", "b/*", "c/*")
    )
    for name in ("a/x", "b/x", "a/x"):
        push(hub, name, "v1", "v2")
    last = hub.hooks.last_deliveries([one, two, quiet])
    assert last == {number: hub.hooks.deliveries(number)[0] for number in (one, two)}
    assert hub.hooks.last_deliveries([]) == {}


def test_a_push_that_fails_tells_nothing(hub: Hub) -> None:
    hook = hub.hooks.create("alice/*", "https://example.org/", ["push"])
    raw = json.dumps(image_manifest(sha256(b"missing"), 7, [])).encode()
    with pytest.raises(Exception, match="blob"):
        hub.manifests.put("alice/app", raw, MANIFEST, tags=["v1"])
    assert hub.hooks.deliveries(hook.id) == []


def test_failures_are_tried_again_with_growing_pauses(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = lambda _one, number: (500, 302, 204)[min(number, 2)]
    running = start(tmp_path)
    try:
        number = make_hook(tmp_path, "alice/*", receiver.url)
        with running.client("alice") as alice:
            alice.push_image("alice/app")
        wait_for(lambda: len(receiver.received) == 3, 30)
        first, second, third = receiver.received
        assert first.body == second.body == third.body
        assert third.time - second.time > second.time - first.time
        assert [one.path for one in receiver.received] == ["/"] * 3  # the redirect was not followed
        found = wait_for(lambda: [d for d in deliveries(tmp_path, number) if d.state == DELIVERED])[0]
        assert (found.attempts, found.status) == (3, 204)
    finally:
        assert running.stop() == 0


def test_a_kill_loses_no_acknowledged_event(tmp_path: Path, receiver: Receiver) -> None:
    running = start(tmp_path)
    number = make_hook(tmp_path, "alice/*", receiver.url)
    receiver.answer = lambda _one, _number: time.sleep(0.3) or 204  # type: ignore[func-returns-value]
    with running.client("alice") as alice:
        digests = [alice.push_image("alice/app", f"v{count}") for count in range(6)]
        running.stop(signal.SIGKILL)
    again = start(tmp_path)
    try:

        def told() -> bool:
            seen = [json.loads(one.body)["events"][0]["target"]["digest"] for one in receiver.received]
            return set(digests) <= set(seen)

        wait_for(told, 40)
        wait_for(lambda: all(one.state == DELIVERED for one in deliveries(tmp_path, number)), 20)
    finally:
        assert again.stop() == 0


def test_a_hub_that_stops_hands_over_at_once(tmp_path: Path, receiver: Receiver) -> None:
    gate = threading.Event()
    receiver.answer = lambda _one, _number: (gate.wait(20), 204)[1]
    running = start(tmp_path, webhook_timeout=60)
    number = make_hook(tmp_path, "alice/*", receiver.url)
    with running.client("alice") as alice:
        alice.push_image("alice/app")
    wait_for(lambda: receiver.received)
    assert running.stop() == 0
    found = deliveries(tmp_path, number)[0]
    assert (found.state, found.attempts) == (WAITING, 0)
    assert found.due <= time.time()
    gate.set()


def test_a_slow_receiver_holds_up_nobody(tmp_path: Path, receiver: Receiver) -> None:
    slow = Receiver(lambda _one, _number: time.sleep(3) or 204)  # type: ignore[func-returns-value]
    running = start(tmp_path)
    try:
        number = make_hook(tmp_path, "alice/*", slow.url)
        make_hook(tmp_path, "alice/*", receiver.url)
        with running.client("alice") as alice:
            for count in range(3):
                alice.push_image("alice/app", f"v{count}")
        wait_for(lambda: len(receiver.received) == 3, 8)
        error = wait_for(lambda: [one.error for one in deliveries(tmp_path, number) if one.error], 10)
        assert error[0] == "no answer within 1 seconds"
    finally:
        assert running.stop() == 0
        slow.close()


@pytest.mark.either
def test_two_hubs_deliver_once(tmp_path: Path, receiver: Receiver, clock: Tick, either: dict[str, Any]) -> None:
    hub, other = (Hub(HubSettings(str(tmp_path / "data"), **either), clock) for _ in range(2))
    try:
        for _ in range(5):
            hub.hooks.create("alice/*", receiver.url, ["push"])
        push(hub, "alice/app", *(f"v{count}" for count in range(4)))

        async def both() -> None:
            runs = [asyncio.create_task(one.courier.run(ALLOWED, timeout=5, pause=1)) for one in (hub, other)]
            while len(receiver.received) < 20:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)

        asyncio.run(asyncio.wait_for(both(), 30))
        keys = [one.headers["x-moldar-delivery"] for one in receiver.received]
        assert len(keys) == len(set(keys)) == 20
        with hub.database.reading() as connection:
            assert set(connection.execute(select(WEBHOOK_DELIVERIES.c.state)).scalars()) == {DELIVERED}
    finally:
        hub.close()
        other.close()


def test_it_gives_up_in_the_end_and_keeps_a_short_log(hub: Hub, clock: Tick, receiver: Receiver) -> None:
    receiver.answer = lambda _one, _number: 500
    hook = hub.hooks.create("alice/*", receiver.url, ["push"])

    def deliver_all() -> None:
        async def once() -> None:
            run = asyncio.create_task(hub.courier.run(ALLOWED, timeout=5, pause=10))
            while await hub.in_thread(hub.courier._claim, [hook.id], 1, 0) or hub.courier._sending:
                await asyncio.sleep(0.01)
            count = -1
            while count != len(receiver.received):
                count = len(receiver.received)
                await asyncio.sleep(0.2)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)

        asyncio.run(once())

    push(hub, "alice/app", "v1")
    pauses = []
    for _ in range(ATTEMPTS):
        deliver_all()
        waiting = hub.hooks.deliveries(hook.id)[0]
        pauses.append(waiting.due - clock.now)
        clock.now = max(waiting.due, clock.now)
    assert pauses[:-1] == [10, 60, 360, 2160, 12960, 21600]
    ended = hub.hooks.deliveries(hook.id)[0]
    assert (ended.state, ended.attempts, ended.status, ended.error) == (FAILED, ATTEMPTS, 500, "the receiver refused")
    assert hub.hooks.redeliver(hook.id, ended.uuid)
    receiver.answer = lambda _one, _number: 200
    deliver_all()
    assert hub.hooks.deliveries(hook.id)[0].state == DELIVERED
    for count in range(LOG_LENGTH + 10):
        push(hub, "alice/app", f"t{count}")
    deliver_all()
    assert len(hub.hooks.deliveries(hook.id, 1000)) == LOG_LENGTH
    receiver.answer = lambda _one, _number: 410
    push(hub, "alice/app", "gone")
    deliver_all()
    assert hub.hooks.deliveries(hook.id)[0].state == FAILED


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1", "nonsense"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not allowed(address, ())


def test_addresses_that_are_allowed() -> None:
    assert allowed("93.184.216.34", ())
    assert allowed("2606:4700::1", ())
    assert allowed("64:ff9b::5db8:d822", ())
    assert allowed("127.0.0.1", ALLOWED)
    assert allowed("::ffff:127.0.0.1", ALLOWED)
    assert not allowed("10.0.0.1", ALLOWED)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]", "0"]
)
def test_our_own_machine_is_not_reached(receiver: Receiver, host: str) -> None:
    letter = Letter(f"http://{host}:{receiver.port}/", "s", "push", "key", b"{}")
    outcome = asyncio.run(send(letter, (), 5))
    assert outcome.status == 0
    assert "not public" in outcome.error or outcome.error == "no such host"
    assert receiver.received == []


def test_what_other_sides_do_is_told_in_words(receiver: Receiver) -> None:
    def outcome(url: str) -> str:
        return asyncio.run(send(Letter(url, "s", "push", "key", b"{}"), ALLOWED, 1)).error

    assert outcome(receiver.url) == ""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer(text: bytes) -> None:
            connection, _ = server.accept()
            connection.recv(10_000)
            connection.sendall(text)
            connection.close()

        for text, error in (
            (b"SSH-2.0\r\n\r\n", "the answer was not HTTP"),
            (b"HTTP/1.1 200", "the connection was closed without an answer"),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "the answer's headers are too long"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ""),
            (b"HTTP/1.1 404 No\r\n\r\n", "the receiver refused"),
        ):
            thread = threading.Thread(target=answer, args=(text,))
            thread.start()
            assert outcome(f"http://127.0.0.1:{port}/") == error
            thread.join()
        assert outcome(f"https://127.0.0.1:{receiver.port}/") == "TLS failed"
    assert outcome(f"http://127.0.0.1:{port}/") == "connection refused"
    assert outcome("http://nowhere.invalid/") == "no such host"


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    running = Running(str(tmp_path / "data"), tmp_path / "log", tls_self_signed=True)
    try:
        outcome = asyncio.run(send(Letter(f"{running.url}/", "s", "push", "key", b"{}"), ALLOWED, 5))
        assert outcome.error.startswith("certificate not trusted")
    finally:
        assert running.stop() == 0


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "ftp://example.org/", "http://", "https:///x", "http://user:pass@example.org/", "http://a b/"),
        *("http://example.org/#x", "http://example.org:99999/", "http://exa\r\nmple.org/", "http://[::1/"),
        *(
            "http://[::1%25eth0]/",
            "javascript:alert(1)",
            "http://ex{ample",
            "http://é.example/",
            "file:///etc/passwd",
        ),
    ],
)
def test_urls_that_are_none(url: str, hub: Hub) -> None:
    assert parse_target(url) is None
    with pytest.raises(InvalidHook) as problem:
        hub.hooks.create("alice/*", url, ["push"])
    assert problem.value.problem == "url"


def test_parts_of_urls() -> None:
    assert parse_target("https://example.org") == (True, "example.org", 443, "example.org", "/")
    assert parse_target("http://example.org:8080/a%20b?c=d") == (
        False,
        "example.org",
        8080,
        "example.org:8080",
        "/a%20b?c=d",
    )


def test_what_makes_no_hook(hub: Hub) -> None:
    url = "https://example.org/"
    for problem, arguments in (
        ("events", ("alice/*", url, [])),
        ("events", ("alice/*", url, ["pull"])),
        ("secret", ("alice/*", url, ["push"], "x" * 201)),
        ("secret", ("alice/*", url, ["push"], "a\nb")),
    ):
        with pytest.raises(InvalidHook) as found:
            hub.hooks.create(*arguments)  # type: ignore[arg-type]
        assert found.value.problem == problem
    with pytest.raises(NotFound):
        hub.hooks.create("alice/missing", url, ["push"])
    for _ in range(HOOKS_LIMIT):
        hub.hooks.create("alice/*", url, ["push"])
    with pytest.raises(InvalidHook, match="at most"):
        hub.hooks.create("alice/*", url, ["push"])


def test_a_network_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="not a network"):
        HubSettings(str(tmp_path), webhook_networks=("10.0.0.1/8",))


def test_a_courier_without_a_database_goes_on(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    courier = Courier(hub.database, hub.outbox, hub.clock, hub.metrics, in_thread=hub.in_thread)
    with hub.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE webhook_deliveries RENAME TO elsewhere")

    async def look() -> None:
        run = asyncio.create_task(courier.run(ALLOWED, timeout=1, pause=1))
        await asyncio.sleep(0.3)
        assert not run.done()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)

    asyncio.run(look())
    assert "cannot look for webhook deliveries" in caplog.text

"""The audit log: which changes leave which line, that there is never one without the other, and how lines go."""

import time
from pathlib import Path

import pytest

from moldar.hub.access import audit
from moldar.hub.access.accounts import Account, InvalidAccount
from moldar.hub.access.audit import Actor, Filter, Line
from moldar.hub.access.organisations import MemberRefused
from moldar.hub.refusals import Refusal
from moldar.hub.registry.overview import Usage
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings
from moldar.image.model import Digest

from .hubs import INDEX, MANIFEST, PASSWORD, Running, Tick, sha256, wait_for

BY = Actor("alice", "10.0.0.9")
DOCUMENT = b'{"schemaVersion": 2, "mediaType": "%s", "manifests": []}'


@pytest.fixture
def alice(hub: Hub) -> Account:
    return hub.accounts.create("alice", PASSWORD, by=BY)


def told(hub: Hub, wanted: Filter = Filter()) -> list[tuple[str, str, str]]:  # noqa: B008
    return [(line.action, line.target, line.detail) for line in reversed(hub.audit.lines(wanted, limit=1000))]


@pytest.mark.either
def test_every_deed_leaves_a_line(hub: Hub, alice: Account) -> None:
    hub.accounts.create("bob", PASSWORD)
    bob = hub.accounts.find("bob")
    assert bob
    hub.accounts.open_session(alice, 100, by=BY)
    token, _ = hub.accounts.create_token(alice, "ci", by=BY)
    hub.accounts.revoke_token(alice.id, token.id, by=BY)
    acme = hub.organisations.create("acme", alice, by=BY)
    hub.organisations.invite(acme, "bob", by=BY)
    hub.organisations.join(acme, bob, by=Actor("bob", "10.0.0.8"))
    hub.organisations.set_owner(acme, "bob", True, by=BY)
    hub.teams.create(acme, "devs", by=BY)
    hub.teams.add(acme, "devs", "bob", by=BY)
    hub.teams.give(acme, pattern="acme/*", level="read", team="devs", by=BY)
    (role,) = hub.teams.roles(acme)
    hub.teams.take(acme, role.id, by=BY)
    hub.teams.take_out(acme, "devs", "bob", by=BY)
    hub.teams.delete(acme, "devs", by=BY)
    hub.robots.create(acme, "ci", actions=("pull",), by=BY)
    hub.robots.delete(acme, "acme+ci", by=BY)
    hub.organisations.remove(acme, "bob", by=BY)
    pushed = hub.manifests.put("acme/app", DOCUMENT % INDEX.encode(), INDEX, tags=["v1"], by=BY)
    repository = hub.repositories.find("acme/app")
    assert repository
    hub.repositories.set_visibility(repository, False, by=BY)
    hub.repositories.set_description(repository, "words", by=BY)
    hub.readmes.put(repository.id, "# words", by=BY)
    hub.manifests.delete("acme/app", "v1", by=BY)
    hub.manifests.remove_repository("acme/app", by=BY)
    hub.organisations.delete("acme", by=BY)
    hub.accounts.set_password("bob", PASSWORD, by=BY)
    hub.accounts.set_disabled("bob", True, by=BY)
    hub.accounts.set_disabled("bob", False, by=BY)
    hub.accounts.remove("bob", by=BY)
    hub.throttle.failed("alice", "10.0.0.9")
    hub.audit.note(BY, audit.GARBAGE_COLLECTED, "", detail="nothing")
    assert told(hub) == [
        ("signed-up", "alice", ""),
        ("signed-in", "alice", ""),
        ("token-made", "alice", "ci: pull,push *"),
        ("token-revoked", "alice", "ci"),
        ("organisation-made", "acme", ""),
        ("member-invited", "acme", "bob: member"),
        ("member-joined", "acme", "bob"),
        ("owner-changed", "acme", "bob: owner"),
        ("team-made", "acme", "devs"),
        ("team-changed", "acme", "devs: + bob"),
        ("role-given", "acme/*", "team devs: read"),
        ("role-taken", "acme/*", "team devs: read"),
        ("team-changed", "acme", "devs: - bob"),
        ("team-deleted", "acme", "devs"),
        ("robot-made", "acme", "acme+ci: pull acme/*"),
        ("robot-deleted", "acme", "acme+ci"),
        ("member-left", "acme", "bob"),
        ("pushed", "acme/app", f"v1 {pushed.digest}"),
        ("visibility-changed", "acme/app", "private"),
        ("settings-changed", "acme/app", "description"),
        ("settings-changed", "acme/app", "README"),
        ("deleted", "acme/app", "v1"),
        ("repository-deleted", "acme/app", ""),
        ("organisation-deleted", "acme", ""),
        ("password-set", "bob", ""),
        ("account-disabled", "bob", ""),
        ("account-enabled", "bob", ""),
        ("account-deleted", "bob", ""),
        ("sign-in-failed", "alice", ""),
        ("garbage-collected", "", "nothing"),
    ]
    assert {action for action, _, _ in told(hub)} == set(audit.DEEDS)
    assert hub.audit.lines(Filter("acme"))[-1][2:6] == ("alice", "10.0.0.9", "organisation-made", "acme")


def test_no_change_no_line(hub: Hub, alice: Account) -> None:
    acme = hub.organisations.create("acme", alice)
    before = told(hub)
    with pytest.raises(InvalidAccount):
        hub.organisations.create("acme", alice, by=BY)
    with pytest.raises(MemberRefused):
        hub.organisations.remove(acme, "alice", by=BY)
    with pytest.raises(Refusal):
        hub.manifests.put("acme/app", b"{}", MANIFEST, by=BY)
    assert not hub.accounts.revoke_token(alice.id, 99, by=BY)
    assert told(hub) == before


@pytest.mark.either
def test_a_line_is_written_with_its_change_or_not_at_all(hub: Hub, alice: Account) -> None:
    with hub.database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE audit")
    with pytest.raises(Exception, match=r"no such table|does not exist"):
        hub.organisations.create("acme", alice, by=BY)
    assert hub.organisations.find("acme") is None


def test_names_that_nobody_has_are_not_kept(hub: Hub, alice: Account) -> None:
    hub.throttle.failed("my secret password", "10.0.0.9")
    (line,) = hub.audit.lines(Filter(action=audit.SIGN_IN_FAILED))
    assert (line.actor, line.target, line.namespace) == ("(unknown)", "", "")


@pytest.mark.either
def test_filters_and_paging(hub: Hub) -> None:
    for number in range(5):
        hub.audit.note(Actor("alice", "10.0.0.9"), audit.PUSHED, f"alice/app{number}")
        hub.audit.note(Actor("bob", "10.0.0.8"), audit.DELETED, f"bob/app{number}")
    assert len(told(hub)) == 10
    assert {target for _, target, _ in told(hub, Filter("alice"))} == {f"alice/app{number}" for number in range(5)}
    assert len(told(hub, Filter(action=audit.DELETED))) == 5
    assert [target for _, target, _ in told(hub, Filter(text="app3"))] == ["alice/app3", "bob/app3"]
    assert len(told(hub, Filter(text="10.0.0.8"))) == 5
    assert told(hub, Filter(text="%")) == []
    first = hub.audit.lines(Filter(), limit=4)
    second = hub.audit.lines(Filter(), before=first[-1].id, limit=4)
    assert [line.id for line in (*first, *second)] == list(range(10, 2, -1))


def test_old_lines_go(hub: Hub, clock: Tick) -> None:
    hub.audit.note(BY, audit.PUSHED, "alice/old")
    clock.now += 10 * 86400
    hub.audit.note(BY, audit.PUSHED, "alice/new")
    assert hub.audit.prune(11) == 0
    assert hub.audit.prune(9) == 1
    assert [line.target for line in hub.audit.lines(Filter())] == ["alice/new"]


@pytest.mark.parametrize(("days", "kept"), [(30, 1), (0, 2)])
def test_a_server_keeps_as_many_days_as_it_is_told(tmp_path: Path, days: int, kept: int) -> None:
    data = str(tmp_path / "data")
    for age in (40, 0):
        hub = Hub(HubSettings(data), Tick(int(time.time()) - age * 86400))
        hub.audit.note(BY, audit.PUSHED, f"alice/{age}")
        hub.close()
    running = Running(data, tmp_path / "log", audit_days=days)
    hub = Hub(HubSettings(data))
    wait_for(lambda: len(hub.audit.lines(Filter())) == kept)
    assert running.stop() == 0
    assert len(hub.audit.lines(Filter())) == kept
    hub.close()


@pytest.mark.either
def test_long_words_are_cut(hub: Hub) -> None:
    hub.audit.note(Actor("x" * 1000, "y" * 1000), audit.PUSHED, "z" * 1000, detail="w" * 1000)
    line: Line = hub.audit.lines(Filter())[0]
    texts = (line.actor, line.address, line.namespace, line.target, line.detail)
    assert [len(text) for text in texts] == [100, 64, 255, 300, 300]


def test_the_overview(hub: Hub, alice: Account) -> None:
    for name in ("alice/one", "alice/two", "bob/one", "single"):
        for data in (b"shared", name.encode()):
            upload = hub.blobs.begin(name, None)
            writer = hub.blobs.resume(upload)
            writer.write(data)
            digest = Digest(sha256(data))
            hub.blobs.commit(upload, writer, digest)
            writer.close()
    hub.manifests.put("alice/one", DOCUMENT % INDEX.encode(), INDEX, tags=["a", "b"])
    hub.blobs.begin("alice/three", None)
    assert hub.overview.totals() == (4, 2, 1, 5, 6 + 9 + 9 + 7 + 6, 1)
    assert hub.overview.usage() == [
        Usage("alice", 2, 3, 24),
        Usage("bob", 1, 2, 13),
        Usage("single", 1, 2, 12),
    ]
    assert [upload.repository for upload in hub.overview.uploads()] == ["alice/three"]
    assert hub.overview.last_collection() is None
    for _ in range(35):
        hub.collect_garbage()
    last = hub.overview.last_collection()
    assert last
    assert last.found.blobs == 0
    with hub.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM collections").scalar_one() == 30

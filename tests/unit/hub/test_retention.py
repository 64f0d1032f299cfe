"""What retention rules let go of: the decision, its application, the page and the command."""

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moldar.hub import administration
from moldar.hub.registry.patterns import InvalidPattern, TagPatterns, parse_patterns
from moldar.hub.registry.retaining import Retained
from moldar.hub.registry.retention import (
    ATTACHED_TO_NOTHING,
    DAY,
    NO_RULE_KEEPS_IT,
    WITHOUT_A_TAG,
    Contents,
    HeldManifest,
    HeldTag,
    Rule,
    plan,
)
from moldar.hub.services import Hub

from .hubs import INDEX, MANIFEST, Running, Tick, image_manifest, run, sha256
from .test_pages import form_token, sign_in

NOW = 1_800_000_000


def held(name: str, *, days: int = 100, pulled: int = 0, untagged: int = 0, subject: str = "", **more: Any) -> Any:
    """A manifest pushed `days` ago; `pulled` and `untagged` so many days ago, if at all."""
    moments = [NOW - ago * DAY if ago else 0 for ago in (days, pulled, untagged)]
    return HeldManifest(name, 1, *moments, subject, tuple(more.get("children", ())))


def contents(tags: dict[str, tuple[str, int]], *manifests: HeldManifest, immutable: str = "") -> Contents:
    """`tags`: name -> digest and days since its push."""
    return Contents(
        tuple(HeldTag(name, digest, NOW - days * DAY) for name, (digest, days) in tags.items()),
        {manifest.digest: manifest for manifest in manifests},
        parse_patterns(immutable),
    )


def gone(where: Contents, rule: Rule) -> list[str]:
    return sorted(one.tag or one.digest for one in plan(where, rule, NOW))


FIVE = {f"v{number}": (f"m{number}", 10 * number) for number in range(1, 6)}
FIVE_MANIFESTS = tuple(held(f"m{number}", days=10 * number) for number in range(1, 6))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(), []),
        (Rule(keep_last=2), ["v3", "v4", "v5"]),
        (Rule(pushed_days=25), ["v3", "v4", "v5"]),
        (Rule(keep_last=1, pushed_days=25), ["v3", "v4", "v5"]),
        (Rule(patterns=TagPatterns(("v*",))), []),
        (Rule(keep_last=1, patterns=TagPatterns(("v5", "x"))), ["v2", "v3", "v4"]),
        (Rule(keep_last=1, untagged_days=1), ["v2", "v3", "v4", "v5"]),
        (Rule(untagged_days=1), []),
    ],
)
def test_tags(rule: Rule, expected: list[str]) -> None:
    assert gone(contents(FIVE, *FIVE_MANIFESTS), rule) == expected


def test_what_was_pulled_stays() -> None:
    where = contents({"a": ("m1", 90), "b": ("m2", 90)}, held("m1", pulled=3), held("m2", pulled=40))
    assert gone(where, Rule(pulled_days=30)) == ["b"]
    assert plan(where, Rule(pulled_days=30), NOW)[0].pulled == NOW - 40 * DAY


def test_immutable_tags_stay() -> None:
    assert gone(contents(FIVE, *FIVE_MANIFESTS, immutable="v5 v4"), Rule(keep_last=1)) == ["v2", "v3"]


def test_what_has_no_tag() -> None:
    manifests = (held("old"), held("lost", untagged=2), held("pulled", pulled=2), held("fresh", days=2), held("m1"))
    where = contents({"a": ("m1", 90)}, *manifests)
    assert gone(where, Rule(untagged_days=7)) == ["old"]
    assert gone(where, Rule(untagged_days=1)) == ["fresh", "lost", "old", "pulled"]


def test_parts_of_what_stays_stay() -> None:
    manifests = (
        held("index", children=("amd64", "arm64")),
        held("amd64"),
        held("arm64"),
        held("signature", subject="amd64"),
        held("signature of it", subject="signature"),
        held("old index", children=("arm64", "old amd64")),
        held("old amd64"),
        held("old signature", subject="old amd64"),
    )
    where = contents({"v2": ("index", 1)}, *manifests)
    assert gone(where, Rule(untagged_days=7)) == ["old amd64", "old index", "old signature"]
    assert plan(where, Rule(untagged_days=7), NOW)[0].reason == WITHOUT_A_TAG


def test_tags_that_belong_to_images() -> None:
    image, other = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    tags = {"v1": (image, 50), f"{image.replace(':', '-')}.sig": ("signature", 50)}
    tags |= {f"{other.replace(':', '-')}": ("list", 50), f"{other.replace(':', '-')}.att": ("new", 0)}
    where = contents(tags, held(image), held("signature"), held("list"), held("new"))
    found = plan(where, Rule(keep_last=1), NOW)
    assert [(one.digest, one.reason) for one in found] == [("list", ATTACHED_TO_NOTHING)]
    found = plan(where, Rule(keep_last=None, pushed_days=10, untagged_days=5), NOW)
    assert {one.tag: one.reason for one in found}["v1"] == NO_RULE_KEEPS_IT
    assert "signature" not in [one.digest for one in found]  # its image stays for five days yet


def test_patterns() -> None:
    assert parse_patterns(" v*, latest v* ") == TagPatterns(("v*", "latest"))
    assert parse_patterns("v1.*").match("v1.2")
    assert not parse_patterns("v1.*").match("v12")
    for text in ("[ab]", "a?", "/", "x" * 200, " ".join(map(str, range(30)))):
        with pytest.raises(InvalidPattern):
            parse_patterns(text)


def push(hub: Hub, repository: str, tag: str = "", *, subject: str = "") -> str:
    """An image of one blob; its digest."""
    raw = f'{{"tag": "{repository}{tag}{hub.clock()}{subject}"}}'.encode()
    upload = hub.blobs.begin(repository, None)
    writer = hub.blobs.resume(upload)
    writer.write(raw)
    digest = sha256(raw)
    hub.blobs.commit(upload, writer, digest)  # type: ignore[arg-type]
    document = image_manifest(digest, len(raw), [])
    if subject:
        document["subject"] = {"mediaType": MANIFEST, "digest": subject, "size": 1}
    return put(hub, repository, document, MANIFEST, tag)


def put(hub: Hub, repository: str, document: Any, media_type: str, tag: str = "") -> str:
    return hub.manifests.put(repository, json.dumps(document).encode(), media_type, tags=(tag,) if tag else ()).digest


def there(hub: Hub, repository: str, digest: str) -> bool:
    return hub.manifests.get(repository, digest) is not None


@pytest.mark.either
def test_a_rule_is_applied(hub: Hub, clock: Tick) -> None:
    digests = {}
    for tag in ("a", "b", "c"):
        digests[tag] = push(hub, "alice/app", tag)
        clock.now += DAY
    signature = push(hub, "alice/app", subject=digests["c"])
    orphan = push(hub, "alice/app", subject=digests["a"])
    clock.now += 2 * DAY
    hub.retention.set_rule("alice", Rule(keep_last=1, untagged_days=2))
    hub.retention.set_rule("alice/other", Rule(keep_last=1))
    kept = push(hub, "alice/kept", "x"), push(hub, "alice/kept", "y")
    hub.retention.set_rule("alice/kept", Rule())
    assert hub.retention.repositories() == ["alice/app", "alice/kept"]
    found = hub.collect_garbage()
    assert (found.tags, found.manifests) == (2, 0)
    assert hub.manifests.tag_names("alice/app") == ["c"]
    clock.now += 2 * DAY
    assert hub.retention.run() == Retained(0, 3)
    assert [there(hub, "alice/app", digest) for digest in (*digests.values(), signature, orphan)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert all(there(hub, "alice/kept", digest) for digest in kept)


def test_the_time_without_a_tag_begins_when_it_is_lost(hub: Hub, clock: Tick) -> None:
    first = push(hub, "alice/app", "latest")
    clock.now += 30 * DAY
    push(hub, "alice/app", "latest")
    hub.retention.set_rule("alice/app", Rule(untagged_days=3))
    hub.retention.run()
    assert there(hub, "alice/app", first)
    clock.now += 2 * DAY
    hub.figures.note_pull("alice/app", first)
    hub.figures.flush()
    clock.now += 2 * DAY
    hub.retention.run()
    assert there(hub, "alice/app", first)
    clock.now += 2 * DAY
    hub.retention.run()
    assert not there(hub, "alice/app", first)


def test_parts_of_an_index_on_its_way(hub: Hub, clock: Tick) -> None:
    hub.retention.set_rule("alice/app", Rule(untagged_days=1))
    child = push(hub, "alice/app")
    clock.now += 30 * DAY
    child = push(hub, "alice/app")
    hub.retention.run()
    entry = {"mediaType": MANIFEST, "digest": child, "size": 1}
    index = put(hub, "alice/app", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, INDEX, "multi")
    clock.now += 30 * DAY
    hub.retention.run()
    assert there(hub, "alice/app", child)
    hub.manifests.delete("alice/app", "multi")
    clock.now += 2 * DAY
    assert hub.retention.run() == Retained(0, 2)
    assert not there(hub, "alice/app", index)


def test_what_changes_meanwhile_stays(hub: Hub, clock: Tick) -> None:
    for number in range(120):
        push(hub, "alice/app", f"t{number}")
        clock.now += 1
    clock.now += 30 * DAY
    rule = Rule(keep_last=1)
    stopping = threading.Event()

    class Pushing(threading.Event):
        """Stands at the pause between two steps: somebody pushes a tag that is about to go."""

        def wait(self, timeout: float | None = None) -> bool:
            if not stopping.is_set():
                stopping.set()
                push(hub, "alice/app", "t7")
            return False

    assert hub.retention.apply("alice/app", rule, Pushing()).tags == 118
    assert sorted(hub.manifests.tag_names("alice/app")) == ["t119", "t7"]


@pytest.fixture
def browser(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_the_page(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as client:
        for tag in ("one", "two", "three"):
            client.push_image("alice/retained", tag)
    path = "/settings/retention/alice/retained"
    assert browser.get(path).headers["location"].startswith("/sign-in")
    sign_in(browser, "alice")
    page = browser.get(path)
    assert "No rule yet" in page.text
    assert browser.post(path, data={"action": "save", "keep_last": "1"}).status_code == 403
    form = {
        "form_token": form_token(browser, path),
        "pulled_days": "9",
        "untagged_days": "7",
        "patterns": "two three",
    }
    answer = browser.post(path, data={**form, "action": "preview"})
    assert len(re.findall(r"no part of the rule keeps it", answer.text)) == 1
    assert 'name="pulled_days" inputmode="numeric" maxlength="6" value="9"' in answer.text
    assert "No rule yet" in answer.text
    for wrong in ({"keep_last": "0"}, {"keep_last": "many"}, {"patterns": "<b>"}):
        answer = browser.post(path, data={**form, **wrong, "action": "save"})
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text
    assert browser.post(path, data={**form, "action": "save"}).status_code == 200
    listed = run("moldar", "hub", "retention", "--data", server.data, "--dry-run", "alice/retained")
    assert "alice/retained:one" in listed
    assert "no part of the rule keeps it" in listed
    preview = run("moldar", "hub", "gc", "--data", server.data, "--dry-run")
    assert re.search(r"Tags let go by retention rules +1\b", preview)
    portuguese = browser.get(path, headers={"Accept-Language": "pt"}).text
    assert "Retenção" in portuguese
    run("moldar", "hub", "retention", "--data", server.data, "alice/retained")
    with server.client() as anyone:
        assert anyone.get("/v2/alice/retained/tags/list").json()["tags"] == ["three", "two"]
    assert browser.post(path, data={**form, "action": "remove"}).status_code == 200
    assert "No rule yet" in browser.get(path).text
    assert "no rule" in run("moldar", "hub", "retention", "--data", server.data, "alice/retained", fails=True)


@pytest.mark.either
def test_the_page_of_a_namespace(server: Running, browser: httpx.Client) -> None:
    with server.client("bob") as client:
        client.push_image("bob/first", "one")
        client.push_image("bob/first", "two")
    sign_in(browser, "alice")
    assert browser.get("/settings/retention/bob/first").status_code == 404
    browser.cookies.clear()
    sign_in(browser, "bob")
    path = "/settings/retention"
    form = {"form_token": form_token(browser, path), "keep_last": "1"}
    assert "bob/first:" in browser.post(path, data={**form, "action": "preview"}).text
    browser.post(path, data={**form, "action": "save"})
    assert "obeys that of" in browser.get("/settings/retention/bob/first").text
    browser.post(path, data={**form, "action": "remove"})
    assert administration.apply_retention(server.data) == []

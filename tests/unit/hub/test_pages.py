"""The pages, as a browser without scripts uses them, and attacks on them."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from moldar.hub.web import pages
from moldar.hub.web.language import ENGLISH, PORTUGUESE, Language, choose
from moldar.hub.web.pages import local_path

from .hubs import INDEX, MANIFEST, PASSWORD, Client, Running, Tick, sha256

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


@pytest.fixture
def browser(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def form_token(browser: httpx.Client, path: str) -> str:
    page = browser.get(path)
    assert page.status_code == 200, page.text
    match = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert match
    return match[1]


def submit(browser: httpx.Client, path: str, **fields: object) -> httpx.Response:
    page = "/" if path == "/sign-out" else path
    return browser.post(path, data={"form_token": form_token(browser, page), **fields})


def sign_in(browser: httpx.Client, name: str) -> httpx.Response:
    answer = submit(browser, "/sign-in", name=name, password=PASSWORD)
    assert answer.status_code == 303, answer.text
    return answer


def test_from_sign_up_to_the_page_of_a_pushed_image(server: Running, browser: httpx.Client) -> None:
    answer = submit(browser, "/sign-up", name="erin", password=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "erin" in browser.get("/").text

    page = submit(
        browser, "/settings/tokens", name="laptop", actions=["pull", "push"], repositories="erin/*", days="30"
    )
    secret = re.search(r"mdl_[A-Za-z0-9]{32}", page.text)
    assert secret
    again = browser.get("/settings/tokens").text
    assert secret[0] not in again
    assert "laptop" in again
    assert secret[0][-4:] in again

    with Client(server.url, ("erin", secret[0])) as docker:
        history = [
            {"created_by": "ADD rootfs.tar / # buildkit"},
            {"created_by": "ENV A=1", "empty_layer": True},
        ]
        config = {
            "os": "linux",
            "architecture": "arm64",
            "history": history,
            "config": {"Env": ["A=1"], "Entrypoint": ["/bin/sh", "-c"], "ExposedPorts": {"5000/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(b"x")]},
        }
        digest = docker.push_image("erin/app", "v1", config)
    assert "v1" in browser.get("/r/erin/app").text
    page = browser.get("/r/erin/app:v1")
    text = unescape(page.text)
    for shown in ("v1", "linux/arm64", "ADD rootfs.tar /", "A=1", '["/bin/sh", "-c"]', "5000/tcp", digest, "200 B"):
        assert shown in text, shown
    assert f"moldar pull {server.host}/erin/app:v1" in text
    assert "# buildkit" not in text
    assert "erin/app" in browser.get("/").text
    assert "erin/app" in browser.get("/u/erin").text
    assert "erin/app" in browser.get("/", params={"q": "ERIN app"}).text
    assert "erin/app" not in browser.get("/", params={"q": "erin%"}).text

    number = re.search(r"/settings/tokens/(\d+)/revoke", again)
    assert number
    revoked = browser.post(number[0], data={"form_token": form_token(browser, "/settings/tokens")})
    assert revoked.status_code == 303
    with Client(server.url, ("erin", secret[0])) as docker:
        assert docker.get("/v2/").status_code == 401

    assert submit(browser, "/sign-out").status_code == 303
    assert browser.get("/settings/tokens").headers["location"].startswith("/sign-in")


def test_a_session_that_was_signed_out_is_dead(browser: httpx.Client) -> None:
    sign_in(browser, "alice")
    session = browser.cookies["moldar_session"]
    submit(browser, "/sign-out")
    browser.cookies.set("moldar_session", session)
    assert browser.get("/settings/tokens").status_code == 303


def test_visibility_description_and_deleting_a_tag(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as alice:
        alice.push_image("alice/managed", "one")
        alice.push_image("alice/managed", "two")
    sign_in(browser, "alice")
    path = "/r/alice/managed"
    assert submit(browser, path, action="private").status_code == 303
    assert submit(browser, path, action="describe", description="  A word  ").status_code == 303
    assert submit(browser, path, action="delete-tag", tag="one").status_code == 303
    page = browser.get(path).text
    assert "A word" in page
    assert "Private" in page
    assert "managed:one" not in page
    assert submit(browser, path, action="delete-tag", tag="one").status_code == 404
    assert submit(browser, path, action="explode").status_code == 404
    with httpx.Client(base_url=server.url) as stranger:
        assert stranger.get(path).status_code == 404
    with httpx.Client(base_url=server.url) as bob:
        sign_in(bob, "bob")
        assert bob.get(path).status_code == 404
    assert submit(browser, path, action="public").status_code == 303
    with httpx.Client(base_url=server.url) as bob:
        sign_in(bob, "bob")
        assert "Delete tag" not in bob.get(path).text
        token = form_token(bob, "/settings/tokens")
        for fields in ({"action": "private"}, {"action": "delete-tag", "tag": "two"}, {"action": "describe"}):
            assert bob.post(path, data={"form_token": token, **fields}).status_code == 404
    assert "two" in browser.get(path).text


@pytest.mark.parametrize(
    ("name", "password", "says"),
    [
        ("alice", PASSWORD, "taken"),
        ("x", PASSWORD, "2 to 39"),
        (HOSTILE[:39], PASSWORD, "lower-case"),
        ("library", PASSWORD, "reserved"),
        ("frank", "short", "at least 8"),
    ],
)
def test_sign_up_says_what_is_wrong(browser: httpx.Client, name: str, password: str, says: str) -> None:
    answer = submit(browser, "/sign-up", name=name, password=password)
    assert answer.status_code == 400
    assert says in answer.text
    assert "<script>alert" not in answer.text


def test_wrong_passwords_and_too_many_of_them(browser: httpx.Client, server: Running) -> None:
    with server.client() as fast:
        for _ in range(8):
            assert fast.get("/auth/token", auth=("mallory", "guess guess")).status_code == 401
        answer = fast.get("/auth/token", auth=("mallory", "guess guess"))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    page = submit(browser, "/sign-in", name="mallory", password="guess guess")
    assert page.status_code == 429
    wrong = submit(browser, "/sign-in", name="alice", password="wrong password")
    assert wrong.status_code == 400
    assert "Wrong user name or password" in wrong.text
    sign_in(browser, "alice")


@pytest.mark.parametrize(
    "path", ["/sign-in", "/sign-up", "/sign-out", "/settings/tokens", "/settings/tokens/1/revoke", "/r/alice/csrf"]
)
def test_forms_from_elsewhere_are_refused(server: Running, browser: httpx.Client, path: str) -> None:
    with server.client("alice") as alice:
        alice.push_image("alice/csrf")
    sign_in(browser, "alice")
    good = form_token(browser, "/settings/tokens")
    fields = {"name": "alice", "password": PASSWORD, "action": "private", "actions": "pull"}
    with httpx.Client(base_url=server.url) as other:
        foreign = form_token(other, "/sign-in")
        before = form_token(other, "/sign-in")
        sign_in(other, "alice")
        stale = other.post(path, data={**fields, "form_token": before})
        assert stale.status_code == 403  # of the time before signing in
    for token, headers in (
        ("", {}),
        ("0" * 64, {}),
        (foreign, {}),
        (good, {"Origin": "https://evil.example"}),
        (good, {"Origin": "null"}),
        (good, {"Sec-Fetch-Site": "cross-site"}),
    ):
        answer = browser.post(path, data={**fields, "form_token": token}, headers=headers)
        assert answer.status_code == 403, (token, headers)
    long = browser.post(path, data={**fields, "form_token": good, "description": "x" * 600_000})
    assert long.status_code == 403
    assert "Private" not in browser.get("/r/alice/csrf").text


def test_what_others_pushed_is_only_text(server: Running, browser: httpx.Client) -> None:
    config = {
        "os": HOSTILE,
        "architecture": HOSTILE,
        "history": [{"created_by": HOSTILE}],
        "config": {
            "Env": [HOSTILE],
            "Cmd": [HOSTILE],
            "Entrypoint": [HOSTILE],
            "User": HOSTILE,
            "WorkingDir": HOSTILE,
            "ExposedPorts": {HOSTILE: {}},
            "Volumes": {HOSTILE: {}},
            "Labels": {HOSTILE: HOSTILE},
        },
    }
    with server.client("bob") as bob:
        digest = bob.push_image("bob/hostile", "latest", config)
        raw = bob.get(f"/v2/bob/hostile/manifests/{digest}").content
        entry = {"mediaType": MANIFEST, "digest": digest, "size": len(raw), "platform": {"os": HOSTILE}}
        bob.push_manifest("bob/hostile", "index", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    sign_in(browser, "bob")
    submit(browser, "/r/bob/hostile", action="describe", description=HOSTILE)
    pages = ["/r/bob/hostile", "/r/bob/hostile:latest", "/r/bob/hostile:index", "/u/bob", "/"]
    for answer in [browser.get(page) for page in pages] + [browser.get("/", params={"q": HOSTILE})]:
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "config",
    [
        [],
        "text",
        {"os": 5, "architecture": ["x"]},
        {"history": 7},
        {"history": [{"created_by": 9}, 3]},
        {"config": {"Env": [1, None], "Cmd": [{}], "Labels": {"a": 1}, "ExposedPorts": ["x"]}},
        {"config": {"Env": "text", "Labels": [1]}},
        {"os": "linux", "history": [{"created_by": "x"}] * 100},
        {"os": "linux", "config": {"Labels": {"half": "\ud83d"}, "Env": ["\udcff"]}},
    ],
)
def test_odd_configs_do_not_break_the_page(server: Running, browser: httpx.Client, config: object) -> None:
    with server.client("bob") as bob:
        bob.push_image("bob/odd", "latest", config)
    assert browser.get("/r/bob/odd:latest").status_code == 200


def test_artifacts_have_a_page(server: Running, browser: httpx.Client) -> None:
    with server.client("bob") as bob:
        bob.push_image("bob/artifact", "sbom", {}, artifactType="application/vnd.example.sbom")
        empty = bob.push_blob("bob/artifact", b"{}")
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.sbom",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": [],
        }
        assert bob.push_manifest("bob/artifact", "sbom", document).status_code == 201
    text = browser.get("/r/bob/artifact:sbom").text
    assert "application/vnd.example.sbom" in text


def test_platforms(server: Running, browser: httpx.Client) -> None:
    with server.client("bob") as bob:
        entries = []
        for architecture in ("amd64", "arm64"):
            platform = {"os": "linux", "architecture": architecture}
            digest = bob.push_image("bob/multi", architecture, platform)
            entries.append({"mediaType": MANIFEST, "digest": digest, "size": 400, "platform": platform})
        bob.push_manifest("bob/multi", "both", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    page = browser.get("/r/bob/multi:both").text
    assert str(entries[0]["digest"]) in page
    page = browser.get("/r/bob/multi:both", params={"platform": "linux/arm64"}).text
    assert str(entries[1]["digest"]) in page


def test_more_tags_than_a_page_holds(server: Running, browser: httpx.Client) -> None:
    with server.client("bob") as bob:
        digest = bob.push_image("bob/many", "t00")
        raw = bob.get(f"/v2/bob/many/manifests/{digest}").content
        for number in range(1, 30):
            bob.push_manifest("bob/many", f"t{number:02}", raw)
    first = set(re.findall(r"many:(t\d\d)\"", browser.get("/r/bob/many").text))
    second = set(re.findall(r"many:(t\d\d)\"", browser.get("/r/bob/many?page=1").text))
    assert (len(first), len(second)) == (25, 5)
    assert not first & second
    assert browser.get("/r/bob/many?page=x").status_code == 200


def test_languages(browser: httpx.Client) -> None:
    for header, word, code in (
        ("pt-BR,en;q=0.5", "Entrar", "pt-BR"),
        ("en", "Sign in", "en"),
        ("fr", "Sign in", "en"),
    ):
        page = browser.get("/", headers={"Accept-Language": header})
        assert word in page.text
        assert f'<html lang="{code}">' in page.text
        assert "Accept-Language" in page.headers["vary"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/u/nobody", "/r/alice/nothing", "/r/../etc", "/static/../routes.py", "/r/"]
)
def test_not_found(browser: httpx.Client, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 404
    assert "<html" in answer.text
    assert "import" not in answer.text


def test_assets(browser: httpx.Client) -> None:
    page = browser.get("/").text
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_pages_have_no_inline_script_or_style(browser: httpx.Client) -> None:
    for template in (Path(pages.HERE) / "templates").iterdir():
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|<script(?![^>]*src=)|\son\w+=|javascript:|\|\s*safe", text), template


def test_every_text_has_its_portuguese(clock: Tick) -> None:
    used: set[str] = set()
    for template in (Path(pages.HERE) / "templates").iterdir():
        used |= {match[1] for match in re.finditer(r"""\bt\((?:"([^"]+)")\)""", template.read_text())}
        used |= {match[1] for match in re.finditer(r"""\bt\('([^']+)'\)""", template.read_text())}
    assert used
    assert used <= set(PORTUGUESE), sorted(used - set(PORTUGUESE))


def test_words() -> None:
    portuguese = Language("pt-BR")
    assert [ENGLISH.size(n) for n in (0, 999, 1000, 1_550_000, 123_456_789)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.6 MB",
        "123 MB",
    ]
    assert portuguese.size(1500) == "1,5 kB"
    assert [ENGLISH.ago(n) for n in (5, 60, 7200, 40 * 86400)] == [
        "just now",
        "1 minute ago",
        "2 hours ago",
        "1 month ago",
    ]
    assert portuguese.ago(3 * 86400) == "há 3 dias"
    assert choose("de, en;q=0.1, pt;q=0.7").is_portuguese
    assert choose("en, pt") == ENGLISH
    assert choose("pt;q=x, *;q=1") == ENGLISH


def test_redirects_stay_here() -> None:
    assert local_path("/r/alice/app?tag=x") == "/r/alice/app?tag=x"
    for target in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "evil",
        "/a\r\nSet-Cookie: x",
        "/a\\b",
    ):
        assert local_path(target) == "/"


@pytest.mark.parametrize("number", ["3000000000", "9" * 30])
def test_numbers_that_no_table_holds(browser: httpx.Client, number: str) -> None:
    sign_in(browser, "alice")
    assert browser.get(f"/settings/webhooks/{number}").status_code == 404
    data = {"form_token": form_token(browser, "/settings/tokens")}
    assert browser.post(f"/settings/tokens/{number}/revoke", data=data).status_code == 404


def test_sign_in_returns_to_where_one_was(browser: httpx.Client) -> None:
    token = form_token(browser, "/sign-in?next=/settings/tokens")
    fields = {"form_token": token, "name": "alice", "password": PASSWORD}
    wrong = browser.post("/sign-in", data={**fields, "password": "wrong password", "next": "/settings/tokens"})
    assert 'name="next" value="/settings/tokens"' in wrong.text  # also after a slip
    assert browser.post("/sign-in", data={**fields, "next": "//evil.example"}).headers["location"] == "/"


def test_error_bodies_are_json_for_the_registry_and_pages_for_people(browser: httpx.Client) -> None:
    assert json.loads(browser.get("/v2/x/y/manifests/z").content)["errors"]
    assert "<html" in browser.get("/v3/").text

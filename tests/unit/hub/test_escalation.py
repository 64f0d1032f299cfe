"""Attempts to get more than one was given: by members, robots, tokens, and by pages from elsewhere."""

import re
import sqlite3
from collections.abc import Iterator

import httpx
import pytest

from moldar.hub import administration
from moldar.hub.access.organisations import MemberRefused
from moldar.hub.access.robots import RobotRefused
from moldar.hub.access.teams import RoleRefused
from moldar.hub.web import navigation
from moldar.hub.web.audit import DEED_TEXTS
from moldar.hub.web.language import PORTUGUESE

from .cast import CLOSED, HIDDEN, MISSING, OPEN, ORGANISATION, OTHER, POSTER, Cast, form_token, make_cast, send
from .hubs import PASSWORD, Client

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
MEMBERS, TEAMS, ROBOTS = (f"/o/{ORGANISATION}/{name}" for name in ("members", "teams", "robots"))


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    made = make_cast(tmp_path_factory.mktemp("cast"))
    yield made
    assert made.running.stop() == 0


def role_of(browser: httpx.Client, path: str, pattern: str) -> str:
    """The number of the role that the page lists for a pattern."""
    rows = re.findall(
        r'<code>([^<]+)</code></p></div>\s*<form.*?name="role" value="(\d+)"', browser.get(path).text, re.S
    )
    return dict(rows)[pattern]


def test_an_admin_of_one_repository_stays_there(cast: Cast) -> None:
    """Max administers OPEN and CLOSED, and tries for OTHER."""
    with cast.browser("olive") as olive:
        number = role_of(olive, TEAMS, OTHER)
    with cast.browser("max") as browser:
        for path in (f"/settings/{page}/{name}" for page in ("repository", "access") for name in (OTHER, POSTER)):
            for fields in ({"action": "public"}, {"action": "give", "who": "max", "level": "admin"}):
                assert send(browser, path, **fields).status_code == 404
        here = f"/settings/access/{OPEN}"
        # The repository of a role is the page's, whatever the form says; another's role cannot be taken from here.
        given = send(browser, here, action="give", who="ned", level="read", pattern=OTHER, repository=OTHER)
        assert given.status_code == 303
        assert send(browser, here, action="take", role=number).status_code == 404
        assert send(browser, here, action="take", role="1e9").status_code == 404
        assert send(browser, here, action="give", who="stan", level="read").status_code == 400  # no member
        assert send(browser, here, action="give", who="max", level="owner").status_code == 400
        assert send(browser, here, action="take", role=role_of(browser, here, OPEN)).status_code in (303, 404)
        assert send(browser, f"/r/{OTHER}", action="public").status_code == 404
    with cast.client("max") as client:
        assert client.get(f"/v2/{OTHER}/tags/list").status_code == 404
        assert client.post(f"/v2/{OTHER}/blobs/uploads/").status_code == 403
        assert client.post(f"/v2/{MISSING}/blobs/uploads/").status_code == 403
    with cast.client("ned") as client:
        assert client.delete(f"/v2/{OTHER}/manifests/latest").status_code == 403


@pytest.mark.parametrize("who", ["max", "will", "ned", "ivan", "stan"])
def test_nobody_makes_himself_owner(cast: Cast, who: str) -> None:
    with cast.browser(who) as browser:
        for path, fields in (
            (MEMBERS, {"action": "owner", "name": who}),
            (MEMBERS, {"action": "invite", "name": who, "as": "owner"}),
            (MEMBERS, {"action": "remove", "name": "olive"}),
            (TEAMS, {"action": "add", "team": "managers", "member": who}),
            (TEAMS, {"action": "give", "who": who, "level": "admin", "pattern": f"{ORGANISATION}/*"}),
            (ROBOTS, {"action": "create", "name": "mine", "actions": "push"}),
            (f"/o/{ORGANISATION}/delete", {"confirm": ORGANISATION}),
            ("/settings/organisations", {"action": "accept", "name": HIDDEN}),
            ("/settings/organisations", {"action": "leave", "name": HIDDEN}),
            ("/admin/accounts", {"action": "disable", "name": "boss"}),
        ):
            assert send(browser, path, **fields).status_code == 404, (path, fields)
        taken = send(browser, "/settings/organisations", action="create", name=ORGANISATION)
        assert taken.status_code == 400
    with cast.browser("olive") as olive:
        text = olive.get(MEMBERS).text
        assert text.count('class="badge calm">owner') == 4  # olive, oscar, dora, and ivan who is invited


def test_a_member_cannot_accept_for_himself_what_was_not_offered(cast: Cast) -> None:
    with cast.browser("rita") as browser:
        assert send(browser, "/settings/organisations", action="accept", name=ORGANISATION).status_code == 404


def test_robots_and_tokens_make_no_tokens(cast: Cast) -> None:
    for who in ("robot", "token elsewhere"):
        name, secret = cast.credentials[who]
        with httpx.Client(base_url=cast.running.url, auth=(name, secret)) as client:
            assert client.get("/settings/tokens").status_code == 303
            fields = {"name": "more", "actions": "push", "form_token": form_token(client, "/sign-in")}
            assert client.post("/settings/tokens", data=fields).status_code == 303
            assert client.post(ROBOTS, data={**fields, "action": "create"}).status_code == 303
            fields |= {"name": name, "password": secret}
            assert client.post("/sign-in", data=fields).status_code == 400
    with cast.browser("olive") as olive:
        assert "more" not in re.findall(r"<strong>([^<]+)</strong>", olive.get("/settings/tokens").text)
        assert f"{ORGANISATION}+more" not in olive.get(ROBOTS).text


def test_a_robot_gets_no_tokens_beyond_its_own_limits(cast: Cast) -> None:
    with cast.client("robot") as robot:
        scopes = [f"repository:{name}:*" for name in (OPEN, OTHER, "olive/app", f"{HIDDEN}/app")]
        answer = robot.get("/auth/token", params={"scope": [*scopes, "registry:catalog:*"]}).json()
    assert answer["scope"] == f"repository:{OPEN}:pull,push"
    with Client(cast.running.url, token=answer["token"]) as client:
        assert client.post(f"/v2/{OPEN}/blobs/uploads/").status_code == 202
        assert client.post(f"/v2/{CLOSED}/blobs/uploads/").status_code == 401  # a bearer token's own limits
        assert client.get("/v2/_catalog").json()["repositories"] == [OPEN, POSTER]
        assert client.get("/settings/robots").status_code == 303


def test_a_robot_of_a_person_is_not_that_person(cast: Cast) -> None:
    with cast.client("olive") as olive, cast.client("robot of olive") as robot:
        olive.push_image("olive/private")
        assert robot.get("/v2/olive/private/tags/list").status_code == 200
        assert robot.get(f"/v2/{CLOSED}/tags/list").status_code == 404
        assert robot.post(f"/v2/{ORGANISATION}/new/blobs/uploads/").status_code == 403


def test_robots_stay_within_their_namespace(cast: Cast) -> None:
    with cast.browser("olive") as browser:
        for pattern in ("*", "stan/app", f"{ORGANISATION}2/*", ORGANISATION):
            made = send(browser, ROBOTS, action="create", name="wide", actions="pull", repositories=pattern)
            assert made.status_code == 400, pattern
        for name in ("a+b", "../x", HOSTILE):
            made = send(browser, ROBOTS, action="create", name=name, actions="pull")
            assert made.status_code == 400
            assert "<script>alert" not in made.text


def test_the_last_owner_cannot_leave(cast: Cast) -> None:
    with cast.browser("olive") as browser:
        for path, fields in (
            ("/settings/organisations", {"action": "leave", "name": HIDDEN}),
            (f"/o/{HIDDEN}/members", {"action": "member", "name": "olive"}),
            (f"/o/{HIDDEN}/members", {"action": "remove", "name": "olive"}),
        ):
            answer = send(browser, path, **fields)
            assert answer.status_code == 400
            assert "at least one owner" in answer.text
        assert browser.get(f"/o/{HIDDEN}/members").status_code == 200


def test_rights_end_at_once(cast: Cast) -> None:
    """With the membership, the team, the role: for passwords, sessions and bearer tokens that were there before."""
    for name in ("tess", "tom"):
        administration.add_user(cast.running.data, name, PASSWORD)
        cast.credentials[name] = (name, PASSWORD)
    with cast.browser("olive") as olive:
        for name in ("tess", "tom"):
            send(olive, MEMBERS, action="invite", name=name)
            with httpx.Client(base_url=cast.running.url) as browser:
                send(browser, "/sign-in", name=name, password=PASSWORD)
                assert send(browser, "/settings/organisations", action="accept", name=ORGANISATION).status_code == 303
        send(olive, TEAMS, action="add", team="writers", member="tess")
        send(olive, f"/settings/access/{CLOSED}", action="give", who="tom", level="write")
        for name, ending in (
            ("tess", (TEAMS, {"action": "take-out", "team": "writers", "member": "tess"})),
            ("tom", (MEMBERS, {"action": "remove", "name": "tom"})),
        ):
            with cast.client(name) as client:
                bearer = client.get("/auth/token", params={"scope": f"repository:{CLOSED}:pull,push"}).json()["token"]
                with Client(cast.running.url, token=bearer) as before:
                    assert before.post(f"/v2/{CLOSED}/blobs/uploads/").status_code == 202
                    assert send(olive, ending[0], **ending[1]).status_code == 303
                    assert before.post(f"/v2/{CLOSED}/blobs/uploads/").status_code == 403
                    assert before.get(f"/v2/{CLOSED}/manifests/latest").status_code == 404
                assert client.get(f"/v2/{CLOSED}/manifests/latest").status_code == 404


def test_an_organisation_without_anything_public_is_like_none(cast: Cast) -> None:
    absent = "mabs"
    for who in ("", "stan", "rita", "robot"):
        with cast.browser(who) as browser, cast.client(who) as client:
            for there, missing in (
                (f"/u/{HIDDEN}", f"/u/{absent}"),
                (f"/o/{HIDDEN}/members", f"/o/{absent}/members"),
                (f"/settings/access/{HIDDEN}/app", f"/settings/access/{absent}/app"),
                (f"/r/{HIDDEN}/app", f"/r/{absent}/app"),
            ):
                first, second = browser.get(there), browser.get(missing)
                assert first.status_code == second.status_code in (303, 404)
                assert without_token(first.text) == without_token(second.text)
            first, second = (client.post(f"/v2/{name}/app/blobs/uploads/") for name in (HIDDEN, absent))
            assert (first.status_code, first.content) == (second.status_code, second.content)
            first, second = (
                client.get("/auth/token", params={"scope": f"repository:{name}/app:pull,push"})
                for name in (HIDDEN, absent)
            )
            assert first.json()["scope"] == second.json()["scope"] == ""


def without_token(text: str) -> str:
    return re.sub(r'name="form_token" value="[0-9a-f]{64}"', "", text)


def test_members_are_shown_to_members_only(cast: Cast) -> None:
    for who, sees in (("", False), ("stan", False), ("ivan", False), ("rita", True), ("boss", True)):
        with cast.browser(who) as browser:
            assert ("/u/oscar" in browser.get(f"/u/{ORGANISATION}").text) is sees, who


def test_lists_follow_roles(cast: Cast) -> None:
    for who, sees in (("stan", set()), ("ned", {OTHER}), ("rita", {CLOSED, OTHER}), ("ivan", set())):
        with cast.client(who) as client, cast.browser(who) as browser:
            listed = set(client.get("/v2/_catalog").json()["repositories"])
            assert {name for name in listed if name.startswith(ORGANISATION)} == {OPEN, POSTER} | sees
            text = browser.get("/", params={"q": ORGANISATION}).text
            assert set(re.findall(rf'<h3><a href="/r/({ORGANISATION}/\w+)"', text)) == {OPEN, POSTER} | sees


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/settings/organisations", {"action": "create", "name": "forged"}),
        ("/settings/robots", {"action": "create", "name": "forged", "actions": "pull"}),
        (MEMBERS, {"action": "invite", "name": "stan"}),
        (TEAMS, {"action": "create", "team": "forged"}),
        (ROBOTS, {"action": "create", "name": "forged", "actions": "pull"}),
        (f"/o/{HIDDEN}/delete", {"confirm": HIDDEN}),
        (f"/settings/repository/{OPEN}", {"action": "private"}),
        (f"/settings/repository/{OPEN}", {"action": "delete", "confirm": OPEN}),
        (f"/settings/access/{OPEN}", {"action": "give", "who": "ned", "level": "admin"}),
    ],
)
def test_forms_from_elsewhere_change_nothing(cast: Cast, path: str, fields: dict[str, str]) -> None:
    with cast.browser("olive") as browser, cast.browser("stan") as other:
        good, foreign = form_token(browser, "/settings/tokens"), form_token(other, "/settings/tokens")
        for token, headers in (
            ("", {}),
            (foreign, {}),
            (good, {"Origin": "https://evil.example"}),
            (good, {"Sec-Fetch-Site": "cross-site"}),
        ):
            answer = browser.post(path, data={**fields, "form_token": token}, headers=headers)
            assert answer.status_code == 403
        listed = browser.get("/settings/audit").text + browser.get(f"/o/{ORGANISATION}/audit").text
        assert "forged" not in listed
        assert browser.get(f"/u/{HIDDEN}").status_code == 200
        assert ">Public<" in browser.get(f"/r/{OPEN}").text


def test_administration_from_elsewhere(cast: Cast) -> None:
    with cast.browser("boss") as browser:
        for path, fields in (("/admin", {"action": "collect"}), ("/admin/accounts", {"action": "disable"})):
            assert browser.post(path, data={**fields, "name": "stan", "form_token": "0" * 64}).status_code == 403
        assert (
            browser.get("/admin/audit", params={"action": "account-disabled", "text": "stan"}).text.count(
                "disabled the account</span>"
            )
            == 0
        )


def test_what_people_type_is_only_text(cast: Cast) -> None:
    with cast.browser("olive") as browser:
        made = send(
            browser, ROBOTS, action="create", name="text", actions="pull", description=HOSTILE + "\u202e", days="7"
        )
        assert made.status_code == 200
        assert re.search(r"mdl_\w{32}", made.text)
        send(browser, "/settings/tokens", name=HOSTILE + "\u202e", actions="pull")
        pages = [
            browser.get(path, params=query)
            for path, query in (
                (ROBOTS, {}),
                ("/settings/tokens", {}),
                ("/settings/audit", {"text": HOSTILE}),
                ("/settings/audit", {"action": HOSTILE, "before": HOSTILE}),
                ("/settings/audit", {}),
                (f"/o/{ORGANISATION}/audit", {}),
            )
        ]
        pages += [send(browser, "/settings/organisations", action="create", name=HOSTILE)]
        pages += [send(browser, MEMBERS, action="invite", name=HOSTILE)]
        pages += [send(browser, TEAMS, action="create", team=HOSTILE)]
        pages += [send(browser, TEAMS, action="give", who=HOSTILE, pattern=HOSTILE, level=HOSTILE)]
    for answer in pages:
        assert answer.status_code in (200, 400)
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert "&lt;script&gt;" in pages[4].text
    assert "\u202e" not in pages[4].text


def test_the_audit_log_is_its_owners(cast: Cast) -> None:
    with cast.client("will") as will:
        will.push_image(CLOSED, "audited")
    with cast.client("stan") as stan:
        stan.push_image("stan/secret-name")
    with httpx.Client(base_url=cast.running.url) as browser:
        send(browser, "/sign-in", name="stan", password="a wrong password")
        send(browser, "/sign-in", name="my own password", password="x" * 20)
    with cast.browser("oscar") as browser:
        text = browser.get(f"/o/{ORGANISATION}/audit").text
        assert re.search(
            r"<strong>will</strong>.{0,40}pushed</span> <code>morg/closed</code>.{0,200}audited", text, re.S
        )
        assert "127.0.0.1" in text
        assert "stan/" not in text
        assert "audited" not in browser.get(f"/o/{ORGANISATION}/audit", params={"action": "member-joined"}).text
        assert "audited" in browser.get(f"/o/{ORGANISATION}/audit", params={"text": "will"}).text
    with cast.browser("stan") as browser:
        text = browser.get("/settings/audit").text
        assert "failed to sign in" in text
        assert "stan/secret-name" in text
        assert "closed" not in text
    with cast.browser("boss") as browser:
        text = browser.get("/admin/audit").text
        assert "stan/secret-name" in text
        assert "audited" in text
        assert "(unknown)" in text
        assert "my own password" not in text


def test_a_disabled_account_is_out_and_back(cast: Cast) -> None:
    with cast.browser("boss") as boss, cast.browser("stan") as stan:
        assert stan.get("/settings/tokens").status_code == 200
        assert send(boss, "/admin/accounts", action="disable", name="stan").status_code == 303
        assert stan.get("/settings/tokens").status_code == 303
        assert "disabled</span>" in boss.get("/admin/accounts", params={"name": "stan"}).text
        assert send(boss, "/admin/accounts", action="enable", name="stan").status_code == 303
        assert stan.get("/settings/tokens").status_code == 200
        refused = send(boss, "/admin/accounts", action="disable", name="boss")
        assert (refused.status_code, "cannot disable yourself" in refused.text) == (400, True)
        assert send(boss, "/admin/accounts", action="disable", name=ORGANISATION).status_code == 404


def test_the_administrators_overview(cast: Cast) -> None:
    with cast.browser("boss") as boss, cast.client("olive") as olive:
        olive.post(f"/v2/{OPEN}/blobs/uploads/")
        assert send(boss, "/admin", action="collect").status_code == 303
        text = boss.get("/admin").text
        for shown in (f'href="/u/{ORGANISATION}"', "Collect now", "Space freed", f"<code>{OPEN}</code>"):
            assert shown in text
        assert "ran a garbage collection" in boss.get("/admin/audit").text


def test_deleting_a_repository(cast: Cast) -> None:
    name = f"{ORGANISATION}/short-lived"
    with cast.client("olive") as olive, cast.browser("olive") as browser:
        digest = olive.push_image(name)
        path = f"/settings/repository/{name}"
        for typed in ("", "short-lived", OPEN):
            assert send(browser, path, action="delete", confirm=typed).status_code == 400
        assert olive.get(f"/v2/{name}/manifests/{digest}").status_code == 200
        gone = send(browser, path, action="delete", confirm=name)
        assert (gone.status_code, gone.headers["location"]) == (303, f"/u/{ORGANISATION}")
        assert olive.get(f"/v2/{name}/manifests/{digest}").status_code == 404
        assert browser.get(path).status_code == 404
        assert "deleted the repository" in browser.get(f"/o/{ORGANISATION}/audit").text


def test_an_expired_token_says_so(cast: Cast) -> None:
    with cast.browser("oscar") as browser:
        send(browser, "/settings/tokens", name="brief", actions="pull", repositories="oscar/*", days="7")
        text = browser.get("/settings/tokens").text
        assert "expired</span>" not in text
        assert "oscar/*" in text
        with sqlite3.connect(f"{cast.running.data}/hub.db", timeout=30) as database:
            database.execute("UPDATE access_tokens SET expires = 1 WHERE name = 'brief'")
        database.close()
        assert "expired</span>" in browser.get("/settings/tokens").text


def test_every_word_of_the_log_and_of_mistakes_has_its_portuguese() -> None:
    words = {*DEED_TEXTS.values()}
    for mistake in (MemberRefused, RobotRefused, RoleRefused):
        words |= set(mistake.MESSAGES.values())
    for name in ("ACCOUNT_TABS", "ORGANISATION_TABS", "REPOSITORY_TABS", "ADMIN_TABS"):
        words |= {tab.label for tab in getattr(navigation, name)}
    assert words <= set(PORTUGUESE), words - set(PORTUGUESE)

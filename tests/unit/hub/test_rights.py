"""Who may do what: the decision itself, and a matrix of every route for everyone over a real server."""

import sqlite3
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from moldar.hub.access.decisions import (
    ACTIONS,
    ANONYMOUS,
    Grant,
    Membership,
    Place,
    Policy,
    Principal,
    Role,
    Verdict,
    account_name_problem,
    decide,
    may_administer,
    may_govern,
    may_have_tokens,
    may_manage,
    may_see_members,
    narrowed,
    readable,
    valid_pattern,
)
from moldar.hub.administration import create_token

from .hubs import Client, Running, image_manifest, sha256

ALICE = Principal("alice", 1, scheme="password")
BOSS = Principal("boss", 2, is_admin=True, scheme="password")
OPEN = Policy(allow_anonymous_push=True)


def place(name: str, *, exists: bool = True, is_public: bool = True, owned: bool = True) -> Place:
    return Place(name, exists, is_public and exists, owned)


def verdicts(principal: Principal, where: Place, policy: Policy = Policy()) -> str:  # noqa: B008
    letters = {
        Verdict.ALLOWED: "+",
        Verdict.SIGN_IN: "s",
        Verdict.ANOTHER_TOKEN: "t",
        Verdict.HIDDEN: "h",
        Verdict.DENIED: "-",
        Verdict.COPY: "c",
    }
    return "".join(letters[decide(principal, action, where, policy)] for action in ACTIONS)


@pytest.mark.parametrize(
    ("principal", "where", "expected"),
    [
        (ANONYMOUS, place("bob/app"), "+ss"),
        (ANONYMOUS, place("bob/app", is_public=False), "sss"),
        (ANONYMOUS, place("bob/app", exists=False), "sss"),
        (ALICE, place("bob/app"), "+--"),
        (ALICE, place("bob/app", is_public=False), "h--"),
        (ALICE, place("bob/app", exists=False), "h--"),
        (ALICE, place("alice/app", is_public=False), "+++"),
        (ALICE, place("alice/app", exists=False), "+++"),
        (ALICE, place("alice/deep/er", exists=False), "+++"),
        (ALICE, place("alice", exists=False), "h--"),
        (ALICE, place("alice2/app", exists=False, owned=False), "h--"),
        (ALICE, place("library/python", owned=False), "+--"),
        (ALICE, place("single", exists=False, owned=False), "h--"),
        (BOSS, place("library/python", owned=False, exists=False), "+++"),
        (BOSS, place("bob/app", is_public=False), "+++"),
    ],
)
def test_accounts(principal: Principal, where: Place, expected: str) -> None:
    assert verdicts(principal, where) == expected


@pytest.mark.parametrize(
    ("principal", "is_open", "expected"),
    [
        (ANONYMOUS, True, "+cs"),
        (ANONYMOUS, False, "scs"),
        (ALICE, False, "+c-"),
        (BOSS, False, "+c+"),
        (Principal("up.test", 3), False, "+c-"),
        (ALICE._replace(grants=(Grant("alice/*", ACTIONS),)), False, "tc-"),
        (ALICE._replace(grants=(Grant("up.test/*", ACTIONS),)), False, "+c-"),
    ],
)
def test_copies_of_another_registry(principal: Principal, is_open: bool, expected: str) -> None:
    for where in (place("up.test/app", owned=False), place("up.test/app", exists=False)):
        assert verdicts(principal, where, Policy(upstreams={"up.test": is_open})) == expected
        assert verdicts(principal, where, Policy(True, {"up.test": is_open})) == expected
    assert verdicts(ALICE, place("alice/app"), Policy(upstreams={"up.test": is_open})) == "+++"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (place("team/app", owned=False, exists=False), "+++"),
        (place("team/app", owned=False), "+++"),
        (place("team/app", owned=False, is_public=False), "sss"),
        (place("library/python", owned=False, exists=False), "+++"),
        (place("alice/app"), "+ss"),
        (place("alice/app", exists=False), "sss"),
    ],
)
def test_anonymous_push_spares_what_belongs_to_accounts(where: Place, expected: str) -> None:
    assert verdicts(ANONYMOUS, where, OPEN) == expected


def test_credentials_limit_what_the_account_may() -> None:
    limited = ALICE._replace(grants=(Grant("alice/app", ("pull",)), Grant("alice/ci/*", ("pull", "push"))))
    assert verdicts(limited, place("alice/app", is_public=False)) == "+tt"
    assert verdicts(limited, place("alice/ci/one", is_public=False)) == "++t"
    assert verdicts(limited, place("alice/ci", is_public=False)) == "ttt"
    assert verdicts(limited, place("alice/other", is_public=False)) == "ttt"
    assert verdicts(limited, place("alice/other")) == "+tt"  # as anyone may
    greedy = ALICE._replace(grants=(Grant("*", ACTIONS),))
    assert verdicts(greedy, place("bob/app", is_public=False)) == "h--"
    assert not may_manage(greedy, "alice/app")
    assert may_manage(ALICE, "alice/app")
    assert not may_manage(ALICE, "bob/app")
    assert not may_manage(ANONYMOUS, "/app")


MEMBER = ALICE._replace(
    memberships=(Membership("acme", False), Membership("own", True)),
    roles=(
        Role("acme/*", "read"),
        Role("acme/app", "write"),
        Role("acme/site", "admin"),
        Role("bob/shared", "write"),
    ),
)
ROBOT = Principal("acme+ci", 5, grants=(Grant("acme/*", ("pull", "push")),), scheme="basic", robot_of="acme")


@pytest.mark.parametrize(
    ("principal", "where", "expected"),
    [
        (MEMBER, place("acme/other", is_public=False), "+--"),
        (MEMBER, place("acme/app", is_public=False), "++-"),
        (MEMBER, place("acme/app", exists=False), "++-"),
        (MEMBER, place("acme/site", is_public=False), "+++"),
        (MEMBER, place("acme/site/below", is_public=False), "+--"),
        (MEMBER, place("acme", is_public=False), "h--"),
        (MEMBER, place("acme2/app", is_public=False), "h--"),
        (MEMBER, place("own/app", is_public=False), "+++"),
        (MEMBER, place("bob/shared", is_public=False), "++-"),
        (MEMBER, place("bob/other", is_public=False), "h--"),
        (ROBOT, place("acme/app", is_public=False), "++t"),
        (ROBOT, place("acme/new", exists=False), "++t"),
        (ROBOT, place("alice/app", is_public=False), "h--"),
        (ROBOT, place("alice/app"), "+--"),
        (ROBOT._replace(grants=(Grant("*", ACTIONS),)), place("alice/app", is_public=False), "h--"),
        (MEMBER._replace(grants=(Grant("acme/app", ACTIONS),)), place("acme/app", is_public=False), "++-"),
        (MEMBER._replace(grants=(Grant("acme/app", ACTIONS),)), place("acme/site", is_public=False), "ttt"),
    ],
)
def test_members_and_robots(principal: Principal, where: Place, expected: str) -> None:
    assert verdicts(principal, where) == expected


@pytest.mark.parametrize(
    ("principal", "manages", "governs", "sees"),
    [
        (ANONYMOUS, "", "", ""),
        (ALICE, "alice/app", "alice", "alice"),
        (MEMBER, "acme/site alice/app own/app", "alice own", "acme alice own"),
        (BOSS, "acme/app acme/site alice/app own/app", "acme alice own", "acme alice own"),
        (ROBOT, "", "", ""),
        (MEMBER._replace(grants=(Grant("*", ACTIONS),)), "", "", ""),
        (BOSS._replace(grants=(Grant("*", ACTIONS),)), "", "", ""),
    ],
)
def test_what_is_only_for_people_at_the_pages(principal: Principal, manages: str, governs: str, sees: str) -> None:
    repositories, namespaces = ("acme/app", "acme/site", "alice/app", "own/app"), ("acme", "alice", "own", "")
    assert " ".join(name for name in repositories if may_manage(principal, name)) == manages
    assert " ".join(name for name in namespaces[:3] if may_govern(principal, name)) == governs
    assert " ".join(name for name in namespaces[:3] if may_see_members(principal, name)) == sees
    assert may_have_tokens(principal) is principal.is_person
    assert may_administer(principal) is (principal == BOSS)


def test_what_lists_show() -> None:
    assert readable(ANONYMOUS) == ()
    assert readable(MEMBER) == ("alice/*", "own/*", "acme/*", "acme/app", "acme/site", "bob/shared")
    assert readable(ROBOT) == ("acme/*",)


def test_narrowing() -> None:
    asked = (Grant("alice/app", ("pull", "push")), Grant("alice/other", ("pull",)))
    assert narrowed(None, asked) == asked
    assert narrowed((Grant("alice/app", ("pull",)),), asked) == (
        Grant("alice/app", ("pull",)),
        Grant("alice/other", ()),
    )


def test_names_and_patterns() -> None:
    for good in ("al", "alice", "a-b", "a.b_c", "9to5"):
        assert account_name_problem(good) == ""
    for bad in ("a", "", "a" * 40, "Alice", "a b", "../x", "a/b", "-a", "a--b", "library", "é" * 3, "a\n"):
        assert account_name_problem(bad)
    assert all(valid_pattern(text) for text in ("*", "alice/app", "alice/*", "library/python"))
    assert not any(valid_pattern(text) for text in ("", "a*", "*/x", "Alice/*", "alice/**", "a b"))


# --- Over every route -----------------------------------------------------------------------------------------

PUBLIC, PRIVATE, MISSING, NEW = (
    "alice/matrix-public",
    "alice/matrix-private",
    "alice/matrix-missing",
    "alice/matrix-new",
)
ZERO = "sha256:" + "0" * 64
Visitor = Callable[[str, str], Client]


@pytest.fixture(scope="module")
def content(server: Running) -> Iterator[dict[str, str]]:
    with server.client("alice") as alice:
        digests = {name: alice.push_image(name) for name in (PUBLIC, PRIVATE)}
        digests |= {f"{name} blob": alice.push_blob(name, b"shared") for name in (PUBLIC, PRIVATE)}
    with server.client() as browser:
        sign_in(browser, "alice")
        answer = browser.post(
            f"/r/{PRIVATE}", data={"form_token": form_token(browser, f"/r/{PRIVATE}"), "action": "private"}
        )
        assert answer.status_code == 303
    yield digests


def form_token(browser: httpx.Client, path: str) -> str:
    page = browser.get(path)
    assert page.status_code == 200, page.text
    return page.text.partition('name="form_token" value="')[2].partition('"')[0]


def sign_in(browser: httpx.Client, name: str) -> None:
    data = {"form_token": form_token(browser, "/sign-in"), "name": name, "password": "a long password"}
    assert browser.post("/sign-in", data=data).status_code == 303


def routes(repository: str, digests: dict[str, str]) -> list[tuple[str, str, str]]:
    """Action, method and path of every route, with names that exist in the repositories that exist."""
    blob = digests.get(f"{repository} blob", ZERO)
    manifest = digests.get(repository, ZERO)
    base = f"/v2/{repository}"
    return [
        ("pull", "GET", f"{base}/tags/list"),
        ("pull", "GET", f"{base}/manifests/latest"),
        ("pull", "HEAD", f"{base}/manifests/latest"),
        ("pull", "GET", f"{base}/manifests/{manifest}"),
        ("pull", "GET", f"{base}/blobs/{blob}"),
        ("pull", "HEAD", f"{base}/blobs/{blob}"),
        ("pull", "GET", f"{base}/referrers/{manifest}"),
        ("push", "POST", f"{base}/blobs/uploads/"),
        ("push", "GET", f"{base}/blobs/uploads/00000000-0000-0000-0000-000000000000"),
        ("push", "PATCH", f"{base}/blobs/uploads/00000000-0000-0000-0000-000000000000"),
        ("push", "PUT", f"{base}/blobs/uploads/00000000-0000-0000-0000-000000000000?digest={ZERO}"),
        ("push", "DELETE", f"{base}/blobs/uploads/00000000-0000-0000-0000-000000000000"),
        ("push", "PUT", f"{base}/manifests/other"),
        ("pull", "GET", f"/api/v1/repositories/{repository}"),
        ("pull", "GET", f"/api/v1/repositories/{repository}/tags"),
        ("pull", "GET", f"/api/v1/repositories/{repository}/tags/none"),
        ("delete", "DELETE", f"/api/v1/repositories/{repository}/tags/none"),
        ("pull", "GET", f"/api/v1/repositories/{repository}/readme"),
        ("push", "PUT", f"/api/v1/repositories/{repository}/readme"),
        ("delete", "DELETE", f"{base}/manifests/none"),
        ("delete", "DELETE", f"{base}/blobs/{ZERO}"),
    ]


def token_for(server: Running, user: str, *scopes: str) -> str:
    with server.client(user) as client:
        answer = client.get("/auth/token", params={"service": "moldar-hub", "scope": list(scopes)})
    assert answer.status_code == 200
    return str(answer.json()["token"])


@pytest.fixture(params=["basic", "bearer", "access token"])
def visitor(request: pytest.FixtureRequest, server: Running, access_tokens: dict[str, str]) -> Visitor:
    """A client for a user and a repository, by each kind of credential."""

    def make(user: str, repository: str) -> Client:
        if request.param == "bearer":
            return Client(server.url, token=token_for(server, user, f"repository:{repository}:pull,push,delete"))
        if request.param == "access token" and user:
            return Client(server.url, (user, access_tokens[user]))
        return server.client(user)

    return make


@pytest.mark.parametrize("user", ["", "bob", "alice", "boss"])
@pytest.mark.parametrize("repository", [PUBLIC, PRIVATE, MISSING])
def test_the_matrix(visitor: Visitor, content: dict[str, str], user: str, repository: str) -> None:
    with visitor(user, repository) as client:
        for action, method, path in routes(repository, content):
            answer = client.request(method, path)
            refused = answer.status_code in (401, 403) or (
                answer.status_code == 404 and b"NAME_UNKNOWN" in answer.content
            )
            mine = user in ("alice", "boss")
            if mine or (action == "pull" and repository == PUBLIC):
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            elif user == "":
                assert answer.status_code == 401, (method, path, answer.text)
            elif action == "pull":
                assert answer.status_code == 404, (method, path, answer.text)
                assert refused or method == "HEAD"
            else:
                assert answer.status_code == 403, (method, path, answer.text)


@pytest.fixture(scope="module")
def access_tokens(server: Running) -> dict[str, str]:

    return {name: create_token(server.where, name, "all", actions=ACTIONS)[1] for name in ("alice", "bob", "boss")}


@pytest.mark.parametrize("scheme", ["access token", "bearer"])
@pytest.mark.parametrize("actions", [("pull",), ("pull", "push"), ("delete",)])
@pytest.mark.parametrize("pattern", [PRIVATE, "alice/matrix-priv", "alice/*"])
def test_a_limited_token_over_every_route(
    server: Running, content: dict[str, str], scheme: str, actions: tuple[str, ...], pattern: str
) -> None:
    """Its own actions in its own repositories and nothing else, whatever the account may do."""
    secret = create_token(server.where, "alice", "limited", actions=actions, repositories=(pattern,))[1]
    for repository in (PRIVATE, MISSING):
        covered = pattern in (repository, "alice/*", "*")
        bearer = ""
        if scheme == "bearer":
            with Client(server.url, ("alice", secret)) as client:
                parameters = {"scope": f"repository:{repository}:pull,push,delete"}
                bearer = client.get("/auth/token", params=parameters).json()["token"]
        with Client(server.url, None if bearer else ("alice", secret), bearer) as client:
            for action, method, path in routes(repository, content):
                status = client.request(method, path).status_code
                if covered and action in actions:
                    assert status not in (401, 403), (method, path)
                else:
                    assert status == (403 if scheme == "access token" else 401), (method, path)


def test_an_expired_token_is_none(server: Running, content: dict[str, str]) -> None:
    secret = create_token(server.where, "alice", "short", actions=ACTIONS, days=1)[1]
    with Client(server.url, ("alice", secret)) as client:
        assert client.get(f"/v2/{PRIVATE}/tags/list").status_code == 200
        bearer = client.get("/auth/token", params={"scope": f"repository:{PRIVATE}:pull"}).json()["token"]
        with sqlite3.connect(f"{server.data}/hub.db", timeout=30) as database:
            database.execute("UPDATE access_tokens SET expires = ? WHERE name = 'short'", (int(time.time()),))
        database.close()
        assert client.get(f"/v2/{PRIVATE}/tags/list").status_code == 401
        assert client.get("/auth/token").status_code == 401
    with Client(server.url, token=bearer) as client:
        assert client.get(f"/v2/{PRIVATE}/tags/list").status_code == 401


@pytest.mark.parametrize("user", ["", "bob"])
@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_private_and_missing_cannot_be_told_apart(
    server: Running, content: dict[str, str], user: str, scheme: str
) -> None:
    def answers(repository: str) -> list[tuple[int, bytes, dict[str, str]]]:
        if scheme == "bearer":
            token = token_for(server, user, f"repository:{repository}:pull,push,delete")
            client = Client(server.url, token=token)
        else:
            client = server.client(user)
        found = []
        with client:
            paths = [(method, path) for _, method, path in routes(repository, content)]
            paths += [
                ("GET", f"/r/{repository}"),
                ("GET", f"/r/{repository}:latest"),
                ("GET", f"/r/{repository}:latest?layer=1&path=etc"),
                ("GET", f"/r/{repository}@{ZERO}"),
                ("POST", f"/r/{repository}"),
            ]
            for method, path in paths:
                answer = client.request(method, path)
                headers = {k: v.replace(repository, "NAME") for k, v in answer.headers.items()}
                for varying in ("date", "set-cookie", "x-request-id"):
                    headers.pop(varying, None)
                body = answer.content.replace(repository.encode(), b"NAME")
                found.append((answer.status_code, _without_form_token(body), headers))
        return found

    assert answers(PRIVATE) == answers("alice/matrix-absentt")  # names of one length: Content-Length tells nothing


def _without_form_token(body: bytes) -> bytes:
    before, marker, after = body.partition(b'name="form_token" value="')
    return before + marker + after[64:] if marker else body


def test_lists_show_only_what_one_may_see(server: Running, content: dict[str, str]) -> None:
    for user, sees in (("", False), ("bob", False), ("alice", True), ("boss", True)):
        with server.client(user) as client:
            names = client.get("/v2/_catalog").json()["repositories"]
            assert PUBLIC in names
            assert (PRIVATE in names) is sees
        with server.client() as browser:
            if user:
                sign_in(browser, user)
            for path in ("/?q=matrix", "/u/alice"):
                page = browser.get(path).text
                assert PUBLIC in page
                assert (PRIVATE in page) is sees


def test_a_blob_of_a_private_repository_cannot_be_mounted_or_claimed(
    server: Running, content: dict[str, str]
) -> None:
    with server.client("alice") as alice:
        secret = alice.push_blob(PRIVATE, b"a private layer")
    with server.client("bob") as bob:
        for parameters in ({"mount": secret, "from": PRIVATE}, {"mount": secret}):
            assert bob.post("/v2/bob/thief/blobs/uploads/", params=parameters).status_code == 202
        config = bob.push_blob("bob/thief", b"{}")
        answer = bob.push_manifest("bob/thief", "latest", image_manifest(config, 2, [(secret, 15)]))
        assert answer.status_code == 400
        assert bob.get(f"/v2/bob/thief/blobs/{secret}").status_code == 404


def test_what_a_push_makes_belongs_to_the_namespace_only(server: Running) -> None:
    with server.client("bob") as bob:
        assert bob.push_blob("bob/new", b"x") == sha256(b"x")
        for name in ("alice/new", "bobby/new", "bob", "library/new", "new"):
            assert bob.post(f"/v2/{name}/blobs/uploads/").status_code == 403
    with server.client("boss") as boss:
        assert boss.post("/v2/library/new/blobs/uploads/").status_code == 202

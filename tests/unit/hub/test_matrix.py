"""The matrix: everyone over every route of the registry and of the pages. A route that is not here fails a test."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.routing import Route

from moldar.hub.access.decisions import DELETE, PULL, PUSH
from moldar.hub.api.routes import RegistryApi
from moldar.hub.authentication import Authenticator
from moldar.hub.rest.routes import RestApi
from moldar.hub.services import Hub
from moldar.hub.web.pages import Pages
from moldar.hub.web.routes import web_routes
from moldar.remote.wire import RouteKind

from .cast import BY_TOKEN, CLOSED, HIDDEN, MISSING, OPEN, ORGANISATION, PEOPLE, POSTER, RIGHTS, Cast, make_cast, send

ACTIONS_OF_MANAGERS = frozenset({PULL, PUSH, DELETE})
ZERO = "sha256:" + "0" * 64
UPLOAD = "blobs/uploads/00000000-0000-0000-0000-000000000000"
REGISTRY = {
    (RouteKind.BLOB, "GET"): (PULL, f"blobs/{ZERO}"),
    (RouteKind.BLOB, "HEAD"): (PULL, f"blobs/{ZERO}"),
    (RouteKind.BLOB, "DELETE"): (DELETE, f"blobs/{ZERO}"),
    (RouteKind.UPLOADS, "POST"): (PUSH, "blobs/uploads/"),
    (RouteKind.UPLOAD, "GET"): (PUSH, UPLOAD),
    (RouteKind.UPLOAD, "PATCH"): (PUSH, UPLOAD),
    (RouteKind.UPLOAD, "PUT"): (PUSH, f"{UPLOAD}?digest={ZERO}"),
    (RouteKind.UPLOAD, "DELETE"): (PUSH, UPLOAD),
    (RouteKind.MANIFEST, "GET"): (PULL, "manifests/latest"),
    (RouteKind.MANIFEST, "HEAD"): (PULL, "manifests/latest"),
    (RouteKind.MANIFEST, "PUT"): (PUSH, "manifests/other"),
    (RouteKind.MANIFEST, "DELETE"): (DELETE, "manifests/none"),
    (RouteKind.TAGS, "GET"): (PULL, "tags/list"),
    (RouteKind.REFERRERS, "GET"): (PULL, f"referrers/{ZERO}"),
}
ONE = "/api/v1/repositories/{name}"
CONFIGURE = "configure"
API = {
    ("GET", ONE): PULL,
    ("GET", f"{ONE}/tags"): PULL,
    ("GET", f"{ONE}/tags/{{tag}}"): PULL,
    ("DELETE", f"{ONE}/tags/{{tag}}"): DELETE,
    ("GET", f"{ONE}/readme"): PULL,
    ("PUT", f"{ONE}/readme"): PUSH,
    ("PATCH", ONE): CONFIGURE,
    ("DELETE", ONE): CONFIGURE,
    ("GET", f"{ONE}/star"): PULL,
    ("PUT", f"{ONE}/star"): PULL,
    ("DELETE", f"{ONE}/star"): PULL,
}
"""What the REST interface does with one repository, and the right that it takes."""
API_ELSEWHERE = {
    *(("GET", f"/api/v1/{path}") for path in ("repositories", "me", "tokens", "webhooks", "webhooks/{id}")),
    *(("POST", f"/api/v1/{path}") for path in ("tokens", "administration/collect-garbage", "webhooks")),
    *(("DELETE", f"/api/v1/{path}") for path in ("tokens/{id}", "webhooks/{id}")),
    *(("PATCH", "/api/v1/webhooks/{id}"), ("GET", "/api/v1/webhooks/{id}/deliveries")),
    *(("POST", f"/api/v1/webhooks/{{id}}/{path}") for path in ("deliveries/{delivery}/redeliver", "ping")),
}
"""Its other operations: `test_rest` has who may do them."""
SIGNED_IN = frozenset({*PEOPLE} - {"dora"})
MEMBERS = frozenset({"olive", "oscar", "rita", "will", "max", "ned", "boss"})
OWNERS = frozenset({"olive", "oscar", "boss"})
EVERYONE = frozenset({*PEOPLE, "", *BY_TOKEN})


class Page(NamedTuple):
    """A route of the pages: who gets which status, everyone else being sent away.

    `refused`: what those are told who have signed in; the others are sent to the sign-in, or told the same when
    `tells_nobody`.
    """

    method: str
    route: str
    path: str
    allowed: frozenset[str]
    status: int = 200
    fields: tuple[tuple[str, str], ...] = ()
    tells_nobody: bool = False


def page(route: str, path: str, allowed: frozenset[str], **more: Any) -> Page:
    return Page("GET", route, path, allowed, **more)


def form(route: str, path: str, allowed: frozenset[str], status: int, **fields: str) -> Page:
    return Page("POST", route, path, allowed, status, tuple(fields.items()), route.startswith("/r/"))


def who_may(action: str, repository: str) -> frozenset[str]:
    column = (OPEN, CLOSED).index(repository)
    people = {who for who, rights in RIGHTS.items() if action in rights[column] and who in SIGNED_IN} | {"oscar"}
    return EVERYONE if action == PULL and repository == OPEN else frozenset(people)


MANAGERS = frozenset({*OWNERS, "max"})
R, S, A = "/r/{name:path}", "/settings/repository/{name:path}", "/settings/access/{name:path}"
K, IM = "/settings/retention/{name:path}", "/settings/immutable/{name:path}"
T = "/settings/tokens/{number:int}/revoke"
PAGES = (
    page("/", "/", EVERYONE),
    page("/sign-up", "/sign-up", EVERYONE),
    form("/sign-up", "/sign-up", EVERYONE, 400, name=""),
    page("/sign-in", "/sign-in", EVERYONE),
    form("/sign-in", "/sign-in", EVERYONE, 400, name="nobody-{who}"),
    page("/settings/tokens", "/settings/tokens", SIGNED_IN),
    form("/settings/tokens", "/settings/tokens", SIGNED_IN, 400, name=""),
    form(T, "/settings/tokens/999999/revoke", SIGNED_IN, 404),
    page("/settings/organisations", "/settings/organisations", SIGNED_IN),
    form("/settings/organisations", "/settings/organisations", SIGNED_IN, 400, action="create"),
    page("/settings/robots", "/settings/robots", SIGNED_IN),
    form("/settings/robots", "/settings/robots", SIGNED_IN, 400, action="create"),
    page("/settings/audit", "/settings/audit", SIGNED_IN),
    page("/settings/webhooks", "/settings/webhooks", SIGNED_IN),
    form("/settings/webhooks", "/settings/webhooks", SIGNED_IN, 400, place="*"),
    page("/settings/webhooks/{number:int}", "/settings/webhooks/999999", SIGNED_IN, status=404),
    form("/settings/webhooks/{number:int}", "/settings/webhooks/999999", SIGNED_IN, 404, action="ping"),
    page("/settings/retention", "/settings/retention", SIGNED_IN),
    form("/settings/retention", "/settings/retention", SIGNED_IN, 400, action="save", keep_last="x"),
    page(K, f"/settings/retention/{CLOSED}", MANAGERS),
    page(K, f"/settings/retention/{MISSING}", frozenset()),
    form(K, f"/settings/retention/{OPEN}", MANAGERS, 400, action="save", keep_last="x"),
    page(IM, f"/settings/immutable/{CLOSED}", MANAGERS),
    page(IM, f"/settings/immutable/{MISSING}", frozenset()),
    form(IM, f"/settings/immutable/{OPEN}", MANAGERS, 400, patterns="v?"),
    page("/o/{name}/retention", f"/o/{ORGANISATION}/retention", OWNERS),
    form("/o/{name}/retention", f"/o/{ORGANISATION}/retention", OWNERS, 400, action="save", keep_last="x"),
    page(S, f"/settings/repository/{OPEN}", MANAGERS),
    page(S, f"/settings/repository/{CLOSED}", MANAGERS),
    page(S, f"/settings/repository/{POSTER}", OWNERS),
    form(S, f"/settings/repository/{POSTER}", OWNERS, 400, action="delete"),
    page(S, f"/settings/repository/{MISSING}", frozenset()),
    form(S, f"/settings/repository/{CLOSED}", MANAGERS, 303, action="describe", description="x"),
    form(S, f"/settings/repository/{OPEN}", MANAGERS, 303, action="public"),
    form(S, f"/settings/repository/{OPEN}", MANAGERS, 400, action="delete"),
    page(A, f"/settings/access/{OPEN}", MANAGERS),
    page(A, f"/settings/access/{POSTER}", OWNERS),
    page(A, f"/settings/access/{MISSING}", frozenset()),
    form(A, f"/settings/access/{OPEN}", MANAGERS, 400, action="give", level="read", who="nobody"),
    page("/o/{name}/members", f"/o/{ORGANISATION}/members", OWNERS),
    form("/o/{name}/members", f"/o/{ORGANISATION}/members", OWNERS, 400, action="invite", name="nobody"),
    page("/o/{name}/teams", f"/o/{ORGANISATION}/teams", OWNERS),
    form("/o/{name}/teams", f"/o/{ORGANISATION}/teams", OWNERS, 400, action="create"),
    page("/o/{name}/robots", f"/o/{ORGANISATION}/robots", OWNERS),
    form("/o/{name}/robots", f"/o/{ORGANISATION}/robots", OWNERS, 400, action="create"),
    page("/o/{name}/audit", f"/o/{ORGANISATION}/audit", OWNERS),
    page("/o/{name}/delete", f"/o/{ORGANISATION}/delete", OWNERS),
    form("/o/{name}/delete", f"/o/{ORGANISATION}/delete", OWNERS, 400),
    page("/o/{name}/members", "/o/olive/members", frozenset()),  # a person is no organisation
    page("/o/{name}/members", "/o/none/members", frozenset()),
    page("/admin", "/admin", frozenset({"boss"})),
    form("/admin", "/admin", frozenset({"boss"}), 303, action="collect"),
    page("/admin/accounts", "/admin/accounts", frozenset({"boss"})),
    form("/admin/accounts", "/admin/accounts", frozenset({"boss"}), 400, action="disable", name="boss"),
    page("/admin/audit", "/admin/audit", frozenset({"boss"})),
    page("/u/{name}", "/u/olive", EVERYONE),
    page("/u/{name}", f"/u/{ORGANISATION}", EVERYONE),
    page("/u/{name}", f"/u/{HIDDEN}", frozenset({"olive", "boss"}), tells_nobody=True),
    page("/u/{name}", f"/u/{ORGANISATION}+ci", frozenset(), tells_nobody=True),
    page(R, f"/r/{OPEN}", EVERYONE),
    page(R, f"/r/{OPEN}:latest", EVERYONE),
    page(R, f"/r/{CLOSED}", who_may(PULL, CLOSED), tells_nobody=True),
    page(R, f"/r/{CLOSED}:latest", who_may(PULL, CLOSED), tells_nobody=True),
    page(R, f"/r/{MISSING}", frozenset(), tells_nobody=True),
    form(R, f"/r/{CLOSED}", who_may(PULL, CLOSED), 303, action="star"),
    form(R, f"/r/{CLOSED}", MANAGERS, 303, action="private"),
    form(R, f"/r/{CLOSED}", MANAGERS, 303, action="describe"),
    form(R, f"/r/{POSTER}", OWNERS, 303, action="describe"),
    form(R, f"/r/{CLOSED}", MANAGERS, 303, action="readme"),
    page("/static/{name}", "/static/hub.css", EVERYONE),
    page("/health", "/health", EVERYONE),
    page("/{path:path}", "/nothing/here", frozenset(), tells_nobody=True),
    form("/sign-out", "/sign-out", EVERYONE, 303),
)


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    made = make_cast(tmp_path_factory.mktemp("cast"))
    yield made
    assert made.running.stop() == 0


def test_every_route_is_in_the_matrix(hub: Hub) -> None:
    authenticator = Authenticator(hub)
    assert set(REGISTRY) == RegistryApi(hub, authenticator).routes()
    assert set(API) | API_ELSEWHERE == RestApi(hub, authenticator).routes()
    listed = {(entry.method, entry.route) for entry in PAGES}
    there: set[tuple[str, str]] = set()
    for route in web_routes(Pages(hub), authenticator):
        assert isinstance(route, Route)
        there |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    assert there - listed == set(), "routes without a line in the matrix"
    assert listed - there == set(), "lines of the matrix without a route"


@pytest.mark.parametrize("repository", [OPEN, CLOSED])
@pytest.mark.parametrize("who", [*RIGHTS, "dora"])
def test_the_registry(cast: Cast, who: str, repository: str) -> None:
    rights = RIGHTS[who][(OPEN, CLOSED).index(repository)] if who in RIGHTS else frozenset()
    requests = [(action, method, f"/v2/{repository}/{path}") for (_, method), (action, path) in REGISTRY.items()]
    with cast.client(who) as client:
        for action, method, path in requests:
            answer = client.request(method, path)
            if action in rights:
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                assert answer.status_code == expected_refusal(who, action), (method, path, answer.text)


@pytest.mark.parametrize("repository", [OPEN, CLOSED])
@pytest.mark.parametrize("who", [*RIGHTS, "dora"])
def test_the_rest_interface(cast: Cast, who: str, repository: str) -> None:
    rights = RIGHTS[who][(OPEN, CLOSED).index(repository)] if who in RIGHTS else frozenset()
    with cast.client(who) as client:
        for (method, template), action in API.items():
            path = template.replace("{name}", repository).replace("{tag}", "none")
            if action == CONFIGURE and rights >= ACTIONS_OF_MANAGERS:
                continue  # they would
            answer = client.request(method, path, json={"is_public": True} if method == "PATCH" else None)
            if action in rights:
                needs_account = path.endswith("/star")  # which a robot has not of its own
                assert answer.status_code not in ((401, 403) if not needs_account else ()), (
                    method,
                    path,
                    answer.text,
                )
            elif action == CONFIGURE:
                hidden = who not in ("", "dora") and PULL not in rights
                expected = expected_refusal(who, PULL if hidden else PUSH)
                assert answer.status_code == expected, (method, path, answer.text)
            else:
                assert answer.status_code == expected_refusal(who, action), (method, path, answer.text)


def expected_refusal(who: str, action: str) -> int:
    if who in ("", "dora"):
        return 401
    limited = who in ("robot", "robot elsewhere", "token elsewhere", "token to delete")
    return 403 if limited or action != PULL else 404


@pytest.mark.parametrize("who", [*RIGHTS, "dora"])
def test_the_token_endpoint_grants_no_more(cast: Cast, who: str) -> None:
    for number, repository in enumerate((OPEN, CLOSED)):
        rights = RIGHTS[who][number] if who in RIGHTS else frozenset()
        with cast.client(who) as client:
            answer = client.get("/auth/token", params={"scope": f"repository:{repository}:*"})
        if who == "dora":
            assert answer.status_code == 401
            continue
        scope = answer.json()["scope"].rpartition(":")[2]
        # What anyone may do is not asked for by a token's limits; the registry allows it all the same.
        granted = set(scope.split(",")) - {""}
        assert granted <= rights
        assert rights - granted <= ({PULL} if repository == OPEN else set())


@pytest.mark.parametrize("who", sorted(EVERYONE))
def test_the_pages(cast: Cast, who: str) -> None:
    """Robots and tokens show their credentials to the pages, too; they are nobody there."""
    with cast.browser(who) as browser:
        if who in BY_TOKEN:
            browser.auth = httpx.BasicAuth(*cast.credentials[who])
        for entry in PAGES:
            if entry.method == "GET":
                answer = browser.get(entry.path)
            else:
                fields = {name: value.replace("{who}", who) for name, value in entry.fields}
                answer = send(browser, entry.path, **fields)
            if who in entry.allowed:
                assert answer.status_code == entry.status, (entry, answer.status_code)
                assert not answer.headers.get("location", "").startswith("/sign-in"), entry
            elif who in SIGNED_IN or entry.tells_nobody:
                assert answer.status_code == 404, (entry, answer.status_code)
            else:
                assert answer.status_code == 303, (entry, answer.status_code)
                assert answer.headers["location"].startswith("/sign-in?next="), entry

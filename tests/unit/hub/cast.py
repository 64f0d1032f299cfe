"""Everyone who asks, in one hub: an organisation with owners, members by every role, robots, and those outside."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from moldar.hub import administration
from moldar.hub.access.decisions import ACTIONS, DELETE, PULL, PUSH
from moldar.hub.services import Hub
from moldar.hub.settings import HubSettings

from .hubs import PASSWORD, Client, Running

ORGANISATION, HIDDEN = "morg", "mhid"
OPEN, CLOSED, MISSING = f"{ORGANISATION}/opened", f"{ORGANISATION}/closed", f"{ORGANISATION}/absent"
OTHER, POSTER = f"{ORGANISATION}/other", f"{ORGANISATION}/poster"
"""Private and public; no role but ned's names them."""
PEOPLE = ("stan", "olive", "oscar", "rita", "will", "max", "ned", "dora", "ivan", "boss")
"""stan: a stranger; olive: owner; rita, will, max: read, write, admin by a team; ned: write in OTHER only;

dora: an owner whose account is disabled, with a session and a bearer token of the time before; oscar: a second owner;
ivan: invited as owner; boss: the hub's administrator.
"""
ALL = frozenset(ACTIONS)
ONLY_PULL = frozenset({PULL})
RIGHTS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "": (ONLY_PULL, frozenset()),
    "stan": (ONLY_PULL, frozenset()),
    "olive": (ALL, ALL),
    "rita": (ONLY_PULL, ONLY_PULL),
    "will": (frozenset({PULL, PUSH}), frozenset({PULL, PUSH})),
    "max": (ALL, ALL),
    "ned": (ONLY_PULL, frozenset()),
    "ivan": (ONLY_PULL, frozenset()),
    "boss": (ALL, ALL),
    "robot": (frozenset({PULL, PUSH}), frozenset({PULL, PUSH})),
    "robot elsewhere": (ONLY_PULL, frozenset()),
    "robot of olive": (ONLY_PULL, frozenset()),
    "token elsewhere": (ONLY_PULL, frozenset()),
    "token to delete": (frozenset({PULL, DELETE}), frozenset({DELETE})),
}
"""Who may do what in OPEN and in CLOSED. Dora is in none of them: her credentials are worth nothing."""
BY_TOKEN = ("robot", "robot elsewhere", "robot of olive", "token elsewhere", "token to delete")


class Cast:
    """A running hub with its people; `credentials`: name and secret of each for basic authentication."""

    def __init__(self, running: Running, credentials: dict[str, tuple[str, str]], session: str) -> None:
        self.running = running
        self.credentials = credentials
        self.session_of_dora = session
        with running.client("dora") as dora:
            scopes = [f"repository:{name}:*" for name in (OPEN, CLOSED, MISSING)]
            self.bearer_of_dora = str(dora.get("/auth/token", params={"scope": scopes}).json()["token"])

    def client(self, who: str) -> Client:
        if who == "dora":
            return Client(self.running.url, token=self.bearer_of_dora)
        return Client(self.running.url, self.credentials[who] if who else None)

    @contextmanager
    def browser(self, who: str) -> Iterator[httpx.Client]:
        """A browser in which `who` has signed in; for dora with the session that she had."""
        with httpx.Client(base_url=self.running.url, timeout=30) as browser:
            if who == "dora":
                browser.cookies.set("moldar_session", self.session_of_dora)
            elif who in PEOPLE:
                fields = {"form_token": form_token(browser, "/sign-in"), "name": who, "password": PASSWORD}
                assert browser.post("/sign-in", data=fields).status_code == 303
            yield browser


def form_token(browser: httpx.Client, path: str) -> str:
    match = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get(path).text)
    assert match, path
    return match[1]


def send(browser: httpx.Client, path: str, **fields: object) -> httpx.Response:
    """A form of ours, whatever page it stands on."""
    source = "/settings/tokens" if browser.get("/settings/tokens").status_code == 200 else "/sign-in"
    return browser.post(path, data={"form_token": form_token(browser, source), **fields})


def make_cast(root: Path) -> Cast:
    """A hub in `root`, filled and started."""
    data = str(root / "data")
    for name in PEOPLE:
        administration.add_user(data, name, PASSWORD, is_admin=name == "boss")
    hub = Hub(HubSettings(data))
    credentials = {name: (name, PASSWORD) for name in PEOPLE}
    credentials |= _fill(hub)
    dora = hub.accounts.find("dora")
    assert dora
    session = hub.accounts.open_session(dora, 3600)
    hub.close()
    running = Running(data, root / "log")
    cast = Cast(running, credentials, session)
    with cast.client("olive") as olive:
        for name in (OPEN, CLOSED, OTHER, POSTER):
            olive.push_image(name)
    with cast.browser("olive") as browser:
        for name in (CLOSED, OTHER):
            assert send(browser, f"/settings/repository/{name}", action="private").status_code == 303
    administration.set_disabled(data, "dora", True)
    return cast


def _fill(hub: Hub) -> dict[str, tuple[str, str]]:
    people = {name: hub.accounts.find(name) for name in PEOPLE}
    olive = people["olive"]
    assert olive
    organisation = hub.organisations.create(ORGANISATION, olive)
    hub.organisations.create(HIDDEN, olive)
    for name in ("oscar", "rita", "will", "max", "ned", "dora"):
        account = people[name]
        assert account
        hub.organisations.invite(organisation, name, is_owner=name in ("oscar", "dora"))
        hub.organisations.join(organisation, account)
    hub.organisations.invite(organisation, "ivan", is_owner=True)
    for name, team, level in (
        ("rita", "readers", "read"),
        ("will", "writers", "write"),
        ("max", "managers", "admin"),
    ):
        hub.teams.create(organisation, team)
        hub.teams.add(organisation, team, name)
        patterns = (f"{ORGANISATION}/*",) if name != "max" else (OPEN, CLOSED)
        for pattern in patterns:
            hub.teams.give(organisation, pattern=pattern, level=level, team=team)
    hub.teams.give(organisation, pattern=OTHER, level="write", account="ned")
    robots, secrets = hub.robots, {}
    secrets["robot"] = robots.create(organisation, "ci", actions=(PULL, PUSH), repositories=(OPEN, CLOSED, MISSING))
    secrets["robot elsewhere"] = robots.create(organisation, "else", actions=ACTIONS, repositories=(OTHER,))
    secrets["robot of olive"] = robots.create(olive, "home", actions=ACTIONS)
    made = {who: (robot.name, secret) for who, (robot, secret) in secrets.items()}
    elsewhere = hub.accounts.create_token(olive, "elsewhere", actions=ACTIONS, repositories=(OTHER,))
    deleting = hub.accounts.create_token(olive, "deleting", actions=(DELETE,))
    return made | {"token elsewhere": ("olive", elsewhere[1]), "token to delete": ("olive", deleting[1])}

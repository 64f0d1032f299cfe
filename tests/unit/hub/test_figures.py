"""Stars and pulls."""

from collections.abc import Iterator

import httpx
import pytest

from moldar.hub.registry.figures import DAY, Figure
from moldar.hub.services import Hub
from moldar.hub.web.plot import HEIGHT, WIDTH, bars

from .hubs import INDEX, MANIFEST, Running, Tick
from .test_pages import form_token, sign_in, submit


@pytest.fixture
def browser(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_pulls_by_day(hub: Hub, clock: Tick) -> None:
    with hub.database.writing() as connection:
        number = hub.repositories.ensure(connection, "alice/app")
    for count in (2, 0, 3):
        for _ in range(count):
            hub.figures.note_pull("alice/app")
        hub.figures.note_pull("alice/gone")
        clock.now += DAY
    assert hub.figures.pulls_by_day(number, 5) == [0, 2, 0, 3, 0]
    hub.figures.note_pull("alice/app")
    hub.figures.flush()
    hub.figures.note_pull("alice/app")
    hub.figures.flush()
    assert hub.figures.pulls_by_day(number, 1) == [2]
    assert hub.figures.of([number]) == {number: Figure(0, 7)}


def test_what_cannot_be_written_is_kept(hub: Hub) -> None:
    with hub.database.writing() as connection:
        number = hub.repositories.ensure(connection, "alice/app")
        connection.exec_driver_sql("ALTER TABLE pulls RENAME TO elsewhere")
    hub.figures.note_pull("alice/app")
    with pytest.raises(Exception, match="pulls"):
        hub.figures.flush()
    with hub.database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO pulls")
    assert hub.figures.pulls_by_day(number, 1) == [1]


def test_a_pull_is_an_image_and_no_index_or_head(server: Running, browser: httpx.Client) -> None:
    with server.client("bob") as bob:
        digest = bob.push_image("bob/pulled", "v1")
        raw = bob.get(f"/v2/bob/pulled/manifests/{digest}").content
        entry = {"mediaType": MANIFEST, "digest": digest, "size": len(raw)}
        bob.push_manifest("bob/pulled", "all", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
        bob.head("/v2/bob/pulled/manifests/v1")
        bob.get("/v2/bob/pulled/manifests/all")
        bob.get("/v2/bob/pulled/manifests/v1")
        etag = {"If-None-Match": f'"{digest}"'}
        assert bob.get("/v2/bob/pulled/manifests/v1", headers=etag).status_code == 304
    assert "2 pulls in 30 days" in browser.get("/r/bob/pulled").text
    assert "2 pulls" in browser.get("/u/bob").text


def test_stars(server: Running, browser: httpx.Client) -> None:
    with server.client("bob") as bob:
        bob.push_image("bob/starred")
    path = "/r/bob/starred"
    assert "★ 0" in browser.get(path).text
    token = form_token(browser, "/sign-in")
    assert browser.post(path, data={"form_token": token, "action": "star"}).status_code == 404
    sign_in(browser, "alice")
    for _ in range(2):
        assert submit(browser, path, action="star").status_code == 303
    assert "★ 1" in browser.get("/u/bob").text
    assert submit(browser, path, action="unstar").status_code == 303
    assert "★ 1" not in browser.get("/u/bob").text


def test_bars() -> None:
    made = bars([0, 5, 10])
    assert [bar.value for bar in made] == [0, 5, 10]
    assert [bar.days_ago for bar in made] == [2, 1, 0]
    assert made[2].height == HEIGHT
    assert made[1].height == HEIGHT / 2
    assert all(0 <= bar.x <= bar.x + bar.width <= WIDTH and bar.y + bar.height == HEIGHT for bar in made)
    assert bars([]) == ()
    assert all(bar.height == 1 for bar in bars([0, 0]))

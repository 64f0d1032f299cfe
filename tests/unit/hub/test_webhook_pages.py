"""The settings pages for webhooks: adding, trying, reading deliveries, switching off, deleting; who may."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from moldar.hub.administration import add_user

from .hubs import PASSWORD, Running, wait_for
from .receivers import Receiver
from .test_pages import form_token, sign_in, submit

HERE = "/settings/webhooks"
PORTUGUESE = {"Accept-Language": "pt-BR"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root: Path = tmp_path_factory.mktemp("hooks")
    for name in ("alice", "bob"):
        add_user(str(root / "data"), name, PASSWORD)
    running = Running(str(root / "data"), root / "log", webhook_networks=["127.0.0.0/8"])
    with running.client("alice") as alice, running.client("bob") as bob:
        alice.push_image("alice/app")
        bob.push_image("bob/secret")
        bob.patch("/api/v1/repositories/bob/secret", json={"is_public": False})
    yield running
    assert running.stop() == 0


@pytest.fixture
def browser(hub: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=hub.url, timeout=30) as client:
        sign_in(client, "alice")
        yield client


def test_from_adding_to_deleting(hub: Running, browser: httpx.Client, receiver: Receiver) -> None:
    assert f"{HERE}?place=alice/app" in browser.get("/settings/repository/alice/app").text
    assert 'value="alice/app"' in browser.get(f"{HERE}?place=alice/app").text
    url = f"{receiver.url}/<hook>".replace("<", "%3C").replace(">", "%3E")
    made = submit(browser, HERE, place="alice/app", url=url, events=["push", "delete"])
    secret = re.search(r'data-copy="([\w-]{40,})"', made.text)
    assert secret
    page = browser.get(HERE).text
    assert secret[1] not in page
    found = re.search(rf'href="({HERE}/\d+)"', page)
    assert found
    one = found[1]
    assert url in unescape(browser.get(one).text)
    assert "No deliveries yet" in browser.get(one).text

    assert submit(browser, one, action="ping").headers["location"] == one
    wait_for(lambda: receiver.received)
    assert receiver.received[0].headers["x-moldar-event"] == "ping"
    wait_for(lambda: "delivered" in browser.get(one).text)
    key = receiver.received[0].headers["x-moldar-delivery"]
    assert key in browser.get(one).text
    assert "entregue" in browser.get(one, headers=PORTUGUESE).text
    assert submit(browser, one, action="again", delivery=key).status_code == 303
    wait_for(lambda: len(receiver.received) == 2)

    assert submit(browser, one, action="off").status_code == 303
    assert "Off" in browser.get(HERE).text
    assert submit(browser, one, action="on").status_code == 303
    assert submit(browser, one, action="explode").status_code == 404
    assert submit(browser, one, action="delete").headers["location"] == HERE
    assert browser.get(one).status_code == 404
    assert "No webhooks yet" in browser.get(HERE).text


def test_what_is_refused(hub: Running, browser: httpx.Client) -> None:
    def problem(**fields: object) -> str:
        answer = submit(
            browser, HERE, **{"place": "alice/app", "url": "https://e.example/", "events": "push", **fields}
        )
        assert answer.status_code == 400
        found = re.search(r'role="alert">([^<]+)<', answer.text)
        assert found
        return found[1]

    assert "http or https" in problem(url="ftp://x/")
    assert "at least one" in problem(events="")
    assert problem(place="alice/missing") == "No such repository."
    assert "alice/*" in problem(place="alice/x/*")
    for place in ("bob/secret", "bob/missing", "bob/*", "*", "", "library/*"):
        assert problem(place=place) == "You may not add webhooks there."
    answer = browser.post(
        HERE,
        data={"form_token": form_token(browser, HERE), "place": "bob/*", "url": "https://e.example/"},
        headers=PORTUGUESE,
    )
    assert "Você não pode adicionar webhooks ali." in answer.text


def test_only_whoever_manages_the_place(hub: Running, browser: httpx.Client) -> None:
    submit(browser, HERE, place="alice/*", url="https://alice.example/", events="push")
    found = re.search(rf'href="({HERE}/\d+)"', browser.get(HERE).text)
    assert found
    with httpx.Client(base_url=hub.url) as bob:
        sign_in(bob, "bob")
        assert "alice.example" not in bob.get(HERE).text
        assert bob.get(found[1]).status_code == 404
        data = {"form_token": form_token(bob, HERE), "action": "delete"}
        assert bob.post(found[1], data=data).status_code == 404
    with httpx.Client(base_url=hub.url) as nobody:
        assert nobody.get(HERE).headers["location"].startswith("/sign-in")
        assert nobody.get(found[1]).status_code == 303
    assert browser.post(found[1], data={"action": "delete"}).status_code == 403  # without our form's token
    assert "alice.example" in browser.get(HERE).text

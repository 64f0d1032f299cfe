"""`moldar hub user` and `moldar hub token` beside a running server: each counts at once."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar
from tests.unit.hub.hubs import Running

OLD, NEW = "first password", "second password"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Running]:
    running = Running(str(tmp_path / "data"), tmp_path / "log", allow_sign_up=False)
    yield running
    assert running.stop() == 0


@pytest.fixture
def moldar(tmp_path: Path) -> Moldar:
    return Moldar(tmp_path)


def status(hub: Running, user: str, secret: str, path: str = "/api/v1/me") -> int:
    with hub.client(user, secret) as client:
        return client.get(path).status_code


def test_the_life_of_an_account(hub: Running, moldar: Moldar) -> None:
    data = ("--data", hub.data)
    assert status(hub, "alice", OLD) == 401
    assert moldar("hub", "user", "add", *data, "--password-stdin", "alice", stdin=OLD + "\n") == "User alice added\n"
    assert status(hub, "alice", OLD) == 200
    moldar("hub", "user", "passwd", *data, "--password-stdin", "alice", stdin=NEW + "\n")
    assert (status(hub, "alice", OLD), status(hub, "alice", NEW)) == (401, 200)

    public = {"X-Forwarded-For": "203.0.113.9"}
    with hub.client("alice", NEW) as alice:
        alice.push_image("alice/app")
        assert alice.get("/metrics", headers=public).status_code == 403
        assert "administrator" in moldar("hub", "user", "admin", *data, "alice")
        assert alice.get("/metrics", headers=public).status_code == 200
        assert "no longer" in moldar("hub", "user", "admin", *data, "--off", "alice")
        assert alice.get("/metrics", headers=public).status_code == 403

        assert moldar("hub", "user", "disable", *data, "alice") == "User alice disabled\n"
        assert alice.get("/api/v1/me").status_code == 401
        listed = json.loads(moldar("hub", "user", "ls", *data, "--format", "json"))
        assert listed[0].items() >= {"name": "alice", "admin": False, "state": "disabled"}.items()
        assert "disabled" in moldar("hub", "user", "list", *data)
        moldar("hub", "user", "enable", *data, "alice")
        assert alice.get("/api/v1/me").status_code == 200

    assert "alice has 1 repository" in moldar.fails("hub", "user", "rm", *data, "alice")
    moldar.fails("hub", "user", "rm", *data, "--repositories", "alice", stdin="n\n")
    assert status(hub, "alice", NEW) == 200
    told = moldar("hub", "user", "rm", *data, "--repositories", "alice", stdin="y\n")
    assert "Repository alice/app deleted\nUser alice deleted" in told
    assert status(hub, "alice", NEW) == 401
    with hub.client() as nobody:
        assert nobody.get("/v2/alice/app/manifests/latest").status_code in (401, 404)
        assert nobody.get("/v2/_catalog").json() == {"repositories": []}
    assert moldar("hub", "user", "ls", *data).splitlines() == ["NAME   ADMIN   STATE   CREATED"]


def test_tokens(hub: Running, moldar: Moldar) -> None:
    data = ("--data", hub.data)
    moldar("hub", "user", "add", *data, "--password-stdin", "bob", stdin=OLD + "\n")
    secret = moldar("hub", "token", "create", *data, "--repository", "bob/*", "--days", "3", "bob").strip()
    assert status(hub, "bob", secret) == 200
    shown = moldar("hub", "token", "ls", *data, "bob")
    assert secret not in shown
    assert f"…{secret[-4:]}" in shown
    assert "bob/*" in shown
    number = json.loads(moldar("hub", "token", "ls", *data, "--format", "json", "bob"))[0]["id"]
    assert "no token's ID" in moldar.fails("hub", "token", "rm", *data, "bob", "x")
    assert "has no token" in moldar.fails("hub", "token", "rm", *data, "bob", str(number + 1))
    moldar("hub", "token", "rm", *data, "bob", str(number))
    assert status(hub, "bob", secret) == 401


@pytest.mark.parametrize(
    "words", [("passwd", "--password-stdin"), ("disable",), ("enable",), ("admin",), ("rm",)], ids=lambda w: w[0]
)
def test_nobody_of_that_name(hub: Running, moldar: Moldar, words: tuple[str, ...]) -> None:
    assert "no user zoe" in moldar.fails("hub", "user", *words, "--data", hub.data, "zoe", stdin=NEW + "\n")


def test_what_cannot_be(tmp_path: Path, hub: Running, moldar: Moldar) -> None:
    data = ("--data", hub.data)
    assert "no hub in" in moldar.fails("hub", "user", "ls", "--data", str(tmp_path / "nowhere"))
    assert "unknown format" in moldar.fails("hub", "user", "ls", *data, "--format", "xml")
    assert "at least 8" in moldar.fails("hub", "user", "add", *data, "--password-stdin", "eve", stdin="short\n")


def test_settings_that_cannot_be(moldar: Moldar, tmp_path: Path) -> None:
    serve = ("hub", "serve", "--data", tmp_path / "other", "--listen", "127.0.0.1:0")
    assert "--metrics" in moldar.fails(*serve, "--metrics", "everybody")
    assert "not a network" in moldar.fails(*serve, "--webhook-allow", "example.org")

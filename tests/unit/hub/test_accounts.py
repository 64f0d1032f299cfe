"""Accounts, passwords, sessions, personal access tokens, and the guard against guessing."""

import asyncio
import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import select

from moldar.errors import CorruptData, NotFound
from moldar.hub.access.accounts import Account, InvalidAccount, InvalidToken
from moldar.hub.access.audit import Actor
from moldar.hub.access.decisions import Principal
from moldar.hub.access.keys import FileKeys, load_form_secret, load_signing_key
from moldar.hub.access.throttle import Throttle
from moldar.hub.authentication import Authenticator
from moldar.hub.data.schema import SIGN_IN_FAILURES
from moldar.hub.refusals import TooManyAttempts
from moldar.hub.services import Hub
from moldar.remote.wire import format_basic

from .hubs import PASSWORD, Tick


@pytest.fixture
def alice(hub: Hub) -> Account:
    return hub.accounts.create("alice", PASSWORD)


def test_an_account(hub: Hub, alice: Account) -> None:
    assert hub.accounts.find("alice") == alice
    assert hub.accounts.list_all() == [alice]
    assert PASSWORD not in alice.password_hash
    assert alice.password_hash.startswith("$argon2id$")
    assert hub.accounts.with_password("alice", PASSWORD) == alice
    assert hub.accounts.with_password("alice", PASSWORD + "x") is None
    assert hub.accounts.with_password("nobody", PASSWORD) is None


@pytest.mark.parametrize(
    ("name", "password", "problem"),
    [
        ("a", PASSWORD, "length"),
        ("Alice", PASSWORD, "characters"),
        ("../alice", PASSWORD, "characters"),
        ("library", PASSWORD, "reserved"),
        ("carol", "short", "password"),
        ("carol", "x" * 1025, "password"),
    ],
)
def test_accounts_that_cannot_be(hub: Hub, name: str, password: str, problem: str) -> None:
    with pytest.raises(InvalidAccount) as caught:
        hub.accounts.create(name, password)
    assert caught.value.problem == problem


def test_a_name_that_is_taken(hub: Hub, alice: Account) -> None:
    with pytest.raises(InvalidAccount) as caught:
        hub.accounts.create("alice", PASSWORD)
    assert caught.value.problem == "taken"


def test_a_new_password_ends_sessions(hub: Hub, alice: Account) -> None:
    session = hub.accounts.open_session(alice, 1000)
    hub.accounts.set_password("alice", "another password")
    assert hub.accounts.with_session(session) is None
    assert hub.accounts.with_password("alice", PASSWORD) is None
    assert hub.accounts.with_password("alice", "another password")
    with pytest.raises(NotFound):
        hub.accounts.set_password("nobody", PASSWORD)


def test_a_right_password_is_remembered_for_a_while(hub: Hub, alice: Account, clock: Tick) -> None:
    assert not hub.passwords.remembers(alice.password_hash, PASSWORD)
    assert hub.passwords.verify(alice.password_hash, PASSWORD)
    assert hub.passwords.remembers(alice.password_hash, PASSWORD)
    assert not hub.passwords.remembers(alice.password_hash, PASSWORD + " ")
    clock.now += 301
    assert not hub.passwords.remembers(alice.password_hash, PASSWORD)


def test_sessions(hub: Hub, alice: Account, clock: Tick) -> None:
    session = hub.accounts.open_session(alice, 1000)
    assert hub.accounts.with_session(session) == alice
    assert hub.accounts.with_session(session[:-1]) is None
    with hub.database.reading() as connection:
        stored = connection.exec_driver_sql("SELECT token_hash FROM sessions").scalar_one()
    assert session not in stored
    clock.now += 1000
    assert hub.accounts.with_session(session) is None
    second = hub.accounts.open_session(alice, 1000)
    hub.accounts.close_session(second)
    assert hub.accounts.with_session(second) is None
    third = hub.accounts.open_session(alice, 1000)
    hub.accounts.set_disabled("alice", True)
    assert hub.accounts.with_session(third) is None
    assert hub.accounts.with_password("alice", PASSWORD) is None


def test_tokens(hub: Hub, alice: Account, clock: Tick) -> None:
    token, secret = hub.accounts.create_token(alice, "ci", actions=("push", "pull"), lifetime=100)
    assert secret.startswith("mdl_")
    assert (token.hint, token.actions, token.expires) == (secret[-4:], ("pull", "push"), clock.now + 100)
    assert hub.accounts.with_token(secret) == (alice, token)
    hub.accounts.touch_token(token)
    assert hub.accounts.list_tokens(alice.id)[0].last_used == clock.now
    clock.now += 100
    assert hub.accounts.with_token(secret) is None
    forever, secret = hub.accounts.create_token(alice, "forever")
    clock.now += 10**9
    assert hub.accounts.with_token(secret) == (alice, forever)
    assert not hub.accounts.revoke_token(alice.id + 1, forever.id)
    assert hub.accounts.revoke_token(alice.id, forever.id)
    assert hub.accounts.with_token(secret) is None


def test_secrets_of_tokens_are_not_stored(local_hub: Hub) -> None:
    account = local_hub.accounts.create("alice", PASSWORD)
    _, secret = local_hub.accounts.create_token(account, "ci")
    assert secret not in Path(local_hub.settings.path("hub.db")).read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    ("name", "actions", "repositories", "problem"),
    [
        (" ", ("pull",), (), "name"),
        ("x" * 101, ("pull",), (), "name"),
        ("ci", (), (), "actions"),
        ("ci", ("fly",), (), "actions"),
        ("ci", ("pull",), ("../x", "alice/app"), "repositories"),
        ("ci", ("pull",), ("alice/a*",), "repositories"),
    ],
)
def test_tokens_that_cannot_be(
    hub: Hub, name: str, actions: tuple[str, ...], repositories: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(InvalidToken) as caught:
        hub.accounts.create_token(
            Account(1, "alice", "", False, False, 0), name, actions=actions, repositories=repositories
        )
    assert caught.value.problem == problem


def test_guessing_is_slowed_down(hub: Hub, clock: Tick) -> None:
    throttle = hub.throttle
    for _ in range(Throttle.PER_ACCOUNT_AND_ADDRESS):
        throttle.check("alice", "10.0.0.1")
        throttle.failed("alice", "10.0.0.1")
    with pytest.raises(TooManyAttempts) as caught:
        throttle.check("alice", "10.0.0.1")
    assert caught.value.headers["Retry-After"] == str(Throttle.WINDOW)
    throttle.check("alice", "10.0.0.2")  # others are not locked out with the guesser
    throttle.check("bob", "10.0.0.1")
    clock.now += Throttle.WINDOW
    throttle.check("alice", "10.0.0.1")
    assert throttle.prune() == 0
    clock.now += 1
    assert throttle.prune() == Throttle.PER_ACCOUNT_AND_ADDRESS


def test_guessing_many_accounts_from_one_address(hub: Hub) -> None:
    for number in range(Throttle.PER_ADDRESS):
        hub.throttle.failed(f"user{number}", f"2001:db8::{number:x}")
    with pytest.raises(TooManyAttempts):
        hub.throttle.check("alice", "2001:db8::ffff")  # all of a network of 64 bits is one address
    hub.throttle.check("alice", "2001:db8:0:1::1")


def test_guessing_from_everywhere_shuts_out_strangers_only(hub: Hub, clock: Tick) -> None:
    alice = hub.accounts.create("alice", PASSWORD)
    hub.accounts.open_session(alice, 10_000, by=Actor("alice", "192.0.2.7"))
    for number in range(Throttle.PER_ACCOUNT):
        hub.throttle.failed("alice", f"10.0.0.{number}")
    for address in ("10.0.1.1", "192.0.2.8"):
        with pytest.raises(TooManyAttempts):
            hub.throttle.check("alice", address)
    hub.throttle.check("alice", "192.0.2.7")
    for _ in range(Throttle.PER_ACCOUNT_AND_ADDRESS):
        hub.throttle.failed("alice", "192.0.2.7")
    with pytest.raises(TooManyAttempts):
        hub.throttle.check("alice", "192.0.2.7")  # also who is at home has no more guesses than anybody
    clock.now += Throttle.WINDOW
    hub.throttle.check("alice", "10.0.1.1")


def test_only_failures_write(hub: Hub) -> None:
    hub.accounts.create("alice", PASSWORD)
    authenticator = Authenticator(hub)
    before = hub.database.generation()
    for _ in range(2):
        assert asyncio.run(authenticator.by_password("alice", PASSWORD, "10.0.0.1"))
    assert hub.database.generation() == before
    assert asyncio.run(authenticator.by_password("alice", "wrong", "10.0.0.1")) is None
    assert hub.database.generation() != before


def test_a_token_is_never_shut_out(hub: Hub) -> None:
    _, secret = hub.accounts.create_token(hub.accounts.create("alice", PASSWORD), "ci", actions=("pull",))
    authenticator = Authenticator(hub)
    for number in range(Throttle.PER_ADDRESS):
        hub.throttle.failed("alice", f"10.0.{number % 2}.1")

    def ask(token: str) -> Principal:
        return asyncio.run(authenticator.principal(format_basic("alice", token), "10.0.0.1"))

    assert ask(secret).name == "alice"
    with pytest.raises(TooManyAttempts):
        ask(secret + "x")


def test_success_clears_the_count(hub: Hub, clock: Tick) -> None:
    for _ in range(20):
        hub.throttle.failed("alice", "10.0.0.1")
        hub.throttle.succeeded("alice", "10.0.0.1")
    hub.throttle.check("alice", "10.0.0.1")
    clock.now += 1
    for _ in range(Throttle.PER_ACCOUNT_AND_ADDRESS):
        hub.throttle.check("alice", "10.0.0.1")
        hub.throttle.failed("alice", "10.0.0.1")
    with pytest.raises(TooManyAttempts):
        hub.throttle.check("alice", "10.0.0.1")


def test_names_that_were_tried_are_not_kept(hub: Hub) -> None:
    hub.throttle.failed("my secret password", "10.0.0.1")
    with hub.database.reading() as connection:
        (row,) = connection.execute(select(SIGN_IN_FAILURES))
    assert "secret" not in str(row)


def test_secrets_are_the_owners_only(local_hub: Hub) -> None:
    for name in os.listdir(local_hub.settings.path("keys")):
        assert stat.S_IMODE(os.stat(local_hub.settings.path("keys", name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(local_hub.settings.path("keys")).st_mode) == 0o700


def test_damaged_keys_are_named(tmp_path: Path) -> None:
    keys = FileKeys(str(tmp_path))
    load_signing_key(keys)
    assert load_form_secret(keys) == load_form_secret(FileKeys(str(tmp_path)))
    (tmp_path / "token-es256.pem").write_bytes(b"nothing")
    (tmp_path / "forms.key").write_bytes(b"short")
    with pytest.raises(CorruptData, match="token-es256"):
        load_signing_key(keys)
    with pytest.raises(CorruptData, match=r"forms\.key"):
        load_form_secret(keys)

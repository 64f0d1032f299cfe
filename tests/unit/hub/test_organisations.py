"""Organisations, teams, roles and robots as services: what they refuse, and what principals come of them."""

import pytest

from moldar.errors import NotFound
from moldar.hub import administration
from moldar.hub.access.accounts import Account, InvalidAccount, InvalidToken, OnlyOwner
from moldar.hub.access.decisions import PULL, PUSH, Membership, Role, decide
from moldar.hub.access.organisations import OWNED_LIMIT, MemberRefused
from moldar.hub.access.robots import RobotRefused
from moldar.hub.access.teams import RoleRefused
from moldar.hub.services import Hub

from .hubs import PASSWORD, Tick


@pytest.fixture
def alice(hub: Hub) -> Account:
    return hub.accounts.create("alice", PASSWORD)


@pytest.fixture
def bob(hub: Hub) -> Account:
    return hub.accounts.create("bob", PASSWORD)


@pytest.fixture
def acme(hub: Hub, alice: Account) -> Account:
    return hub.organisations.create("acme", alice)


def join(hub: Hub, organisation: Account, account: Account, *, is_owner: bool = False) -> None:
    hub.organisations.invite(organisation, account.name, is_owner=is_owner)
    hub.organisations.join(organisation, account)


def test_an_organisation_is_its_makers(hub: Hub, alice: Account, acme: Account) -> None:
    assert hub.principals.of(alice, "session").memberships == (Membership("acme", True),)
    assert [(member.name, member.is_owner) for member in hub.organisations.members(acme)] == [("alice", True)]
    assert hub.organisations.find("acme") == acme
    assert hub.organisations.find("alice") is None


def test_names_are_shared_with_accounts(hub: Hub, alice: Account, acme: Account) -> None:
    for name, problem in (("alice", "taken"), ("acme", "taken"), ("library", "reserved"), ("A b", "characters")):
        with pytest.raises(InvalidAccount) as caught:
            hub.organisations.create(name, alice)
        assert caught.value.problem == problem
    with pytest.raises(InvalidAccount) as caught:
        hub.accounts.create("acme", PASSWORD)
    assert caught.value.problem == "taken"


def test_nobody_signs_in_as_an_organisation_or_a_robot(hub: Hub, acme: Account) -> None:
    hub.robots.create(acme, "ci", actions=(PULL,))
    for name in ("acme", "acme+ci"):
        assert hub.accounts.with_password(name, "") is None
        assert hub.accounts.with_password(name, PASSWORD) is None
        with pytest.raises(NotFound):
            hub.accounts.set_password(name, PASSWORD)
        with pytest.raises(NotFound):
            hub.accounts.set_disabled(name, True)
        with pytest.raises(NotFound):
            administration.create_token(hub.settings.data, name, "more")
    assert [account.name for account in hub.accounts.list_all()] == ["alice"]


def test_an_invitation_gives_nothing_until_it_is_accepted(hub: Hub, acme: Account, bob: Account) -> None:
    hub.organisations.invite(acme, "bob", is_owner=True)
    assert hub.organisations.invitations(bob.id) == 1
    assert hub.principals.of(bob, "session").memberships == ()
    with pytest.raises(RoleRefused):
        hub.teams.give(acme, pattern="acme/*", level="admin", account="bob")
    hub.organisations.join(acme, bob)
    assert hub.principals.of(bob, "session").memberships == (Membership("acme", True),)
    with pytest.raises(NotFound):
        hub.organisations.join(acme, bob)


def test_who_cannot_be_invited(hub: Hub, acme: Account, bob: Account) -> None:
    hub.robots.create(acme, "ci", actions=(PULL,))
    for name in ("nobody", "acme", "acme+ci", ""):
        with pytest.raises(MemberRefused, match="no such user"):
            hub.organisations.invite(acme, name)
    hub.organisations.invite(acme, "bob")
    with pytest.raises(MemberRefused, match="already"):
        hub.organisations.invite(acme, "bob")


def test_the_last_owner_stays(hub: Hub, acme: Account, bob: Account) -> None:
    join(hub, acme, bob)
    for change in (
        lambda: hub.organisations.remove(acme, "alice"),
        lambda: hub.organisations.set_owner(acme, "alice", False),
    ):
        with pytest.raises(MemberRefused, match="owner"):
            change()
    hub.organisations.set_owner(acme, "bob", True)
    hub.accounts.set_disabled("bob", True)
    with pytest.raises(MemberRefused, match="owner"):
        hub.organisations.remove(acme, "alice")  # one who cannot sign in is no owner to leave to
    hub.accounts.set_disabled("bob", False)
    hub.organisations.remove(acme, "alice")
    with pytest.raises(MemberRefused, match="owner"):
        hub.organisations.remove(acme, "bob")
    assert [member.name for member in hub.organisations.members(acme)] == ["bob"]


def test_an_invited_owner_does_not_count(hub: Hub, acme: Account, bob: Account) -> None:
    hub.organisations.invite(acme, "bob", is_owner=True)
    with pytest.raises(MemberRefused, match="owner"):
        hub.organisations.remove(acme, "alice")
    hub.organisations.remove(acme, "bob")  # withdraws the invitation
    assert hub.organisations.of(bob.id) == []


@pytest.mark.either
def test_teams_and_roles_make_rights(hub: Hub, acme: Account, bob: Account) -> None:
    join(hub, acme, bob)
    hub.teams.create(acme, "devs")
    hub.teams.give(acme, pattern="acme/*", level="read", team="devs")
    hub.teams.give(acme, pattern="acme/app", level="write", account="bob")
    assert hub.principals.of(bob, "session").roles == (Role("acme/app", "write"),)
    hub.teams.add(acme, "devs", "bob")
    hub.teams.add(acme, "devs", "bob")
    assert set(hub.principals.of(bob, "session").roles) == {Role("acme/app", "write"), Role("acme/*", "read")}
    assert [team.members for team in hub.teams.of(acme)] == [("bob",)]
    hub.teams.give(acme, pattern="acme/*", level="admin", team="devs")  # in place of the earlier one
    assert [(role.pattern, role.level) for role in hub.teams.roles(acme)] == [
        ("acme/*", "admin"),
        ("acme/app", "write"),
    ]
    assert len(hub.teams.roles_in(acme, "acme/app")) == 2
    assert len(hub.teams.roles_in(acme, "acme/other")) == 1
    hub.teams.take_out(acme, "devs", "bob")
    assert hub.principals.of(bob, "session").roles == (Role("acme/app", "write"),)
    hub.teams.delete(acme, "devs")
    assert len(hub.teams.roles(acme)) == 1


@pytest.mark.either
def test_whoever_leaves_keeps_nothing(hub: Hub, acme: Account, bob: Account) -> None:
    join(hub, acme, bob)
    hub.teams.create(acme, "devs")
    hub.teams.add(acme, "devs", "bob")
    hub.teams.give(acme, pattern="acme/*", level="read", team="devs")
    hub.teams.give(acme, pattern="acme/app", level="write", account="bob")
    hub.organisations.remove(acme, "bob")
    assert hub.principals.of(bob, "session").roles == ()
    join(hub, acme, bob)
    assert hub.principals.of(bob, "session").roles == ()


@pytest.mark.parametrize(
    ("role", "problem"),
    [
        (("acme/app", "owner", "bob"), "level"),
        (("*", "read", "bob"), "pattern"),
        (("alice/app", "read", "bob"), "pattern"),
        (("acme2/app", "read", "bob"), "pattern"),
        (("acme", "read", "bob"), "pattern"),
        (("acme/a*", "read", "bob"), "pattern"),
        (("acme/../alice", "read", "bob"), "pattern"),
        (("acme/app", "read", "carol"), "member"),
        (("acme/app", "read", "acme"), "member"),
        (("acme/app", "read", ""), "member"),
    ],
)
def test_roles_that_cannot_be(
    hub: Hub, acme: Account, bob: Account, role: tuple[str, str, str], problem: str
) -> None:
    pattern, level, account = role
    join(hub, acme, bob)
    hub.accounts.create("carol", PASSWORD)
    with pytest.raises(RoleRefused) as caught:
        hub.teams.give(acme, pattern=pattern, level=level, account=account)
    assert caught.value.problem == problem


def test_teams_that_cannot_be(hub: Hub, acme: Account) -> None:
    hub.teams.create(acme, "devs")
    for name in ("", "Devs", "a b", "<script>", "x" * 40, "devs"):
        with pytest.raises(RoleRefused):
            hub.teams.create(acme, name)
    for act in (
        lambda: hub.teams.add(acme, "none", "alice"),
        lambda: hub.teams.delete(acme, "none"),
        lambda: hub.teams.take_out(acme, "devs", "alice"),
        lambda: hub.teams.give(acme, pattern="acme/*", level="read", team="none"),
        lambda: hub.teams.take(acme, 99),
    ):
        with pytest.raises(NotFound):
            act()


def test_a_person_gives_roles_in_repositories_of_his_own(hub: Hub, alice: Account, bob: Account) -> None:
    hub.teams.give(alice, pattern="alice/app", level="write", account="bob")
    assert hub.principals.of(bob, "session").roles == (Role("alice/app", "write"),)
    with pytest.raises(RoleRefused):
        hub.teams.give(alice, pattern="alice/app", level="read", account="alice")
    (role,) = hub.teams.roles(alice)
    with pytest.raises(NotFound):
        hub.teams.take(alice, role.id, repository="alice/other")
    with pytest.raises(NotFound):
        hub.teams.take(bob, role.id)
    hub.teams.take(alice, role.id, repository="alice/app")
    assert hub.principals.of(bob, "session").roles == ()


@pytest.mark.either
def test_a_robot_works_in_one_namespace(hub: Hub, acme: Account, clock: Tick) -> None:
    robot, secret = hub.robots.create(
        acme, "ci", description=" builds ", actions=(PULL, PUSH), repositories=("acme/app",), lifetime=100
    )
    assert (robot.name, robot.description, robot.token.hint) == ("acme+ci", "builds", secret[-4:])
    assert hub.robots.of(acme) == [robot]
    found = hub.accounts.with_token(secret)
    assert found is not None
    account, token = found
    principal = hub.principals.of(account, "basic", token.grants(), token.id)
    assert (principal.robot_of, principal.is_person, principal.is_admin) == ("acme", False, False)
    place, _ = hub.repositories.place("acme/app")
    assert decide(principal, PUSH, place, hub.policy).name == "ALLOWED"
    clock.now += 100
    assert hub.accounts.with_token(secret) is None


def test_robots_that_cannot_be(hub: Hub, alice: Account, acme: Account) -> None:
    hub.robots.create(acme, "ci", actions=(PULL,))
    for name, problem in (("", "length"), ("Ci", "characters"), ("a+b", "characters"), ("ci", "taken")):
        with pytest.raises(RobotRefused) as caught:
            hub.robots.create(acme, name, actions=(PULL,))
        assert caught.value.problem == problem
    for pattern in ("*", "alice/*", "acme", "acme2/*"):
        with pytest.raises(RobotRefused):
            hub.robots.create(acme, "other", actions=(PULL,), repositories=(pattern,))
    with pytest.raises(InvalidToken):
        hub.robots.create(acme, "other", actions=())
    assert len(hub.robots.of(acme)) == 1
    assert hub.robots.of(alice) == []


def test_a_robot_goes_with_its_owner(hub: Hub, alice: Account, acme: Account) -> None:
    _, secret = hub.robots.create(alice, "ci", actions=(PULL,))
    hub.accounts.set_disabled("alice", True)
    assert hub.accounts.with_token(secret) is None
    hub.accounts.set_disabled("alice", False)
    assert hub.accounts.with_token(secret)
    with pytest.raises(NotFound):
        hub.robots.delete(acme, "alice+ci")
    hub.robots.delete(alice, "alice+ci")
    assert hub.accounts.with_token(secret) is None
    with pytest.raises(NotFound):
        hub.robots.delete(alice, "alice+ci")


def test_an_account_stays_while_an_organisation_has_no_other_owner(hub: Hub, alice: Account, acme: Account) -> None:
    _, secret = hub.robots.create(alice, "ci", actions=(PULL,))
    with pytest.raises(OnlyOwner, match="only owner of the organisation acme"):
        hub.accounts.remove("alice")
    assert hub.accounts.find("alice")
    hub.organisations.delete("acme")
    hub.accounts.remove("alice")
    assert hub.accounts.find("alice") is None
    assert hub.accounts.with_token(secret) is None
    with pytest.raises(NotFound):
        hub.accounts.remove("alice")


@pytest.mark.either
def test_an_organisation_goes_when_it_is_empty(hub: Hub, alice: Account, acme: Account) -> None:
    _, secret = hub.robots.create(acme, "ci", actions=(PULL,))
    hub.blobs.begin("acme/app", None)
    with hub.database.writing() as connection:
        hub.repositories.ensure(connection, "acme/app")
    with pytest.raises(MemberRefused, match="repositories"):
        hub.organisations.delete("acme")
    hub.manifests.remove_repository("acme/app")
    hub.organisations.delete("acme")
    assert hub.accounts.with_token(secret) is None
    assert hub.organisations.of(alice.id) == []
    with pytest.raises(NotFound):
        hub.organisations.delete("acme")


def test_nobody_owns_the_whole_name_space(hub: Hub, alice: Account) -> None:
    for number in range(OWNED_LIMIT):
        hub.organisations.create(f"org{number}", alice)
    with pytest.raises(MemberRefused, match="too many"):
        hub.organisations.create("another", alice)

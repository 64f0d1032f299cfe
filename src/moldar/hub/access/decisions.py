"""Who may do what: every decision of the hub is made here, from plain values.

A principal is an account together with the limits of the credential that it came with. What an account may do:

- everything in repositories below its own name (`alice/…`) and below those of organisations that it owns, and an
  administrator everywhere;
- elsewhere what its roles say: `read` is to pull, `write` to push too, `admin` everything in the repositories named;
- pull from every public repository, as anyone may without an account;
- as a robot: what its credential says, in the namespace that it works for;
- in the namespace of an upstream (`docker.io/…`), which holds copies: nobody pushes, administrators delete, and pull
  everyone or all who are signed in, as the hub is set up;
- with `allow_anonymous_push`, everyone everything in namespaces that belong to no account (private repositories
  excepted).

Members, teams, robots and the audit log of a namespace are its owners' alone, at the pages, with a password: no token
and no robot may make or change what gives rights. A repository or organisation that one may not see and one that does
not exist get the same answer.
"""

import enum
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from moldar.hub.refusals import Refusal
from moldar.remote.wire import valid_repository

PULL = "pull"
PUSH = "push"
DELETE = "delete"
ACTIONS = (PULL, PUSH, DELETE)
READ = "read"
WRITE = "write"
ADMIN = "admin"
LEVELS = (READ, WRITE, ADMIN)
_OF_LEVEL = {READ: frozenset({PULL}), WRITE: frozenset({PULL, PUSH}), ADMIN: frozenset(ACTIONS)}

RESERVED_NAMES = frozenset({"library", "moldar", "v2", "admin", "administrator", "root", "hub", "registry", "static"})
"""`library` is an administrator's (it mirrors docker.io's); the others would mislead."""
_ACCOUNT_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")


class Grant(NamedTuple):
    """Actions that a credential allows. `pattern`: a repository, `alice/*` for all below, or `*`."""

    pattern: str
    actions: tuple[str, ...]

    def covers(self, action: str, repository: str) -> bool:
        if action not in self.actions and "*" not in self.actions:
            return False
        return matches(self.pattern, repository)


class Role(NamedTuple):
    """What a member or a team was given: a level in the repositories of `pattern` (as a grant's)."""

    pattern: str
    level: str


class Membership(NamedTuple):
    """An organisation that the account belongs to, and whether it is one of its owners."""

    organisation: str
    is_owner: bool


class Principal(NamedTuple):
    """Who asks. `grants`: the limits of the credential, None when it has none; `scheme`: how it was shown.

    `robot_of`: the namespace that a robot account works for; empty for a person.
    """

    name: str = ""
    account_id: int = 0
    is_admin: bool = False
    grants: tuple[Grant, ...] | None = None
    scheme: str = ""
    token_id: int = 0
    memberships: tuple[Membership, ...] = ()
    roles: tuple[Role, ...] = ()
    robot_of: str = ""

    @property
    def is_person(self) -> bool:
        """Whether somebody signed in with a password: no token, no robot."""
        return bool(self.name) and self.grants is None and not self.robot_of

    @property
    def is_anonymous(self) -> bool:
        return not self.name


ANONYMOUS = Principal()


class Place(NamedTuple):
    """What a decision must know about a repository name."""

    name: str
    exists: bool
    is_public: bool
    belongs_to_account: bool
    """Whether an account has the name's first component."""


class Verdict(enum.Enum):
    """ALLOWED, or how to refuse."""

    ALLOWED = "allowed"
    SIGN_IN = "sign in"
    ANOTHER_TOKEN = "another token"
    HIDDEN = "hidden"
    DENIED = "denied"
    COPY = "copy"


class Policy(NamedTuple):
    """The settings that decisions depend on."""

    allow_anonymous_push: bool = False
    upstreams: Mapping[str, bool] = MappingProxyType({})
    """The namespaces that hold copies of other registries, with whether everyone may pull from them."""

    def holds_copies(self, repository: str) -> bool:
        return bool(self.upstreams) and repository.partition("/")[0] in self.upstreams


def decide(principal: Principal, action: str, place: Place, policy: Policy) -> Verdict:
    """Whether `principal` may do `action` in the repository, and how to say no."""
    if action == PUSH and policy.holds_copies(place.name):
        return Verdict.COPY
    if action in rights(ANONYMOUS, place, policy):
        return Verdict.ALLOWED
    if action in rights(principal, place, policy):
        if principal.grants is None or any(grant.covers(action, place.name) for grant in principal.grants):
            return Verdict.ALLOWED
        return Verdict.ANOTHER_TOKEN
    if principal.is_anonymous:
        return Verdict.SIGN_IN
    return Verdict.HIDDEN if action == PULL else Verdict.DENIED


def rights(principal: Principal, place: Place, policy: Policy) -> frozenset[str]:
    """What the account may do in the repository, whatever its credential's limits."""
    if policy.holds_copies(place.name):
        return _rights_in_copies(principal, place.name, policy)
    if principal.is_admin or owns(principal, place.name):
        return frozenset(ACTIONS)
    if policy.allow_anonymous_push and not place.belongs_to_account and (place.is_public or not place.exists):
        return frozenset(ACTIONS)
    allowed = frozenset({PULL}) if place.exists and place.is_public else frozenset()
    for role in principal.roles:
        if matches(role.pattern, place.name):
            allowed |= _OF_LEVEL[role.level]
    return allowed


def holds(principal: Principal, namespace: str) -> bool:
    """Whether the namespace is the account's own, an organisation's that it owns, or its robot's place of work."""
    if not namespace or not principal.name:
        return False
    return namespace in (principal.name, principal.robot_of) or any(
        membership.is_owner and membership.organisation == namespace for membership in principal.memberships
    )


def _rights_in_copies(principal: Principal, repository: str, policy: Policy) -> frozenset[str]:
    if principal.is_admin:
        return frozenset({PULL, DELETE})
    is_open = policy.upstreams[repository.partition("/")[0]]
    return frozenset({PULL}) if is_open or not principal.is_anonymous else frozenset()


def owns(principal: Principal, repository: str) -> bool:
    """Whether the repository lies below a namespace that the account holds."""
    if not principal.name:
        return False
    namespace, slash, _ = repository.partition("/")
    return bool(slash) and holds(principal, namespace)


def may_manage(principal: Principal, repository: str) -> bool:
    """Whether `principal` may change a repository's settings and who has a role in it, as a person at the pages."""
    return principal.is_person and (
        principal.is_admin
        or owns(principal, repository)
        or any(role.level == ADMIN and matches(role.pattern, repository) for role in principal.roles)
    )


def may_govern(principal: Principal, namespace: str) -> bool:
    """Whether `principal` may change members, teams and robots of a namespace, and read its audit log."""
    return principal.is_person and (principal.is_admin or holds(principal, namespace))


def is_member(principal: Principal, organisation: str) -> bool:
    return any(membership.organisation == organisation for membership in principal.memberships)


def may_see_organisation(principal: Principal, organisation: str, *, has_public: bool) -> bool:
    """Whether an organisation shows itself: to everyone when it has something public, else to its members."""
    return has_public or may_see_members(principal, organisation)


def may_see_members(principal: Principal, organisation: str) -> bool:
    return may_govern(principal, organisation) or (principal.is_person and is_member(principal, organisation))


def may_have_tokens(principal: Principal) -> bool:
    """Whether `principal` may make and revoke tokens of its own: a token makes no tokens, a robot neither."""
    return principal.is_person


def may_administer(principal: Principal) -> bool:
    """Whether `principal` may see and change what concerns the whole hub, as a person at the pages."""
    return principal.is_person and principal.is_admin


def readable(principal: Principal) -> tuple[str, ...]:
    """Patterns of the repositories that the account may pull from besides the public ones."""
    own = [principal.robot_of or principal.name] if principal.name else []
    own += [membership.organisation for membership in principal.memberships if membership.is_owner]
    return tuple(dict.fromkeys([*(f"{name}/*" for name in own), *(role.pattern for role in principal.roles)]))


def may_configure(principal: Principal, place: str) -> bool:
    """As `may_manage`, but a token for every action there will do too. `place`: a repository, or `alice/*`."""
    if principal.grants is not None:
        whole = all(any(grant.covers(action, place) for grant in principal.grants) for action in ACTIONS)
        return whole and may_manage(principal._replace(grants=None), place)
    return may_manage(principal, place)


def manageable(principal: Principal) -> tuple[tuple[str, ...], ...]:
    """What a list asks to hold just the places that `may_configure` allows: each matches a pattern of every tuple."""
    if not principal._replace(grants=None).is_person:
        return ((),)
    owned = [principal.name, *(member.organisation for member in principal.memberships if member.is_owner)]
    managed = [*(f"{name}/*" for name in owned), *(role.pattern for role in principal.roles if role.level == ADMIN)]
    limits = () if principal.grants is None else tuple(_granted(principal.grants, action) for action in ACTIONS)
    return (("*",) if principal.is_admin else tuple(managed), *limits)


def _granted(grants: tuple[Grant, ...], action: str) -> tuple[str, ...]:
    return tuple(grant.pattern for grant in grants if action in grant.actions or "*" in grant.actions)


def may_collect_garbage(principal: Principal) -> bool:
    """An administrator, by a token that may delete anywhere."""
    is_whole = principal.grants is None or any(g.pattern == "*" and DELETE in g.actions for g in principal.grants)
    return principal.is_admin and is_whole


def may_make_tokens(principal: Principal) -> bool:
    """Whoever showed the password: a token that could make another would have no limits."""
    return not principal.is_anonymous and principal.grants is None


def may_revoke_token(principal: Principal, token_id: int) -> bool:
    """With the password any of one's own; a token itself, so that who finds a leaked one can end it."""
    return may_make_tokens(principal) or (principal.token_id != 0 and principal.token_id == token_id)


def may_star(principal: Principal, repository: str) -> bool:
    """Who has an account; a token only where it may pull."""
    grants = principal.grants
    covered = grants is None or any(grant.covers(PULL, repository) for grant in grants)
    return not principal.is_anonymous and covered


def may_see_metrics(principal: Principal) -> bool:
    """Whether `principal` may read figures about the whole hub: an administrator, by a token that is not limited."""
    is_whole = principal.grants is None or any(g.pattern == "*" and PULL in g.actions for g in principal.grants)
    return principal.is_admin and is_whole


def refusal(verdict: Verdict, principal: Principal) -> Refusal:
    """The answer of the registry for a verdict other than ALLOWED."""
    if verdict is Verdict.DENIED or (verdict is Verdict.ANOTHER_TOKEN and principal.scheme == "basic"):
        return Refusal("DENIED")
    if verdict is Verdict.COPY:
        return Refusal("DENIED", "this namespace holds copies of another registry: push to one of your own")
    if verdict is Verdict.HIDDEN:
        return Refusal("NAME_UNKNOWN")
    return Refusal("UNAUTHORIZED")


def account_name_problem(name: str) -> str:
    """Why `name` cannot be an account's: "length", "characters", "reserved"; empty when it can."""
    if not 2 <= len(name) <= 39:
        return "length"
    if not _ACCOUNT_NAME.match(name) or not valid_repository(name):
        return "characters"
    return "reserved" if name in RESERVED_NAMES else ""


def robot_name_problem(name: str) -> str:
    """Why a robot cannot be called so (`ci` of `alice+ci`): "length", "characters"; empty when it can."""
    if not 1 <= len(name) <= 39:
        return "length"
    return "" if _ACCOUNT_NAME.match(name) else "characters"


def matches(pattern: str, repository: str) -> bool:
    """Whether `pattern` names the repository."""
    return repository.startswith(pattern[:-1]) if pattern.endswith("*") else repository == pattern


def is_within(pattern: str, namespace: str) -> bool:
    """Whether `pattern` is valid and names only repositories of the namespace."""
    return valid_pattern(pattern) and pattern.startswith(namespace + "/")


def valid_pattern(pattern: str) -> bool:
    """Whether `pattern` may stand in a grant."""
    return pattern == "*" or valid_repository(pattern.removesuffix("/*"))


def narrowed(grants: tuple[Grant, ...] | None, asked: Iterable[Grant]) -> tuple[Grant, ...]:
    """The part of `asked` (which name repositories, no patterns) that `grants` cover."""
    if grants is None:
        return tuple(asked)
    return tuple(
        Grant(ask.pattern, tuple(a for a in ask.actions if any(grant.covers(a, ask.pattern) for grant in grants)))
        for ask in asked
    )

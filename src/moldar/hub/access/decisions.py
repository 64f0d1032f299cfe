"""Who may do what: every decision of the hub is made here, from plain values.

A principal is an account together with the limits of the credential that it came with. What an account may do:

- everything in repositories below its own name (`alice/…`), and an administrator everywhere;
- pull from every public repository, as anyone may without an account;
- in the namespace of an upstream (`docker.io/…`), which holds copies: nobody pushes, administrators delete, and pull
  everyone or all who are signed in, as the hub is set up;
- with `allow_anonymous_push`, everyone everything in namespaces that belong to no account (private repositories
  excepted).

A repository that one may not see and one that does not exist get the same answer.
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
        if self.pattern.endswith("*"):
            return repository.startswith(self.pattern[:-1])
        return repository == self.pattern


class Principal(NamedTuple):
    """Who asks. `grants`: the limits of the credential, None when it has none; `scheme`: how it was shown."""

    name: str = ""
    account_id: int = 0
    is_admin: bool = False
    grants: tuple[Grant, ...] | None = None
    scheme: str = ""
    token_id: int = 0

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
    return frozenset({PULL}) if place.exists and place.is_public else frozenset()


def _rights_in_copies(principal: Principal, repository: str, policy: Policy) -> frozenset[str]:
    if principal.is_admin:
        return frozenset({PULL, DELETE})
    is_open = policy.upstreams[repository.partition("/")[0]]
    return frozenset({PULL}) if is_open or not principal.is_anonymous else frozenset()


def owns(principal: Principal, repository: str) -> bool:
    """Whether the repository lies below the account's name."""
    return bool(principal.name) and repository.startswith(principal.name + "/")


def may_manage(principal: Principal, repository: str) -> bool:
    """Whether `principal` may change visibility and description, as a person at the pages."""
    return principal.grants is None and (principal.is_admin or owns(principal, repository))


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

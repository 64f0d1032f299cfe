"""Who may do what: every decision of the hub is made here, from plain values.

A principal is an account together with the limits of the credential that it came with. What an account may do:

- everything in repositories below its own name (`alice/…`), and an administrator everywhere;
- pull from every public repository, as anyone may without an account;
- with `allow_anonymous_push`, everyone everything in namespaces that belong to no account (private repositories
  excepted).

A repository that one may not see and one that does not exist get the same answer.
"""

import enum
import re
from collections.abc import Iterable
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


class Policy(NamedTuple):
    """The settings that decisions depend on."""

    allow_anonymous_push: bool = False


def decide(principal: Principal, action: str, place: Place, policy: Policy) -> Verdict:
    """Whether `principal` may do `action` in the repository, and how to say no."""
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
    if principal.is_admin or owns(principal, place.name):
        return frozenset(ACTIONS)
    if policy.allow_anonymous_push and not place.belongs_to_account and (place.is_public or not place.exists):
        return frozenset(ACTIONS)
    return frozenset({PULL}) if place.exists and place.is_public else frozenset()


def owns(principal: Principal, repository: str) -> bool:
    """Whether the repository lies below the account's name."""
    return bool(principal.name) and repository.startswith(principal.name + "/")


def may_manage(principal: Principal, repository: str) -> bool:
    """Whether `principal` may change visibility and description, as a person at the pages."""
    return principal.grants is None and (principal.is_admin or owns(principal, repository))


def may_configure(principal: Principal, place: str) -> bool:
    """As `may_manage`, but a token for every action there will do too. `place`: a repository, or `alice/*`."""
    if principal.grants is not None:
        whole = all(any(grant.covers(action, place) for grant in principal.grants) for action in ACTIONS)
        return whole and may_manage(principal._replace(grants=None), place)
    return may_manage(principal, place)


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

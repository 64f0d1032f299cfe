"""The tabs of the settings pages. A page has a tab by standing in one of these tuples, and nowhere else.

`path` may hold `{name}`: of the organisation or the repository. `label` is a text of `language`.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Tab(NamedTuple):
    """One settings page."""

    label: str
    path: str


class Frame(NamedTuple):
    """The heading of a settings page: whose it is, where that is, and the tabs."""

    title: str
    href: str
    tabs: Sequence[Tab]
    name: str = ""


class Link(NamedTuple):
    """A tab as it stands on a page."""

    label: str
    href: str
    is_here: bool


ACCOUNT_TABS = (
    Tab("Tokens", "/settings/tokens"),
    Tab("Organisations", "/settings/organisations"),
    Tab("Robots", "/settings/robots"),
    Tab("Webhooks", "/settings/webhooks"),
    Tab("Retention", "/settings/retention"),
    Tab("Audit log", "/settings/audit"),
)
ORGANISATION_TABS = (
    Tab("Members", "/o/{name}/members"),
    Tab("Teams and roles", "/o/{name}/teams"),
    Tab("Robots", "/o/{name}/robots"),
    Tab("Webhooks", "/settings/webhooks?place={name}/*"),
    Tab("Retention", "/o/{name}/retention"),
    Tab("Audit log", "/o/{name}/audit"),
    Tab("Delete", "/o/{name}/delete"),
)
REPOSITORY_TABS = (
    Tab("General", "/settings/repository/{name}"),
    Tab("Access", "/settings/access/{name}"),
    Tab("Webhooks", "/settings/webhooks?place={name}"),
    Tab("Retention", "/settings/retention/{name}"),
    Tab("Immutable tags", "/settings/immutable/{name}"),
)
ADMIN_TABS = (
    Tab("Overview", "/admin"),
    Tab("Accounts", "/admin/accounts"),
    Tab("Audit log", "/admin/audit"),
)


def links(tabs: Sequence[Tab], here: str, name: str = "") -> list[Link]:
    """The tabs of one page; `here` is its own path."""
    made = [Link(tab.label, tab.path.replace("{name}", name), False) for tab in tabs]
    return [link._replace(is_here=link.href == here) for link in made]

"""What the settings pages share: who may open one, how a form of theirs is worked on, and their frame of tabs."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound, UserMistake
from moldar.hub.access.accounts import ORGANISATION, Account
from moldar.hub.access.decisions import may_administer, may_govern, may_manage
from moldar.hub.registry.repositories import Repository
from moldar.hub.web.navigation import ACCOUNT_TABS, ADMIN_TABS, ORGANISATION_TABS, REPOSITORY_TABS, Frame, links
from moldar.hub.web.pages import FormRefused, Pages, Visit, byte_link

Form = dict[str, str]
Act = Callable[[Form], Any]
Again = Callable[[str], Response | Awaitable[Response]]


class NotConfirmed(UserMistake):
    """A deletion without the name that confirms it."""

    def __init__(self) -> None:
        super().__init__("type the name to confirm")


class Subject(NamedTuple):
    """What a settings page is about, and who looks at it."""

    visit: Visit
    owner: Account
    frame: Frame
    here: str


class Desk:
    """Opens the settings pages and takes in their forms."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.hub = pages.hub

    def own(self, visit: Visit) -> Subject | None:
        """The signed-in account's own settings."""
        if visit.account is None:
            return None
        frame = Frame(visit.account.name, f"/u/{visit.account.name}", ACCOUNT_TABS)
        return Subject(visit, visit.account, frame, visit.request.url.path)

    def organisation(self, visit: Visit) -> Subject | None:
        """The organisation in the path, for who governs it; to others it is as if it did not exist."""
        name = visit.request.path_params["name"]
        found = self.hub.accounts.find(name)
        if found is None or found.kind != ORGANISATION or not may_govern(visit.principal, name):
            return None
        return Subject(visit, found, Frame(name, f"/u/{name}", ORGANISATION_TABS, name), visit.request.url.path)

    def namespace(self, visit: Visit) -> Subject | None:
        """The organisation in the path, or the account's own namespace when there is none."""
        return self.organisation(visit) if "name" in visit.request.path_params else self.own(visit)

    def repository(self, visit: Visit) -> tuple[Repository, Frame] | None:
        """The repository in the path, for who manages it."""
        name = visit.request.path_params["name"]
        found = self.pages.visible(visit, name)
        if found is None or not may_manage(visit.principal, name):
            return None
        return found, Frame(name, f"/r/{name}", REPOSITORY_TABS, name)

    def is_admin(self, visit: Visit) -> bool:
        return may_administer(visit.principal)

    def closed(self, visit: Visit) -> Response:
        """To the sign-in for who has not signed in, whatever he asked for; not found for all others."""
        if visit.account is None:
            return self.pages.redirect(byte_link("/sign-in", next=visit.request.url.path))
        return self.pages.not_found(visit)

    def render(
        self, visit: Visit, frame: Frame, template: str, values: Mapping[str, Any], *, problem: str = ""
    ) -> Response:
        """A settings page; with a `problem` it answers 400."""
        tabs = links(frame.tabs, visit.request.url.path, frame.name)
        context = {"frame": frame, "tabs": tabs, "problem": problem, "here": visit.request.url.path, **values}
        return self.pages.render(visit, template, context, status=400 if problem else 200)

    def admin_frame(self, visit: Visit) -> Frame:
        return Frame(visit.language.text("Administration"), "/admin", ADMIN_TABS)

    async def take(self, visit: Visit, act: Act, again: Again, target: str) -> Response:
        """As `attend`, for what a thread does."""
        return await self.attend(visit, lambda form: self.hub.in_thread(act, form), again, target)

    async def attend(
        self, visit: Visit, work: Callable[[Form], Awaitable[Any]], again: Again, target: str
    ) -> Response:
        """Does with a form of ours what `work` says and goes on to `target`.

        What `work` raises as a mistake is shown by `again`; a Response that it gives is the answer.
        """
        try:
            made = await work(await self.pages.form(visit))
        except FormRefused:
            return self.pages.expired(visit)
        except NotFound:
            return self.pages.not_found(visit)
        except UserMistake as error:
            shown = again(visit.language.text(error.message))
            return shown if isinstance(shown, Response) else await shown
        return made if isinstance(made, Response) else self.pages.redirect(target)


def page_text(request: Request, name: str, longest: int = 100) -> str:
    """A query parameter, trimmed."""
    return request.query_params.get(name, "").replace("\0", "").strip()[:longest]


def page_number(request: Request) -> int:
    """Which page of a list is asked for, from 0."""
    number = page_text(request, "page", 5)
    return int(number) if number.isascii() and number.isdigit() else 0


def path_number(request: Request) -> int:
    """The number in the path; one that names nothing when no table could hold it."""
    number: int = request.path_params["number"]
    return number if number < 2**31 else -1


def names_in(text: str, limit: int = 20) -> tuple[str, ...]:
    """Patterns of repositories as people write them: with spaces or commas between."""
    return tuple(text.replace(",", " ").split()[:limit])

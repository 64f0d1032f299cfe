"""Settings pages about organisations: one's own memberships, and an organisation's members."""

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound
from moldar.hub.access.accounts import Account
from moldar.hub.web.desk import Desk, Form, NotConfirmed, Subject


class OrganisationPages:
    """Handlers of `/settings/organisations` and `/o/NAME/members`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hub = desk.hub

    async def mine(self, request: Request) -> Response:
        """Organisations that one belongs to, invitations, and a form for a new one."""
        visit = self._desk.pages.visit(request)
        subject = self._desk.own(visit)
        if subject is None:
            return self._desk.closed(visit)
        _, account, frame, here = subject

        def show(problem: str = "") -> Response:
            values = {"belongings": self._hub.organisations.of(account.id)}
            return self._desk.render(visit, frame, "organisations.html", values, problem=problem)

        def act(form: Form) -> Response | None:
            name, action = form.get("name", "").strip(), form.get("action", "")
            if action == "create":
                self._hub.organisations.create(name, account, by=visit.actor)
                return self._desk.pages.redirect(f"/o/{name}/members")
            organisation = self._hub.organisations.find(name)
            if organisation is None or action not in ("accept", "leave"):
                raise NotFound("no such organisation")
            if action == "accept":
                self._hub.organisations.join(organisation, account, by=visit.actor)
            else:
                self._hub.organisations.remove(organisation, account.name, by=visit.actor)
            return None

        return await self._desk.take(visit, act, show, here) if request.method == "POST" else show()

    async def members(self, request: Request) -> Response:
        subject = self._subject(request)
        if isinstance(subject, Response):
            return subject
        visit, organisation, frame, here = subject

        def show(problem: str = "") -> Response:
            values = {"members": self._hub.organisations.members(organisation), "organisation": organisation.name}
            return self._desk.render(visit, frame, "members.html", values, problem=problem)

        def act(form: Form) -> None:
            self._change_member(subject, form)

        return await self._desk.take(visit, act, show, here) if request.method == "POST" else show()

    def _change_member(self, subject: Subject, form: Form) -> None:
        visit, organisation, _, _ = subject
        name, action = form.get("name", "").strip(), form.get("action", "")
        if action == "invite":
            is_owner = form.get("as") == "owner"
            self._hub.organisations.invite(organisation, name, is_owner=is_owner, by=visit.actor)
        elif action in ("owner", "member"):
            self._hub.organisations.set_owner(organisation, name, action == "owner", by=visit.actor)
        elif action == "remove":
            self._hub.organisations.remove(organisation, name, by=visit.actor)
        else:
            raise NotFound("no such action")

    async def delete(self, request: Request) -> Response:
        """Deleting an organisation; its name must be typed."""
        subject = self._subject(request)
        if isinstance(subject, Response):
            return subject
        visit, organisation, frame, _ = subject

        def show(problem: str = "") -> Response:
            values = {"organisation": organisation.name, "repositories": self._count(organisation)}
            return self._desk.render(visit, frame, "delete_organisation.html", values, problem=problem)

        def act(form: Form) -> None:
            if form.get("confirm", "").strip() != organisation.name:
                raise NotConfirmed
            self._hub.organisations.delete(organisation.name, by=visit.actor)

        if request.method != "POST":
            return show()
        return await self._desk.take(visit, act, show, "/settings/organisations")

    def _count(self, organisation: Account) -> int:
        return self._hub.repositories.count_below(organisation.name)

    def _subject(self, request: Request) -> Subject | Response:
        visit = self._desk.pages.visit(request)
        return self._desk.organisation(visit) or self._desk.closed(visit)

"""Settings pages about who may do what: an organisation's teams and roles, and the roles in one repository."""

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound
from moldar.hub.access.accounts import ORGANISATION, Account
from moldar.hub.access.decisions import LEVELS
from moldar.hub.registry.repositories import Repository
from moldar.hub.web.desk import Desk, Form
from moldar.hub.web.pages import Visit

_TEAM = "team:"


class TeamPages:
    """Handlers of `/o/NAME/teams` and `/settings/access/REPOSITORY`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hub = desk.hub

    async def teams(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        subject = self._desk.organisation(visit)
        if subject is None:
            return self._desk.closed(visit)
        _, organisation, frame, here = subject

        def show(problem: str = "") -> Response:
            values = {
                "organisation": organisation.name,
                "teams": self._hub.teams.of(organisation),
                "people": self._members(organisation),
                "roles": self._hub.teams.roles(organisation),
                "levels": LEVELS,
            }
            return self._desk.render(visit, frame, "teams.html", values, problem=problem)

        def act(form: Form) -> None:
            self._change(visit, organisation, form)

        return await self._desk.take(visit, act, show, here) if request.method == "POST" else show()

    def _change(self, visit: Visit, organisation: Account, form: Form) -> None:
        teams, by = self._hub.teams, visit.actor
        team, member = form.get("team", "").strip(), form.get("member", "")
        match form.get("action", ""):
            case "create":
                teams.create(organisation, team, by=by)
            case "delete":
                teams.delete(organisation, team, by=by)
            case "add":
                teams.add(organisation, team, member, by=by)
            case "take-out":
                teams.take_out(organisation, team, member, by=by)
            case "give":
                self._give(visit, organisation, form.get("pattern", "").strip(), form)
            case "take":
                teams.take(organisation, _number(form), by=by)
            case _:
                raise NotFound("no such action")

    async def access(self, request: Request) -> Response:
        """The roles in one repository, for who manages it: only those that name just this one can be changed here."""
        visit = self._desk.pages.visit(request)
        found = self._desk.repository(visit)
        if found is None:
            return self._desk.closed(visit)
        repository, frame = found
        namespace = self._hub.accounts.find(repository.name.partition("/")[0])

        def show(problem: str = "") -> Response:
            values = {
                "repository": repository,
                "namespace": namespace,
                "is_organisation": bool(namespace and namespace.kind == ORGANISATION),
                "teams": self._hub.teams.of(namespace) if namespace else [],
                "people": self._members(namespace) if namespace else [],
                "roles": self._hub.teams.roles_in(namespace, repository.name) if namespace else [],
                "levels": LEVELS,
            }
            return self._desk.render(visit, frame, "access.html", values, problem=problem)

        def act(form: Form) -> None:
            if namespace is None:
                raise NotFound("nobody's namespace")
            self._change_access(visit, namespace, repository, form)

        here = request.url.path
        return await self._desk.take(visit, act, show, here) if request.method == "POST" else show()

    def _change_access(self, visit: Visit, namespace: Account, repository: Repository, form: Form) -> None:
        if form.get("action") == "give":
            self._give(visit, namespace, repository.name, form)
        elif form.get("action") == "take":
            self._hub.teams.take(namespace, _number(form), repository=repository.name, by=visit.actor)
        else:
            raise NotFound("no such action")

    def _give(self, visit: Visit, namespace: Account, pattern: str, form: Form) -> None:
        who = form.get("who", "").strip()
        team = who.removeprefix(_TEAM) if who.startswith(_TEAM) else ""
        account = "" if team else who
        level = form.get("level", "")
        self._hub.teams.give(namespace, pattern=pattern, level=level, team=team, account=account, by=visit.actor)

    def _members(self, namespace: Account) -> list[str]:
        members = self._hub.organisations.members(namespace)
        return [member.name for member in members if member.joined is not None]


def _number(form: Form) -> int:
    text = form.get("role", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound("no such role")
    return int(text)

"""The general settings of a repository: description, visibility, deletion."""

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound
from moldar.hub.web.desk import Desk, Form, NotConfirmed


class RepositorySettings:
    """Handler of `/settings/repository/REPOSITORY`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hub = desk.hub

    async def general(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        found = self._desk.repository(visit)
        if found is None:
            return self._desk.closed(visit)
        repository, frame = found

        def show(problem: str = "") -> Response:
            return self._desk.render(visit, frame, "general.html", {"repository": repository}, problem=problem)

        def act(form: Form) -> Response | None:
            action = form.get("action", "")
            if action in ("public", "private"):
                self._hub.repositories.set_visibility(repository, action == "public", by=visit.actor)
            elif action == "describe":
                self._hub.repositories.set_description(repository, form.get("description", ""), by=visit.actor)
            elif action == "delete":
                if form.get("confirm", "").strip() != repository.name:
                    raise NotConfirmed
                self._hub.manifests.remove_repository(repository.name, by=visit.actor)
                return self._desk.pages.redirect(f"/u/{repository.name.partition('/')[0]}")
            else:
                raise NotFound("no such action")
            return None

        here = request.url.path
        return await self._desk.take(visit, act, show, here) if request.method == "POST" else show()

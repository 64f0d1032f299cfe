"""The settings page about robot accounts, of an organisation or of a person."""

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound
from moldar.hub.access.decisions import ACTIONS
from moldar.hub.web.accounts import DAY, LIFETIMES
from moldar.hub.web.desk import Desk, Form, names_in


class RobotPages:
    """Handler of `/settings/robots` and `/o/NAME/robots`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hub = desk.hub

    async def robots(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        subject = self._desk.namespace(visit)
        if subject is None:
            return self._desk.closed(visit)
        _, owner, frame, here = subject

        def show(problem: str = "", secret: str = "", fresh: str = "") -> Response:
            values = {
                "owner": owner.name,
                "robots": self._hub.robots.of(owner),
                "secret": secret,
                "fresh": fresh,
                "lifetimes": LIFETIMES,
                "actions": ACTIONS,
            }
            return self._desk.render(visit, frame, "robots.html", values, problem=problem)

        def act(form: Form) -> Response | None:
            if form.get("action") == "delete":
                self._hub.robots.delete(owner, form.get("name", ""), by=visit.actor)
                return None
            if form.get("action") != "create":
                raise NotFound("no such action")
            days = form.get("days", "")
            robot, secret = self._hub.robots.create(
                owner,
                form.get("name", "").strip(),
                description=form.get("description", ""),
                actions=tuple(action for action in ACTIONS if action in form.get("actions", "").split()),
                repositories=names_in(form.get("repositories", "")),
                lifetime=int(days) * DAY if days in map(str, LIFETIMES) else None,
                by=visit.actor,
            )
            return show(secret=secret, fresh=robot.name)

        return await self._desk.take(visit, act, show, here) if request.method == "POST" else show()

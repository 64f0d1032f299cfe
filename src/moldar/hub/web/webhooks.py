"""The settings pages for webhooks: those that one may manage, and the last deliveries of each."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound
from moldar.hub.access.decisions import PULL, manageable, may_manage
from moldar.hub.registry.events import EVENTS
from moldar.hub.web.desk import Desk, page_number, path_number
from moldar.hub.web.pages import FormRefused, Visit
from moldar.hub.webhooks.hooks import Hook, InvalidHook

_HERE = "/settings/webhooks"
_SHOWN = 20
_PER_PAGE = 50


class WebhookPages:
    """Handlers of the webhook pages."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pages = desk.pages
        self._hub = desk.hub

    async def hooks(self, request: Request) -> Response:
        """All hooks (GET), or a new one (POST)."""
        visit = self._pages.visit(request)
        if visit.account is None:
            return self._desk.closed(visit)
        if request.method != "POST":
            return await self._list(visit, {"place": request.query_params.get("place", "")[:255]})
        try:
            form = await self._pages.form(visit)
        except FormRefused:
            return self._pages.expired(visit)
        place = form.get("place", "").strip()
        wish = {"place": place, "url": form.get("url", "").strip()}
        if not self._may_place(visit, place):
            return await self._list(visit, wish, problem="You may not add webhooks there.")
        try:
            hook = await self._hub.in_thread(
                self._hub.hooks.create,
                place,
                wish["url"],
                form.get("events", "").split(),
                form.get("secret", ""),
                by=visit.actor,
            )
        except InvalidHook as error:
            return await self._list(visit, wish, problem=error.message)
        except NotFound:
            return await self._list(visit, wish, problem="No such repository.")
        return await self._list(visit, {}, secret=hook.secret)

    async def hook(self, request: Request) -> Response:
        """One hook with its deliveries (GET); ping, delete, switch on or off, send again (POST)."""
        visit = self._pages.visit(request)
        if visit.account is None:
            return self._desk.closed(visit)
        hook = self._hub.hooks.find(path_number(request))
        if hook is None or not may_manage(visit.principal, hook.place):
            return self._pages.not_found(visit)
        if request.method == "POST":
            return await self._change(visit, hook)
        values = {"hook": hook, "deliveries": self._hub.hooks.deliveries(hook.id, _SHOWN)}
        return self._render(visit, "webhook.html", values)

    async def _change(self, visit: Visit, hook: Hook) -> Response:
        try:
            form = await self._pages.form(visit)
        except FormRefused:
            return self._pages.expired(visit)
        action, hooks = form.get("action", ""), self._hub.hooks
        if action == "delete":
            await self._hub.in_thread(hooks.remove, hook.id, by=visit.actor)
            return self._pages.redirect(_HERE)
        if action == "ping":
            await self._hub.in_thread(hooks.ping, hook, visit.principal.name)
        elif action in ("on", "off"):
            await self._hub.in_thread(hooks.change, hook.id, is_active=action == "on")
        elif action == "again":
            await self._hub.in_thread(hooks.redeliver, hook.id, form.get("delivery", "")[:36])
        else:
            return self._pages.not_found(visit)
        return self._pages.redirect(f"{_HERE}/{hook.id}")

    def _may_place(self, visit: Visit, place: str) -> bool:
        """Whether the hook may be there; a repository that one may not see is like none."""
        if place == "*" or not may_manage(visit.principal, place):
            return False
        return place.endswith("/*") or self._pages.may(visit, PULL, place)

    async def _list(self, visit: Visit, wish: dict[str, str], *, problem: str = "", secret: str = "") -> Response:
        number = page_number(visit.request)
        hooks = self._hub.hooks
        found = hooks.search(manageable(visit.principal), offset=number * _PER_PAGE, limit=_PER_PAGE + 1)
        last = hooks.last_deliveries([hook.id for hook in found])
        values = {
            "hooks": [(hook, last.get(hook.id)) for hook in found[:_PER_PAGE]],
            "page": number,
            "more": len(found) > _PER_PAGE,
            "wish": {"place": "", "url": "", **wish},
            "events": EVENTS,
            "secret": secret,
        }
        return self._render(visit, "webhooks.html", values, visit.language.text(problem) if problem else "")

    def _render(self, visit: Visit, template: str, values: dict[str, Any], problem: str = "") -> Response:
        subject = self._desk.own(visit)
        assert subject is not None  # whoever comes here has signed in
        return self._desk.render(visit, subject.frame, template, values, problem=problem)

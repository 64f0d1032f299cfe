"""The administrators' pages: what the hub holds, its garbage collection, its accounts."""

import asyncio
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import NotFound, UserMistake
from moldar.hub.access import audit
from moldar.hub.registry.garbage import Collected
from moldar.hub.web.desk import Desk, Form, page_number, page_text
from moldar.hub.web.pages import FormRefused, Visit

PER_PAGE = 50
_PATIENCE = 10
_LOG = logging.getLogger("moldar.hub")


class AdminPages:
    """Handlers of `/admin` and `/admin/accounts`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hub = desk.hub
        self._collecting: asyncio.Task[Collected] | None = None

    async def overview(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        if not self._desk.is_admin(visit):
            return self._desk.closed(visit)
        if request.method == "POST":
            return await self._collect(visit)
        values = await self._hub.in_thread(self._figures)
        values["collecting"] = self._is_collecting
        values["interval"] = int(self._hub.settings.gc_interval // 60)
        return self._desk.render(visit, self._desk.admin_frame(visit), "admin.html", values)

    def _figures(self) -> dict[str, Any]:
        overview = self._hub.overview
        return {
            "totals": overview.totals(),
            "usage": overview.usage(),
            "uploads": overview.uploads(),
            "last": overview.last_collection(),
        }

    async def _collect(self, visit: Visit) -> Response:
        """Starts a collection unless one runs, and waits a little for its end."""
        try:
            form = await self._desk.pages.form(visit)
        except FormRefused:
            return self._desk.pages.expired(visit)
        if form.get("action") != "collect":
            return self._desk.pages.not_found(visit)
        if not self._is_collecting:
            await self._hub.in_thread(self._hub.audit.note, visit.actor, audit.GARBAGE_COLLECTED, "")
            self._collecting = asyncio.create_task(self._hub.in_thread(self._hub.collect_garbage))
            self._collecting.add_done_callback(_report)
        if self._collecting:
            await asyncio.wait({self._collecting}, timeout=_PATIENCE)
        return self._desk.pages.redirect("/admin")

    @property
    def _is_collecting(self) -> bool:
        return self._collecting is not None and not self._collecting.done()

    async def accounts(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        if not self._desk.is_admin(visit):
            return self._desk.closed(visit)
        text = page_text(request, "name").lower()
        page = page_number(request)

        def show(problem: str = "") -> Response:
            found = [account for account in self._hub.accounts.list_all() if text in account.name]
            start = page * PER_PAGE
            values = {
                "accounts": found[start : start + PER_PAGE],
                "text": text,
                "page": page,
                "more": len(found) > start + PER_PAGE,
            }
            return self._desk.render(visit, self._desk.admin_frame(visit), "accounts.html", values, problem=problem)

        def act(form: Form) -> None:
            name, action = form.get("name", ""), form.get("action", "")
            if action not in ("disable", "enable"):
                raise NotFound("no such action")
            if name == visit.principal.name:
                raise UserMistake("you cannot disable yourself")
            self._hub.accounts.set_disabled(name, action == "disable", by=visit.actor)

        if request.method != "POST":
            return show()
        return await self._desk.take(visit, act, show, "/admin/accounts")


def _report(task: "asyncio.Task[Collected]") -> None:
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("garbage collection: %s", error)

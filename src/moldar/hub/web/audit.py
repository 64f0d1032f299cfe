"""The pages of the audit log: a namespace's for its owners, everything for administrators."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from moldar.hub.access import audit
from moldar.hub.access.audit import DEEDS, Filter, Line
from moldar.hub.web.desk import Desk, page_text
from moldar.hub.web.navigation import Frame
from moldar.hub.web.pages import Visit, byte_link, shown_name

PER_PAGE = 50
DEED_TEXTS = {
    audit.SIGNED_IN: "signed in",
    audit.SIGN_IN_FAILED: "failed to sign in",
    audit.SIGNED_UP: "signed up",
    audit.PASSWORD_SET: "set the password of",
    audit.TOKEN_MADE: "made a token",
    audit.TOKEN_REVOKED: "revoked a token",
    audit.PUSHED: "pushed",
    audit.DELETED: "deleted content of",
    audit.VISIBILITY_CHANGED: "changed the visibility of",
    audit.SETTINGS_CHANGED: "changed settings of",
    audit.REPOSITORY_DELETED: "deleted the repository",
    audit.ORGANISATION_MADE: "made the organisation",
    audit.ORGANISATION_DELETED: "deleted the organisation",
    audit.MEMBER_INVITED: "invited a member to",
    audit.MEMBER_JOINED: "joined",
    audit.MEMBER_LEFT: "ended a membership in",
    audit.OWNER_CHANGED: "changed an owner of",
    audit.TEAM_MADE: "made a team in",
    audit.TEAM_DELETED: "deleted a team of",
    audit.TEAM_CHANGED: "changed a team of",
    audit.ROLE_GIVEN: "gave a role in",
    audit.ROLE_TAKEN: "took a role away in",
    audit.ROBOT_MADE: "made a robot of",
    audit.ROBOT_DELETED: "deleted a robot of",
    audit.ACCOUNT_DISABLED: "disabled the account",
    audit.ACCOUNT_ENABLED: "enabled the account",
    audit.ACCOUNT_DELETED: "deleted the account",
    audit.GARBAGE_COLLECTED: "ran a garbage collection",
}
"""Each stands between who did it and what it was done to."""


class AuditPages:
    """Handlers of `/settings/audit`, `/o/NAME/audit` and `/admin/audit`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hub = desk.hub

    async def namespace(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        subject = self._desk.namespace(visit)
        if subject is None:
            return self._desk.closed(visit)
        return await self._show(visit, subject.frame, subject.owner.name)

    async def everything(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        if not self._desk.is_admin(visit):
            return self._desk.closed(visit)
        return await self._show(visit, self._desk.admin_frame(visit), None)

    async def _show(self, visit: Visit, frame: Frame, namespace: str | None) -> Response:
        request = visit.request
        action, text = page_text(request, "action"), page_text(request, "text")
        before = page_text(request, "before", 9)
        wanted = Filter(namespace, action if action in DEEDS else "", text)
        number = int(before) if before.isascii() and before.isdigit() else 0
        found = await self._hub.in_thread(self._hub.audit.lines, wanted, before=number, limit=PER_PAGE + 1)
        shown = found[:PER_PAGE]
        more = len(found) > PER_PAGE
        path = request.url.path
        values: dict[str, Any] = {
            "lines": [_readable(line) for line in shown],
            "deeds": DEED_TEXTS,
            "action": wanted.action,
            "text": text,
            "days": self._hub.settings.audit_days,
            "older": byte_link(path, action=wanted.action, text=text, before=str(shown[-1].id)) if more else "",
            "newest": byte_link(path, action=wanted.action, text=text) if number else "",
        }
        return self._desk.render(visit, frame, "audit.html", values)


def _readable(line: Line) -> Line:
    """With whatever people typed made visible: a token's name may hold anything."""
    target = "" if line.target == line.actor else line.target
    detail = "" if line.detail == line.actor else line.detail
    return line._replace(actor=shown_name(line.actor), target=shown_name(target), detail=shown_name(detail))

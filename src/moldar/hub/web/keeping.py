"""The settings pages for what is kept: retention rules of repositories and namespaces, and immutable tags."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from moldar.errors import UserMistake
from moldar.hub.access.decisions import may_manage
from moldar.hub.registry.patterns import parse_patterns
from moldar.hub.registry.repositories import Audience
from moldar.hub.registry.retention import Going, Rule
from moldar.hub.web.pages import FormRefused, Pages, Visit

_NUMBERS = ("keep_last", "pushed_days", "pulled_days", "untagged_days")
_LARGEST = 100_000
_SHOWN = 200
_PREVIEWED = 100


class InvalidRule(UserMistake):
    """A form with numbers that are none."""


class KeepingPages:
    """Handlers of the pages; only who manages a repository or namespace sees them."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._hub = pages.hub

    def routes(self) -> list[BaseRoute]:
        """Before the repositories' own routes, which take every path."""
        both = ["GET", "POST"]
        return [
            Route("/u/{name}/settings/retention", self.namespace, methods=both),
            Route("/r/{name:path}/settings/retention", self.repository, methods=both),
            Route("/r/{name:path}/settings/tags", self.immutable, methods=both),
        ]

    async def namespace(self, request: Request) -> Response:
        """The rule for all repositories of a namespace that have none of their own."""
        visit = self._pages.visit(request)
        name = request.path_params["name"]
        if not may_manage(visit.principal, name + "/"):
            return self._pages.not_found(visit)
        return await self._retention(visit, name, is_namespace=True)

    async def repository(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        name = request.path_params["name"]
        if self._pages.visible(visit, name) is None or not may_manage(visit.principal, name):
            return self._pages.not_found(visit)
        return await self._retention(visit, name, is_namespace=False)

    async def immutable(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        repository = self._pages.visible(visit, request.path_params["name"])
        if repository is None or not may_manage(visit.principal, repository.name):
            return self._pages.not_found(visit)
        values: dict[str, Any] = {"name": repository.name, "problem": "", "saved": False}
        if request.method == "POST":
            try:
                form = await self._pages.form(visit)
                text = form.get("patterns", "")
                patterns = parse_patterns(text)
                await self._hub.in_thread(self._hub.immutable_tags.set_patterns, repository.id, patterns)
            except FormRefused:
                return self._pages.expired(visit)
            except UserMistake as error:
                values |= {"problem": visit.language.text(error.message), "patterns": text[:2000]}
                return self._pages.render(visit, "settings_tags.html", values, status=400)
            values["saved"] = True
        values["patterns"] = str(self._hub.immutable_tags.patterns(repository.id))
        return self._pages.render(visit, "settings_tags.html", values)

    async def _retention(self, visit: Visit, name: str, *, is_namespace: bool) -> Response:
        values: dict[str, Any] = {
            "name": name,
            "is_namespace": is_namespace,
            "here": f"/{'u' if is_namespace else 'r'}/{name}/settings/retention",
            "problem": "",
            "saved": False,
            "going": None,
            "more": 0,
        }
        form: Mapping[str, str] = {}
        if visit.request.method == "POST":
            try:
                form = await self._pages.form(visit)
                values |= await self._act(name, form, is_namespace=is_namespace)
            except FormRefused:
                return self._pages.expired(visit)
            except UserMistake as error:
                values["problem"] = visit.language.text(error.message)
        own = self._hub.retention.rule(name)
        values["has_rule"] = own is not None
        namespace = name.partition("/")[0]
        values["inherits"] = namespace if not own and not is_namespace and self._hub.retention.rule(namespace) else ""
        asked = form if form.get("action") == "preview" or values["problem"] else _fields(own)
        values["fields"] = {key: asked.get(key, "") for key in (*_NUMBERS, "patterns")}
        status = 400 if values["problem"] else 200
        return self._pages.render(visit, "settings_retention.html", values, status=status)

    async def _act(self, name: str, form: Mapping[str, str], *, is_namespace: bool) -> dict[str, Any]:
        """Does what the form asks for. Raises UserMistake."""
        if form.get("action") == "remove":
            await self._hub.in_thread(self._hub.retention.set_rule, name, None)
            return {"saved": True}
        rule = _rule(form)
        if form.get("action") == "save":
            await self._hub.in_thread(self._hub.retention.set_rule, name, rule)
            return {"saved": True}
        going = await self._hub.in_thread(self._preview, name, rule, is_namespace)
        return {"going": going[:_SHOWN], "more": max(len(going) - _SHOWN, 0)}

    def _preview(self, name: str, rule: Rule, is_namespace: bool) -> list[tuple[str, Going]]:
        """Repositories with what would go from them."""
        self._hub.figures.flush()
        names = [name]
        if is_namespace:
            found = self._hub.repositories.search(Audience(everything=True), below=name, limit=_PREVIEWED)
            names = [entry.repository.name for entry in found if not self._hub.retention.rule(entry.repository.name)]
        return [(repository, one) for repository in names for one in self._hub.retention.preview(repository, rule)]


def _rule(form: Mapping[str, str]) -> Rule:
    """The rule that a form describes. Raises InvalidRule, InvalidPattern."""
    numbers: dict[str, int | None] = {}
    for key in _NUMBERS:
        text = form.get(key, "").strip()
        is_number = text.isascii() and text.isdigit() and len(text) < 7 and 1 <= int(text) <= _LARGEST
        if text and not is_number:
            raise InvalidRule("Numbers are whole and from 1 to 100000.")
        numbers[key] = int(text) if text else None
    return Rule(patterns=parse_patterns(form.get("patterns", "")), **numbers)


def _fields(rule: Rule | None) -> dict[str, str]:
    if rule is None:
        return {}
    numbers = {key: getattr(rule, key) for key in _NUMBERS}
    return {
        **{key: "" if value is None else str(value) for key, value in numbers.items()},
        "patterns": str(rule.patterns),
    }

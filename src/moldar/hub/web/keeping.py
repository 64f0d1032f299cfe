"""The settings pages for what is kept: retention rules of repositories and namespaces, and immutable tags."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from moldar.errors import UserMistake
from moldar.hub.registry.patterns import parse_patterns
from moldar.hub.registry.repositories import Audience
from moldar.hub.registry.retention import Going, Rule
from moldar.hub.web.desk import Desk
from moldar.hub.web.navigation import Frame
from moldar.hub.web.pages import FormRefused, Visit

_NUMBERS = ("keep_last", "pushed_days", "pulled_days", "untagged_days")
_LARGEST = 100_000
_SHOWN = 200
_PREVIEWED = 100


class InvalidRule(UserMistake):
    """A form with numbers that are none."""


class KeepingPages:
    """Handlers of the pages."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._hub = desk.hub

    async def namespace(self, request: Request) -> Response:
        """The rule for all repositories of a namespace that have none of their own."""
        visit = self._desk.pages.visit(request)
        subject = self._desk.namespace(visit)
        if subject is None:
            return self._desk.closed(visit)
        return await self._retention(visit, subject.frame, subject.owner.name, is_namespace=True)

    async def repository(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        found = self._desk.repository(visit)
        if found is None:
            return self._desk.closed(visit)
        return await self._retention(visit, found[1], found[0].name, is_namespace=False)

    async def immutable(self, request: Request) -> Response:
        visit = self._desk.pages.visit(request)
        found = self._desk.repository(visit)
        if found is None:
            return self._desk.closed(visit)
        repository, frame = found
        text = ""
        try:
            if request.method == "POST":
                text = (await self._desk.pages.form(visit)).get("patterns", "")
                patterns = parse_patterns(text)
                await self._hub.in_thread(self._hub.immutable_tags.set_patterns, repository, patterns, by=visit.actor)
        except FormRefused:
            return self._desk.pages.expired(visit)
        except UserMistake as error:
            problem = visit.language.text(error.message)
            return self._desk.render(visit, frame, "settings_tags.html", {"patterns": text[:2000]}, problem=problem)
        kept = str(self._hub.immutable_tags.patterns(repository.id))
        values = {"patterns": kept, "saved": request.method == "POST"}
        return self._desk.render(visit, frame, "settings_tags.html", values)

    async def _retention(self, visit: Visit, frame: Frame, name: str, *, is_namespace: bool) -> Response:
        values: dict[str, Any] = {
            "name": name,
            "is_namespace": is_namespace,
            "saved": False,
            "going": None,
            "more": 0,
        }
        form: Mapping[str, str] = {}
        problem = ""
        if visit.request.method == "POST":
            try:
                form = await self._desk.pages.form(visit)
                values |= await self._act(visit, name, form, is_namespace=is_namespace)
            except FormRefused:
                return self._desk.pages.expired(visit)
            except UserMistake as error:
                problem = visit.language.text(error.message)
        own = self._hub.retention.rule(name)
        values["has_rule"] = own is not None
        namespace = name.partition("/")[0]
        values["inherits"] = namespace if not own and not is_namespace and self._hub.retention.rule(namespace) else ""
        asked = form if form.get("action") == "preview" or problem else _fields(own)
        values["fields"] = {key: asked.get(key, "") for key in (*_NUMBERS, "patterns")}
        return self._desk.render(visit, frame, "settings_retention.html", values, problem=problem)

    async def _act(self, visit: Visit, name: str, form: Mapping[str, str], *, is_namespace: bool) -> dict[str, Any]:
        """Does what the form asks for. Raises UserMistake."""
        if form.get("action") == "remove":
            await self._hub.in_thread(self._hub.retention.set_rule, name, None, by=visit.actor)
            return {"saved": True}
        rule = _rule(form)
        if form.get("action") == "save":
            await self._hub.in_thread(self._hub.retention.set_rule, name, rule, by=visit.actor)
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

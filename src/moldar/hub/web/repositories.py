"""The pages for repositories: home and search, profiles, and `/r/<repository>`."""

from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from moldar.hub.access.accounts import ORGANISATION, PERSON, Account
from moldar.hub.access.decisions import DELETE, may_govern, may_manage, may_see_members, may_see_organisation
from moldar.hub.access.organisations import Member
from moldar.hub.layers.image import ImageViews
from moldar.hub.layers.views import LayerViews
from moldar.hub.refusals import Refusal
from moldar.hub.registry.figures import Figure
from moldar.hub.registry.repositories import Listed, Repository, audience_of
from moldar.hub.web.compare import ComparePage
from moldar.hub.web.desk import page_number
from moldar.hub.web.pages import FormRefused, Pages, Visit
from moldar.hub.web.plot import bars
from moldar.hub.web.tags import TagPages, split_address
from moldar.remote.wire import valid_tag

PER_PAGE = 24
PLOT_DAYS = 30
TAGS_PER_PAGE = 25


class RepositoryPages:
    """Handlers of the repository pages. What may be seen and done is asked of `access`, as by the API."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._hub = pages.hub
        self._views = ImageViews(pages.hub)
        self._tags = TagPages(pages, self._views, LayerViews(pages.hub))
        self._compare = ComparePage(pages, self._tags)

    async def home(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        query = request.query_params.get("q", "").strip()[:100]
        page = page_number(request)
        found = self._hub.repositories.search(
            audience_of(visit.principal), text=query, offset=page * PER_PAGE, limit=PER_PAGE + 1
        )
        values: dict[str, Any] = {"query": query, "page": page, "more": len(found) > PER_PAGE}
        values["repositories"] = found[:PER_PAGE]
        values["figures"] = self._figures(found)
        if visit.account and not query and page == 0:
            values["organisations"] = [
                entry.name for entry in self._hub.organisations.of(visit.account.id) if entry.joined is not None
            ]
            values["own"] = self._hub.repositories.search(
                audience_of(visit.principal), below=visit.account.name, limit=6
            )
            values["figures"] |= self._figures(values["own"])
        return self._pages.render(visit, "home.html", values)

    async def profile(self, request: Request) -> Response:
        visit = self._pages.visit(request)
        owner = self._hub.accounts.find(request.path_params["name"])
        if owner is None or not self._shows_itself(visit, owner):
            return self._pages.not_found(visit)
        page = page_number(request)
        found = self._hub.repositories.search(
            audience_of(visit.principal), below=owner.name, offset=page * PER_PAGE, limit=PER_PAGE + 1
        )
        values = {
            "owner": owner.name,
            "since": owner.created,
            "is_organisation": owner.kind == ORGANISATION,
            "governs": may_govern(visit.principal, owner.name),
            "members": self._members(visit, owner),
            "repositories": found[:PER_PAGE],
            "figures": self._figures(found),
            "page": page,
            "more": len(found) > PER_PAGE,
            "usage": self._hub.quotas.usage(owner.name) if may_manage(visit.principal, owner.name + "/") else None,
            "may_manage": may_manage(visit.principal, owner.name + "/"),
        }
        return self._pages.render(visit, "profile.html", values)

    def _shows_itself(self, visit: Visit, owner: Account) -> bool:
        if owner.kind != ORGANISATION:
            return owner.kind == PERSON
        has_public = self._hub.repositories.has_public(owner.name)
        return may_see_organisation(visit.principal, owner.name, has_public=has_public)

    def _members(self, visit: Visit, owner: Account) -> list[Member]:
        if owner.kind != ORGANISATION or not may_see_members(visit.principal, owner.name):
            return []
        return [member for member in self._hub.organisations.members(owner) if member.joined is not None]

    def _figures(self, found: list[Listed]) -> dict[int, Figure]:
        return self._hub.figures.of([entry.repository.id for entry in found])

    async def repository(self, request: Request) -> Response:
        """`/r/…`: a repository, or an image of one."""
        visit = self._pages.visit(request)
        name, reference = split_address(request.path_params["name"])
        repository = self._pages.visible(visit, name)
        if repository is None:
            return self._pages.not_found(visit)
        if request.method == "POST":
            return await self._change(visit, repository)
        if reference and "with" in request.query_params:
            return await self._compare.show(visit, repository, reference)
        if reference:
            return await self._tags.show(visit, repository, reference)
        page = page_number(request)
        tags = self._hub.manifests.tags(repository.name, offset=page * TAGS_PER_PAGE, limit=TAGS_PER_PAGE + 1)
        values: dict[str, Any] = {
            "repository": repository,
            "tags": [(tag, self._views.summary(repository.name, tag.digest)) for tag in tags[:TAGS_PER_PAGE]],
            "page": page,
            "more": len(tags) > TAGS_PER_PAGE,
            "may_manage": may_manage(visit.principal, repository.name),
            **await self._hub.in_thread(self._surroundings, visit, repository),
        }
        return self._pages.render(visit, "repository.html", values)

    def _surroundings(self, visit: Visit, repository: Repository) -> dict[str, Any]:
        """README, stars and pulls."""
        figures = self._hub.figures
        days = figures.pulls_by_day(repository.id, PLOT_DAYS)
        return {
            "readme": Markup(self._hub.readmes.html(repository.id)),  # made safe by readmes.render
            "readme_source": self._hub.readmes.get(repository.id),
            "figure": figures.of([repository.id]).get(repository.id, Figure()),
            "has_star": bool(visit.account and figures.has_star(repository.id, visit.account.id)),
            "days": bars(days),
            "recent": sum(days),
        }

    async def _change(self, visit: Visit, repository: Repository) -> Response:
        try:
            form = await self._pages.form(visit)
        except FormRefused:
            return self._pages.expired(visit)
        action = form.get("action", "")
        tag = form.get("tag", "")
        here = f"/r/{repository.name}"
        manages = may_manage(visit.principal, repository.name)
        if action in ("public", "private") and manages:
            await self._hub.in_thread(
                self._hub.repositories.set_visibility, repository, action == "public", by=visit.actor
            )
        elif action == "describe" and manages:
            text = form.get("description", "")
            await self._hub.in_thread(self._hub.repositories.set_description, repository, text, by=visit.actor)
        elif action == "readme" and manages:
            try:
                await self._hub.in_thread(
                    self._hub.readmes.put, repository.id, form.get("content", ""), by=visit.actor
                )
            except Refusal as error:
                return self._pages.render(visit, "message.html", {"title": error.message}, status=error.status)
        elif action in ("star", "unstar") and visit.account:
            starred = action == "star"
            await self._hub.in_thread(self._hub.figures.set_star, repository.id, visit.account.id, starred)
        elif action == "delete-tag" and valid_tag(tag) and self._pages.may(visit, DELETE, repository.name):
            try:
                await self._hub.in_thread(self._hub.manifests.delete, repository.name, tag, by=visit.actor)
            except Refusal as error:
                if error.status == 409:  # an immutable tag
                    return self._pages.render(visit, "message.html", {"title": error.message}, status=409)
                return self._pages.not_found(visit)
        else:
            return self._pages.not_found(visit)
        return self._pages.redirect(here)

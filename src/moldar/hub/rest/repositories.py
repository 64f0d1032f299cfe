"""Repositories, their tags, READMEs and stars over the REST interface."""

from typing import Any
from urllib.parse import quote, urlencode

from moldar.hub.access.decisions import DELETE, PUSH, may_configure, may_star
from moldar.hub.refusals import Refusal
from moldar.hub.registry.figures import Figure
from moldar.hub.registry.manifests import Tag
from moldar.hub.registry.readmes import README_LIMIT
from moldar.hub.registry.repositories import Listed, Repository
from moldar.hub.rest import schemas
from moldar.hub.rest.calls import (
    PAGE_QUERY,
    PREFIX,
    Answer,
    Call,
    Operation,
    allowed,
    audience,
    bounds,
    moment,
    not_found,
    page,
)
from moldar.hub.rest.schemas import reference
from moldar.hub.services import Hub
from moldar.remote.wire import valid_tag

_SEARCH = {
    "q": {"type": "string", "maxLength": 100, "description": "words of the name or description"},
    "namespace": {"type": "string", "maxLength": 255, "pattern": schemas.REPOSITORY},
}
_ONE = f"{PREFIX}/repositories/{{name}}"


class RepositoryOperations:
    """Handlers, and the descriptions of them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def operations(self) -> tuple[Operation, ...]:
        repository, tag, star = reference("Repository"), reference("Tag"), {200: reference("Star")}
        return (
            Operation(
                *("GET", f"{PREFIX}/repositories", "listRepositories", "Repositories that one may see, newest first"),
                *(self.list, {200: reference("Repositories")}, "repositories"),
                query={**_SEARCH, **PAGE_QUERY},
                needs_account=False,
            ),
            Operation(
                *("GET", _ONE, "getRepository", "A repository", self.get, {200: repository}, "repositories"),
                needs_account=False,
            ),
            Operation(
                *("PATCH", _ONE, "changeRepository", "Change description or visibility", self.change),
                *({200: repository}, "repositories"),
                body=schemas.CHANGE_REPOSITORY,
            ),
            Operation(
                *("DELETE", _ONE, "deleteRepository", "Delete a repository with all that is in it", self.delete),
                *({204: None}, "repositories"),
            ),
            Operation(
                *("GET", f"{_ONE}/tags", "listTags", "Tags, last pushed first", self.tags),
                *({200: reference("Tags")}, "tags"),
                query=PAGE_QUERY,
                needs_account=False,
            ),
            Operation(
                *("GET", f"{_ONE}/tags/{{tag}}", "getTag", "A tag", self.tag, {200: tag}, "tags"),
                needs_account=False,
            ),
            Operation(
                *("DELETE", f"{_ONE}/tags/{{tag}}", "deleteTag", "Delete a tag; its manifest stays"),
                *(self.delete_tag, {204: None}, "tags"),
                needs_account=False,
            ),
            Operation(
                *("GET", f"{_ONE}/readme", "getReadme", "The README, as Markdown"),
                *(self.readme, {200: schemas.TEXT}, "repositories"),
                needs_account=False,
                gives_text=True,
            ),
            Operation(
                *("PUT", f"{_ONE}/readme", "putReadme", "Set the README; nothing but white space removes it"),
                *(self.set_readme, {204: None}, "repositories"),
                needs_account=False,
                takes_text=True,
                refusals=(413,),
            ),
            Operation(
                *("GET", f"{_ONE}/star", "getStar", "Whether one has starred it", self.star, star, "repositories")
            ),
            Operation(*("PUT", f"{_ONE}/star", "addStar", "Star it", self.add_star, star, "repositories")),
            Operation(
                *("DELETE", f"{_ONE}/star", "removeStar", "Take the star back", self.remove_star, star),
                "repositories",
            ),
        )

    async def list(self, call: Call) -> Answer:
        text, below = call.query.get("q", ""), call.query.get("namespace", "")
        found = self._hub.repositories.search(audience(call.principal), text=text, below=below, **bounds(call))
        figures = self._hub.figures.of([entry.repository.id for entry in found])
        shown = [_repository(entry, figures.get(entry.repository.id, Figure())) for entry in found]
        asked = urlencode({key: value for key, value in (("q", text), ("namespace", below)) if value})
        return page(call, shown, f"{PREFIX}/repositories" + (f"?{asked}" if asked else ""))

    async def get(self, call: Call) -> Answer:
        return self._shown(allowed(self._hub, call))

    async def change(self, call: Call) -> Answer:
        """A description needs the right to push, as a README does; visibility all rights."""
        repository = allowed(self._hub, call)
        wish = call.body
        if "description" in wish:
            allowed(self._hub, call, PUSH)
        if "is_public" in wish and not may_configure(call.principal, repository.name):
            raise Refusal("UNAUTHORIZED" if call.principal.is_anonymous else "DENIED")
        if "is_public" in wish:
            is_public = wish["is_public"]
            await self._hub.in_thread(self._hub.repositories.set_visibility, repository, is_public, by=call.by)
        if "description" in wish:
            text = wish["description"]
            await self._hub.in_thread(self._hub.repositories.set_description, repository, text, by=call.by)
        return self._shown(repository)

    async def delete(self, call: Call) -> Answer:
        repository = allowed(self._hub, call)
        if not may_configure(call.principal, repository.name):
            raise Refusal("UNAUTHORIZED" if call.principal.is_anonymous else "DENIED")
        await self._hub.in_thread(self._hub.manifests.remove_repository, repository.name, by=call.by)
        return Answer(204)

    async def tags(self, call: Call) -> Answer:
        name = allowed(self._hub, call).name
        found = [_tag(tag) for tag in self._hub.manifests.tags(name, **bounds(call))]
        return page(call, found, f"{PREFIX}/repositories/{quote(name, safe='')}/tags")

    async def tag(self, call: Call) -> Answer:
        name = allowed(self._hub, call).name
        found = self._hub.manifests.tag(name, call.names["tag"])
        if found is None:
            raise not_found("tag")
        return Answer(200, _tag(found))

    async def delete_tag(self, call: Call) -> Answer:
        name, tag = allowed(self._hub, call, DELETE).name, call.names["tag"]
        if not valid_tag(tag):  # a digest would delete the manifest
            raise not_found("tag")
        await self._hub.in_thread(self._hub.manifests.delete, name, tag, by=call.by)
        return Answer(204)

    async def readme(self, call: Call) -> Answer:
        content = self._hub.readmes.get(allowed(self._hub, call).id)
        if not content:
            raise Refusal("NAME_UNKNOWN", "the repository has no README")
        return Answer(200, text=content.encode("utf-8", "replace"))

    async def set_readme(self, call: Call) -> Answer:
        repository = allowed(self._hub, call, PUSH)
        too_large = Refusal("UNSUPPORTED", f"a README has at most {README_LIMIT} bytes", status=413)
        raw = await call.exchange.read(README_LIMIT, too_large)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise Refusal("UNSUPPORTED", "a README is text in UTF-8", status=400) from error
        await self._hub.in_thread(self._hub.readmes.put, repository.id, text, by=call.by)
        return Answer(204)

    async def star(self, call: Call) -> Answer:
        return self._star(call, self._starrable(call))

    async def add_star(self, call: Call) -> Answer:
        return await self._set_star(call, True)

    async def remove_star(self, call: Call) -> Answer:
        return await self._set_star(call, False)

    async def _set_star(self, call: Call, is_starred: bool) -> Answer:
        repository = self._starrable(call)
        account = call.principal.account_id
        await self._hub.in_thread(self._hub.figures.set_star, repository.id, account, is_starred)
        return self._star(call, repository)

    def _starrable(self, call: Call) -> Repository:
        repository = allowed(self._hub, call)
        if not may_star(call.principal, repository.name):
            raise Refusal("DENIED")
        return repository

    def _star(self, call: Call, repository: Repository) -> Answer:
        figures = self._hub.figures
        stars = figures.of([repository.id]).get(repository.id, Figure()).stars
        is_starred = figures.has_star(repository.id, call.principal.account_id)
        return Answer(200, {"is_starred": is_starred, "stars": stars})

    def _shown(self, repository: Repository) -> Answer:
        found = self._hub.repositories.listed(repository.name)
        if found is None:
            raise Refusal("NAME_UNKNOWN")
        return Answer(200, _repository(found, self._hub.figures.of([repository.id]).get(repository.id, Figure())))


def _repository(found: Listed, figure: Figure) -> dict[str, Any]:
    repository = found.repository
    return {
        "name": repository.name,
        "is_public": repository.is_public,
        "description": repository.description,
        "created": moment(repository.created),
        "pushed": moment(repository.pushed),
        "tags": found.tags,
        "stars": figure.stars,
        "pulls": figure.pulls,
    }


def _tag(tag: Tag) -> dict[str, Any]:
    return {**tag._asdict(), "updated": moment(tag.updated)}

"""Webhooks and their deliveries over the REST interface.

A hook that one may not manage and one that does not exist get the same answer.
"""

from typing import Any
from urllib.parse import urlencode

from moldar.hub.access.decisions import PULL, Verdict, decide, manageable, may_configure, refusal
from moldar.hub.refusals import Refusal
from moldar.hub.registry.events import EVENTS, WAITING
from moldar.hub.rest import schemas
from moldar.hub.rest.calls import PAGE_QUERY, PREFIX, Answer, Call, Operation, bounds, moment, not_found, number, page
from moldar.hub.rest.schemas import reference
from moldar.hub.services import Hub
from moldar.hub.webhooks.hooks import Delivery, Hook

_ALL = f"{PREFIX}/webhooks"
_ONE = f"{_ALL}/{{id}}"
_TAG = "webhooks"


class WebhookOperations:
    """Handlers, and the descriptions of them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def operations(self) -> tuple[Operation, ...]:
        hook, sent = reference("Webhook"), {202: reference("Sent")}
        place = {"place": {"type": "string", "pattern": schemas.PLACE, "maxLength": 255}}
        return (
            Operation(
                *("GET", _ALL, "listWebhooks", "Webhooks that one may manage", self.list),
                *({200: reference("Webhooks")}, _TAG),
                query={**place, **PAGE_QUERY},
            ),
            Operation(
                *("POST", _ALL, "makeWebhook", "Make a webhook for alice/app, or for alice/*", self.make),
                *({201: reference("NewWebhook")}, _TAG),
                body=schemas.NEW_WEBHOOK,
            ),
            Operation(*("GET", _ONE, "getWebhook", "A webhook", self.get, {200: hook}, _TAG)),
            Operation(
                *("PATCH", _ONE, "changeWebhook", "Change a webhook", self.change, {200: hook}, _TAG),
                body=schemas.CHANGE_WEBHOOK,
            ),
            Operation(*("DELETE", _ONE, "deleteWebhook", "Delete a webhook", self.delete, {204: None}, _TAG)),
            Operation(
                *("GET", f"{_ONE}/deliveries", "listDeliveries", "The last deliveries, newest first"),
                *(self.deliveries, {200: reference("Deliveries")}, _TAG),
            ),
            Operation(
                *("POST", f"{_ONE}/deliveries/{{delivery}}/redeliver", "redeliver", "Send an ended delivery again"),
                *(self.redeliver, sent, _TAG),
            ),
            Operation(*("POST", f"{_ONE}/ping", "pingWebhook", "Send a ping", self.ping, sent, _TAG)),
        )

    async def list(self, call: Call) -> Answer:
        place = call.query.get("place", "")
        found = self._hub.hooks.search(manageable(call.principal), place=place, **bounds(call))
        path = _ALL + (f"?{urlencode({'place': place})}" if place else "")
        return page(call, [_hook(hook) for hook in found], path)

    async def make(self, call: Call) -> Answer:
        wish, place = call.body, call.body["place"]
        self._check_place(call, place)
        hook = await self._hub.in_thread(
            self._hub.hooks.create, place, wish["url"], wish.get("events", EVENTS), wish.get("secret", ""), by=call.by
        )
        return Answer(201, {**_hook(hook), "secret": hook.secret})

    async def get(self, call: Call) -> Answer:
        return Answer(200, _hook(self._found(call)))

    async def change(self, call: Call) -> Answer:
        hook = self._found(call)
        await self._hub.in_thread(self._hub.hooks.change, hook.id, **call.body)
        return Answer(200, _hook(self._found(call)))

    async def delete(self, call: Call) -> Answer:
        if not await self._hub.in_thread(self._hub.hooks.remove, self._found(call).id, by=call.by):
            raise not_found("webhook")
        return Answer(204)

    async def deliveries(self, call: Call) -> Answer:
        found = self._hub.hooks.deliveries(self._found(call).id)
        return Answer(200, {"items": [_delivery(delivery) for delivery in found]})

    async def redeliver(self, call: Call) -> Answer:
        hook, key = self._found(call), call.names["delivery"]
        if not await self._hub.in_thread(self._hub.hooks.redeliver, hook.id, key[:36]):
            raise not_found("delivery")
        return Answer(202, {"delivery": key})

    async def ping(self, call: Call) -> Answer:
        key = await self._hub.in_thread(self._hub.hooks.ping, self._found(call), call.principal.name)
        return Answer(202, {"delivery": key})

    def _found(self, call: Call) -> Hook:
        hook = self._hub.hooks.find(number(call.names["id"]))
        if hook is None or not may_configure(call.principal, hook.place):
            raise not_found("webhook")
        return hook

    def _check_place(self, call: Call, place: str) -> None:
        if not place.endswith("/*"):  # whether a repository is there, only for who may see it
            where, _ = self._hub.repositories.place(place)
            verdict = decide(call.principal, PULL, where, self._hub.policy)
            if verdict is not Verdict.ALLOWED:
                raise refusal(verdict, call.principal)
        if not may_configure(call.principal, place):
            raise Refusal("DENIED")


def _hook(hook: Hook) -> dict[str, Any]:
    return {
        "id": hook.id,
        "place": hook.place,
        "url": hook.url,
        "events": list(hook.events),
        "is_active": hook.is_active,
        "created": moment(hook.created),
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    shown = delivery._asdict()
    shown["id"] = shown.pop("uuid")
    shown["created"] = moment(delivery.created)
    shown["due"] = moment(delivery.due) if delivery.state == WAITING else None
    return shown

"""The description of the REST interface is true: schemathesis makes requests from it and judges the answers.

Half of the requests name things that exist, so that operations are reached and not only refused.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import ignored_auth

from moldar.hub.administration import add_user

from .hubs import PASSWORD, Running


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("described")
    add_user(str(root / "data"), "boss", PASSWORD, is_admin=True)
    running = Running(str(root / "data"), root / "log")
    yield running
    assert running.stop() == 0


def something_of_everything(described: Running, path: str) -> dict[str, Any]:
    """Makes what an earlier operation may have deleted; gives the values for the parameters of `path`."""
    with described.client("boss") as boss:
        boss.push_image("boss/app")
        boss.put("/api/v1/repositories/boss/app/readme", content="# App")
        for old in boss.get("/api/v1/webhooks").json()["items"]:
            boss.delete(f"/api/v1/webhooks/{old['id']}")
        hook = boss.post("/api/v1/webhooks", json={"place": "boss/app", "url": "http://127.0.0.1:1/"}).json()
        ping = boss.post(f"/api/v1/webhooks/{hook['id']}/ping").json()
        token = boss.post("/api/v1/tokens", json={"name": "one", "actions": ["pull"]}).json()
    number = hook["id"] if "webhooks" in path else token["id"]
    return {"name": "boss/app", "tag": "latest", "id": number, "delivery": ping["delivery"]}


def judge(described: Running, examples: int, **credentials: Any) -> None:
    """Sends requests for each operation, some as described and some not, and judges every answer."""
    document = httpx.get(f"{described.url}/api/v1/openapi.json").json()
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=described.url)
    for found in loaded.get_all_operations():
        operation = found.ok()
        there = something_of_everything(described, operation.path)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            judge_operation(operation, mode, examples, there, credentials)


def judge_operation(
    operation: Any, mode: GenerationMode, examples: int, there: dict[str, Any], credentials: dict[str, Any]
) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(1)
    @given(case=operation.as_strategy(generation_mode=mode), known=booleans())
    def check(case: Any, known: bool) -> None:
        path = case.meta.components.get(ParameterLocation.PATH)
        if known and case.path_parameters and path.mode is GenerationMode.POSITIVE:
            case.path_parameters.update({k: there[k] for k in case.path_parameters})
        case.call_and_validate(excluded_checks=[ignored_auth], **credentials)  # it meets the throttle

    check()


def test_answers_are_as_described(described: Running) -> None:
    judge(described, 6, auth=("boss", PASSWORD))


def test_answers_to_strangers_are_as_described(described: Running) -> None:
    judge(described, 1)


def test_every_operation_is_described(described: Running) -> None:
    document = httpx.get(f"{described.url}/api/v1/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) > 20
    assert "$ref" in json.dumps(document)

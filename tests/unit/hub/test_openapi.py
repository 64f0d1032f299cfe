"""The description of the REST interface is true: schemathesis makes requests from it and judges the answers."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.openapi.checks import PositiveDataAcceptanceConfig  # noqa: F401

from .hubs import PASSWORD, Client, Running


@pytest.fixture
def api() -> Iterator[None]:
    yield

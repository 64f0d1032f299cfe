"""The description of the REST interface is true: schemathesis makes requests from it and judges the answers."""

from collections.abc import Iterator

import pytest
from schemathesis.openapi.checks import PositiveDataAcceptanceConfig  # noqa: F401


@pytest.fixture
def api() -> Iterator[None]:
    yield

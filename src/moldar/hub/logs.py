"""The hub's own log lines (not those of requests; see `access_log`), as text or as one JSON object a line."""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

LOGGER = "moldar.hub"
REQUEST_ID: ContextVar[str] = ContextVar("moldar-request", default="")
"""The id of the request that this task answers; empty outside of one, and when requests are not logged."""


@contextlib.contextmanager
def logging_to(style: str, stream: TextIO | None = None) -> Iterator[None]:
    """Sends the hub's lines to `stream` (standard error) while the block runs; `style` as of the access log."""
    logger = logging.getLogger(LOGGER)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Plain())
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        request = REQUEST_ID.get()
        where = f" [{request}]" if request else ""
        return f"{timestamp(record.created)} {record.levelname.lower()}{where} {record.getMessage()}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": timestamp(record.created), "level": record.levelname.lower(), "message": record.getMessage()}
        if request := REQUEST_ID.get():
            line["id"] = request
        return json.dumps(line)

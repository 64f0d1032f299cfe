"""What goes wrong with an upstream, as refusals for our clients."""

from typing import Any

import httpx

from moldar.hub.refusals import Refusal
from moldar.hub.upstreams import Upstream

_DEFAULT_RETRY = 30


class UpstreamTrouble(Refusal):
    """The upstream gave nothing usable.

    `is_temporary`: what is known may stand in; `wait`: seconds until the next try.
    """

    def __init__(self, code: str, message: str, *, status: int, is_temporary: bool = False, wait: int = 0) -> None:
        headers = {"Retry-After": str(wait)} if wait and is_temporary else {}
        super().__init__(code, message, status=status, headers=headers)
        self.is_temporary = is_temporary
        self.wait = wait or _DEFAULT_RETRY


def unreachable(upstream: Upstream, error: Exception) -> UpstreamTrouble:
    """For what went wrong on the way."""
    if isinstance(error, httpx.TimeoutException):
        return UpstreamTrouble("UNAVAILABLE", f"{upstream.name} does not answer", status=504, is_temporary=True)
    message = f"{upstream.name} cannot be reached: {str(error) or type(error).__name__}"
    return UpstreamTrouble("UNAVAILABLE", message[:300], status=502, is_temporary=True)


def lies(upstream: Upstream, what: str) -> UpstreamTrouble:
    """For content that is not what was asked for."""
    return UpstreamTrouble("UNAVAILABLE", f"{upstream.name} sent something else than {what}", status=502)


def refused(upstream: Upstream, response: httpx.Response, missing: str) -> UpstreamTrouble:
    """For an answer other than success. `missing`: the code for what is not there."""
    status = response.status_code
    if status == 404:
        return UpstreamTrouble(missing, f"not found at {upstream.name}", status=404)
    if status in (401, 403):
        message = f"{upstream.name} has no such repository, or does not let this hub pull from it"
        return UpstreamTrouble("NAME_UNKNOWN", message, status=404)
    if status == 429:
        return UpstreamTrouble(
            "TOOMANYREQUESTS",
            f"{upstream.name} asks us to slow down",
            status=429,
            is_temporary=True,
            wait=_seconds(response.headers.get("retry-after")),
        )
    message = f"{upstream.name} answered with status {status}"
    return UpstreamTrouble("UNAVAILABLE", message, status=502, is_temporary=status >= 500)


def _seconds(header: Any) -> int:
    text = str(header or "")
    return min(int(text), 3600) if text.isascii() and text.isdigit() and len(text) < 8 else _DEFAULT_RETRY

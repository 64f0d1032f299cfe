"""Drawing a build: on a terminal as BuildKit does, as plain lines, as JSON, or not at all.

Each renderer is an EventSink with `close`; `choose` picks one by --progress and the kind of stderr.
"""

from typing import Protocol

from moldar.builder.progress import Event
from moldar.errors import UserMistake

KINDS = ("auto", "plain", "quiet", "rawjson", "tty")


class Renderer(Protocol):
    """Takes a build's events and draws them on stderr until closed."""

    def publish(self, event: Event) -> None: ...

    def close(self, error: str = "") -> None:
        """The build ended; `error` is its message, empty when it succeeded."""


class Silent:
    """Draws nothing."""

    def publish(self, event: Event) -> None:
        return

    def close(self, error: str = "") -> None:
        return


def choose(kind: str, *, terminal: bool, title: str = "Building") -> Renderer:
    """The renderer for `--progress kind`; UserMistake for an unknown kind."""
    if kind not in KINDS:
        raise UserMistake(f"invalid progress type {kind!r}", hint="use one of " + ", ".join(KINDS))
    if kind == "quiet":
        return Silent()
    if kind == "rawjson":
        from moldar.cli.progress.rawjson import RawJson

        return RawJson()
    if kind == "tty" or (kind == "auto" and terminal):
        from moldar.cli.progress.tty import Terminal

        return Terminal(title)
    from moldar.cli.progress.plain import Plain

    return Plain()

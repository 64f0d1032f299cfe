"""The flags of an instruction: which there are, which may repeat, and what their values may be."""

from collections.abc import Mapping

from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import did_you_mean

# Kinds of flags: a switch is `--link` or `--link=true|false`, a text has a value, a list may be given again.
SWITCH = "switch"
TEXT = "text"
LIST = "list"


class Flags:
    """The flags given to one instruction."""

    def __init__(self, written: tuple[str, ...], kinds: Mapping[str, str], instruction: str) -> None:
        """Check `written` against `kinds`; DockerfileError for unknown, repeated, empty or misfit flags."""
        self._texts: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}
        self._switches: dict[str, bool] = {}
        for flag in written:
            self._take(flag, kinds, instruction)

    def text(self, name: str, default: str = "") -> str:
        """The value of a text flag."""
        return self._texts.get(name, default)

    def list(self, name: str) -> tuple[str, ...]:
        """All values of a list flag, in order."""
        return tuple(self._lists.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """The value of a switch; None when it was not given."""
        return self._switches.get(name)

    def _take(self, flag: str, kinds: Mapping[str, str], instruction: str) -> None:
        written, equals, value = flag.partition("=")
        name = written.removeprefix("--")
        kind = kinds.get(name)
        if kind is None:
            known = f"{instruction} has {', '.join('--' + option for option in kinds)}" if kinds else ""
            hint = did_you_mean(written, ["--" + option for option in kinds])
            raise DockerfileError(f"unknown flag: {written}", hint=hint or known or f"{instruction} has no flags")
        if name in self._texts or name in self._switches:
            raise DockerfileError(f"duplicate flag specified: {written}")
        if (kind != SWITCH and not equals) or (kind == SWITCH and equals and not value):
            raise DockerfileError(f"missing a value on flag: {written}")
        if kind == LIST:
            self._lists.setdefault(name, []).append(value)
        elif kind == TEXT:
            self._texts[name] = value
        elif value.lower() in ("", "true", "false"):
            self._switches[name] = value.lower() != "false"
        else:
            raise DockerfileError(f"expecting boolean value for flag {written}, not: {value}")

"""The --mount flag of RUN: its options, what they may be for each type, and the errors that name them.

Rules: Dockerfile reference, "RUN --mount".
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from moldar.dockerfile.quantities import parse_size, parse_switch
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import did_you_mean
from moldar.dockerfile.words import Expander

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_OPTIONS = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "readwrite",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
    *_ALIASES,
]
_WITHOUT_VALUE = ("readonly", "readwrite", "required")
_ONLY_FOR = {"required": ("secret", "ssh"), "size": ("tmpfs",)}
_OWNED = ("secret", "ssh", "cache")
_OCTAL = r"[0-7]{1,11}\Z"
_DECIMAL = r"[0-9]{1,10}\Z"


class RunMount(NamedTuple):
    """A mount as asked for. `kind`: bind, cache, tmpfs, secret or ssh.

    `source`, `target`, `from_stage` and `cache_id` (the option `id`) are as written, empty when absent; `sharing`
    is shared, private, locked or empty; `mode`, `uid` and `gid` are -1 when absent; `size` is in bytes.
    `env` is the variable's name for a secret, None when not asked for, "" when asked for without a name.
    """

    kind: str = "bind"
    target: str = ""
    source: str = ""
    from_stage: str = ""
    readonly: bool = True
    cache_id: str = ""
    sharing: str = ""
    mode: int = -1
    uid: int = -1
    gid: int = -1
    size: int = 0
    required: bool = False
    env: str | None = None


def mount_sources(texts: Sequence[str]) -> tuple[str, ...]:
    """What the mounts name with `from=`. No variables may stand there: it decides the graph. DockerfileError."""
    found = []
    for text in texts:
        for field in _fields(text):
            key, _, value = field.partition("=")
            if key.lower() == "from" and value:
                if "$" in value[:-1]:
                    raise DockerfileError(
                        "'from' doesn't support variable expansion, define alias stage instead",
                        hint=f"add FROM {value} AS <name> with a global ARG, and use from=<name>",
                    )
                found.append(value)
    return tuple(found)


def parse_mounts(texts: Sequence[str], expander: Expander) -> tuple[RunMount, ...]:
    """The mounts written in `texts`, variables in the values expanded. DockerfileError (without place)."""
    return tuple(_parse_mount(text, expander) for text in texts)


def _parse_mount(text: str, expander: Expander) -> RunMount:
    values: dict[str, Any] = {}
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        if not equals:
            if key not in _WITHOUT_VALUE:
                raise DockerfileError(f"invalid field '{field}' must be a key=value pair")
            value = "true"
        _take(values, key, expander.word(value) if equals else value, field)
    mount = RunMount(**values)
    if "readonly" not in values:
        mount = mount._replace(readonly=mount.kind not in ("cache", "tmpfs"))
    _check(mount)
    return mount


def _take(values: dict[str, Any], key: str, value: str, field: str) -> None:
    kind = values.get("kind", "bind")
    if kind not in _ONLY_FOR.get(key, (kind,)):
        raise DockerfileError(
            f"unexpected key '{key}' for mount type '{kind}'",
            hint="type= comes first" if "kind" not in values else "",
        )
    match key:
        case "type":
            values["kind"] = _one_of(value, KINDS, "mount type")
        case "sharing":
            values["sharing"] = _one_of(value, SHARING, "sharing value")
        case "readonly" | "required":
            values[key] = _read(parse_switch, value, key)
        case "readwrite":
            values["readonly"] = not _read(parse_switch, value, key)
        case "size":
            values["size"] = _read(parse_size, value, key)
        case "mode":
            values["mode"] = _number(value, key, _OCTAL, 8)
        case "uid" | "gid":
            values[key] = _number(value, key, _DECIMAL, 10)
        case "from" | "id":
            values["from_stage" if key == "from" else "cache_id"] = value
        case "source" | "target" | "env":
            values[key] = value
        case _:
            hint = did_you_mean(key, _OPTIONS)
            raise DockerfileError(f"unexpected key '{key}' in '{field}'", hint=hint)


def _check(mount: RunMount) -> None:
    if mount.kind not in _OWNED:
        for name, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if value >= 0:
                raise DockerfileError(f'{name} not allowed for "{mount.kind}" type mounts')
    if mount.kind == "secret":
        if mount.from_stage:
            raise DockerfileError("secret mount should not have a from")
        if not (mount.source or mount.target or mount.cache_id):
            raise DockerfileError("invalid secret mount. one of source, target required", hint="write id=<name>")
        if mount.source and mount.cache_id:
            raise DockerfileError("both source and id can't be set")
    if mount.sharing and mount.kind != "cache":
        raise DockerfileError(f"invalid cache sharing set for {mount.kind} mount")


def _one_of(value: str, options: tuple[str, ...], what: str) -> str:
    if value.lower() not in options:
        hint = did_you_mean(value.lower(), options) or f"it may be {', '.join(options)}"
        raise DockerfileError(f'unsupported {what} "{value}"', hint=hint)
    return value.lower()


def _read(parse: Callable[[str], int], value: str, key: str) -> int:
    try:
        return parse(value)
    except ValueError:
        raise DockerfileError(f"invalid value for {key}: {value}") from None


def _number(value: str, key: str, form: str, base: int) -> int:
    if not re.match(form, value) or int(value, base) >= 1 << 32:
        raise DockerfileError(f"invalid value {value} for {key}")
    return int(value, base)


def _fields(text: str) -> list[str]:
    """The comma-separated values of `text`, as in one line of CSV: a value in quotes may hold commas."""
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted_field(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field, position = text[position:end], end
            if '"' in field:
                raise DockerfileError(f"a quote may only enclose the whole of a value: {field}")
        fields.append(field)
        if position >= len(text):
            return fields
        position += 1


def _quoted_field(text: str, position: int) -> tuple[str, int]:
    pieces = []
    while True:
        end = text.find('"', position)
        if end < 0:
            raise DockerfileError(f"a quote is not closed: {text}")
        pieces.append(text[position:end])
        position = end + 1
        if not text.startswith('"', position):
            break
        pieces.append('"')
        position += 1
    if position < len(text) and text[position] != ",":
        raise DockerfileError(f"a quote may only enclose the whole of a value: {text}")
    return "".join(pieces), position

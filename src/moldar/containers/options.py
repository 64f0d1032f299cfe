"""What a person may ask of a new container, and how the words for volumes and limits are read."""

import os
from typing import NamedTuple

from moldar.errors import UserMistake

RESTART_POLICIES = ("no", "on-failure", "always", "unless-stopped")
_TRUE = ("", "true", "1")


class RunOptions(NamedTuple):
    """The flags of `run` and `create` by Docker's names; words that have a grammar are still as written.

    None and empty mean what the image says. Sizes in bytes, `cpus` in processors, times in seconds. `env` are
    complete words (NAME=value), `labels` pairs. `ulimits` are (name, soft, hard), `hosts` (name, address).
    `volumes_from` are containers, with `:ro` at the end where their volumes are only to be read.
    """

    command: tuple[str, ...] = ()
    name: str = ""
    image_name: str = ""
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    user: str = ""
    groups: tuple[str, ...] = ()
    workdir: str = ""
    hostname: str = ""
    tty: bool = False
    interactive: bool = False
    detach: bool = False
    remove: bool = False
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    network: str = "bridge"
    volumes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    init: bool = False
    restart: str = "no"
    read_only: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    memory: int = 0
    memory_swap: int = 0
    cpus: float = 0.0
    pids: int = 0
    shm_size: int = 0
    ulimits: tuple[tuple[str, int, int], ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    stop_timeout: int | None = None
    cgroup_parent: str = ""
    volumes_from: tuple[str, ...] = ()


class MountWord(NamedTuple):
    """A mount as asked for. `kind`: bind, volume or tmpfs; `source` is a path, a volume's name, or empty."""

    kind: str
    source: str
    target: str
    readonly: bool = False
    size: int = 0
    mode: int = 0o1777


def parse_volume(text: str) -> MountWord:
    """`-v [source:]target[:options]`; a source with a slash is a path, another a volume's name. UserMistake."""
    parts = text.split(":")
    options: list[str] = []
    if len(parts) == 1:
        source, target = "", parts[0]
    elif len(parts) == 2:
        source, target = parts
    elif len(parts) == 3:
        source, target, options = parts[0], parts[1], parts[2].split(",")
    else:
        raise UserMistake(f"invalid volume {text!r}: expected [source:]target[:options]")
    _check_target(target, text)
    if not source:
        if len(parts) > 1:
            raise UserMistake(f"invalid volume {text!r}: the source is empty")
        return MountWord("volume", "", target)
    readonly = "ro" in options or "readonly" in options
    if source.startswith(("/", ".", "~")):
        return MountWord("bind", os.path.abspath(os.path.expanduser(source)), target, readonly)
    return MountWord("volume", source, target, readonly)


def parse_mount(text: str) -> MountWord:
    """`--mount type=…,source=…,target=…,readonly`. UserMistake."""
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        fields[{"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(name, name)] = value
    kind = fields.get("type", "volume")
    target = fields.get("target", "")
    _check_target(target, text)
    if kind not in ("bind", "volume", "tmpfs"):
        raise UserMistake(f"invalid mount {text!r}: unknown type {kind!r}", hint="use bind, volume or tmpfs")
    source = fields.get("source", "")
    if kind == "bind":
        if not source:
            raise UserMistake(f"invalid mount {text!r}: a bind mount needs a source")
        source = os.path.abspath(os.path.expanduser(source))
        if not os.path.exists(source):
            raise UserMistake(f"invalid mount {text!r}: {source} does not exist")
    readonly = fields.get("readonly", "false") in _TRUE
    size = parse_size(fields.get("tmpfs-size", "0"))
    return MountWord(kind, source, target, readonly, size, _mode(fields.get("tmpfs-mode", "1777"), text))


def parse_tmpfs(text: str) -> MountWord:
    """`--tmpfs target[:size=…,mode=…,ro]`. UserMistake."""
    target, _, rest = text.partition(":")
    _check_target(target, text)
    fields = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    return MountWord(
        "tmpfs",
        "",
        target,
        "ro" in fields,
        parse_size(fields.get("size", "0")),
        _mode(fields.get("mode", "1777"), text),
    )


def parse_size(text: str) -> int:
    """Bytes of a size with an optional unit b, k, m, g. UserMistake."""
    word = text.lower().removesuffix("b")
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(word[-1:], 1)
    digits = word[:-1] if factor > 1 else word
    try:
        return int(float(digits) * factor)
    except ValueError:
        raise UserMistake(f"invalid size {text!r}: expected a number and b, k, m or g") from None


def parse_restart(text: str) -> tuple[str, int]:
    """`--restart policy[:most]`: the policy and how often at most (0: no end). UserMistake."""
    policy, colon, most = text.partition(":")
    policy = policy or "no"
    if policy not in RESTART_POLICIES:
        raise UserMistake(f"invalid restart policy {text!r}", hint=f"use one of {', '.join(RESTART_POLICIES)}")
    if colon and (policy != "on-failure" or not most.isdecimal()):
        raise UserMistake(f"invalid restart policy {text!r}: a maximum count goes with on-failure only")
    return policy, int(most) if colon else 0


def _check_target(target: str, text: str) -> None:
    if not target.startswith("/"):
        raise UserMistake(f"invalid mount {text!r}: the target must be an absolute path")
    if os.path.normpath(target) in ("/", "//"):
        raise UserMistake(f"invalid mount {text!r}: the target cannot be /")


def _mode(text: str, whole: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise UserMistake(f"invalid mount {whole!r}: {text!r} is not a mode") from None

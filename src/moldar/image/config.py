"""The image configuration: what a container of the image runs, and how the image came to be.

Source: image-spec 1.1, config.md, with Docker's additions (Healthcheck, Shell, OnBuild). The digest of the
encoded bytes is the image ID.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from moldar.errors import CorruptData, UserMistake
from moldar.image.fields import (
    integer,
    names,
    objects,
    optional_texts,
    parse_object,
    sub_object,
    text,
    text_map,
    texts,
)
from moldar.image.model import Digest, Platform, encode_json, parse_digest

INLINE_CACHE = "moldar.buildcache.v1"
"""The top-level key under which an image's config may hold the build cache of its own layers."""
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Healthcheck(NamedTuple):
    """How to test that a container works; times in nanoseconds, 0 means Docker's default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class HistoryEntry(NamedTuple):
    """One instruction in the image's past; `empty_layer` when it made no layer."""

    created: str = ""
    created_by: str = ""
    empty_layer: bool = False
    comment: str = ""
    author: str = ""


class ContainerConfig(NamedTuple):
    """Defaults for the container's process. None differs from empty for entrypoint, cmd and shell."""

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] = ()
    extra: Mapping[str, Any] | None = None


class ImageConfig(NamedTuple):
    """A whole image configuration. `created` is RFC 3339; `extra` holds top-level keys unknown to us."""

    platform: Platform = Platform()
    created: str = ""
    author: str = ""
    config: ContainerConfig = ContainerConfig()
    diff_ids: tuple[Digest, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    extra: Mapping[str, Any] | None = None


_TOP = {"architecture", "os", "variant", "created", "author", "config", "rootfs", "history"}
_CONTAINER = {
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
    "Healthcheck", "Shell", "OnBuild",
}  # fmt: skip


def parse_image_config(raw: bytes) -> ImageConfig:
    """The configuration in `raw`; CorruptData when it is malformed."""
    document = parse_object(raw, "image config")
    try:
        diff_ids = tuple(parse_digest(diff_id) for diff_id in texts(sub_object(document, "rootfs"), "diff_ids"))
    except UserMistake as error:
        raise CorruptData(f"malformed image config: {error}") from error
    return ImageConfig(
        Platform.from_json(document),
        text(document, "created"),
        text(document, "author"),
        parse_container_config(sub_object(document, "config")),
        diff_ids,
        tuple(_parse_history(entry) for entry in objects(document, "history")),
        {key: value for key, value in document.items() if key not in _TOP},
    )


def encode_image_config(image: ImageConfig) -> bytes:
    """The stable JSON bytes of `image`; their digest is the image ID."""
    document: dict[str, Any] = dict(image.platform.to_json())
    document["config"] = container_config_json(image.config)
    if image.author:
        document["author"] = image.author
    if image.created:
        document["created"] = image.created
    document["history"] = [_history_json(entry) for entry in image.history]
    document["rootfs"] = {"type": "layers", "diff_ids": list(image.diff_ids)}
    return encode_json({**document, **(image.extra or {})})


def parse_container_config(document: Mapping[str, Any]) -> ContainerConfig:
    """The `config` object of an image configuration; CorruptData when a member has the wrong type."""
    return ContainerConfig(
        text(document, "User"),
        names(document, "ExposedPorts"),
        texts(document, "Env"),
        optional_texts(document, "Entrypoint"),
        optional_texts(document, "Cmd"),
        names(document, "Volumes"),
        text(document, "WorkingDir"),
        tuple(text_map(document, "Labels").items()),
        text(document, "StopSignal"),
        _parse_healthcheck(sub_object(document, "Healthcheck")),
        optional_texts(document, "Shell"),
        texts(document, "OnBuild"),
        {key: value for key, value in document.items() if key not in _CONTAINER},
    )


def container_config_json(config: ContainerConfig) -> dict[str, Any]:
    """`config` as the specification's JSON object; empty members are left out, sets are sorted."""
    members: dict[str, Any] = {
        "User": config.user,
        "ExposedPorts": {port: {} for port in sorted(config.exposed_ports)},
        "Env": list(config.env),
        "Entrypoint": _list(config.entrypoint),
        "Cmd": _list(config.cmd),
        "Healthcheck": _healthcheck_json(config.healthcheck),
        "Volumes": {volume: {} for volume in sorted(config.volumes)},
        "WorkingDir": config.working_dir,
        "OnBuild": list(config.on_build),
        "Labels": dict(sorted(config.labels)),
        "StopSignal": config.stop_signal,
        "Shell": _list(config.shell),
    }
    document = {key: value for key, value in members.items() if value}
    if config.cmd == ():
        document["Cmd"] = []
    if config.entrypoint == ():
        document["Entrypoint"] = []
    return {**document, **(config.extra or {})}


def _list(value: tuple[str, ...] | None) -> list[str] | None:
    return None if value is None else list(value)


def _parse_healthcheck(document: Mapping[str, Any]) -> Healthcheck | None:
    if not document:
        return None
    return Healthcheck(
        texts(document, "Test"),
        integer(document, "Interval"),
        integer(document, "Timeout"),
        integer(document, "StartPeriod"),
        integer(document, "StartInterval"),
        integer(document, "Retries"),
    )


def _healthcheck_json(check: Healthcheck | None) -> dict[str, Any] | None:
    if check is None:
        return None
    members: dict[str, Any] = {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {key: value for key, value in members.items() if value}


def _parse_history(document: Mapping[str, Any]) -> HistoryEntry:
    return HistoryEntry(
        text(document, "created"),
        text(document, "created_by"),
        bool(document.get("empty_layer")),
        text(document, "comment"),
        text(document, "author"),
    )


def _history_json(entry: HistoryEntry) -> dict[str, Any]:
    members: dict[str, Any] = {
        "created": entry.created,
        "created_by": entry.created_by,
        "author": entry.author,
        "comment": entry.comment,
        "empty_layer": entry.empty_layer,
    }
    return {key: value for key, value in members.items() if value}

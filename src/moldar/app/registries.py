"""Verbs on registries: login, logout, pull, push."""

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.errors import NotFound, UserMistake
from moldar.export.store_image import receive
from moldar.image.model import Descriptor, Digest, Platform
from moldar.image.reference import DEFAULT_REGISTRY, Reference, parse_reference
from moldar.image.transfer import Progress, copy
from moldar.remote.client import Registry, RegistryImage
from moldar.remote.config import RegistryConfig, parse_proxies, parse_registry_config
from moldar.remote.credentials import Credential, DockerCredentials
from moldar.store.layout import write_index


class Pulled(NamedTuple):
    """What a pull brought. `reference` in full, `familiar` as Docker shows it; `changed`: it was not here before."""

    reference: str
    familiar: str
    digest: Digest
    image_id: Digest
    changed: bool


class Pushed(NamedTuple):
    """What a push left at the registry: the manifest's digest and its size in bytes."""

    reference: str
    digest: Digest
    size: int


def login(engine: Engine, host: str, user: str, password: str) -> Sequence[str]:
    """Check the account with the registry and remember it; warnings about how it is kept.

    Raises AccessDenied when the registry refuses it.
    """
    host = _host(host)
    credential = Credential(user, password)
    with Registry(host, lambda asked: credential if asked == host else None, registry_config(engine)) as registry:
        registry.check_login()
    stored = _credentials(engine).store(host, credential)
    return [stored.warning] if stored.warning else []


def logout(engine: Engine, host: str) -> str:
    """Forget the account at a registry; the registry's name."""
    host = _host(host)
    _credentials(engine).erase(host)
    return host


def pull(engine: Engine, name: str, *, platform: str = "", progress: Progress | None = None) -> Pulled:
    """Bring an image into the store, byte for byte. Raises NotFound, RegistryRefused, CorruptData."""
    reference = parse_reference(name)
    before = engine.images.find_tag(reference)
    wanted = parse_platform(platform) if platform else engine.platform
    with open_registry(engine, reference.registry) as registry:
        source = RegistryImage(registry, reference)
        resolved = source.resolve()
        image = receive(
            source,
            machinery(engine).store,
            (reference,),
            platform=wanted,
            repository=reference.name,
            progress=progress,
        )
    write_index(engine.home, engine.images, engine.blobs)
    changed = before is None or before.image != image
    return Pulled(str(reference), reference.familiar, resolved.digest, image, changed)


def push(engine: Engine, name: str, *, progress: Progress | None = None) -> Pushed:
    """Send an image to its registry; layers that are there are not sent. Raises NotFound, RegistryRefused."""
    reference = parse_reference(name)
    if reference.digest:
        raise UserMistake("cannot push a digest reference", hint="push a tag")
    known = engine.images.find_tag(reference)
    if known is None:
        raise NotFound(f"an image does not exist locally with the tag: {reference.familiar_name}:{reference.tag}")
    source = machinery(engine).source(reference)
    with open_registry(engine, reference.registry) as registry:
        target = RegistryImage(registry, reference, mount_sources(engine, reference))
        copied = copy(source, target, progress=progress)
    engine.images.add_repository_digest(reference.name, copied.root.digest, known.image)
    engine.images.tag(reference, known.image, copied.root.digest)
    write_index(engine.home, engine.images, engine.blobs)
    return Pushed(str(reference), copied.root.digest, copied.root.size)


def mount_sources(engine: Engine, reference: Reference) -> Callable[[Descriptor], Sequence[str]]:
    """Other repositories of the same registry that images with the blob's layer came from or went to."""
    prefix = reference.registry + "/"

    def sources(blob: Descriptor) -> Sequence[str]:
        rows = engine.database.rows(
            "SELECT DISTINCT repository FROM repository_digests WHERE repository LIKE ? AND repository != ? LIMIT 4",
            (prefix + "%", reference.name),
        )
        return [repository.removeprefix(prefix) for (repository,) in rows]

    return sources


def references_to_pull(engine: Engine, name: str, *, every_tag: bool = False) -> list[Reference]:
    """The reference written, or one for each tag that the registry lists."""
    reference = parse_reference(name)
    if not every_tag:
        return [reference]
    if reference.digest or name.endswith(":" + reference.tag):
        raise UserMistake("tag can't be used with --all-tags/-a")
    with open_registry(engine, reference.registry) as registry:
        return [reference._replace(tag=tag) for tag in registry.tags(reference.repository)]


def references_to_push(engine: Engine, name: str, *, every_tag: bool = False) -> list[Reference]:
    """The reference written, or one for each tag that the store has in its repository."""
    reference = parse_reference(name)
    if not every_tag:
        return [reference]
    if name.endswith(":" + reference.tag):
        raise UserMistake("tag can't be used with --all-tags/-a")
    tags = engine.images.tags_of_repository(reference.name)
    if not tags:
        raise NotFound(f"an image does not exist locally in the repository {reference.familiar_name}")
    return [reference._replace(tag=tag.tag) for tag in tags]


def open_registry(engine: Engine, host: str) -> Registry:
    """The registry of that name with our credentials, mirrors and proxies."""
    return Registry(host, _credentials(engine).find, registry_config(engine))


def registry_config(engine: Engine) -> RegistryConfig:
    """What the moldar.toml files say; the strongest that exists rules alone."""
    settings = engine.settings
    proxies = parse_proxies(settings.http_proxy, settings.https_proxy, settings.no_proxy)
    for path in reversed(settings.configuration_files):
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                certificates = os.path.join(os.path.dirname(path), "certs.d")
                return parse_registry_config(file.read(), certificates=certificates, proxies=proxies)
    return RegistryConfig(proxies=proxies)


def parse_platform(text: str) -> Platform:
    """`linux/arm64/v8` and the like; UserMistake."""
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise UserMistake(f"invalid platform {text!r}", hint="expected os/architecture, such as linux/arm64")
    return Platform(*parts)


def _host(text: str) -> str:
    host = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_REGISTRY if host in ("", "index.docker.io", "registry-1.docker.io") else host


def _credentials(engine: Engine) -> DockerCredentials:
    return DockerCredentials(os.path.join(engine.settings.docker_config, "config.json"))

"""How to reach registries, as data: mirrors, plain-http permission and certificate authorities per host.

Reads the `[registry."HOST"]` tables of moldar.toml and says, for a registry's name, which endpoints to try in
which order. Opens no connection.

    [registry."docker.io"]
    mirrors = ["http://127.0.0.1:5050"]     # tried in order, then docker.io itself
    [registry."registry.lan:5000"]
    insecure = true                         # plain http may be spoken to this host
    ca = "/etc/ssl/lan.crt"                 # an authority to trust besides the system's
"""

import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

from moldar.errors import UserMistake

DOCKER_HUB = "docker.io"
DOCKER_HUB_HOST = "registry-1.docker.io"

_LOOPBACK_NAMES = ("localhost", "::1", "[::1]")
_SETTINGS = {"mirrors", "insecure", "ca"}


class InvalidRegistryConfig(UserMistake):
    """A `[registry]` table of moldar.toml says something that we cannot follow."""


class HostSettings(NamedTuple):
    """What moldar.toml says about one registry. `ca`: path of a PEM file, empty for none."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    ca: str = ""


class Endpoint(NamedTuple):
    """A place that serves a registry. `scheme` is empty when plain http is allowed and must be probed for.

    `prefix`: path that the mirror puts before repository names, without slashes at its ends.
    """

    host: str
    scheme: str
    prefix: str = ""

    def repository(self, name: str) -> str:
        """The name under which this endpoint keeps repository `name`."""
        return f"{self.prefix}/{name}" if self.prefix else name


class Proxies(NamedTuple):
    """Proxies to go through, as URLs (empty: none). `bypass`: hosts and domain suffixes reached directly."""

    http: str = ""
    https: str = ""
    bypass: tuple[str, ...] = ()

    def for_host(self, scheme: str, host: str) -> str:
        """The proxy URL for a host (`name[:port]`), empty to connect directly; loopback never has one."""
        name = host_name(host)
        if is_loopback(host) or any(_bypasses(entry, name) for entry in self.bypass):
            return ""
        return self.https if scheme == "https" else self.http


NO_PROXIES = Proxies()


class RegistryConfig(NamedTuple):
    """Settings for all hosts. `certificates`: a directory of Docker's certs.d layout, empty for none."""

    hosts: Mapping[str, HostSettings] = {}
    certificates: str = ""
    proxies: Proxies = NO_PROXIES

    def settings(self, host: str) -> HostSettings:
        """What is configured for `host` (`name[:port]`): its own table, else that of the name without port."""
        return self.hosts.get(host) or self.hosts.get(host_name(host)) or HostSettings()

    def insecure(self, host: str) -> bool:
        """Whether plain http may be spoken to `host`."""
        name = DOCKER_HUB if host == DOCKER_HUB_HOST else host
        return is_loopback(host) or self.settings(name).insecure or self._is_http_mirror(host)

    def origin(self, registry: str) -> Endpoint:
        """The registry itself: where pushes go."""
        host = DOCKER_HUB_HOST if registry == DOCKER_HUB else registry
        return Endpoint(host, "" if self.insecure(host) else "https")

    def endpoints(self, registry: str) -> tuple[Endpoint, ...]:
        """Where to pull from, in order: the mirrors, then the registry itself."""
        mirrors = tuple(self._mirror(text) for text in self.settings(registry).mirrors)
        return (*mirrors, self.origin(registry))

    def _is_http_mirror(self, host: str) -> bool:
        mirrors = (mirror for settings in self.hosts.values() for mirror in settings.mirrors)
        return any(mirror.partition("/")[0] == "http:" and mirror.split("/")[2] == host for mirror in mirrors)

    def _mirror(self, text: str) -> Endpoint:
        scheme, separator, rest = text.partition("://")
        host, _, prefix = (rest if separator else text).partition("/")
        if not separator:
            scheme = "" if self.insecure(host) else "https"
        return Endpoint(host, scheme, prefix.strip("/"))


def is_loopback(host: str) -> bool:
    """Whether `host` (`name[:port]`) is this machine by its very name: localhost, 127.x.y.z or ::1."""
    name = host_name(host)
    return name in _LOOPBACK_NAMES or name.endswith(".localhost") or _is_loopback_address(name)


def host_name(host: str) -> str:
    """`host` without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def parse_proxies(http: str, https: str, no_proxy: str) -> Proxies:
    """From the values of the usual variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
    return Proxies(http, https, tuple(entry.strip() for entry in no_proxy.split(",") if entry.strip()))


def parse_registry_config(text: str, *, certificates: str = "", proxies: Proxies = NO_PROXIES) -> RegistryConfig:
    """The registry settings in the text of a moldar.toml; InvalidRegistryConfig says what is wrong in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRegistryConfig(f"moldar.toml is not valid TOML: {error}") from error
    tables = document.get("registry", {})
    if not isinstance(tables, dict):
        raise InvalidRegistryConfig('moldar.toml: "registry" must be a table of hosts')
    return RegistryConfig({host: _settings(host, table) for host, table in tables.items()}, certificates, proxies)


def _settings(host: str, table: Any) -> HostSettings:
    if not isinstance(table, dict):
        raise _invalid(host, "must be a table", hint=f'write [registry."{host}"], with the host in quotes')
    unknown = sorted(set(table) - _SETTINGS)
    if unknown:
        raise _invalid(host, f"unknown setting {unknown[0]!r}", hint=f"known: {', '.join(sorted(_SETTINGS))}")
    mirrors, insecure, ca = table.get("mirrors", []), table.get("insecure", False), table.get("ca", "")
    if not isinstance(mirrors, list) or not all(isinstance(mirror, str) for mirror in mirrors):
        raise _invalid(host, "mirrors must be a list of strings")
    if not isinstance(insecure, bool):
        raise _invalid(host, "insecure must be true or false")
    if not isinstance(ca, str):
        raise _invalid(host, "ca must be the path of a PEM file")
    for mirror in mirrors:
        _check_mirror(host, mirror)
    return HostSettings(tuple(mirrors), insecure, ca)


def _check_mirror(host: str, mirror: str) -> None:
    scheme, separator, rest = mirror.partition("://")
    if separator and scheme not in ("http", "https"):
        raise _invalid(host, f"mirror {mirror!r}: expected http:// or https://")
    if not (rest if separator else mirror).partition("/")[0]:
        raise _invalid(host, f"mirror {mirror!r} names no host")


def _bypasses(entry: str, name: str) -> bool:
    bare = host_name(entry).removeprefix("*").lstrip(".")
    return entry == "*" or name == bare or name.endswith("." + bare)


def _is_loopback_address(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() and int(part) < 256 for part in parts)


def _invalid(host: str, why: str, *, hint: str = "") -> InvalidRegistryConfig:
    return InvalidRegistryConfig(f'moldar.toml: [registry."{host}"]: {why}', hint=hint)

"""The registry tables of moldar.toml."""

import pytest

from moldar.remote.config import (
    Endpoint,
    InvalidRegistryConfig,
    RegistryConfig,
    is_loopback,
    parse_proxies,
    parse_registry_config,
)


def test_defaults() -> None:
    config = parse_registry_config("")
    assert config.endpoints("docker.io") == (Endpoint("registry-1.docker.io", "https"),)
    assert config.endpoints("quay.io") == (Endpoint("quay.io", "https"),)
    assert config.endpoints("127.0.0.1:5050") == (Endpoint("127.0.0.1:5050", ""),)


def test_mirrors_come_before_the_registry() -> None:
    config = parse_registry_config(
        """
        [registry."docker.io"]
        mirrors = ["http://mirror.lan:5000", "https://m.example/hub/", "127.0.0.1:5050", "n.example"]
        [registry."r.lan"]
        insecure = true
        ca = "/etc/ca.pem"
        """
    )
    assert config.endpoints("docker.io") == (
        Endpoint("mirror.lan:5000", "http"),
        Endpoint("m.example", "https", "hub"),
        Endpoint("127.0.0.1:5050", ""),
        Endpoint("n.example", "https"),
        Endpoint("registry-1.docker.io", "https"),
    )
    assert config.endpoints("docker.io")[1].repository("library/a") == "hub/library/a"
    assert config.insecure("mirror.lan:5000")
    assert not config.insecure("m.example")
    assert config.endpoints("r.lan") == (Endpoint("r.lan", ""),)
    assert config.endpoints("r.lan:5000") == (Endpoint("r.lan:5000", ""),)
    assert config.settings("r.lan").ca == "/etc/ca.pem"


def test_docker_hub_can_be_declared_insecure_by_its_name() -> None:
    assert parse_registry_config('[registry."docker.io"]\ninsecure = true').endpoints("docker.io")[0].scheme == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[registry", "not valid TOML"),
        ("registry = 3", "must be a table"),
        ("[registry.docker.io]\nmirrors = []", "unknown setting"),
        ('[registry."a"]\nmirror = []', "unknown setting 'mirror'"),
        ('[registry."a"]\nmirrors = "x"', "list of strings"),
        ('[registry."a"]\nmirrors = [1]', "list of strings"),
        ('[registry."a"]\nmirrors = ["ftp://x"]', "http:// or https://"),
        ('[registry."a"]\nmirrors = ["https:///x"]', "names no host"),
        ('[registry."a"]\ninsecure = 1', "true or false"),
        ('[registry."a"]\nca = 1', "path of a PEM file"),
        ("[registry]\na = 1", "must be a table"),
    ],
)
def test_mistakes_are_named(text: str, words: str) -> None:
    with pytest.raises(InvalidRegistryConfig, match=words):
        parse_registry_config(text)


def test_loopback() -> None:
    for host in ("localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000", "app.localhost"):
        assert is_loopback(host)
    for host in ("127.0.0.1.evil.example", "r.example:127", "localhost.evil.example", "10.0.0.1", "127.0.0.999"):
        assert not is_loopback(host)


def test_proxies() -> None:
    proxies = parse_proxies("http://p:1", "http://p:2", "r.lan, .corp.example,*.x.example")
    assert proxies.for_host("https", "quay.io") == "http://p:2"
    assert proxies.for_host("http", "quay.io:80") == "http://p:1"
    for direct in ("127.0.0.1:5050", "localhost", "r.lan:5000", "a.corp.example", "corp.example", "b.x.example"):
        assert proxies.for_host("https", direct) == ""
    assert proxies.for_host("https", "notr.lan") == "http://p:2"
    assert parse_proxies("", "http://p:2", "*").for_host("https", "quay.io") == ""
    assert RegistryConfig().proxies.for_host("https", "quay.io") == ""

import socket

import pytest

from moldar.errors import UserMistake
from moldar.sandbox.ports import CannotBind, PortMapping, PortTaken, choose_host_ports, parse_publish


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [PortMapping(80)]),
        ("8080:80", [PortMapping(80, "tcp", "", 8080)]),
        ("127.0.0.1:5000:5000", [PortMapping(5000, "tcp", "127.0.0.1", 5000)]),
        ("127.0.0.1::53/udp", [PortMapping(53, "udp", "127.0.0.1", 0)]),
        ("[::1]:8080:80", [PortMapping(80, "tcp", "::1", 8080)]),
        ("8000-8001:90-91/TCP", [PortMapping(90, "tcp", "", 8000), PortMapping(91, "tcp", "", 8001)]),
        ("90-91", [PortMapping(90), PortMapping(91)]),
    ],
)
def test_publish(text: str, expected: list[PortMapping]) -> None:
    assert list(parse_publish(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "80/sctp", "1:2:3:4", "70000", "5-4", "1-2:3-5", "300.1.1.1:1:1", "a:80", "[::1:80", "-1", "²"]
)
def test_publish_refuses(text: str) -> None:
    with pytest.raises(UserMistake) as caught:
        parse_publish(text)
    assert repr(text) in caught.value.message


def test_free_ports_are_chosen_and_differ() -> None:
    chosen = choose_host_ports([PortMapping(80, host_ip="127.0.0.1"), PortMapping(81, host_ip="127.0.0.1")])
    assert chosen[0].host_port != chosen[1].host_port
    assert all(mapping.host_port for mapping in chosen)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_taken_port_is_named(protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port} is already in use") as caught:
            choose_host_ports([PortMapping(80, protocol, "127.0.0.1", port)])
        assert caught.value.exit_code == 125


def test_a_foreign_address_cannot_be_bound() -> None:
    with pytest.raises(CannotBind, match="203"):
        choose_host_ports([PortMapping(80, "tcp", "203.0.113.1", 0)])

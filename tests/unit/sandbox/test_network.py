"""Networks that really carry bytes: with pasta, and with our own means."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moldar.sandbox.network import Network, in_namespace, open_network
from moldar.sandbox.ports import PortTaken, parse_publish

WAYS = {"pasta": (), "veth and nft": ("pasta",), "veth and iptables": ("pasta", "nft"), "no way out": ("pasta", "ip")}


@pytest.fixture(params=WAYS)
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    hidden = WAYS[request.param]
    real = shutil.which
    monkeypatch.setattr(
        "shutil.which", lambda name, mode=1, path=None: None if name in hidden else real(name, mode, path)
    )
    ports = parse_publish("127.0.0.1::80") + parse_publish("127.0.0.1::53/udp")
    made = open_network("bridge", ports, str(tmp_path))
    assert bool(made.helper) == (request.param == "pasta")
    assert bool(made.warnings) == (request.param == "no way out")
    yield made
    made.stop()
    assert not os.path.ismount(made.path)


def serve(path: str, kind: socket.SocketKind, port: int, answer: Callable[[socket.socket], None]) -> threading.Thread:
    """A server inside the name space, for one client."""
    ready: list[socket.socket] = []

    def make() -> None:
        server = socket.socket(socket.AF_INET, kind)
        server.bind(("0.0.0.0", port))
        server.settimeout(10)
        if kind == socket.SOCK_STREAM:
            server.listen()
        ready.append(server)

    in_namespace(path, make)

    def run() -> None:
        with ready[0]:
            answer(ready[0])

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_published_tcp(opened: Network) -> None:
    size = 3_000_000

    def answer(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            received = 0
            while data := connection.recv(65536):
                received += len(data)
            connection.sendall(b"y" * received)

    thread = serve(opened.path, socket.SOCK_STREAM, 80, answer)
    with socket.create_connection(("127.0.0.1", opened.ports[0].host_port), timeout=10) as client:
        client.sendall(b"x" * size)
        client.shutdown(socket.SHUT_WR)
        received = 0
        while data := client.recv(65536):
            assert set(data) == {ord("y")}
            received += len(data)
    thread.join()
    assert received == size


def test_published_udp(opened: Network) -> None:
    def answer(server: socket.socket) -> None:
        data, sender = server.recvfrom(100)
        server.sendto(data * 2, sender)

    thread = serve(opened.path, socket.SOCK_DGRAM, 53, answer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"ab", ("127.0.0.1", opened.ports[1].host_port))
        assert client.recv(100) == b"abab"
    thread.join()


def test_the_way_out(opened: Network) -> None:
    """To a server on the host's own address, which only a container that can leave its name space reaches."""
    host = host_address()
    outcome: list[bytes] = []
    with socket.create_server((host, 0)) as server:
        server.settimeout(10)

        def visit() -> None:
            try:
                with socket.create_connection(server.getsockname(), timeout=5) as client:
                    outcome.append(client.recv(100))
            except OSError as error:
                outcome.append(str(error).encode())

        thread = threading.Thread(target=lambda: in_namespace(opened.path, visit))
        thread.start()
        if not opened.warnings:
            with server.accept()[0] as connection:
                connection.sendall(b"welcome")
        thread.join()
    assert outcome == [b"welcome"] if not opened.warnings else b"unreachable" in outcome[0]


def host_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.200", 9))  # sends nothing
        return str(probe.getsockname()[0])


def test_a_port_cannot_be_published_twice(opened: Network, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(PortTaken):
        open_network("bridge", opened.ports[:1], str(other))
    assert not os.path.ismount(other / "netns")


def test_a_refused_connection_is_closed(opened: Network) -> None:
    with socket.create_connection(("127.0.0.1", opened.ports[0].host_port), timeout=10) as client:
        try:
            assert client.recv(10) == b""
        except ConnectionResetError:
            pass


def test_stopping_frees_the_ports(tmp_path: Path) -> None:
    ports = parse_publish("127.0.0.1::80")
    for _ in range(2):
        made = open_network("bridge", ports, str(tmp_path))
        ports = made.ports
        made.stop()


@pytest.mark.parametrize("mode", ["host", "none"])
def test_other_modes(mode: str, tmp_path: Path) -> None:
    made = open_network(mode, parse_publish("80"), str(tmp_path))
    assert made.path == mode
    assert made.ports == ()
    made.stop()


def test_nothing_stays_of_the_firewalls_rules(opened: Network) -> None:
    opened.stop()
    rules = subprocess.run(["/usr/sbin/nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert f"saddr {opened.address}" not in rules

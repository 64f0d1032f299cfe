"""Where others may make the hub connect to: kinds of addresses, names that change, odd forms, TLS by name."""

import asyncio
import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from moldar.hub.addresses import Kind, kind_of
from moldar.hub.certificates import self_signed
from moldar.hub.proxy.client import UpstreamClient
from moldar.hub.proxy.connecting import JudgedTransport, first_connected
from moldar.hub.proxy.destinations import ForbiddenDestination
from moldar.hub.proxy.troubles import UpstreamTrouble
from moldar.hub.upstreams import Upstream

Answers = dict[str, list[list[str]]]
TLS = ssl.create_default_context()


class Registry:
    """A server on every IPv4 address of this machine. `answers`: status and headers for paths; 200 for others."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        self.seen: list[tuple[str, str, str]] = []
        """Of each request its path, its Host and the address that it was sent to."""
        self.authorizations: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place = "/" + self.path.split("/", 3)[3] if self.path.startswith("http://") else self.path
                outer.seen.append((place, self.headers["Host"], self.connection.getsockname()[0]))
                if "Authorization" in self.headers:
                    outer.authorizations.append((place, self.headers["Authorization"]))
                status, headers = outer.answers.get(place.partition("?")[0], (200, {}))
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Nothing on stderr."""

        self._server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self._server.handle_error = lambda *_arguments: None  # type: ignore[method-assign]
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What names say: each look-up takes the next answer, the last one stays."""
    answers: Answers = {}
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        waiting = answers.get(host.decode() if isinstance(host, bytes) else host)
        if waiting is None:
            return real(host, port, *rest, **more)
        addresses = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [entry for address in addresses for entry in real(address, port, *rest, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


def ask(upstream: Upstream, path: str = "/v2/start", via: Sequence[str] = ("", "", "")) -> int:
    """The status of the upstream's answer; UpstreamTrouble as it comes."""

    async def once() -> int:
        client = UpstreamClient(upstream, 3, via)
        try:
            async with client.ask("GET", path, "some/thing", {}, missing="BLOB_UNKNOWN") as response:
                return response.status_code
        finally:
            await client.close()

    return asyncio.run(once())


def get(url: str, sender: Kind, tls: ssl.SSLContext = TLS) -> int:
    async def once() -> int:
        async with httpx.AsyncClient(transport=JudgedTransport(sender, tls), trust_env=False) as client:
            return (await client.get(url)).status_code

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        *((address, Kind.PUBLIC) for address in ("93.184.216.34", "2606:4700::1", "64:ff9b::5db8:d822")),
        *((address, Kind.PUBLIC) for address in ("2002:5db8:d822::", "::ffff:93.184.216.34")),
        *((address, Kind.LOOPBACK) for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::7f00:1")),
        *((address, Kind.LOOPBACK) for address in ("2002:7f00:1::", "64:ff9b::7f00:1", "::ffff:0:7f00:1")),
        ("2001:0:5db8:d822::80ff:fffe", Kind.LOOPBACK),  # Teredo, its client's address inverted
        *(
            (address, Kind.LINK_LOCAL)
            for address in ("169.254.169.254", "fe80::1", "fe80::1%eth0", "64:ff9b::a9fe:1")
        ),
        *((address, Kind.PRIVATE) for address in ("10.1.2.3", "172.16.0.1", "192.168.1.1", "fd00::1", "fec0::1")),
        *((address, Kind.PRIVATE) for address in ("2002:a00:1::1", "::ffff:10.0.0.1", "::a00:1")),
        *((address, Kind.SHARED) for address in ("100.64.0.1", "100.100.100.200", "64:ff9b::6440:1")),
        ("198.18.0.1", Kind.BENCHMARK),
        *(
            (address, Kind.RESERVED)
            for address in ("0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255")
        ),
        *((address, Kind.RESERVED) for address in ("::", "ff02::1", "64:ff9b:1::7f00:1", "2001:db8::1", "3fff::1")),
        *((address, Kind.RESERVED) for address in ("192.0.2.1", "192.0.0.8", "5f00::1", "4000::1", "nonsense", "")),
    ],
)
def test_kinds_of_addresses(address: str, kind: Kind) -> None:
    assert kind_of(address) is kind


def test_a_name_is_looked_up_once_for_its_judgement_and_its_connection(registry: Registry, resolver: Answers) -> None:
    resolver["sly.test"] = [["127.0.0.2"], ["0.0.0.0"]]
    registry.answers["/v2/start"] = (307, {"Location": f"http://sly.test:{registry.port}/there"})
    assert ask(Upstream("up.test", f"http://127.0.0.1:{registry.port}")) == 200
    assert registry.seen[1:] == [("/there", f"sly.test:{registry.port}", "127.0.0.2")]


def test_a_name_that_says_both(registry: Registry, resolver: Answers) -> None:
    resolver["sly.test"] = [["10.0.0.1", "0.0.0.0", "169.254.169.254", "127.0.0.3"]]
    assert get(f"http://sly.test:{registry.port}/", Kind.LOOPBACK) == 200
    assert registry.seen[0][2] == "127.0.0.3"


def test_an_upstream_does_not_talk_its_way_into_our_network(registry: Registry, resolver: Answers) -> None:
    for target in ("10.0.0.1", "0.0.0.0", "up.test"):
        resolver["up.test"] = [["127.0.0.1"], ["10.0.0.1", "0.0.0.0"]]
        registry.answers["/v2/start"] = (307, {"Location": f"https://{target}:{registry.port}/"})
        with pytest.raises(UpstreamTrouble, match="not followed"):
            ask(Upstream("up.test", f"http://up.test:{registry.port}"))
    assert {path for path, _, _ in registry.seen} == {"/v2/start"}


def test_token_servers_are_judged_alike(registry: Registry, resolver: Answers) -> None:
    resolver["tokens.test"] = [["0.0.0.0"]]
    challenge = f'Bearer realm="http://tokens.test:{registry.port}/token",service="x"'
    registry.answers["/v2/start"] = (401, {"WWW-Authenticate": challenge})
    with pytest.raises(UpstreamTrouble, match="not followed"):
        ask(Upstream("up.test", f"http://127.0.0.1:{registry.port}", "me", "secret"))
    assert registry.authorizations == []


def test_only_the_upstream_itself_may_ask_for_credentials(registry: Registry) -> None:
    away = f"http://127.0.0.2:{registry.port}"
    registry.answers["/v2/start"] = (307, {"Location": f"{away}/elsewhere"})
    for challenge in ("Basic realm=x", f'Bearer realm="{away}/token"'):
        registry.answers["/elsewhere"] = (401, {"WWW-Authenticate": challenge})
        with pytest.raises(UpstreamTrouble):
            ask(Upstream("up.test", f"http://127.0.0.1:{registry.port}", "me", "secret"))
    assert registry.authorizations == []
    registry.answers["/v2/start"] = (401, {"WWW-Authenticate": "Basic realm=x"})
    with pytest.raises(UpstreamTrouble):
        ask(Upstream("up.test", f"http://127.0.0.1:{registry.port}", "me", "secret"))
    assert registry.authorizations == [("/v2/start", "Basic " + base64.b64encode(b"me:secret").decode())]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.1", "127.1", "0", "0.0.0.0", "127。0。0。1"),
        *("[::1]", "[::]", "[::ffff:7f00:1]", "[::7f00:1]", "[fe80::1%lo]", "[::1%lo]", "[2002:7f00:1::]"),
        *("017700000001", "0177.1"),
    ],
)
def test_no_form_of_our_own_machine_is_reached(registry: Registry, host: str) -> None:
    try:
        get(f"http://{host}:{registry.port}/", Kind.PUBLIC)
    except (ForbiddenDestination, httpx.InvalidURL, httpx.TransportError) as error:
        assert isinstance(error, ForbiddenDestination) or ":" in host or host.startswith("0")
    else:
        raise AssertionError("it was reached")
    assert registry.seen == []


@pytest.mark.parametrize("target", ["http://10.0.0.1/", "http://localhost:{port}/", "http://2130706433:{port}/"])
def test_through_a_proxy_an_upstream_is_of_the_internet(registry: Registry, target: str) -> None:
    registry.answers["/v2/start"] = (307, {"Location": target.format(port=registry.port)})
    registry.answers["/v2/fine"] = (307, {"Location": "http://elsewhere.invalid/there"})
    upstream = Upstream("up.test", "http://registry.invalid")
    via = (f"http://127.0.0.1:{registry.port}", "", "")
    with pytest.raises(UpstreamTrouble, match="not followed"):
        ask(upstream, via=via)
    assert ask(upstream, "/v2/fine", via) == 200
    assert [path for path, _, _ in registry.seen] == ["/v2/start", "/v2/fine", "/there"]


def test_a_certificate_is_the_names_not_the_addresses(tmp_path: Path, resolver: Answers) -> None:
    certificate, key = self_signed(str(tmp_path / "tls"), ("good.test",))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    named: list[str | None] = []
    serving.sni_callback = lambda _socket, name, _context: named.append(name)
    registry = Registry(serving)
    resolver["good.test"] = resolver["other.test"] = [["127.0.0.1"]]
    trusting = ssl.create_default_context(cafile=certificate)
    try:
        assert get(f"https://good.test:{registry.port}/x", Kind.LOOPBACK, trusting) == 200
        assert registry.seen == [("/x", f"good.test:{registry.port}", "127.0.0.1")]
        for name in ("other.test", "127.0.0.1"):
            with pytest.raises(httpx.TransportError, match=r"(?i)certificate"):
                get(f"https://{name}:{registry.port}/", Kind.LOOPBACK, trusting)
        assert named == ["good.test", "other.test", None]
    finally:
        registry.close()


def test_dead_addresses_are_passed_over(registry: Registry) -> None:
    network = httpcore.AnyIOBackend()

    def connecting(silent: str) -> Callable[[str], Any]:
        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            if address == silent:
                await asyncio.sleep(60)
            return await network.connect_tcp(address, 1 if address == "127.0.0.9" else registry.port)

        return connect

    async def peer(*addresses: str, silent: str = "") -> str:
        async with asyncio.timeout(5):
            stream = await first_connected(addresses, connecting(silent))
        found = str(stream.get_extra_info("server_addr")[0])
        await stream.aclose()
        return found

    assert asyncio.run(peer("127.0.0.9", "127.0.0.2", "127.0.0.3")) == "127.0.0.2"
    assert asyncio.run(peer("127.0.0.4", "127.0.0.2", silent="127.0.0.4")) == "127.0.0.2"
    with pytest.raises(httpcore.ConnectError):
        asyncio.run(peer("127.0.0.9", "127.0.0.9"))

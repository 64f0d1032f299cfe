"""Durations, sizes, switches, ports and signals."""

import pytest

from moldar.dockerfile.quantities import parse_duration, parse_port, parse_signal, parse_size, parse_switch
from moldar.dockerfile.source import DockerfileError

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1ns", 1),
        ("10us", 10_000),
        ("10µs", 10_000),
        ("1.5s", 3 * SECOND // 2),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("1h2m3s4ms", 3723 * SECOND + 4_000_000),
        ("+1m", 60 * SECOND),
        ("-1m", -60 * SECOND),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "s", ".s", "1x", "1s2", "-", "1 s", "9999999999h", "1..2s", "1" * 80 + "s"]
)
def test_bad_durations(text: str) -> None:
    with pytest.raises(DockerfileError, match="invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("10", 10), ("1k", 1024), ("1.5 KiB", 1536), ("2MB", 2 << 20), ("1g", 1 << 30)]
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1x", "k", "1  k", "0x10"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        parse_size(text)


def test_switches() -> None:
    assert [parse_switch(text) for text in ("1", "true", "T", "0", "False")] == [True, True, True, False, False]
    with pytest.raises(ValueError, match="yes"):
        parse_switch("yes")


@pytest.mark.parametrize(
    ("text", "number"), [("SIGTERM", 15), ("term", 15), ("9", 9), ("sigrtmin+3", 37), ("RTMAX-1", 63), ("IOT", 6)]
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


def test_bad_signals() -> None:
    with pytest.raises(DockerfileError, match="invalid signal: SIGTREM") as caught:
        parse_signal("SIGTREM")
    assert caught.value.hint == "did you mean SIGTERM?"
    with pytest.raises(DockerfileError):
        parse_signal("0")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("7000-7002/sctp", ["7000/sctp", "7001/sctp", "7002/sctp"]),
        ("8080:80", ["80/tcp"]),
        ("127.0.0.1:8080:80/tcp", ["80/tcp"]),
        ("[::1]:8080:80", ["80/tcp"]),
        ("1.2.3.4::80", ["80/tcp"]),
        ("8000-9000:80", ["80/tcp"]),
    ],
)
def test_ports(word: str, expected: list[str]) -> None:
    assert parse_port(word) == expected


@pytest.mark.parametrize(
    "word",
    [
        "eighty",
        "",
        "/tcp",
        "80/http",
        "65536",
        "90-80",
        "-1",
        "80-",
        "x:80",
        "1.2.3:1:80",
        "1.2.3.256:1:80",
        "1-2:80-84",
    ],
)
def test_bad_ports(word: str) -> None:
    with pytest.raises(DockerfileError, match="invalid"):
        parse_port(word)

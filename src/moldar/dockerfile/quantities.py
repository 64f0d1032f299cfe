"""Numbers that people write: durations (`1m30s`), sizes (`64m`), switches (`true`), ports and signals.

The forms are those of Go's time.ParseDuration and strconv.ParseBool and of Docker's size units, because that is what
Dockerfiles were written for.
"""

import re

from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import did_you_mean

# Patterns are compiled where they are used: most Dockerfiles need none of them.
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LONGEST_DURATION = (1 << 63) - 1
_DURATION_PART = r"([0-9]*)(?:\.([0-9]*))?([^0-9.]+)"
_SIZE = r"(?i)([0-9]{1,30}(?:\.[0-9]{1,30})?) ?([kmgtp])?i?b?\Z"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DIGITS = r"[0-9]{1,9}\Z"
_IPV4 = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}"
_IPV6 = r"(?=.*:.*:)[0-9a-fA-F:.]{2,45}\Z"

SIGNALS = {
    name: number
    for number, names in enumerate(
        [
            "HUP",
            "INT",
            "QUIT",
            "ILL",
            "TRAP",
            "ABRT/IOT",
            "BUS",
            "FPE",
            "KILL",
            "USR1",
            "SEGV",
            "USR2",
            "PIPE",
            "ALRM",
            "TERM",
            "STKFLT",
            "CHLD/CLD",
            "CONT",
            "STOP",
            "TSTP",
            "TTIN",
            "TTOU",
            "URG",
            "XCPU",
            "XFSZ",
            "VTALRM",
            "PROF",
            "WINCH",
            "IO/POLL",
            "PWR",
            "SYS",
        ],
        1,
    )
    for name in names.split("/")
} | {
    "RTMIN": 34,
    "RTMAX": 64,
    **{f"RTMIN+{step}": 34 + step for step in range(1, 16)},
    **{f"RTMAX-{step}": 64 - step for step in range(1, 15)},
}


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h30m`, `500ms`, `1.5s`. DockerfileError."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total = position = 0
    while position < len(rest):
        match = re.match(_DURATION_PART, rest[position : position + 61])
        unit = _NANOSECONDS.get(match.group(3)) if match else None
        if match is None or unit is None or not (match.group(1) or match.group(2)) or len(match.group()) > 60:
            raise DockerfileError(f'invalid duration "{text}"', hint="write it as 30s, 1m30s or 500ms")
        fraction = match.group(2) or ""
        total += int(match.group(1) or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        position += match.end()
    if not rest or total > _LONGEST_DURATION:
        raise DockerfileError(f'invalid duration "{text}"', hint="write it as 30s, 1m30s or 500ms")
    return sign * total


def parse_size(text: str) -> int:
    """Bytes of a size such as `64m`, `1.5g`, `100`; the units count in 1024s. ValueError."""
    match = re.match(_SIZE, text)
    if match is None:
        raise ValueError(text)
    power = "kmgtp".find((match.group(2) or "").lower()) + 1 if match.group(2) else 0
    return int(float(match.group(1)) * 1024**power)


def parse_switch(text: str) -> bool:
    """True or False as Go writes them. ValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(text)


def parse_signal(text: str) -> int:
    """The number of a signal given as `SIGTERM`, `term` or `15`. DockerfileError."""
    if re.match(_DIGITS, text) and int(text) > 0:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name not in SIGNALS:
        hint = did_you_mean("SIG" + name, ["SIG" + signal for signal in SIGNALS])
        raise DockerfileError(f"invalid signal: {text}", hint=hint)
    return SIGNALS[name]


def parse_port(word: str) -> list[str]:
    """The ports of one word of EXPOSE as `80/tcp`: a port or a range, maybe a protocol. DockerfileError.

    An address and a host port before it are checked, and have no effect.
    """
    *before, container = word.rsplit(":", 2)
    ports, _, protocol = container.partition("/")
    if not ports:
        raise DockerfileError(f'invalid port "{word}": no port specified')
    if protocol.lower() not in ("", "tcp", "udp", "sctp"):
        raise DockerfileError(f'invalid port "{word}": the protocol is tcp, udp or sctp, not {protocol}')
    first, last = _port_range(ports, f"invalid containerPort: {ports}")
    if len(before) == 2 and before[0]:
        _check_address(before[0])
    if before and before[-1]:
        low, high = _port_range(before[-1], f"invalid hostPort: {before[-1]}")
        if high - low != last - first and last != first:
            raise DockerfileError(f"invalid ranges specified for container and host ports: {ports} and {before[-1]}")
    return [f"{port}/{protocol.lower() or 'tcp'}" for port in range(first, last + 1)]


def _port_range(text: str, problem: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [int(part) if re.match(_DIGITS, part) else -1 for part in ((first, last) if dash else (first,))]
    if any(not 0 <= number <= 65535 for number in numbers) or numbers[-1] < numbers[0]:
        raise DockerfileError(problem, hint="a port is a number up to 65535, or a range such as 8000-8010")
    return numbers[0], numbers[-1]


def _check_address(address: str) -> None:
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if not re.match(_IPV4, bare) and not re.match(_IPV6, bare):
        raise DockerfileError(f"invalid IP address: {address}")

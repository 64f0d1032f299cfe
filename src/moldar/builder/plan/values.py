"""Values that EXPOSE and STOPSIGNAL accept, checked once their variables are expanded."""

from collections.abc import Iterable

from moldar.errors import UserMistake

_PROTOCOLS = ("tcp", "udp", "sctp")
_HIGHEST_PORT = 65535
_REAL_TIME = {f"RTMIN{f'+{n}' if n else ''}" for n in range(16)} | {f"RTMAX{f'-{n}' if n else ''}" for n in range(15)}
_NAMES = (
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP "
    "TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ"
)
SIGNALS = _REAL_TIME.union(_NAMES.split())


def check_signal(text: str) -> None:
    """UserMistake when `text` names no signal, by number or by name with or without SIG."""
    if text.isdecimal():
        if int(text) == 0:
            raise UserMistake(f"invalid signal: {text}")
    elif text.upper().removeprefix("SIG") not in SIGNALS:
        raise UserMistake(f"invalid signal: {text}", hint="use a name such as SIGTERM, or a number")


def exposed_ports(words: Iterable[str]) -> list[str]:
    """Every single port of EXPOSE's words, as `80/tcp`, sorted; UserMistake for what is no port or range."""
    ports: list[str] = []
    for word in words:
        spec, slash, protocol = word.partition("/")
        protocol = protocol.lower() if slash and protocol else "tcp"
        if protocol not in _PROTOCOLS:
            raise UserMistake(f"invalid proto: {protocol}", hint="EXPOSE knows tcp, udp and sctp")
        container = spec.rpartition(":")[
            2
        ]  # what comes before is a host's address or port, which an image cannot hold
        ports += [f"{port}/{protocol}" for port in _range(container)]
    return sorted(ports)


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        start, end = _port(first), _port(last if dash else first)
    except ValueError:
        raise UserMistake(f"invalid containerPort: {text}", hint="EXPOSE takes a port or a range of ports") from None
    if end < start:
        raise UserMistake(f"invalid range of ports: {text}", hint="the first port must not be above the last")
    return range(start, end + 1)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > _HIGHEST_PORT:
        raise ValueError(text)
    return int(text)

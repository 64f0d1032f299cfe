"""The files that a sandbox gets below /etc: hosts, resolv.conf, hostname."""

import os
from collections.abc import Iterable

_STUB_RESOLVER = "/run/systemd/resolve/resolv.conf"
_PUBLIC_RESOLVERS = ("8.8.8.8", "8.8.4.4")
_LOCAL_NAMES = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


def hosts_file(extra: Iterable[tuple[str, str]], address: str, hostname: str) -> str:
    """The text of /etc/hosts: local names, `extra` (name, address), and the host's own name with `address`."""
    lines = [f"{local}\t{name}" for local, name in _LOCAL_NAMES]
    lines += [f"{other}\t{name}" for name, other in extra]
    if address and hostname:
        lines.append(f"{address}\t{hostname}")
    return "\n".join(lines) + "\n"


def resolv_conf(servers: Iterable[str], *, own_network: bool, etc: str = "/etc/resolv.conf") -> str:
    """The text of /etc/resolv.conf: the host's, with `servers` in place of its name servers where given.

    In an own network a resolver on a loopback address cannot be reached. Then what systemd-resolved asks is used,
    and Docker's public resolvers if nothing else is known.
    """
    servers = list(servers)
    lines = _read(etc)
    if own_network and not servers and any(_loopback(line) for line in lines) and os.path.exists(_STUB_RESOLVER):
        lines = _read(_STUB_RESOLVER)
    kept = [line for line in lines if not _is_server(line) or not (servers or (own_network and _loopback(line)))]
    if servers or (own_network and not any(_is_server(line) for line in kept)):
        kept += [f"nameserver {server}" for server in servers or _PUBLIC_RESOLVERS]
    return "\n".join(kept) + "\n"


def _read(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _is_server(line: str) -> bool:
    return line.split()[:1] == ["nameserver"]


def _loopback(line: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] == "nameserver" and (words[1].startswith("127.") or words[1] == "::1")

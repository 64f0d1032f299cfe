"""Networks of containers: a name space each, with a way out and published ports.

`pasta` (Debian: passt) gives both without touching the host's network. Where it is missing or cannot start, ports are
forwarded by threads of ours (`forwarder`), and the way out is a veth pair with masquerading (`veth`), which needs
`ip` and `nft` or `iptables`. Networks are made by a container's monitor, in its own mount name space.
"""

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from moldar.errors import HostTrouble
from moldar.sandbox.forwarder import Forwarder
from moldar.sandbox.mounts import CLONE_NEWNET, MS_BIND, mount, set_namespace, unshare
from moldar.sandbox.ports import PortMapping, choose_host_ports
from moldar.sandbox.spawning import Command, output_of
from moldar.sandbox.veth import VethPair
from moldar.sandbox.workdirs import release

MODES = ("bridge", "host", "none")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ADDRESS, _NETMASK, _GATEWAY = "10.0.2.100", "255.255.255.0", "10.0.2.2"
_HELPER_SECONDS = 2.0
_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40


class Network(NamedTuple):
    """A container's network while it runs. `path` is for SandboxSpec.network; `stop` ends it.

    `helper` is the pid of pasta, 0 without. `warnings` are for the person who started the container.
    """

    path: str
    address: str
    gateway: str
    ports: tuple[PortMapping, ...]
    stop: Callable[[], None]
    helper: int = 0
    warnings: tuple[str, ...] = ()


def open_network(mode: str, ports: tuple[PortMapping, ...], directory: str) -> Network:
    """The network of a container that starts. `directory` is for its files. PortTaken, CannotBind, HostTrouble."""
    if mode in ("host", "none"):
        lost = ("published ports are discarded when using host network mode",) if ports and mode == "host" else ()
        return Network(mode, "", "", (), lambda: None, warnings=lost)
    ports = choose_host_ports(ports)
    point = f"{directory}/netns"
    _make_namespace(point)
    try:
        program = shutil.which("pasta", path=_PATH)
        reason = "pasta is not installed"
        if program:
            helper, reason = _start_pasta(program, point, ports, directory)
            if helper:
                return _with_pasta(helper, point, ports)
        return _own_means(point, ports, reason)
    except BaseException:
        release(point)
        raise


def stop_helper(pid: int) -> None:
    """End a pasta, and wait until its ports are free; the caller has made sure that `pid` is one."""
    try:
        helper = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(helper, signal.SIGTERM)
        ending = select.poll()
        ending.register(helper, select.POLLIN)
        if not ending.poll(_HELPER_SECONDS * 1000):
            signal.pidfd_send_signal(helper, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(helper)


def in_namespace(path: str, action: Callable[[], None]) -> None:
    """Do `action` in a thread that has joined the network name space at `path`; its exceptions are raised here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                set_namespace(descriptor, CLONE_NEWNET)
            finally:
                os.close(descriptor)
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _make_namespace(point: str) -> None:
    """A new network name space kept alive by a bind mount on the file `point`."""
    release(point)
    with open(point, "w"):
        pass
    failures: list[OSError] = []

    def make() -> None:
        try:
            unshare(CLONE_NEWNET)
            mount("/proc/thread-self/ns/net", point, "", MS_BIND)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failures:
        raise HostTrouble(f"cannot make a network name space: {failures[0].strerror}") from failures[0]


def _start_pasta(program: str, point: str, ports: tuple[PortMapping, ...], directory: str) -> tuple[int, str]:
    """pasta's pid; or 0 and the reason why it did not start. It returns when it listens on all ports."""
    pid_file = f"{directory}/pasta.pid"
    # As root: it enters its own sandbox, but must open the name space and bind low ports before.
    args = [
        "--config-net", "--netns", point, "--runas", "0", "--no-map-gw", "--quiet", "--pid", pid_file,
        "--ipv4-only", "--address", _ADDRESS, "--netmask", _NETMASK, "--gateway", _GATEWAY,
        "--tcp-ns", "none", "--udp-ns", "none", "--udp-ports", "none",
    ]  # fmt: skip
    for mapping in ports:
        if mapping.protocol == "tcp":
            prefix = f"{mapping.host_ip}/" if mapping.host_ip else ""
            args += ["--tcp-ports", f"{prefix}{mapping.host_port}:{mapping.container_port}"]
    if "--tcp-ports" not in args:
        args += ["--tcp-ports", "none"]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        code, output = output_of(Command(program, tuple(args), (null,), {"PATH": _PATH}))
    finally:
        os.close(null)
    if code:
        lines = [line for line in output.decode(errors="replace").splitlines() if "syslog" not in line]
        choose_host_ports(ports)  # raises PortTaken if that is the reason
        return 0, f"pasta: {lines[-1] if lines else f'exit code {code}'}"
    with open(pid_file) as file:
        return int(file.read()), ""


def _with_pasta(helper: int, point: str, ports: tuple[PortMapping, ...]) -> Network:
    """UDP goes through our own forwarder: Debian 12's pasta loses datagrams whose port it has to change."""
    datagrams = [mapping for mapping in ports if mapping.protocol == "udp"]
    forwarder: Forwarder | None = None

    def stop() -> None:
        if forwarder:
            forwarder.close()
        stop_helper(helper)
        release(point)

    try:
        if datagrams:
            forwarder = Forwarder(datagrams, lambda action: in_namespace(point, action), _ADDRESS)
    except BaseException:
        stop()
        raise
    return Network(point, _ADDRESS, _GATEWAY, ports, stop, helper)


def _own_means(point: str, ports: tuple[PortMapping, ...], reason: str) -> Network:
    warnings: list[str] = []
    pair: VethPair | None = None
    in_namespace(point, _raise_loopback)
    try:
        pair = VethPair.make(point)
    except HostTrouble as error:
        warnings.append(f"the container has no way out to the network ({reason}; {error.message})")
    forwarder = Forwarder(ports, lambda action: in_namespace(point, action), pair.address if pair else "127.0.0.1")

    def stop() -> None:
        forwarder.close()
        if pair:
            pair.remove()
        release(point)

    address, gateway = (pair.address, pair.gateway) if pair else ("", "")
    return Network(point, address, gateway, ports, stop, warnings=tuple(warnings))


def _raise_loopback() -> None:
    """Brings `lo` up in this thread's name space (netdevice(7), SIOCSIFFLAGS)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sH14x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(handle, _SIOCSIFFLAGS, request)

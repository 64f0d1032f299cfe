"""From an image's configuration and a person's options to a container's definition."""

import os
import signal
import time
from collections.abc import Iterable

from moldar.containers.definition import ContainerMount, Definition
from moldar.containers.options import MountWord, RunOptions, parse_mount, parse_restart, parse_tmpfs, parse_volume
from moldar.containers.volumes import new_volume_name
from moldar.errors import UserMistake
from moldar.image.config import DEFAULT_PATH, ContainerConfig
from moldar.image.model import Digest
from moldar.sandbox.network import MODES
from moldar.sandbox.ports import PortMapping, exposed_ports, parse_publish

DEFAULT_STOP_TIMEOUT = 10
_DEFAULT_SHM = 64 << 20


def define(
    identity: str, image: Digest, config: ContainerConfig, options: RunOptions, *, driver: str, volumes: str
) -> Definition:
    """The container that `options` ask for. `volumes` is the folder of volumes. UserMistake for what cannot be."""
    if options.network not in MODES:
        raise UserMistake(f"network {options.network!r} not found", hint=f"use one of {', '.join(MODES)}")
    if options.remove and options.restart not in ("", "no"):
        raise UserMistake("conflicting options: --rm and --restart cannot be used together")
    args = _args(config, options)
    if not args:
        raise UserMistake("no command specified: the image has neither CMD nor ENTRYPOINT, and none was given")
    restart, most = parse_restart(options.restart)
    hostname = options.hostname or (os.uname().nodename if options.network == "host" else identity[:12])
    stop_signal = options.stop_signal or config.stop_signal or "SIGTERM"
    signal_number(stop_signal)
    return Definition(
        id=identity,
        image=image,
        image_name=options.image_name or image,
        created=time.time(),
        driver=driver,
        args=args,
        env=_environment(config, options, hostname),
        cwd=os.path.normpath(os.path.join("/", config.working_dir, options.workdir)),
        user=options.user or config.user,
        groups=options.groups,
        tty=options.tty,
        interactive=options.interactive,
        auto_remove=options.remove,
        hostname=hostname,
        network=options.network,
        ports=_ports(config, options),
        exposed=tuple(sorted({*config.exposed_ports, *options.expose})),
        mounts=_mounts(config, options, volumes),
        devices=options.devices,
        labels=tuple((dict(config.labels) | dict(options.labels)).items()),
        hosts=options.hosts,
        dns=options.dns,
        init=options.init,
        restart=restart,
        restart_most=most,
        read_only=options.read_only,
        privileged=options.privileged,
        cap_add=options.cap_add,
        cap_drop=options.cap_drop,
        memory=options.memory,
        memory_swap=options.memory_swap,
        cpus=options.cpus,
        pids=options.pids,
        shm_size=options.shm_size or _DEFAULT_SHM,
        ulimits=options.ulimits,
        sysctls=options.sysctls,
        stop_signal=stop_signal,
        stop_timeout=DEFAULT_STOP_TIMEOUT if options.stop_timeout is None else options.stop_timeout,
        cgroup_parent=options.cgroup_parent,
        healthcheck=config.healthcheck.test if config.healthcheck else (),
        entrypoint=_entrypoint(config, options),
    )


def signal_number(text: str) -> int:
    """The number of a signal written as 15, TERM, SIGTERM, RTMIN+3 or RTMAX-1. UserMistake."""
    word = text.upper().removeprefix("SIG")
    if word.isdecimal() and 0 < int(word) <= signal.SIGRTMAX:
        return int(word)
    base, plus, offset = word.partition("+") if "+" in word else word.partition("-")
    if base in ("RTMIN", "RTMAX") and (not plus or offset.isdecimal()):
        distance = int(offset) if plus else 0
        number = signal.SIGRTMIN + distance if base == "RTMIN" else signal.SIGRTMAX - distance
        if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
            return number
    found = getattr(signal, f"SIG{word}", None)
    if isinstance(found, signal.Signals):
        return int(found)
    raise UserMistake(f"invalid signal {text!r}", hint="use a name such as SIGTERM, or a number")


def merge_environment(*parts: Iterable[str]) -> tuple[str, ...]:
    """NAME=value words; a later one replaces an earlier one of the same name, in its place."""
    merged: dict[str, str] = {}
    for word in (word for part in parts for word in part):
        merged[word.partition("=")[0]] = word
    return tuple(merged.values())


def _args(config: ContainerConfig, options: RunOptions) -> tuple[str, ...]:
    """Docker's rule: an --entrypoint drops the image's CMD; an empty one drops the image's ENTRYPOINT too."""
    command = options.command if options.entrypoint is not None else options.command or config.cmd or ()
    return (*_entrypoint(config, options), *command)


def _entrypoint(config: ContainerConfig, options: RunOptions) -> tuple[str, ...]:
    if options.entrypoint is None:
        return config.entrypoint or ()
    return (options.entrypoint,) if options.entrypoint else ()


def _environment(config: ContainerConfig, options: RunOptions, hostname: str) -> tuple[str, ...]:
    basic = [DEFAULT_PATH, f"HOSTNAME={hostname}", *(["TERM=xterm"] if options.tty else [])]
    return merge_environment(basic, config.env, options.env)


def _ports(config: ContainerConfig, options: RunOptions) -> tuple[PortMapping, ...]:
    ports = [mapping for text in options.publish for mapping in parse_publish(text)]
    if options.publish_all:
        given = {(mapping.container_port, mapping.protocol) for mapping in ports}
        for mapping in exposed_ports((*config.exposed_ports, *options.expose)):
            if (mapping.container_port, mapping.protocol) not in given:
                ports.append(mapping)
    return tuple(dict.fromkeys(ports))


def _mounts(config: ContainerConfig, options: RunOptions, volumes: str) -> tuple[ContainerMount, ...]:
    words = [
        *map(parse_volume, options.volumes),
        *map(parse_mount, options.mounts),
        *map(parse_tmpfs, options.tmpfs),
    ]
    found: dict[str, ContainerMount] = {}
    for word in words:
        target = os.path.normpath(word.target)
        if target in found:
            raise UserMistake(f"duplicate mount point: {target}")
        found[target] = _mount(word, target, volumes)
    for text in config.volumes:
        target = os.path.normpath("/" + text.lstrip("/"))
        if target not in found and target != "/":
            found[target] = _mount(MountWord("volume", "", target), target, volumes)
    return tuple(found.values())


def _mount(word: MountWord, target: str, volumes: str) -> ContainerMount:
    if word.kind != "volume":
        return ContainerMount(word.kind, word.source, target, word.readonly, size=word.size, mode=word.mode)
    name = word.source or new_volume_name()
    return ContainerMount("volume", f"{volumes}/{name}/_data", target, word.readonly, name, not word.source)

"""`moldar run` and `moldar create`: flags to options, then the container in front of us or behind."""

import os
import sys
from collections.abc import Callable
from typing import Any

from moldar.app.containers import RunOptions
from moldar.app.engine import Engine
from moldar.cli import environment
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.errors import MoldarError, NotFound, UserMistake

EXIT_OF_DAEMON = 125
PULL = ("missing", "always", "never")


def run(arguments: Arguments) -> int:
    return _with_docker_exit_code(lambda: _run(arguments))


def _run(arguments: Arguments) -> int:
    from moldar.app import containers

    options = _options(arguments)
    if options.tty and not options.detach and not sys.stdin.isatty():
        raise UserMistake("the input device is not a TTY", hint="leave out -t, or run it in a terminal")
    store = engine()
    _pull_if_needed(store, arguments)
    image, platform = arguments.positional[0], arguments.text("platform")
    cidfile, proxy = arguments.text("cidfile"), arguments.on("sig-proxy")
    ran = containers.run(store, image, options, cidfile=cidfile, platform=platform, proxy=proxy)
    for warning in ran.warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    if options.detach:
        print(ran.id)
    return ran.exit_code


def create(arguments: Arguments) -> int:
    def work() -> int:
        from moldar.app import containers

        options = _options(arguments)
        store = engine()
        _pull_if_needed(store, arguments)
        print(containers.create(store, arguments.positional[0], options, platform=arguments.text("platform")))
        return 0

    return _with_docker_exit_code(work)


def _with_docker_exit_code(work: Callable[[], int]) -> int:
    """What fails before the container's process runs is 125 as Docker's, unless it is 126 or 127."""
    try:
        return work()
    except MoldarError as error:
        if error.exit_code == 1:
            error.exit_code = EXIT_OF_DAEMON
        raise


def _pull_if_needed(store: Engine, arguments: Arguments) -> None:
    """Have the image here, and warn if it is for another platform than a person may think."""
    from moldar.app.containers import platform_warning

    _pull(store, arguments)
    if not arguments.text("platform") and (warning := platform_warning(store, arguments.positional[0])):
        print(f"WARNING: {warning}", file=sys.stderr)


def _pull(store: Engine, arguments: Arguments) -> None:
    from moldar.app.containers import find_image

    image = arguments.positional[0]
    policy = arguments.text("pull") or "missing"
    if policy not in PULL:
        raise UserMistake(f"invalid pull option {policy!r}", hint="use one of " + ", ".join(PULL))
    if policy != "always":
        try:
            find_image(store, image, arguments.text("platform"))
            return
        except NotFound:
            if policy == "never":
                raise
    from moldar.app import registries
    from moldar.cli.progress.transfers import Transfers

    reference = registries.references_to_pull(store, image)[0]
    print(f"Unable to find image '{reference.familiar}' locally", file=sys.stderr)
    with Transfers(live=False, quiet=True) as drawing:
        pulled = registries.pull(store, image, platform=arguments.text("platform"), progress=drawing.pulling)
    print(f"Digest: {pulled.digest}\nStatus: Downloaded newer image for {pulled.familiar}", file=sys.stderr)


def _options(arguments: Arguments) -> RunOptions:
    command = arguments.positional[1:]
    detach = "detach" in arguments.given and arguments.on("detach")
    interactive, tty = arguments.on("interactive"), arguments.on("tty")
    return RunOptions(
        command=tuple(command),
        name=arguments.text("name"),
        detach=detach,
        remove=arguments.on("rm"),
        interactive=interactive,
        tty=tty,
        env=tuple(environment_words(arguments)),
        publish=tuple(arguments.many("publish")),
        publish_all=arguments.on("publish-all"),
        volumes=tuple(arguments.many("volume")),
        mounts=tuple(arguments.many("mount")),
        tmpfs=tuple(arguments.many("tmpfs")),
        workdir=arguments.text("workdir"),
        user=arguments.text("user"),
        entrypoint=arguments.text("entrypoint") if "entrypoint" in arguments.given else None,
        hostname=arguments.text("hostname"),
        network=arguments.text("network") or arguments.text("net") or "bridge",
        labels=tuple(_label(word) for word in (*_label_lines(arguments), *arguments.many("label"))),
        hosts=tuple(_host(word) for word in arguments.many("add-host")),
        dns=tuple(arguments.many("dns")),
        init=arguments.on("init"),
        restart=arguments.text("restart") or "no",
        read_only=arguments.on("read-only"),
        privileged=arguments.on("privileged"),
        cap_add=tuple(arguments.many("cap-add")),
        cap_drop=tuple(arguments.many("cap-drop")),
        cgroup_parent=arguments.text("cgroup-parent"),
        devices=tuple(arguments.many("device")),
        expose=tuple(arguments.many("expose")),
        groups=tuple(arguments.many("group-add")),
        volumes_from=tuple(arguments.many("volumes-from")),
        stop_signal=arguments.text("stop-signal"),
        stop_timeout=arguments.number("stop-timeout") if "stop-timeout" in arguments.given else None,
        **_limits(arguments),
    )


def _limits(arguments: Arguments) -> dict[str, Any]:
    """The members of RunOptions that limit what the container may use."""
    from moldar.cli.build_options import size_in_bytes, ulimit

    return {
        "memory": size_in_bytes(arguments.text("memory") or "0", "--memory"),
        "memory_swap": _swap(arguments.text("memory-swap")),
        "cpus": _cpus(arguments.text("cpus")),
        "pids": max(arguments.number("pids-limit"), 0),
        "ulimits": tuple(ulimit(word) for word in arguments.many("ulimit")),
        "sysctls": tuple(_setting(word, "--sysctl") for word in arguments.many("sysctl")),
        "shm_size": size_in_bytes(arguments.text("shm-size") or "0", "--shm-size"),
    }


def environment_words(arguments: Arguments) -> list[str]:
    """The NAME=value words of --env-file and --env."""
    lines = [line for path in arguments.many("env-file") for line in _read_env_file(path)]
    found = []
    for word in [*lines, *arguments.many("env")]:
        if "=" in word:
            found.append(word)
        elif (value := environment.variable(word)) is not None:
            found.append(f"{word}={value}")
    return found


def _read_env_file(path: str) -> list[str]:
    return _lines(path, "environment")


def _label_lines(arguments: Arguments) -> list[str]:
    return [line for path in arguments.many("label-file") for line in _lines(path, "label")]


def _lines(path: str, what: str) -> list[str]:
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise UserMistake(f"cannot read the {what} file {path}: {error.strerror}") from error
    return [line for line in lines if line and not line.startswith("#")]


def _cpus(text: str) -> float:
    try:
        return float(text or 0)
    except ValueError as error:
        raise UserMistake(f"invalid value {text!r} for --cpus", hint="expected a number such as 1.5") from error


def _swap(text: str) -> int:
    from moldar.cli.build_options import size_in_bytes

    return -1 if text == "-1" else size_in_bytes(text or "0", "--memory-swap")


def _setting(word: str, flag: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise UserMistake(f"invalid value {word!r} for {flag}", hint="expected name=value")
    return name, value


def _label(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def _host(word: str) -> tuple[str, str]:
    name, separator, address = word.partition("=") if "=" in word else word.partition(":")
    if not separator or not address:
        raise UserMistake(f"bad format for add-host: {word!r}", hint="expected host:ip")
    return name, address.strip("[]")


FLAGS = (
    Flag("add-host", "", "list", value="host:ip", help="Add a line to /etc/hosts"),
    Flag("cap-add", "", "list", help="Add a capability"),
    Flag("cap-drop", "", "list", help="Drop a capability"),
    Flag("cgroup-parent", "", "string", value="cgroup", help="Make the container's cgroup below this one"),
    Flag("cidfile", "", "string", value="file", help="Write the container ID to a file"),
    Flag("cpus", "", "string", help="Number of CPUs"),
    Flag("device", "", "list", help="Add a device of the host, as /dev/fuse or /dev/sda:/dev/xvda"),
    Flag("dns", "", "list", help="Set DNS servers"),
    Flag("entrypoint", "", "string", help="Replace the image's ENTRYPOINT"),
    Flag("env", "e", "list", help="Set environment variables"),
    Flag("env-file", "", "list", help="Read a file of environment variables"),
    Flag("expose", "", "list", help="Expose a port or a range of ports"),
    Flag("group-add", "", "list", help="Add a group to those of the process"),
    Flag("hostname", "h", "string", help="Host name of the container"),
    Flag("init", "", "bool", help="Run an init that reaps processes"),
    Flag("interactive", "i", "bool", help="Keep stdin open"),
    Flag("label", "l", "list", help="Set labels on the container"),
    Flag("label-file", "", "list", help="Read a file of labels"),
    Flag("memory", "m", "string", value="bytes", help="Memory limit"),
    Flag("memory-swap", "", "string", value="bytes", help="Limit of memory and swap together; -1 for none"),
    Flag("mount", "", "list", help="Attach a file system, such as type=bind,source=a,target=/b"),
    Flag("name", "", "string", help="Name the container"),
    Flag("net", "", "string", help="The same as --network"),
    Flag("network", "", "string", help="bridge (the default), host or none"),
    Flag("pids-limit", "", "int", help="Most processes; -1 for no limit"),
    Flag("platform", "", "string", help="Platform of the image, such as linux/arm64"),
    Flag("privileged", "", "bool", help="Give extended privileges"),
    Flag("publish", "p", "list", help="Publish a container's port to the host"),
    Flag("publish-all", "P", "bool", help="Publish all exposed ports to random ports"),
    Flag("pull", "", "string", "missing", help="Pull the image first: always, missing, never"),
    Flag("quiet", "q", "bool", help="Do not show the pull"),
    Flag("read-only", "", "bool", help="Make the root file system read-only"),
    Flag("restart", "", "string", "no", help="Restart policy: no, on-failure[:max], always, unless-stopped"),
    Flag("rm", "", "bool", help="Remove the container when it exits"),
    Flag("shm-size", "", "string", value="bytes", help="Size of /dev/shm"),
    Flag("stop-signal", "", "string", help="Signal that stops the container"),
    Flag("stop-timeout", "", "int", help="Seconds before a stop kills"),
    Flag("sysctl", "", "list", value="map", help="Set a kernel parameter of the container's name spaces"),
    Flag("tmpfs", "", "list", help="Mount a tmpfs directory"),
    Flag("tty", "t", "bool", help="Give the process a terminal"),
    Flag("ulimit", "", "list", help="Set a limit of the process, such as nofile=1024:2048"),
    Flag("user", "u", "string", help="User name or UID, with :group or :GID"),
    Flag("volume", "v", "list", help="Bind mount a directory, or attach a volume"),
    Flag("volumes-from", "", "list", help="Mount the volumes of another container; :ro at its end to read only"),
    Flag("workdir", "w", "string", help="Working directory"),
)
COMMANDS = (
    Command(
        ("container", "run"),
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        run,
        (
            Flag("detach", "d", "bool", help="Run in the background and print the container ID"),
            Flag("sig-proxy", "", "bool", default=True, help="Pass signals on to the container"),
            *FLAGS,
        ),
        1,
        interspersed=False,
    ),
    Command(
        ("container", "create"),
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        create,
        (Flag("detach", "d", "bool", help="Accepted for compatibility"), *FLAGS),
        1,
        interspersed=False,
    ),
)

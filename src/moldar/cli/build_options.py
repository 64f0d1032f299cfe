"""Flags of `moldar build` whose values have a grammar: pairs, comma-separated attributes, sizes, limits."""

import os

from moldar.app.requests import Output, SecretSource
from moldar.cli import environment
from moldar.cli.argv import Arguments
from moldar.errors import UserMistake

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
OUTPUTS = ("image", "oci", "docker", "tar", "local", "registry")


def read(arguments: Arguments) -> dict[str, object]:
    """The fields of a BuildRequest that these flags give; UserMistake naming the flag when one is malformed."""
    return {
        "build_args": tuple(pairs(arguments.many("build-arg"), "--build-arg", from_environment=True)),
        "labels": tuple(pairs(arguments.many("label"), "--label")),
        "annotations": tuple(pairs(arguments.many("annotation"), "--annotation")),
        "contexts": tuple(_named_context(word) for word in arguments.many("build-context")),
        "platforms": tuple(part for word in arguments.many("platform") for part in word.split(",")),
        "secrets": tuple(_secret(word) for word in arguments.many("secret")),
        "ssh": tuple(_ssh(word) for word in arguments.many("ssh")),
        "cgroup_parent": arguments.text("cgroup-parent"),
        "hosts": tuple(_host(word) for word in arguments.many("add-host")),
        "shm_size": size_in_bytes(arguments.text("shm-size") or "0", "--shm-size"),
        "ulimits": tuple(ulimit(word) for word in arguments.many("ulimit")),
        "unset_volumes": tuple(_absolute(word) for word in arguments.many("unset-volume")),
        "unset_ports": tuple(_words(arguments.many("unset-expose"), "--unset-expose")),
        "unset_variables": tuple(_words(arguments.many("unset-env"), "--unset-env")),
        "unset_labels": tuple(_words(arguments.many("unset-label"), "--unset-label")),
        "outputs": _outputs(arguments),
        **_caches(arguments),
        "debug_shell": _debug_shell(arguments),
        "security_insecure": "security.insecure" in arguments.many("allow"),
    }


def _debug_shell(arguments: Arguments) -> bool:
    """A shell needs standard input for itself."""
    wanted = arguments.on("debug-shell")
    if wanted and (arguments.positional[0] == "-" or arguments.text("file") == "-"):
        raise UserMistake("--debug-shell needs standard input, which gives the Dockerfile or context here")
    return wanted


def _caches(arguments: Arguments) -> dict[str, object]:
    """The fields for build caches besides the store's own; an empty word is none."""
    sources, targets = arguments.many("cache-from"), arguments.many("cache-to")
    if not sources and not targets:
        return {}
    from moldar.cli import cache_options

    return {
        "cache_from": tuple(cache_options.source(word) for word in sources if word),
        "cache_to": tuple(cache_options.target(word) for word in targets if word),
    }


def epoch_seconds(text: str) -> int:
    """SOURCE_DATE_EPOCH as a number of seconds; UserMistake when it is none."""
    try:
        return int(text)
    except ValueError as error:
        raise UserMistake(f"invalid SOURCE_DATE_EPOCH: {text!r} is not a whole number of seconds") from error


def size_in_bytes(text: str, flag: str) -> int:
    """`64m`, `1g`, `1048576` in bytes."""
    lowered = text.lower().removesuffix("ib").removesuffix("b") if len(text) > 1 else text
    unit = lowered[-1:] if lowered[-1:].isalpha() else ""
    number = lowered[: len(lowered) - len(unit)]
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError) as error:
        raise UserMistake(f"invalid size {text!r} for {flag}", hint="expected a number with b, k, m or g") from error


def attributes(word: str, flag: str) -> dict[str, str]:
    """`type=oci,dest="a,b"` as a dict: comma-separated name=value with CSV quoting; a bare name means true."""
    found: dict[str, str] = {}
    for part in _csv(word, flag):
        name, equals, value = part.partition("=")
        found[name.strip().lower()] = value if equals else "true"
    return found


def _csv(word: str, flag: str) -> list[str]:
    import csv

    try:
        return next(csv.reader([word], strict=True))
    except (csv.Error, StopIteration) as error:
        raise UserMistake(f"invalid value {word!r} for {flag}: {error or 'it is empty'}") from error


def pairs(words: list[str], flag: str, *, from_environment: bool = False) -> list[tuple[str, str]]:
    """`name=value` words in pairs; a bare name takes its value from the environment where that is the custom."""
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise UserMistake(f"invalid value {word!r} for {flag}", hint="expected name=value")
        if equals or not from_environment:
            pairs.append((name, value))
        elif (inherited := environment.variable(name)) is not None:
            pairs.append((name, inherited))
    return pairs


def _words(words: list[str], flag: str) -> list[str]:
    for word in words:
        if not word or "=" in word:
            raise UserMistake(f"invalid value {word!r} for {flag}", hint="give the name alone")
    return words


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise UserMistake(f"invalid value {path!r} for --unset-volume", hint="give the volume's absolute path")
    return path


def _named_context(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name or not value:
        raise UserMistake(f"invalid context value {word!r} for --build-context", hint="expected name=path")
    return name.lower(), value


def _secret(word: str) -> SecretSource:
    values = attributes(word, "--secret")
    source = values.get("src") or values.get("source") or ""
    variable = values.get("env", "")
    kind = values.get("type", "")
    unknown = values.keys() - {"id", "src", "source", "env", "type"}
    if unknown:
        raise UserMistake(f"unexpected key {min(unknown)!r} in --secret {word!r}", hint="use id, src, env and type")
    name = values.get("id") or source or variable
    if not name:
        raise UserMistake(f"--secret {word!r} has no id")
    if kind == "env" or variable or (not source and environment.variable(name) is not None):
        value = environment.variable(variable or source or name)
        if value is None:
            raise UserMistake(f"secret {name!r}: environment variable {variable or source or name!r} is not set")
        return SecretSource(name, value=value.encode())
    path = os.path.expanduser(source or name)
    if not os.path.isfile(path):
        raise UserMistake(f"secret {name!r}: no file {path!r}")
    return SecretSource(name, file=os.path.abspath(path))


def _ssh(word: str) -> tuple[str, str]:
    name, _, source = word.partition("=")
    socket = source or environment.variable("SSH_AUTH_SOCK") or ""
    if not socket:
        raise UserMistake(f"--ssh {word}: no agent", hint="start ssh-agent or give --ssh id=path-of-its-socket")
    return name, os.path.abspath(socket)


def _host(word: str) -> tuple[str, str]:
    separator = "=" if "=" in word else ":"
    name, found, address = word.partition(separator)
    if not found or not name or not address:
        raise UserMistake(f"bad format for add-host: {word!r}", hint="expected host:ip")
    return name, address.strip("[]")


def ulimit(word: str) -> tuple[str, int, int]:
    """`nofile=1024:2048` as name, soft and hard limit. UserMistake."""
    name, _, limits = word.partition("=")
    soft, colon, hard = limits.partition(":")
    try:
        return name, int(soft), int(hard) if colon else int(soft)
    except ValueError as error:
        raise UserMistake(
            f"invalid ulimit {word!r}", hint="expected type=soft[:hard], such as nofile=1024"
        ) from error


def _outputs(arguments: Arguments) -> tuple[Output, ...]:
    outputs = [_output(word) for word in arguments.many("output")]
    if arguments.on("push"):
        outputs.append(Output("registry"))
    if arguments.on("load"):
        outputs.append(Output("image"))
    return tuple(outputs)


def _output(word: str) -> Output:
    if "=" not in word:
        return Output("tar", "-") if word == "-" else Output("local", word)
    values = attributes(word, "--output")
    kind = values.pop("type", "")
    if kind not in OUTPUTS:
        raise UserMistake(
            f"unknown output type {kind!r} in --output {word!r}", hint="use one of " + ", ".join(OUTPUTS)
        )
    dest = values.pop("dest", "")
    if kind == "image" and values.pop("push", "false") == "true":
        kind = "registry"
    if kind in ("oci", "tar") and not dest:
        dest = "-"
    if dest == "-" and environment.stdout_is_terminal():
        raise UserMistake("refusing to write the result to a terminal", hint="give dest=FILE or redirect stdout")
    if kind == "local" and not dest:
        raise UserMistake("output type local needs dest=DIRECTORY")
    return Output(kind, dest, tuple(values.items()))

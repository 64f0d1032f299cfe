"""What a build is asked for, as data; the command line fills it in from flags, programs by keyword."""

from typing import NamedTuple


class SecretSource(NamedTuple):
    """A secret that RUN --mount=type=secret may see: a file's path or an environment variable's value."""

    id: str
    file: str = ""
    value: bytes | None = None


class Output(NamedTuple):
    """One result of a build: `kind` is image, oci, docker, tar, local or registry; `dest` a path or `-`."""

    kind: str
    dest: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        return dict(self.attributes).get(name, default)


class CachePlace(NamedTuple):
    """A build cache besides the store's own: `kind` is local (a directory), registry or inline (in the image itself).

    For reading, kind image is one of the store or, when there is none, of a registry. `place` is the path or name.
    """

    kind: str
    place: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        return dict(self.attributes).get(name, default)

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".rstrip()


class BuildRequest(NamedTuple):
    """Everything `moldar build` can be asked.

    `context` is a directory, `-` for stdin, or a URL; `file` is empty for the context's Dockerfile, `-` for stdin.
    `source_date_epoch` in seconds, None when not given. `reproducible` gives the same digests on every machine: no
    dates but `source_date_epoch` (0 when not given), and the modes of the context's files as git keeps them.
    `shm_size` in bytes. `hosts` are (name, address), `ulimits` (name, soft, hard).
    `exact_cache`: a step is reused only when nothing below it changed, whatever it read.
    The cgroups of the steps are made below `cgroup_parent`, where cgroups can be made.
    `debug_shell` opens a shell on our standard streams in a step that fails.
    The `unset_` fields name what the image shall not have, inherited or not; steps still see it.
    """

    context: str = "."
    file: str = ""
    tags: tuple[str, ...] = ()
    build_args: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    target: str = ""
    platforms: tuple[str, ...] = ()
    contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[SecretSource, ...] = ()
    ssh: tuple[tuple[str, str], ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    exact_cache: bool = False
    pull: bool = False
    network: str = "default"
    hosts: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    ulimits: tuple[tuple[str, int, int], ...] = ()
    outputs: tuple[Output, ...] = ()
    source_date_epoch: int | None = None
    security_insecure: bool = False
    cache_from: tuple[CachePlace, ...] = ()
    cache_to: tuple[CachePlace, ...] = ()
    reproducible: bool = False
    unset_volumes: tuple[str, ...] = ()
    unset_ports: tuple[str, ...] = ()
    unset_variables: tuple[str, ...] = ()
    unset_labels: tuple[str, ...] = ()
    debug_shell: bool = False
    cgroup_parent: str = ""


def layer_epoch(request: BuildRequest) -> int | None:
    """SOURCE_DATE_EPOCH for outputs that rewrite times: the build argument wins over the environment."""
    given = dict(request.build_args).get("SOURCE_DATE_EPOCH")
    return int(given) if given else request.source_date_epoch

"""The build as data: an immutable graph of operations, in topological order.

An operation says what is asked, never how it is done. `definition` digests are stable across processes and
machines, so that they can name cache records.
"""

import hashlib
from typing import Any, NamedTuple

from moldar.image.model import Digest, Platform, encode_json


class HostEntry(NamedTuple):
    """A line for /etc/hosts of a step."""

    name: str
    address: str


class Ulimit(NamedTuple):
    """A resource limit of a step's process."""

    name: str
    soft: int
    hard: int


class Mount(NamedTuple):
    """A mount of a RUN. `source` counts the vertex's inputs for bind (and cache with from=), else -1.

    `kind`: bind, cache, tmpfs, secret or ssh. `sharing`: shared, private or locked. Sizes in bytes, modes as
    numbers; modes and owners are -1 where not given.
    """

    kind: str
    target: str
    source: int = -1
    subpath: str = ""
    readonly: bool = True
    cache_id: str = ""
    sharing: str = "shared"
    mode: int = -1
    uid: int = -1
    gid: int = -1
    size: int = 0
    required: bool = False
    env: str = ""


class ScratchOp(NamedTuple):
    """An empty root file system."""


class ImageOp(NamedTuple):
    """The root file system of an image, already resolved to its layers. `reference` is what a person wrote."""

    reference: str
    digest: Digest
    platform: Platform
    diff_ids: tuple[Digest, ...]


class ContextOp(NamedTuple):
    """A build context (directory); `name` is empty for the main one."""

    name: str = ""


class HttpOp(NamedTuple):
    """A file fetched by ADD."""

    url: str
    checksum: str = ""

    @property
    def name(self) -> str:
        """The file's name: the last part of the URL's path, `__unnamed__` when it has none."""
        path = self.url.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2]
        return _unquote(path.rstrip("/").rpartition("/")[2]) or "__unnamed__"


class GitOp(NamedTuple):
    """A git repository fetched by ADD or as a context."""

    url: str
    keep_git_dir: bool = False
    checksum: str = ""


class InlineOp(NamedTuple):
    """Files written in the Dockerfile itself (heredocs of COPY and ADD): pairs of name and content."""

    files: tuple[tuple[str, bytes], ...]


class CopyOp(NamedTuple):
    """COPY and ADD. Input 0 is the destination's root file system; sources[i] is (input, path or pattern).

    `destination` is absolute, a trailing slash kept. `chown` and `chmod` are as written, empty when absent.
    `unpack`: None leaves it to the source's kind (archives of a local context are unpacked by ADD). `reproducible`:
    what is copied is as old as `created_epoch`, and nothing in the layer is newer.
    """

    sources: tuple[tuple[int, str], ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    is_add: bool = False
    unpack: bool | None = None
    checksum: str = ""
    created_epoch: int | None = None
    reproducible: bool = False


class WorkdirOp(NamedTuple):
    """Make the directory `path` (absolute) owned by `user` (as in USER, empty for root). Input 0 is the root."""

    path: str
    user: str = ""
    created_epoch: int | None = None


class RunOp(NamedTuple):
    """Run a process in the root file system of input 0. `args` is the full argv, shell included.

    `environment` are NAME=value strings; `script_files` are heredoc files to provide at /dev/pipes.
    `network`: default, none or host. `security`: sandbox or insecure. `proxies` are more variables, which the process
    sees and the cache does not. Nothing in the layer is newer than `newest`, in seconds since the epoch.
    `one_id`: changes of owners have no effect, for want of ids.
    """

    args: tuple[str, ...]
    environment: tuple[str, ...]
    user: str
    workdir: str
    mounts: tuple[Mount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    script_files: tuple[tuple[str, bytes], ...] = ()
    hosts: tuple[HostEntry, ...] = ()
    shm_size: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    platform: Platform = Platform()
    proxies: tuple[str, ...] = ()
    newest: int | None = None
    one_id: bool = False


Op = ScratchOp | ImageOp | ContextOp | HttpOp | GitOp | InlineOp | CopyOp | WorkdirOp | RunOp


class Vertex(NamedTuple):
    """One operation in the graph. `inputs` are indices of earlier vertices.

    `name` is what a person reads (`[build 3/4] COPY . .`), `line` the Dockerfile line it came from (0: none);
    `ignore_cache` is set by --no-cache and --no-cache-filter; `max_age`: how old a cached result may be, in seconds.
    """

    op: Op
    inputs: tuple[int, ...]
    name: str
    line: int = 0
    end_line: int = 0
    ignore_cache: bool = False
    max_age: float | None = None


class Graph(NamedTuple):
    """All vertices in topological order; `target` is the index of the one whose result is wanted."""

    vertices: tuple[Vertex, ...]
    target: int


def _unquote(text: str) -> str:
    """`text` without percent-encoding; what would be no file name stays as it is."""
    first, *rest = text.encode().split(b"%")
    done = first
    for part in rest:
        try:
            done += bytes.fromhex(part[:2].decode()) + part[2:] if len(part) > 1 else b"%" + part
        except ValueError:
            done += b"%" + part
    return text if b"/" in done or b"\0" in done else done.decode("utf-8", "surrogateescape")


def definition(op: Op) -> Digest:
    """The digest of what `op` asks, without its inputs."""
    document = [type(op).__name__, _plain(op)]
    return Digest("sha256:" + hashlib.sha256(encode_json(document)).hexdigest())


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    return value


def describe(graph: Graph) -> str:
    """The graph as text: one block per vertex with what it asks and of which inputs. Stable, for people and tests."""
    lines: list[str] = []
    for index, vertex in enumerate(graph.vertices):
        mark = " (target)" if index == graph.target else ""
        inputs = " <- " + ", ".join(map(str, vertex.inputs)) if vertex.inputs else ""
        where = f" line {vertex.line}" + (f"-{vertex.end_line}" if vertex.end_line > vertex.line else "")
        lines.append(f"{index}: {vertex.name}{mark}{inputs}{where if vertex.line else ''}")
        lines += [f"    {line}" for line in _members(vertex.op)]
        if vertex.ignore_cache:
            lines.append("    ignore cache")
        if vertex.max_age is not None:
            lines.append(f"    at most {vertex.max_age:g} seconds old")
    return "\n".join(lines) + "\n"


def _members(op: Op) -> list[str]:
    """The members of `op` that differ from their defaults, in the order of their definition."""
    defaults = op._field_defaults
    shown = [
        (name, value)
        for name, value in zip(op._fields, op, strict=True)
        if not (name in defaults and defaults[name] == value)
    ]
    return [type(op).__name__, *(f"  {name} = {_shown(value)}" for name, value in shown)]


def _shown(value: Any) -> str:
    if isinstance(value, Mount | HostEntry | Ulimit | Platform):
        defaults = value._field_defaults
        members = zip(value._fields, value, strict=True)
        given = [f"{name}={_shown(item)}" for name, item in members if defaults.get(name, _UNSET) != item]
        return f"{type(value).__name__}({', '.join(given)})"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return repr(value)


_UNSET = object()

"""Instructions that make layers: WORKDIR, RUN, COPY and ADD become vertices."""

import posixpath
from collections.abc import Callable

from moldar.builder.graph import (
    ContextOp,
    CopyOp,
    GitOp,
    HttpOp,
    InlineOp,
    Mount,
    RunOp,
    Vertex,
    WorkdirOp,
)
from moldar.builder.plan import describe
from moldar.builder.plan.config import shell_words
from moldar.builder.plan.environment import proxy_variables
from moldar.builder.plan.options import PlanOptions
from moldar.builder.plan.stages import SCRATCH
from moldar.builder.plan.state import StageState, Vertices
from moldar.dockerfile import instructions as ins
from moldar.dockerfile.mounts import RunMount
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import Expander
from moldar.errors import UserMistake

SECRETS = "/run/secrets"


class LayerPlanner:
    """Plans the layer-making instructions of one stage.

    `source` gives the vertex that a name in --from means (empty: the context); `name` makes the next vertex name from
    an instruction's words; `epoch` dates directories that are made.
    """

    def __init__(
        self,
        state: StageState,
        vertices: Vertices,
        options: PlanOptions,
        *,
        source: Callable[[str], int],
        name: Callable[[str], str],
        escape: str,
        epoch: int | None,
        ignore_cache: bool,
    ) -> None:
        self._state = state
        self._vertices = vertices
        self._options = options
        self._source = source
        self._name = name
        self._escape = escape
        self._epoch = epoch
        self._ignore_cache = ignore_cache

    def workdir(self, instruction: ins.Workdir) -> None:
        """WORKDIR: a layer with the directory, even when it exists; none for the root."""
        state = self._state
        path = resolve(state.config.working_dir, instruction.path)
        state.change(working_dir=path)
        name = self._name(f"WORKDIR {instruction.path}")
        if path == "/":
            state.commit(f"WORKDIR {path}")
            return
        op = WorkdirOp(path, state.config.user, self._epoch)
        state.commit_layer(f"WORKDIR {path}", self._add(op, (state.root,), name, instruction))

    def run(self, instruction: ins.Run) -> None:
        """RUN."""
        state = self._state
        args = shell_words(state, instruction.command)
        scripts = tuple((file.name, file.content.encode(errors="surrogateescape")) for file in instruction.files)
        if instruction.network == "host" and self._options.network != "host":
            self._require("network.host")
        if instruction.security == "insecure":
            self._require("security.insecure")
        mounts, inputs = self._mounts(instruction)
        op = RunOp(
            args,
            tuple(f"{name}={value}" for name, value in state.environment.items()),
            state.config.user,
            state.config.working_dir or "/",
            mounts,
            self._options.network if instruction.network == "default" else instruction.network,
            instruction.security,
            scripts,
            self._options.hosts,
            self._options.shm_size,
            self._options.ulimits,
            state.platform,
            proxy_variables(self._options.build_args),
            self._epoch if self._options.reproducible else None,
            self._options.one_id,
        )
        summary = f" ({instruction.summary})" if instruction.summary else ""
        vertex = self._add(op, inputs, self._name(self._show(instruction) + summary), instruction)
        state.commit_layer(describe.run(args, state.declared, state.environment), vertex)

    def copy(self, instruction: ins.Copy | ins.Add) -> None:
        """COPY and ADD; `instruction` is expanded."""
        state = self._state
        is_add = isinstance(instruction, ins.Add)
        parents = isinstance(instruction, ins.Copy) and instruction.parents
        inputs = [state.root]
        pairs: list[tuple[int, str]] = []
        for source in instruction.sources:
            vertex, path = self._copy_source(instruction, source)
            pairs.append((_input(inputs, vertex), path))
        if instruction.files:
            files = tuple((file.name, file.content.encode(errors="surrogateescape")) for file in instruction.files)
            vertex = self._vertices.share(Vertex(InlineOp(files), (), "[internal] preparing inline document"))
            pairs += [(_input(inputs, vertex), f"/{name}") for name, _ in files]
        op = CopyOp(
            tuple(pairs),
            destination(state.config.working_dir, instruction.destination),
            instruction.chown,
            instruction.chmod,
            instruction.link,
            parents,
            instruction.exclude,
            is_add,
            instruction.unpack if isinstance(instruction, ins.Add) else None,
            instruction.checksum if isinstance(instruction, ins.Add) else "",
            self._epoch,
            self._options.reproducible,
        )
        vertex = self._add(op, tuple(inputs), self._name(self._show(instruction)), instruction)
        flags = ["--parents"] if parents else []
        flags += [f"--chown={op.chown}"] if op.chown else []
        flags += [f"--chmod={op.chmod}"] if op.chmod else []
        heredocs = [file.name for file in instruction.files]
        name = "ADD" if is_add else "COPY"
        state.commit_layer(describe.copy(name, flags, instruction.sources, heredocs, instruction.destination), vertex)

    def _copy_source(self, instruction: ins.Copy | ins.Add, source: str) -> tuple[int, str]:
        """The vertex to copy from, and the path or pattern in it."""
        if isinstance(instruction, ins.Copy):
            return self._source(instruction.from_stage), source
        if is_git(source):
            git = GitOp(source, bool(instruction.keep_git_dir), instruction.checksum)
            return self._vertices.share(Vertex(git, (), f"[internal] load git source {source}")), "/"
        if is_http(source):
            http = HttpOp(source, instruction.checksum)
            return self._vertices.share(Vertex(http, (), source)), f"/{http.name}"
        if instruction.checksum:
            raise UserMistake("checksum requires HTTP(S) or Git sources")
        return self._source(""), source

    def _mounts(self, instruction: ins.Run) -> tuple[tuple[Mount, ...], tuple[int, ...]]:
        """The mounts of a RUN, and its inputs: the root and what the mounts show."""
        inputs = [self._state.root]
        mounts = [self._mount(mount, number, inputs) for number, mount in enumerate(instruction.mounts)]
        return tuple(mounts), tuple(inputs)

    def _mount(self, mount: RunMount, number: int, inputs: list[int]) -> Mount:
        source = -1
        if mount.kind == "bind" or (mount.kind == "cache" and mount.from_stage not in ("", SCRATCH)):
            source = _input(inputs, self._source(mount.from_stage))
        target, identifier = mount.target, mount.cache_id
        if mount.kind == "secret":
            identifier = identifier or posixpath.basename(target)
            target = target or ("" if mount.env is not None else f"{SECRETS}/{identifier}")
        elif mount.kind == "ssh":
            identifier = identifier or "default"
            target = target or f"/run/buildkit/ssh_agent.{number}"
        elif mount.kind == "cache":
            identifier = identifier or posixpath.normpath(target)
        if target:
            target = resolve(self._state.config.working_dir, target)
        if target == "/":
            raise UserMistake('invalid mount target "/"')
        return Mount(
            mount.kind,
            target,
            source,
            posixpath.normpath("/" + mount.source.lstrip("/")),
            mount.readonly,
            identifier,
            mount.sharing or "shared",
            mount.mode,
            mount.uid,
            mount.gid,
            mount.size,
            mount.required,
            (mount.env or identifier) if mount.env is not None else "",
        )

    def _show(self, instruction: ins.Instruction) -> str:
        """The instruction for a vertex name: its keyword in upper case, variables that are set expanded."""
        origin = instruction.origin
        rest = origin.text[len(origin.keyword) :]
        try:
            return origin.name + Expander(self._state.environment.get, self._escape).title(rest)
        except DockerfileError:
            return origin.name + rest

    def _require(self, entitlement: str) -> None:
        if entitlement not in self._options.entitlements:
            raise UserMistake(f"{entitlement} is not allowed", hint=f"allow it with --allow {entitlement}")

    def _add(self, op: WorkdirOp | RunOp | CopyOp, inputs: tuple[int, ...], name: str, at: ins.Instruction) -> int:
        lines = at.origin.location
        max_age = at.max_age if isinstance(at, ins.Run) else None
        return self._vertices.add(Vertex(op, inputs, name, lines.start, lines.end, self._ignore_cache, max_age))


def context_vertex(vertices: Vertices, name: str) -> int:
    """The vertex of a build context, the main one when `name` is empty."""
    title = f"[context {name}] load from client" if name else "[internal] load build context"
    return vertices.share(Vertex(ContextOp(name), (), title))


def _input(inputs: list[int], vertex: int) -> int:
    """The position of `vertex` among the inputs after the root, added when it is not there."""
    if vertex not in inputs[1:]:
        inputs.append(vertex)
    return inputs.index(vertex, 1)


def resolve(directory: str, path: str) -> str:
    """`path` below `directory` unless it is absolute, without `.`, `..` and doubled slashes."""
    path = posixpath.normpath(posixpath.join("/", directory, path))
    return "/" + path.lstrip("/")


def destination(directory: str, path: str) -> str:
    """The absolute destination of a COPY; a slash or a dot at the end says that it is a directory."""
    resolved = resolve(directory, path)
    is_directory = path.endswith("/") or posixpath.basename(path) == "." or not path
    return resolved + "/" if is_directory and resolved != "/" else resolved


def is_http(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def is_git(source: str) -> bool:
    """Whether ADD takes `source` for a git repository (URL forms of `git clone`, or http with `.git`)."""
    if source.startswith(("git://", "git@", "ssh://")):
        return True
    path = source.partition("#")[0].partition("?")[0]
    return is_http(source) and path.endswith(".git")

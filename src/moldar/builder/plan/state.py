"""The state of one stage while its instructions are planned: the root so far, environment, config and history."""

from collections.abc import Iterable
from typing import Any

from moldar.builder.graph import Graph, Op, Vertex
from moldar.builder.plan.options import HistoryStep
from moldar.image.config import DEFAULT_PATH, INLINE_CACHE, ContainerConfig, HistoryEntry, ImageConfig
from moldar.image.model import Digest, Platform

COMMENT = "moldar.dockerfile.v0"


class Vertices:
    """The graph under construction. Sources that several steps read are made once."""

    def __init__(self) -> None:
        self._vertices: list[Vertex] = []
        self._shared: dict[tuple[type, Op], int] = {}

    def add(self, vertex: Vertex) -> int:
        """The index of the new vertex."""
        self._vertices.append(vertex)
        return len(self._vertices) - 1

    def share(self, vertex: Vertex) -> int:
        """The index of the vertex with this op, made when it is the first."""
        key = (type(vertex.op), vertex.op)
        if key not in self._shared:
            self._shared[key] = self.add(vertex)
        return self._shared[key]

    def graph(self, target: int) -> Graph:
        return Graph(tuple(self._vertices), (target,))


class StageState:
    """What the next instruction of a stage starts from.

    `environment` is what a process sees (ENV, and ARG that has a value), later settings winning; `declared` are the
    ARGs in effect, as the history of RUN shows them. `layer_vertices` made the layers above the base image.
    """

    def __init__(self, root: int, base: ImageConfig, platform: Platform) -> None:
        self.root = root
        self.platform = platform
        self.config = base.config
        self.author = base.author
        self.base_layers: tuple[Digest, ...] = base.diff_ids
        self.base_history: tuple[HistoryEntry, ...] = base.history
        self.extra = {key: value for key, value in (base.extra or {}).items() if key != INLINE_CACHE}  # not ours
        self.environment: dict[str, str] = {}
        self.declared: list[tuple[str, str]] = []
        self.history: list[HistoryStep] = []
        self.layer_vertices: list[int] = []
        self.command_set = False

    def child(self) -> "StageState":
        """The state that a stage based on this one starts from."""
        state = StageState(self.root, self.image(), self.platform)
        state.base_layers = self.base_layers
        state.base_history = self.base_history
        state.environment = dict(self.environment)
        state.declared = list(self.declared)
        state.history = list(self.history)
        state.layer_vertices = list(self.layer_vertices)
        return state

    def begin(self) -> None:
        """Make the config's environment that of the processes, with a PATH in any case."""
        if not any(variable.startswith("PATH=") for variable in self.config.env):
            self.change(env=(*self.config.env, DEFAULT_PATH))
        for variable in self.config.env:
            name, _, value = variable.partition("=")
            self.environment[name] = value

    def change(self, **members: Any) -> None:
        """Replace members of the container config."""
        self.config = self.config._replace(**members)

    def set_variables(self, pairs: list[tuple[str, str]]) -> None:
        """ENV: each variable keeps the place that it had in the list."""
        variables = {variable.partition("=")[0]: variable for variable in self.config.env}
        for name, value in pairs:
            variables[name] = f"{name}={value}"
            self.environment[name] = value
        self.change(env=tuple(variables.values()))

    def set_labels(self, pairs: Iterable[tuple[str, str]]) -> None:
        """LABEL: a later value replaces an earlier one."""
        self.change(labels=tuple({**dict(self.config.labels), **dict(pairs)}.items()))

    def declare(self, name: str, value: str | None) -> None:
        """ARG."""
        self.declared.append((name, value or ""))
        if value is not None:
            self.environment[name] = value

    def commit(self, created_by: str) -> None:
        """Add a history entry without layer."""
        self.history.append(HistoryStep(created_by, -1, COMMENT))

    def commit_layer(self, created_by: str, vertex: int) -> None:
        """Add a history entry for the layer of `vertex`, which is the new root."""
        self.history.append(HistoryStep(created_by, vertex, COMMENT))
        self.stack(vertex)

    def stack(self, vertex: int) -> None:
        """Make `vertex` the new root; the layer that it adds has no history entry of its own."""
        self.layer_vertices.append(vertex)
        self.root = vertex

    def image(self) -> ImageConfig:
        """The config so far, without dates and history; `diff_ids` are the base's."""
        return ImageConfig(self.platform, "", self.author, self.config, self.base_layers, (), self.extra)


def empty_image(platform: Platform) -> ImageConfig:
    """What FROM scratch starts from."""
    return ImageConfig(platform, config=ContainerConfig(env=(DEFAULT_PATH,), working_dir="/"))

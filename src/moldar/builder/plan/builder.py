"""Plans a whole build: stages, base images, then instruction by instruction into a graph."""

from collections.abc import Mapping, Sequence
from typing import Any

from moldar.builder.graph import CopyOp, ImageOp, ScratchOp, Vertex
from moldar.builder.plan.config import HANDLERS, unset
from moldar.builder.plan.environment import automatic_variables, parse_platform
from moldar.builder.plan.layers import LayerPlanner, context_vertex
from moldar.builder.plan.locate import located
from moldar.builder.plan.options import ImageRequest, ImageResolver, Plan, PlanOptions, ResolvedImage
from moldar.builder.plan.stages import SCRATCH, Node, Stages, in_order, link
from moldar.builder.plan.state import StageState, Vertices, empty_image
from moldar.dockerfile import instructions as ins
from moldar.dockerfile.reading import read_trigger
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import Expander
from moldar.errors import MoldarError, UserMistake
from moldar.image.config import HistoryEntry, ImageConfig, encode_image_config
from moldar.image.model import Platform, digest_of
from moldar.image.reference import parse_reference

EPOCH = "SOURCE_DATE_EPOCH"
_LAYERED = (ins.Run, ins.Copy, ins.Add, ins.Workdir)


def plan(dockerfile: ins.Dockerfile, options: PlanOptions, images: ImageResolver) -> Plan:
    """What to do for the target of `dockerfile`.

    Raises UserMistake for what the Dockerfile or the options get wrong, with the place when there is one, and
    whatever `images` raises.
    """
    if options.source_date_epoch:
        options = options._replace(build_args={EPOCH: options.source_date_epoch, **options.build_args})
    return _Planner(dockerfile, options, images).plan()


class _Planner:
    def __init__(self, dockerfile: ins.Dockerfile, options: PlanOptions, images: ImageResolver) -> None:
        self._dockerfile = dockerfile
        self._options = options
        self._images = images
        self._epoch = _epoch(options.build_args.get(EPOCH, ""))
        self._globals = automatic_variables(options)
        self._stages = Stages(options.contexts)
        self._vertices = Vertices()
        self._states: dict[Node, StageState] = {}

    def plan(self) -> Plan:
        self._declare_globals()
        self._read_stages()
        in_order(self._stages.inside)
        target = self._stages.target(self._options.target)
        for node in self._resolve(target):
            self._plan_stage(node)
        state = self._states[target]
        unset(state, self._options.unset)
        state.set_labels(self._options.labels)
        return Plan(
            self._vertices.graph(state.root),
            state.image(),
            state.base_history,
            tuple(state.history),
            tuple(state.layer_vertices),
            target.label,
            tuple(node.name for node in self._stages.inside),
            self._epoch,
        )

    # Stages

    def _declare_globals(self) -> None:
        """ARGs before the first FROM; a --build-arg wins over a default."""
        for instruction in self._dockerfile.global_args:
            for argument in instruction.arguments:
                value = self._options.build_args.get(argument.key)
                if value is None and argument.value is not None:
                    value = self._expand(argument.value, self._globals, instruction.origin)
                if value is not None:
                    self._globals[argument.key] = value

    def _read_stages(self) -> None:
        for stage in self._dockerfile.stages:
            base = self._expand(stage.base, self._globals, stage.origin)
            if not base:
                raise stage.origin.error(f"base name ({stage.base}) should not be blank")
            node = Node(stage.number, stage.name, base, self._platform(stage))
            node.origin = stage.origin
            self._stages.add(node)
            node.instructions = () if node.replaced else stage.instructions
        for node in self._stages.inside:
            try:
                self._attach(node, self._triggers_of_stage(node.base) if node.base else ())
                link(node, self._stages, node.instructions, self._options.platform)
            except MoldarError as error:
                raise _located(error, node.instructions[0].origin) from None

    def _platform(self, stage: ins.Stage) -> Platform:
        if not stage.platform:
            return self._options.platform
        text = self._expand(stage.platform, self._globals, stage.origin)
        if not text:
            raise stage.origin.error(f"empty platform value from expression {stage.platform}")
        try:
            return parse_platform(text)
        except UserMistake as error:
            raise _located(error, stage.origin) from None

    def _triggers_of_stage(self, base: Node) -> list[ins.Instruction]:
        return [
            read_trigger(instruction.trigger, instruction.origin)
            for instruction in base.instructions
            if isinstance(instruction, ins.Onbuild)
        ]

    def _attach(self, node: Node, triggers: Sequence[ins.Instruction]) -> None:
        node.triggers = tuple(triggers)
        link(node, self._stages, triggers, self._options.platform)

    def _resolve(self, target: Node) -> list[Node]:
        """All that the target needs, with every image resolved. Triggers of images may need more images."""
        while True:
            needed = in_order([target])
            wanting = [node for node in needed if node.wants_image]
            if not wanting:
                return needed
            for node, image in zip(wanting, self._resolve_images(wanting), strict=True):
                node.image = image
                if node.origin is not None and not node.outside:
                    origin = node.origin
                    self._attach(node, [read_trigger(text, origin) for text in image.config.config.on_build])

    def _resolve_images(self, nodes: Sequence[Node]) -> Sequence[ResolvedImage]:
        requests = [self._request(node) for node in nodes]
        try:
            return self._images.resolve(requests)
        except MoldarError:
            for node, request in zip(nodes, requests, strict=True):  # which of them was it?
                try:
                    self._images.resolve([request])
                except MoldarError as error:
                    raise self._unresolved(error, node) from None
            raise

    def _request(self, node: Node) -> ImageRequest:
        name = node.context.location if node.context else node.base_name
        try:
            line = node.origin.location.start if node.origin else 0
            return ImageRequest(parse_reference(name), node.platform, line)
        except UserMistake as error:
            raise self._unresolved(error, node) from None

    def _unresolved(self, error: MoldarError, node: Node) -> MoldarError:
        """`error` with its place, and with the stage or context whose name may have been meant."""
        meant = self._stages.nearest(node)
        error.hint = "; ".join(filter(None, (meant, error.hint)))
        return _located(error, node.origin) if node.origin else error

    # One stage

    def _plan_stage(self, node: Node) -> None:
        namer = _Namer(node, single=self._stages.single, multi_platform=self._options.multi_platform)
        state = self._states[node] = self._start(node, namer)
        if node.outside:
            return
        state.begin()
        namer.environment = state.environment
        state.change(on_build=())
        layers = LayerPlanner(
            state,
            self._vertices,
            self._options,
            source=lambda name: self._source(node, name),
            name=namer.next,
            escape=self._dockerfile.escape,
            epoch=self._epoch,
            ignore_cache=self._ignores_cache(node),
        )
        for instruction in (*node.triggers, *node.instructions):
            try:
                self._apply(state, layers, instruction)
            except MoldarError as error:
                raise _located(error, instruction.origin) from None

    def _apply(self, state: StageState, layers: LayerPlanner, instruction: ins.Instruction) -> None:
        if isinstance(instruction, ins.Arg):
            self._declare(state, instruction)
            return
        expanded = instruction.expand(Expander(state.environment.get, self._dockerfile.escape))
        if isinstance(expanded, ins.Run):
            layers.run(expanded)
        elif isinstance(expanded, ins.Copy | ins.Add):
            layers.copy(expanded)
        elif isinstance(expanded, ins.Workdir):
            layers.workdir(expanded)
        else:
            HANDLERS[type(expanded)](state, expanded)

    def _declare(self, state: StageState, instruction: ins.Arg) -> None:
        """ARG in a stage: a --build-arg wins over the default, which wins over a global value."""
        words = []
        for argument in instruction.arguments:
            value = self._options.build_args.get(argument.key)
            if value is None and argument.value is not None:
                value = self._expand(argument.value, state.environment, instruction.origin)
            elif value is None:
                value = self._globals.get(argument.key)
            state.declare(argument.key, value)
            words.append(argument.key if value is None else f"{argument.key}={value}")
        state.commit("ARG " + " ".join(words))

    def _start(self, node: Node, namer: "_Namer") -> StageState:
        """The state before the first instruction."""
        if node.base is not None:
            return self._states[node.base].child()
        if node.image is not None:
            return self._start_from_image(node, node.image, namer)
        root = self._vertices.share(Vertex(ScratchOp(), (), SCRATCH))
        state = StageState(root, empty_image(node.platform), node.platform)
        if node.context is not None and not node.outside:
            context = context_vertex(self._vertices, node.context_name)
            name = f"[context {node.context_name}] use as base"
            op = CopyOp(((1, "/"),), "/")
            if self._options.reproducible:
                op = op._replace(created_epoch=self._epoch, reproducible=True)
            state.stack(self._vertices.add(Vertex(op, (root, context), name)))
        return state

    def _start_from_image(self, node: Node, image: ResolvedImage, namer: "_Namer") -> StageState:
        name = image.reference + (f"@{image.digest}" if image.digest and "@" not in image.reference else "")
        digest = image.digest or digest_of(encode_image_config(image.config))
        op = ImageOp(image.reference, digest, node.platform, image.config.diff_ids)
        line = node.origin.location.start if node.origin else 0
        title = f"FROM {name}" if node.outside else namer.next(f"FROM {name}")
        vertex = self._vertices.share(Vertex(op, (), title, line))
        history = _covering(image.config.history, len(image.config.diff_ids))
        return StageState(vertex, _inherited(image.config)._replace(history=history), node.platform)

    def _source(self, user: Node, name: str) -> int:
        """The vertex to read from for --from or from=; the main context when `name` is empty."""
        if not name:
            return context_vertex(self._vertices, "")
        if name == SCRATCH:
            return self._vertices.share(Vertex(ScratchOp(), (), SCRATCH))
        node = self._stages.source(name, self._options.platform)
        if node.is_plain_context:
            return context_vertex(self._vertices, node.context_name)
        if not node.outside and node.index > user.index:
            raise UserMistake(
                f'cannot copy from stage "{node.label}", it needs to be defined before current stage "{user.label}"'
            )
        return self._states[node].root

    def _ignores_cache(self, node: Node) -> bool:
        names = [name.lower() for name in self._options.no_cache_filter]
        return self._options.no_cache or (node.name in names if node.name else str(node.index) in names)

    def _expand(self, text: str, variables: Mapping[str, str], origin: ins.Origin) -> str:
        try:
            return Expander(variables.get, self._dockerfile.escape).word(text)
        except DockerfileError as error:
            raise error.at(origin.source, origin.location) from None


class _Namer:
    """Names the vertices of a stage: `[build 2/6] WORKDIR /app`.

    With several platforms that of the stage comes first. A stage of another platform than the target's, whose
    `environment` knows the target's, is for that one: `[linux/amd64->arm64 build 3/6] RUN make`.
    """

    def __init__(self, node: Node, *, single: bool, multi_platform: bool) -> None:
        from_image = node.base is None and node.base_name != SCRATCH
        steps = sum(isinstance(instruction, _LAYERED) for instruction in (*node.triggers, *node.instructions))
        self._total = steps + from_image
        self._done = 0
        self._platform = node.platform if multi_platform else None
        self._stage = "" if single else f"{node.name or f'stage-{node.index}'} "
        self.environment: Mapping[str, str] = {}

    def next(self, words: str) -> str:
        """The name of the next vertex, which does `words`."""
        self._done += 1
        platform = f"{_target_name(self._platform, self.environment)} " if self._platform else ""
        return f"[{platform}{self._stage}{self._done:>{len(str(self._total))}}/{self._total}] {words}"


def _target_name(platform: Platform, environment: Mapping[str, str]) -> str:
    """The platform of a step and, where its environment tells another one, the target's."""
    given = environment.get("TARGETPLATFORM", "")
    if not given and "TARGETARCH" in environment:
        names = ("TARGETOS", "TARGETARCH", "TARGETVARIANT")
        os, architecture, variant = (environment.get(name, "") for name in names)
        given = "/".join(filter(None, (os or platform.os, architecture, variant)))
    if not given or given == str(platform):
        return str(platform)
    return f"{platform}->{given.removeprefix(f'{platform.os}/')}"


def _located(error: MoldarError, origin: ins.Origin) -> MoldarError:
    return located(error, origin.source, origin.location)


def _epoch(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        raise UserMistake(f"invalid {EPOCH}: {text}", hint="expected a number of seconds since 1970")
    return int(text)


def _inherited(image: ImageConfig) -> ImageConfig:
    """What a new image takes over of its base: nothing that describes how the base itself was made (docker 1.x)."""
    config = image.config._replace(extra=_only(image.config.extra, ("ArgsEscaped",)))
    return image._replace(config=config, extra=_only(image.extra, ("os.version", "os.features")))


def _only(members: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in (members or {}).items() if name in names}


def _covering(history: tuple[HistoryEntry, ...], layers: int) -> tuple[HistoryEntry, ...]:
    """`history` with an entry for every layer: images made by other tools may tell less."""
    claimed = sum(not entry.empty_layer for entry in history)
    return history + (HistoryEntry(),) * (layers - claimed)

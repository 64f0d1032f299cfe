"""Which stages there are, what each is based on and copies from, and which of them the target needs.

Besides the stages of the file there are *outside* stages: images and contexts that COPY --from or a mount names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from moldar.builder.plan.options import NamedContext, ResolvedImage
from moldar.dockerfile.instructions import Copy, Instruction, Origin, Run
from moldar.dockerfile.suggestions import did_you_mean, nearest
from moldar.errors import NotFound, UserMistake
from moldar.image.model import Platform
from moldar.image.reference import parse_reference

SCRATCH = "scratch"


class Node:
    """A stage. It starts from `base` (another stage), `context`, `image`, or from nothing for scratch.

    `name` is lower case, empty for unnamed stages and outside ones. `triggers` are those of what it is based on;
    `uses` are the stages that its instructions read; `origin` is the place that names what it starts
    from. A stage is `replaced` when a context has its name.
    """

    def __init__(self, index: int, name: str, base_name: str, platform: Platform) -> None:
        self.index = index
        self.name = name
        self.base_name = base_name
        self.platform = platform
        self.outside = False
        self.replaced = False
        self.origin: Origin | None = None
        self.base: Node | None = None
        self.context: NamedContext | None = None
        self.context_name = ""
        self.image: ResolvedImage | None = None
        self.instructions: tuple[Instruction, ...] = ()
        self.triggers: tuple[Instruction, ...] = ()
        self.uses: dict[Node, None] = {}

    @property
    def label(self) -> str:
        return self.name or str(self.index)

    @property
    def wants_image(self) -> bool:
        """Whether an image must be resolved before the stage can be planned."""
        if self.base is not None or self.image is not None:
            return False
        return self.context.kind == "image" if self.context else self.base_name != SCRATCH

    @property
    def is_plain_context(self) -> bool:
        """Whether the stage is nothing but a directory of files."""
        return (self.replaced or self.outside) and self.context is not None and self.context.kind != "image"


class Stages:
    """All stages of a Dockerfile and the outside ones, found by name or number."""

    def __init__(self, contexts: Mapping[str, NamedContext]) -> None:
        self._contexts = {_context_key(name): (name, context) for name, context in contexts.items()}
        self._outside: dict[str, Node] = {}
        self.inside: list[Node] = []

    def add(self, node: Node) -> None:
        """Register the next stage of the file; its base may be any earlier one."""
        if node.name and _context_key(node.name) in self._contexts:
            node.replaced = True
            self._use_context(node, node.name)
        else:
            node.base = self.by_name(node.base_name)
            if node.base is None:
                self._use_context(node, node.base_name)
        self.inside.append(node)

    def by_name(self, name: str) -> Node | None:
        """The latest stage with this name, in any case."""
        wanted = name.lower()
        return next((node for node in reversed(self.inside) if node.name == wanted), None) if wanted else None

    def target(self, text: str) -> Node:
        """The stage that --target means; NotFound, with the nearest name, when there is none."""
        if not text:
            return self.inside[-1]
        node = self.by_name(text)
        if node is None and text.isdecimal() and int(text) < len(self.inside):
            node = self.inside[int(text)]
        if node is None:
            names = [stage.name for stage in self.inside if stage.name]
            hint = did_you_mean(text, names, ignore_case=True)
            raise NotFound(f'target stage "{text}" could not be found', hint=hint)
        return node

    def source(self, text: str, platform: Platform, origin: Origin | None = None) -> Node:
        """The stage, image or context that --from or from= names. `origin` is the place where it is first named."""
        if text.isdecimal() and text.isascii():
            if len(text) > 9 or int(text) >= len(self.inside):
                raise NotFound(f"invalid stage index {text}")
            return self.inside[int(text)]
        return self.by_name(text) or self._outside_stage(text, platform, origin)

    def nearest(self, node: Node) -> str:
        """A hint that names the stage or context nearest to the image that `node` names; empty for none."""
        if node.context is not None:
            return ""
        names = [stage.name for stage in self.inside if stage.name] + [name for name, _ in self._contexts.values()]
        found = nearest(node.base_name, names, ignore_case=True)
        return f"did you mean the stage {found}?" if found else ""

    @property
    def single(self) -> bool:
        """Whether vertex names need no stage."""
        return len(self.inside) + len(self._outside) == 1

    def _outside_stage(self, text: str, platform: Platform, origin: Origin | None) -> Node:
        if text not in self._outside:
            node = Node(-1, "", text, platform)
            node.outside = True
            node.origin = origin
            self._use_context(node, text)
            self._outside[text] = node
        return self._outside[text]

    def _use_context(self, node: Node, name: str) -> None:
        key = _context_key(name)
        if key in self._contexts:
            node.context_name, node.context = self._contexts[key]


def _context_key(name: str) -> str:
    """Names of contexts that are image names mean the same with and without docker.io, library/ and :latest."""
    try:
        return parse_reference(name).familiar.removesuffix(":latest")
    except UserMistake:
        return name.lower()


def link(node: Node, stages: Stages, instructions: Iterable[Instruction], platform: Platform) -> None:
    """Note what `instructions` of `node` copy or mount from."""
    for instruction in instructions:
        for name in source_names(instruction):
            node.uses[stages.source(name, platform, instruction.origin)] = None


def source_names(instruction: Instruction) -> Sequence[str]:
    """The names in --from and from= of an instruction."""
    if isinstance(instruction, Copy):
        names: Sequence[str] = (instruction.from_stage,)
    else:
        names = instruction.mount_sources if isinstance(instruction, Run) else ()
    return [name for name in names if name and name != SCRATCH]


def needs(node: Node) -> list[Node]:
    """The stages that must be planned before `node`."""
    return ([node.base] if node.base else []) + list(node.uses)


def in_order(targets: Iterable[Node]) -> list[Node]:
    """`targets` and everything that they need, what is needed first; UserMistake when stages need each other."""
    done: dict[Node, None] = {}
    for target in targets:
        path: list[tuple[Node, Iterator[Node]]] = [(target, iter(needs(target)))] if target not in done else []
        while path:
            node, rest = path[-1]
            needed = next(rest, None)
            if needed is None:
                done[node] = None
                path.pop()
            elif needed not in done:
                _check_circle([stage for stage, _ in path], needed)
                path.append((needed, iter(needs(needed))))
    return list(done)


def _check_circle(path: list[Node], node: Node) -> None:
    if node in path:
        circle = [*path[path.index(node) :], node]
        first = min(circle, key=lambda stage: stage.index)
        names = " -> ".join(stage.label for stage in circle)
        raise UserMistake(f"circular dependency detected on stage: {first.label}", hint=f"the circle is {names}")

"""What a Dockerfile offers to whoever builds it: its targets and, for one of them, arguments, secrets and agents."""

import posixpath
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from moldar.dockerfile.instructions import Arg, Argument, Copy, Dockerfile, Origin, Run, Stage
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import did_you_mean
from moldar.dockerfile.words import Expander


class OutlineArgument(NamedTuple):
    """An ARG. `value` is what it will have, as far as the file and the build arguments tell; None for nothing."""

    name: str
    value: str | None
    description: str
    line: int


class OutlineNeed(NamedTuple):
    """A secret or an ssh agent that a RUN mounts."""

    name: str
    required: bool
    line: int


class Outline(NamedTuple):
    """What the stage called `name` takes, with the stages that it is made from."""

    name: str
    description: str
    arguments: tuple[OutlineArgument, ...]
    secrets: tuple[OutlineNeed, ...]
    agents: tuple[OutlineNeed, ...]
    caches: tuple[str, ...]


def outline(dockerfile: Dockerfile, target: str, build_args: Mapping[str, str]) -> Outline:
    """The outline of `target` (the last stage when empty); DockerfileError when there is no such stage."""
    stage = _find(dockerfile, target)
    reader = _Reader(dockerfile, build_args)
    reader.read(stage)
    return Outline(
        stage.name_written or str(stage.number),
        stage.description,
        tuple(reader.arguments.values()),
        tuple(reader.secrets.values()),
        tuple(reader.agents.values()),
        tuple(reader.caches),
    )


def _find(dockerfile: Dockerfile, target: str) -> Stage:
    if not target:
        return dockerfile.stages[-1]
    for stage in reversed(dockerfile.stages):
        if target.lower() == stage.name or target == str(stage.number):
            return stage
    names = [stage.name for stage in dockerfile.stages if stage.name]
    hint = did_you_mean(target, names, ignore_case=True) or "the stages are " + ", ".join(names)
    raise DockerfileError(f'target stage "{target}" could not be found', hint=hint)


class _Reader:
    """Collects from a stage and from those that it needs, each once, in the order of the file."""

    def __init__(self, dockerfile: Dockerfile, build_args: Mapping[str, str]) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._globals: dict[str, str] = {}
        self._global_arguments: dict[str, OutlineArgument] = {}
        self.arguments: dict[str, OutlineArgument] = {}
        self.secrets: dict[str, OutlineNeed] = {}
        self.agents: dict[str, OutlineNeed] = {}
        self.caches: dict[str, None] = {}
        for instruction in dockerfile.global_args:
            for argument in instruction.arguments:
                made = self._argument(argument, instruction.origin, self._globals)
                self._global_arguments[argument.key] = made
                if made.value is not None:
                    self._globals[argument.key] = made.value

    def read(self, target: Stage) -> None:
        self.arguments |= self._global_arguments
        for stage in sorted(self._needed(target), key=lambda stage: stage.number):
            variables: dict[str, str] = {}
            for instruction in stage.instructions:
                if isinstance(instruction, Arg):
                    self._declare(instruction, variables)
                elif isinstance(instruction, Run):
                    self._mounts(instruction.expand(Expander(variables.get, self._dockerfile.escape)))

    def _needed(self, target: Stage) -> list[Stage]:
        found: dict[int, Stage] = {}
        waiting = [target]
        while waiting:
            stage = waiting.pop()
            if stage.number in found:
                continue
            found[stage.number] = stage
            earlier = self._dockerfile.stages[: stage.number]
            for name in self._names(stage):
                waiting += [each for each in earlier if name.lower() == each.name or name == str(each.number)][-1:]
        return list(found.values())

    def _names(self, stage: Stage) -> Iterator[str]:
        """Every name of a stage, image or context that the stage reads from."""
        yield Expander(self._globals.get, self._dockerfile.escape).word(stage.base)
        for instruction in stage.instructions:
            if isinstance(instruction, Copy) and instruction.from_stage:
                yield instruction.from_stage
            elif isinstance(instruction, Run):
                yield from instruction.mount_sources

    def _declare(self, instruction: Arg, variables: dict[str, str]) -> None:
        for argument in instruction.arguments:
            made = self._argument(argument, instruction.origin, variables)
            known = self._global_arguments.get(argument.key)
            if made.value is None and known is not None:
                made = known._replace(description=made.description or known.description)
            if made.value is not None:
                variables[argument.key] = made.value
            self.arguments[argument.key] = made

    def _argument(self, argument: Argument, origin: Origin, variables: Mapping[str, str]) -> OutlineArgument:
        value = self._build_args.get(argument.key)
        if value is None and argument.value is not None:
            try:
                value = Expander(variables.get, self._dockerfile.escape).word(argument.value)
            except DockerfileError as error:
                raise error.at(origin.source, origin.location) from None
        return OutlineArgument(argument.key, value, argument.description, origin.location.start)

    def _mounts(self, run: Run) -> None:
        line = run.origin.location.start
        for mount in run.mounts:
            if mount.kind == "secret":
                name = mount.cache_id or posixpath.basename(mount.target)
                self._need(self.secrets, name, line, required=mount.required)
            elif mount.kind == "ssh":
                self._need(self.agents, mount.cache_id or "default", line, required=mount.required)
            elif mount.kind == "cache":
                self.caches[mount.cache_id or posixpath.normpath(mount.target)] = None

    def _need(self, needs: dict[str, OutlineNeed], name: str, line: int, *, required: bool) -> None:
        known = needs.get(name, OutlineNeed(name, required=False, line=line))
        needs[name] = known._replace(required=known.required or required)

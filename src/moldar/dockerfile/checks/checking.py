"""Runs all rules over a file: what `build --check` prints and what a build warns of."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from moldar.dockerfile.checks.bases import StageBase, check_defaults, check_from, global_values, same_platform
from moldar.dockerfile.checks.facts import BaseImage, Facts
from moldar.dockerfile.checks.rules import Finding, Options, options_in_comments, parse_options
from moldar.dockerfile.checks.stages import StageCheck, StageState
from moldar.dockerfile.checks.written import check_written
from moldar.dockerfile.instructions import Dockerfile, Origin, Stage
from moldar.dockerfile.reading import read_partly, read_trigger
from moldar.dockerfile.source import DockerfileError, Location, Source

SCRATCH = "scratch"
# What can be told of an instruction without the ones after it.
_EARLY = frozenset(
    {"FromAsCasing", "InvalidDefinitionDescription", "MaintainerDeprecated", "NoEmptyContinuation", "StageNameCasing"}
)
_EMPTY = BaseImage({}, workdir="/")


class Report(NamedTuple):
    """All findings by line; `error` is the mistake that kept the rules from going on, `fail` asks for an error."""

    findings: tuple[Finding, ...]
    error: DockerfileError | None = None
    fail: bool = False

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules that found something, each once, sorted."""
        return tuple(sorted({finding.rule for finding in self.findings}))


def check(file: Dockerfile, facts: Facts, only: Collection[int] | None = None) -> Report:
    """Run the rules that the file wants. `only`: the numbers of the stages to go through, all by default.

    DockerfileError when the file's check directive cannot be read; other mistakes are in the report.
    """
    options = file_options(file)
    found: list[Finding] = []
    error = None
    try:
        for finding, origin in _findings(file, facts, only):
            if _wanted(finding, origin, options):
                found.append(finding)
    except DockerfileError as mistake:
        error = mistake
    found.sort(key=lambda finding: finding.line)
    return Report(tuple(found), error, fail=options.error and bool(found))


def check_text(data: bytes, name: str, facts: Facts) -> tuple[Report, Source]:
    """Check the file `data`, called `name`, even when it cannot be read whole; and its lines.

    Up to a mistake in an instruction, the rules about single instructions are run.
    """
    try:
        file, mistake = read_partly(data, name)
        if mistake is None:
            return check(file, facts), file.source
        options = file_options(file)
    except DockerfileError as error:
        return Report((), error), error.source or Source(name)
    early = [
        finding
        for finding, origin in check_written(file)
        if finding.rule in _EARLY and _wanted(finding, origin, options)
    ]
    return Report(tuple(sorted(early, key=lambda finding: finding.line)), mistake), file.source


def _wanted(finding: Finding, origin: Origin | None, options: Options) -> bool:
    if origin is not None:
        options = options.merged(options_in_comments(origin.comments))
    return options.wants(finding.rule)


def file_options(file: Dockerfile) -> Options:
    """The options in the file's check directive. DockerfileError with its place."""
    try:
        return parse_options(file.check.partition(" ")[0])
    except DockerfileError as error:
        for number, line in enumerate(file.source.lines, 1):
            if re.match(r"\s*#\s*check\s*=", line, re.IGNORECASE):
                raise error.at(file.source, Location(number, number)) from None
        raise


def _findings(
    file: Dockerfile, facts: Facts, only: Collection[int] | None
) -> Iterator[tuple[Finding, Origin | None]]:
    yield from check_written(file)
    for finding, stage in check_defaults(file, facts.platform_args):
        yield finding, stage.origin
    values = global_values(file, facts.platform_args, facts.build_args)
    bases: list[StageBase] = []
    for stage in file.stages:
        for item in check_from(file, stage, values):
            if isinstance(item, Finding):
                yield item, stage.origin
            else:
                bases.append(item)
    stages = _Stages(file, values, facts)
    for stage, base in zip(file.stages, bases, strict=True):
        if only is None or stage.number in only:
            yield from stages.take(stage, base)


class _Stages:
    """Goes through stages in order, so that one can go on where the one it is based on ended."""

    def __init__(self, file: Dockerfile, values: Mapping[str, str], facts: Facts) -> None:
        self.file = file
        self.values = values
        self.facts = facts
        self.states: dict[str, StageState] = {}

    def take(self, stage: Stage, base: StageBase) -> Iterator[tuple[Finding, Origin]]:
        """Findings about what the stage does. DockerfileError."""
        below = self.states.get(base.name)
        if below is not None:
            state, triggers = below.derived(), tuple(below.triggers)
        else:
            image = _EMPTY if base.name == SCRATCH else self.facts.base_image(base.name, base.platform)
            yield from self._platform(stage, base, image)
            state = StageState(image)
            triggers = image.triggers if image else ()
        if stage.name:
            self.states[stage.name] = state
        walk = StageCheck(state, self.values, self.facts, self.file.escape)
        for trigger in triggers:
            yield from walk.take(read_trigger(trigger, stage.origin))
        for instruction in stage.instructions:
            yield from walk.take(instruction)

    def _platform(self, stage: Stage, base: StageBase, image: BaseImage | None) -> Iterator[tuple[Finding, Origin]]:
        expected = base.platform or self.facts.platform_args.get("TARGETPLATFORM", "")
        if image and image.platform and expected and not same_platform(image.platform, expected):
            message = f"the base image {base.name} is for {image.platform}, and {expected} was asked for"
            yield Finding("InvalidBaseImagePlatform", message, stage.origin.location), stage.origin

"""Rules about how things are written: case, names, comments, blank lines. They need nothing but the file."""

from collections.abc import Iterator

from moldar.dockerfile.checks.rules import Finding
from moldar.dockerfile.instructions import Arg, Dockerfile, Maintainer, Origin, Stage
from moldar.dockerfile.source import Location

RESERVED_NAMES = frozenset({"context", "scratch"})


def check_written(file: Dockerfile) -> Iterator[tuple[Finding, Origin | None]]:
    """Findings with the instruction they are about, whose comments may silence them."""
    for line in file.empty_continuations:
        yield Finding("NoEmptyContinuation", "an empty line inside an instruction", Location(line, line)), None
    for arg in file.global_args:
        yield from _description(arg.origin, [argument.key for argument in arg.arguments])
    yield from _casing(file)
    seen: set[str] = set()
    for stage in file.stages:
        yield from _stage(stage, seen)
        for instruction in stage.instructions:
            if isinstance(instruction, Arg):
                yield from _description(instruction.origin, [argument.key for argument in instruction.arguments])
            elif isinstance(instruction, Maintainer):
                message = "MAINTAINER is deprecated, use LABEL org.opencontainers.image.authors"
                yield _found("MaintainerDeprecated", message, instruction.origin)


def _found(rule: str, message: str, origin: Origin) -> tuple[Finding, Origin]:
    return Finding(rule, message, origin.location), origin


def _stage(stage: Stage, seen: set[str]) -> Iterator[tuple[Finding, Origin]]:
    origin = stage.origin
    if not stage.name:
        return
    if stage.name_written != stage.name:
        yield _found("StageNameCasing", f"stage name '{stage.name_written}' should be in lower case", origin)
    if not _same_case(origin.keyword, stage.as_written):
        message = f"'{stage.as_written}' should be in the same case as '{origin.keyword}'"
        yield _found("FromAsCasing", message, origin)
    if stage.name in RESERVED_NAMES:
        yield _found("ReservedStageName", f"'{stage.name}' is reserved and should not name a stage", origin)
    if stage.name in seen:
        yield _found("DuplicateStageName", f"stage name '{stage.name}' is used twice", origin)
    seen.add(stage.name)
    yield from _description(origin, [stage.name])


def _same_case(keyword: str, other: str) -> bool:
    if keyword == keyword.lower():
        return other == other.lower()
    return keyword != keyword.upper() or other == other.upper()


def _description(origin: Origin, names: list[str]) -> Iterator[tuple[Finding, Origin]]:
    if not origin.comments or origin.comments[-1].partition(" ")[0] in names:
        return
    name = names[0] if len(names) == 1 else "<name>"
    yield _found(
        "InvalidDefinitionDescription",
        f"the comment above {origin.name} should read `# {name} <description>`",
        origin,
    )


def _casing(file: Dockerfile) -> Iterator[tuple[Finding, Origin]]:
    """What is not in the case of the majority; upper case when there is none."""
    origins = [
        origin
        for stage in file.stages
        for origin in (stage.origin, *(instruction.origin for instruction in stage.instructions))
    ]
    lower = sum(origin.keyword == origin.keyword.lower() for origin in origins)
    upper = sum(origin.keyword == origin.keyword.upper() for origin in origins)
    for origin in origins:
        expected = origin.keyword.lower() if lower > upper else origin.keyword.upper()
        if origin.keyword != expected:
            message = f"'{origin.keyword}' should be written {expected}, as most instructions here are"
            yield Finding("ConsistentInstructionCasing", message, origin.location, expected), origin

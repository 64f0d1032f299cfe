"""Rules about FROM: its arguments, its platform, its base image."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from moldar.dockerfile.checks.rules import Finding
from moldar.dockerfile.instructions import Dockerfile, Stage
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import nearest
from moldar.dockerfile.words import Expander

_SYSTEMS = frozenset(
    {"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "netbsd", "openbsd"}
    | {"plan9", "solaris", "wasip1", "windows"}
)
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "armhf": "arm",
    "armel": "arm",
}
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
)
_REFERENCE = (
    rf"(?:{_HOST}(?::[0-9]+)?/)?{_COMPONENT}(?:/{_COMPONENT})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?\Z"
)


class StageBase(NamedTuple):
    """What FROM says once its variables are known."""

    name: str
    platform: str


def global_values(
    file: Dockerfile, platform_args: Mapping[str, str], build_args: Mapping[str, str]
) -> dict[str, str]:
    """The variables that FROM sees. DockerfileError for a default that cannot be expanded."""
    values = dict(platform_args)
    for arg in file.global_args:
        for argument in arg.arguments:
            if argument.key in build_args:
                values[argument.key] = build_args[argument.key]
            elif argument.value is not None:
                try:
                    values[argument.key] = Expander(values.get, file.escape).word(argument.value)
                except DockerfileError as error:
                    raise error.at(arg.origin.source, arg.origin.location) from None
    return values


def check_defaults(file: Dockerfile, platform_args: Mapping[str, str]) -> Iterator[tuple[Finding, Stage]]:
    """Base names that would be no image names if no build argument was given."""
    try:
        values = global_values(file, platform_args, {})
        for stage in file.stages:
            if "$" not in stage.base:
                continue  # whatever is wrong with it, no default is to blame
            if not re.match(_REFERENCE, Expander(values.get, file.escape).word(stage.base)):
                message = f"without build arguments, {stage.base} is no valid image name"
                yield Finding("InvalidDefaultArgInFrom", message, stage.origin.location), stage
    except DockerfileError:
        return  # the same mistake is reported when the file is used


def check_from(file: Dockerfile, stage: Stage, values: Mapping[str, str]) -> Iterator[Finding | StageBase]:
    """Findings about the variables and platform of one FROM, and last what it says. DockerfileError."""
    declared = {argument.key for arg in file.global_args for argument in arg.arguments} | values.keys()
    base, names = _expanded(stage, stage.base, values, file.escape)
    yield from _undeclared(stage, names, declared)
    if not base:
        raise stage.origin.error(f"base name ({stage.base}) should not be blank")
    platform = ""
    if stage.platform:
        platform, names = _expanded(stage, stage.platform, values, file.escape)
        yield from _undeclared(stage, names, declared)
        yield from _platform(stage, platform, names, values)
        if _parse_platform(platform) is None:
            raise stage.origin.error(f'"{platform}" (from {stage.platform}) is no platform')
    yield StageBase(base, platform)


def same_platform(one: str, other: str) -> bool:
    """Whether two platforms (`linux/arm64/v8`) have the same system and architecture."""
    return _parse_platform(one) == _parse_platform(other)


def _expanded(stage: Stage, text: str, values: Mapping[str, str], escape: str) -> tuple[str, Expander]:
    expander = Expander(values.get, escape)
    try:
        return expander.word(text), expander
    except DockerfileError as error:
        raise error.at(stage.origin.source, stage.origin.location) from None


def _undeclared(stage: Stage, names: Expander, declared: set[str]) -> Iterator[Finding]:
    for name in names.unmatched:
        if name not in declared:
            found = nearest(name, declared)
            hint = f" (did you mean {found}?)" if found else ""
            yield Finding("UndefinedArgInFrom", f"no ARG before FROM declares {name}{hint}", stage.origin.location)


def _platform(stage: Stage, platform: str, names: Expander, values: Mapping[str, str]) -> Iterator[Finding]:
    if not names.used and not names.unmatched:
        parsed = _parse_platform(platform)
        if parsed and not any(part in stage.name for part in parsed):
            message = f"--platform={platform} is a constant: use a variable, or name the stage after it"
            yield Finding("FromPlatformFlagConstDisallowed", message, stage.origin.location)
    elif list(names.used) == ["TARGETPLATFORM"] and not names.unmatched and platform == values["TARGETPLATFORM"]:
        message = f"--platform={stage.platform} is what FROM does without it"
        yield Finding("RedundantTargetPlatform", message, stage.origin.location)


def _parse_platform(text: str) -> tuple[str, str] | None:
    """System and architecture."""
    parts = text.lower().split("/")
    if len(parts) > 4 or not all(re.match(r"[a-z0-9_.-]+\Z", part) for part in parts):
        return None
    if len(parts) == 1:
        parts = [parts[0], "amd64"] if parts[0] in _SYSTEMS else ["linux", parts[0]]
    return parts[0], _ARCHITECTURES.get(parts[1], parts[1])

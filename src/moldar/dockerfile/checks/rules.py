"""The rules, what they find, and the options that choose among them (`# check=skip=...;error=true`).

Names are BuildKit's, so that `skip=` lists and the pages that explain a rule serve both tools.
Rules: https://docs.docker.com/reference/build-checks/.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from moldar.dockerfile.quantities import parse_switch
from moldar.dockerfile.source import DockerfileError, Location

_PAGES = "https://docs.docker.com/go/dockerfile/rule/"
_WORD_STARTS = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
_COMMENT_OPTIONS = r"(?i)check\s*=\s*(\S+)"

DESCRIPTIONS = {
    "ConsistentInstructionCasing": "Instructions should all be in upper case or all in lower case",
    "CopyIgnoredFile": "A file that .dockerignore excludes cannot be copied",
    "DuplicateStageName": "Stage names should be unique",
    "ExposeInvalidFormat": "EXPOSE takes ports, without addresses and host ports",
    "ExposeProtoCasing": "The protocol in EXPOSE should be in lower case",
    "FromAsCasing": "AS should be in the same case as its FROM",
    "FromPlatformFlagConstDisallowed": "FROM --platform should not be a constant",
    "InvalidBaseImagePlatform": "The platform of the base image should be the one asked for",
    "InvalidDefaultArgInFrom": "Defaults of global ARGs should give a valid base image name",
    "InvalidDefinitionDescription": "A comment right above ARG or a named FROM should begin with the name",
    "JSONArgsRecommended": "CMD and ENTRYPOINT in JSON form pass signals on to the program",
    "LegacyKeyValueFormat": "ENV and LABEL should be written with =",
    "MaintainerDeprecated": "MAINTAINER is deprecated in favour of a label",
    "MultipleInstructionsDisallowed": "Only the last CMD, ENTRYPOINT and HEALTHCHECK of a stage have an effect",
    "NoEmptyContinuation": "An empty line inside an instruction will become an error in BuildKit",
    "RedundantTargetPlatform": "FROM --platform=$TARGETPLATFORM is the default",
    "ReservedStageName": "scratch and context should not name a stage",
    "SecretsUsedInArgOrEnv": "Secrets in ARG and ENV stay readable in the image",
    "StageNameCasing": "Stage names should be in lower case",
    "UndefinedArgInFrom": "FROM should use only ARGs that are declared before it",
    "UndefinedVar": "Variables should be defined before they are used",
    "WorkdirRelativePath": "A relative WORKDIR depends on the base image",
}
EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})
_WITHOUT_PAGE = frozenset({"InvalidBaseImagePlatform"})


class Finding(NamedTuple):
    """One thing that a rule found at `location`; `message` is about this very place.

    `replacement` is what should stand there, where the rule knows it and it is not plain from the place.
    """

    rule: str
    message: str
    location: Location
    replacement: str = ""

    @property
    def line(self) -> int:
        """The line to show."""
        return self.location.start

    @property
    def description(self) -> str:
        """What the rule is about, whatever the place."""
        return DESCRIPTIONS[self.rule]

    @property
    def url(self) -> str:
        """The page that explains the rule, empty when there is none."""
        return "" if self.rule in _WITHOUT_PAGE else _PAGES + re.sub(_WORD_STARTS, "-", self.rule).lower() + "/"


class Options(NamedTuple):
    """Which rules are wanted. `error` makes any finding fail the build."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    def wants(self, rule: str) -> bool:
        """Whether findings of `rule` are to be reported."""
        if rule in EXPERIMENTAL:
            return self.experimental_all or rule in self.experimental
        return not self.skip_all and rule not in self.skip

    def merged(self, other: "Options") -> "Options":
        """These options and `other`'s together; `error` stays what it is."""
        return Options(
            self.skip | other.skip,
            self.skip_all or other.skip_all,
            self.experimental | other.experimental,
            self.experimental_all or other.experimental_all,
            self.error,
        )


def parse_options(text: str) -> Options:
    """Options written as `skip=A,B;experimental=C;error=true`. DockerfileError (without place)."""
    options = Options()
    for part in text.split(";") if text.strip() else ():
        key, equals, value = part.partition("=")
        names = frozenset(name.strip() for name in value.split(","))
        match key.strip() if equals else "":
            case "skip":
                options = options._replace(skip=names, skip_all=value.strip() == "all")
            case "experimental":
                options = options._replace(experimental=names, experimental_all=value.strip() == "all")
            case "error":
                options = options._replace(error=_switch(value.strip()))
            case _:
                raise DockerfileError(
                    f'invalid check option "{part}"', hint="the options are skip=, experimental= and error=true"
                )
    return options


def options_in_comments(comments: Sequence[str]) -> Options:
    """The options in the comments above an instruction (`# check=skip=A`), which are for that instruction."""
    for comment in comments:
        match = re.match(_COMMENT_OPTIONS, comment)
        if match:
            try:
                return parse_options(match.group(1))
            except DockerfileError:
                break
    return Options()


def _switch(value: str) -> bool:
    try:
        return parse_switch(value)
    except ValueError:
        raise DockerfileError(f'invalid check option "error={value}"') from None

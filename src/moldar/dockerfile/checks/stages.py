"""Rules about what a stage does: they follow its variables, working directory and shell from FROM on."""

import re
from collections.abc import Callable, Iterator, Mapping

from moldar.dockerfile.checks.facts import BaseImage, Facts
from moldar.dockerfile.checks.rules import Finding
from moldar.dockerfile.ignore import clean
from moldar.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Onbuild,
    Origin,
    Shell,
    Workdir,
)
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import nearest
from moldar.dockerfile.words import Expander

_SECRET = r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)"
_NO_SECRET = r"(?:_|^)(?:public|file|version)(?:_|$)"
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://")
_QUIET_NAMES = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})


class _WordByWord(Expander):
    """Notes the unset variables of each word by itself."""

    def __init__(self, values: Mapping[str, str], escape: str) -> None:
        super().__init__(values.get, escape)
        self.missing: list[str] = []

    def word(self, text: str) -> str:
        return self._noting(super().word, text)

    def heredoc(self, text: str) -> str:
        return self._noting(super().heredoc, text)

    def _noting(self, expand: Callable[[str], str], text: str) -> str:
        self.unmatched = {}
        try:
            return expand(text)
        finally:
            self.missing += self.unmatched


class StageState:
    """What the instructions of a stage see. A stage based on another one goes on from a copy."""

    def __init__(self, image: BaseImage | None) -> None:
        """`image` is None when nothing is known of it; then no variable counts as undefined."""
        self.values = dict(image.environment) if image else {}
        self.values.setdefault("PATH", "/bin")
        self.known = image is not None
        self.has_shell = bool(image and image.has_shell)
        self.workdir = image.workdir if image else ""
        self.declared: set[str] = set()
        self.workdir_set = False
        self.triggers: list[str] = []

    def derived(self) -> "StageState":
        """The state at the begin of a stage that is based on this one."""
        copy = StageState(BaseImage(self.values, has_shell=self.has_shell, workdir=self.workdir))
        copy.known = self.known
        copy.declared = set(self.declared)
        copy.workdir_set = self.workdir_set
        return copy


class StageCheck:
    """Goes through the instructions of one stage."""

    def __init__(self, state: StageState, global_values: Mapping[str, str], facts: Facts, escape: str) -> None:
        self.state = state
        self.global_values = global_values
        self.build_args = facts.build_args
        # With exceptions it cannot be told from the patterns alone what a directory still holds.
        self.ignore = facts.ignore if facts.ignore is not None and not facts.ignore.has_exceptions else None
        self.escape = escape
        self.last: dict[str, Origin] = {}

    def take(self, instruction: Instruction) -> Iterator[tuple[Finding, Origin]]:
        """Findings about `instruction`, each with the instruction it points at. DockerfileError."""
        expander = _WordByWord(self.state.values, self.escape)
        expanded = instruction.expand(expander)
        findings = list(self._look(expanded, expander))
        for name in expander.missing:
            yield from self._undefined(name, expanded.origin)
        yield from findings

    def _look(self, instruction: Instruction, expander: _WordByWord) -> Iterator[tuple[Finding, Origin]]:
        origin = instruction.origin
        match instruction:
            case Env() | Label():
                yield from self._pairs(instruction)
            case Arg():
                yield from self._arg(instruction, expander)
            case Workdir(path=path):
                yield from self._workdir(path, origin)
            case Cmd() | Entrypoint():
                yield from self._once(origin)
                if instruction.command.shell and not self.state.has_shell:
                    message = f"{origin.name} in JSON form would pass signals on to the program"
                    yield _found("JSONArgsRecommended", message, origin)
            case Healthcheck():
                yield from self._once(origin)
            case Shell():
                self.state.has_shell = True
            case Expose():
                yield from _ports(instruction)
            case Onbuild():
                self.state.triggers.append(instruction.trigger)
            case Copy() | Add():
                yield from self._ignored(instruction)

    def _workdir(self, path: str, origin: Origin) -> Iterator[tuple[Finding, Origin]]:
        above = self.state.workdir
        absolute = path if path.startswith("/") else clean(f"{above}/{path}") if above else ""
        if not self.state.workdir_set and not path.startswith("/"):
            message = f"the relative path '{path}' depends on the base image"
            yield Finding("WorkdirRelativePath", message, origin.location, absolute), origin
        self.state.workdir_set = True
        self.state.workdir = absolute

    def _pairs(self, instruction: Env | Label) -> Iterator[tuple[Finding, Origin]]:
        origin = instruction.origin
        for pair in instruction.pairs:
            if pair.legacy:
                message = f'write "{origin.name} key=value" and not "{origin.name} key value"'
                yield _found("LegacyKeyValueFormat", message, origin)
            if isinstance(instruction, Env):
                yield from _secret(pair.key, origin)
                self.state.values[pair.key] = pair.value

    def _arg(self, arg: Arg, expander: _WordByWord) -> Iterator[tuple[Finding, Origin]]:
        for argument in arg.arguments:
            yield from _secret(argument.key, arg.origin)
            value = self.build_args.get(argument.key)
            if value is None and argument.value is None:
                value = self.global_values.get(argument.key)
            elif value is None and argument.value is not None:
                expander.missing = []
                try:
                    value = expander.word(argument.value)
                except DockerfileError as error:
                    raise error.at(arg.origin.source, arg.origin.location) from None
                for name in expander.missing:
                    yield from self._undefined(name, arg.origin)
                expander.missing = []
            if value is not None and argument.key not in _QUIET_NAMES:
                self.state.values[argument.key] = value
            self.state.declared.add(argument.key)

    def _undefined(self, name: str, origin: Origin) -> Iterator[tuple[Finding, Origin]]:
        if not self.state.known or name in self.state.declared or name in _QUIET_NAMES:
            return
        found = nearest(name, self.state.values)
        hint = f" (did you mean ${found}?)" if found else ""
        yield _found("UndefinedVar", f"${name} is not defined here{hint}", origin)

    def _once(self, origin: Origin) -> Iterator[tuple[Finding, Origin]]:
        earlier = self.last.get(origin.name)
        if earlier is not None:
            message = f"this {origin.name} has no effect: a later one in the stage replaces it"
            yield _found("MultipleInstructionsDisallowed", message, earlier)
        self.last[origin.name] = origin

    def _ignored(self, instruction: Copy | Add) -> Iterator[tuple[Finding, Origin]]:
        if self.ignore is None or (isinstance(instruction, Copy) and instruction.from_stage):
            return
        for source in instruction.sources:
            if isinstance(instruction, Add) and source.startswith(_REMOTE):
                continue
            path = clean(source)
            if path in (".", "/"):
                ignored = any(pattern in ("*", "**", "**/*") for pattern in self.ignore.keeping_out)
            else:
                ignored = self.ignore.ignores(path)
            if ignored:
                message = f"{instruction.origin.name} of '{source}', which .dockerignore excludes"
                yield _found("CopyIgnoredFile", message, instruction.origin)


def _found(rule: str, message: str, origin: Origin) -> tuple[Finding, Origin]:
    return Finding(rule, message, origin.location), origin


def _secret(name: str, origin: Origin) -> Iterator[tuple[Finding, Origin]]:
    if re.search(_SECRET, name, re.IGNORECASE) and not re.search(_NO_SECRET, name, re.IGNORECASE):
        message = f"{origin.name} {name} looks like a secret, and would stay readable: use RUN --mount=type=secret"
        yield _found("SecretsUsedInArgOrEnv", message, origin)


def _ports(expose: Expose) -> Iterator[tuple[Finding, Origin]]:
    expose.exposed()
    for port in expose.ports:
        before, _, container = port.rpartition(":")
        protocol = container.partition("/")[2]
        if protocol != protocol.lower():
            message = f"the protocol in '{port}' should be in lower case"
            yield _found("ExposeProtoCasing", message, expose.origin)
        if before:
            message = f"'{port}': EXPOSE takes neither an address nor a host port"
            yield _found("ExposeInvalidFormat", message, expose.origin)

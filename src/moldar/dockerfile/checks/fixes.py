"""Mends what rules found, where that cannot change the image in a way that its author would not want.

A fix touches the text of one instruction and nothing around it; where an instruction is written in a way that a fix
does not understand (spread over several lines, say), the finding stays. Left out on purpose are names and values that
only the author can choose: undefined variables, duplicate names, secrets, constant platforms.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from moldar.dockerfile.checks.checking import check
from moldar.dockerfile.checks.facts import Facts
from moldar.dockerfile.checks.rules import Finding
from moldar.dockerfile.instructions import (
    Cmd,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Stage,
    Workdir,
)
from moldar.dockerfile.reading import read_dockerfile
from moldar.dockerfile.source import Location
from moldar.dockerfile.words import BLANKS

_SAFE_WORDS = re.compile(r"[A-Za-z0-9_./:@%+,=-]+(?: +[A-Za-z0-9_./:@%+,=-]+)*\Z")
_SHELL_ONLY = frozenset({".", ":", "cd", "eval", "exec", "exit", "export", "read", "set", "source", "trap", "ulimit"})
MOST_ROUNDS = 8
_AUTHORS = "org.opencontainers.image.authors"


class Mended(NamedTuple):
    """The new bytes of the file, and which findings they mend and which are left."""

    data: bytes
    mended: tuple[Finding, ...]
    left: tuple[Finding, ...]


class _Place(NamedTuple):
    """The instruction (or FROM) that a finding is about, and the stage it is in."""

    item: Instruction | Stage
    stage: Stage


class _Text:
    """The lines of the file while they are changed. A line that is None is gone."""

    def __init__(self, file: Dockerfile, text: str) -> None:
        self.escape = file.escape
        self.lines: list[str | None] = list(re.findall(r"[^\n]*\n|[^\n]+", text))

    def line(self, location: Location) -> str | None:
        """The only line at `location`, without its end; None when there are several."""
        line = self.lines[location.start - 1] if location.start == location.end else None
        return None if line is None else line.rstrip("\r\n")

    def change(self, location: Location, line: str) -> None:
        """Put `line` in the place of the first line at `location`, keeping the line's end."""
        old = self.lines[location.start - 1] or ""
        self.lines[location.start - 1] = line + old[len(old.rstrip("\r\n")) :]


def mend(data: bytes, facts: Facts, name: str = "Dockerfile") -> Mended:
    """Check the file `data` and mend what can be mended, until nothing more can.

    DockerfileError, with its place, when the file is wrong.
    """
    mended: list[Finding] = []
    for _ in range(MOST_ROUNDS):
        file = read_dockerfile(data, name)
        report = check(file, facts)
        if report.error is not None:
            raise report.error
        once = _mend_once(file, data, report.findings)
        mended += once.mended
        if not once.mended:
            break
        data = once.data
    return Mended(data, _sorted(mended), once.left)


def _mend_once(file: Dockerfile, data: bytes, findings: tuple[Finding, ...]) -> Mended:
    """Fixes of different rules in one line may need a look at the result of the others: those are left."""
    text = _Text(file, data.decode("utf-8", "surrogateescape"))
    places = _places(file)
    mended: list[Finding] = []
    left: list[Finding] = []
    # Lines are removed in a round of their own, so that line numbers are right as long as possible.
    for finding in sorted(findings, key=lambda found: found.rule in _REMOVING):
        if finding.rule in _REMOVING and any(done.rule not in _REMOVING for done in mended):
            left.append(finding)
            continue
        fix = _FIXES.get(finding.rule)
        place = places.get(finding.location.start)
        if finding.rule == "NoEmptyContinuation":
            done = _drop_empty_lines(text, finding, places)
        else:
            done = fix is not None and place is not None and fix(text, finding, place)
        (mended if done else left).append(finding)
    whole = "".join(line for line in text.lines if line is not None)
    return Mended(whole.encode("utf-8", "surrogateescape"), _sorted(mended), _sorted(left))


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.line))


def _places(file: Dockerfile) -> Mapping[int, _Place]:
    places: dict[int, _Place] = {}
    for stage in file.stages:
        places[stage.origin.location.start] = _Place(stage, stage)
        for instruction in stage.instructions:
            places[instruction.origin.location.start] = _Place(instruction, stage)
    return places


def _casing(text: _Text, finding: Finding, place: _Place) -> bool:
    keyword = place.item.origin.keyword
    line = text.lines[finding.location.start - 1]
    match = re.match(rf"((?:\ufeff)?[{BLANKS}]*){re.escape(keyword)}(?=[{BLANKS}]|\Z)", line or "")
    if line is None or match is None:
        return False
    text.lines[finding.location.start - 1] = match.group(1) + finding.replacement + line[match.end() :]
    return True


def _from_words(text: _Text, finding: Finding, place: _Place) -> "re.Match[str] | None":
    """FROM's line in parts: up to AS, AS, the gap, the name, what follows."""
    stage = place.stage
    line = text.line(finding.location)
    if line is None or not stage.name:
        return None
    name = re.escape(stage.name_written)
    return re.match(rf"(.*\s)({re.escape(stage.as_written)})(\s+)((?i:{name}))(\s*)\Z", line, re.IGNORECASE)


def _as_casing(text: _Text, finding: Finding, place: _Place) -> bool:
    parts = _from_words(text, finding, place)
    if parts is None:
        return False
    start, written, gap, name, end = parts.groups()
    keyword = place.stage.origin.keyword
    wanted = written.lower() if keyword == keyword.lower() else written.upper()
    text.change(finding.location, start + wanted + gap + name + end)
    return True


def _stage_casing(text: _Text, finding: Finding, place: _Place) -> bool:
    # References to stages disregard case, so the name can change by itself.
    parts = _from_words(text, finding, place)
    if parts is None:
        return False
    start, written, gap, name, end = parts.groups()
    text.change(finding.location, start + written + gap + name.lower() + end)
    return True


def _legacy_pair(text: _Text, finding: Finding, place: _Place) -> bool:
    item = place.item
    line = text.line(finding.location)
    if line is None or not isinstance(item, Env | Label) or len(item.pairs) != 1 or not item.pairs[0].legacy:
        return False
    key, value, _ = item.pairs[0]
    end = line.rstrip(BLANKS)
    if not end.endswith(value) or any(char in key for char in "='\"" + text.escape + BLANKS):
        return False  # such a key would end elsewhere in the other form
    before = end[: len(end) - len(value)].rstrip(BLANKS)
    if any(char in value for char in "'\"" + text.escape):
        if "${" in value:
            return False  # an escaped blank would mean something else in the pattern of a substitution
        # Quotes and escapes mean the same in both forms; only blanks outside of quotes end a value now.
        value = _escape_blanks(value, text.escape)
    elif any(char in value for char in BLANKS):
        value = f'"{value}"'
    text.change(finding.location, f"{before}={value}")
    return True


def _escape_blanks(value: str, escape: str) -> str:
    pieces: list[str] = []
    quote = ""
    position = 0
    while position < len(value):
        char = value[position]
        if char == escape and quote != "'":
            pieces.append(value[position : position + 2])
            position += 2
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        pieces.append(escape + char if not quote and char in BLANKS else char)
        position += 1
    return "".join(pieces)


def _json_form(text: _Text, finding: Finding, place: _Place) -> bool:
    item = place.item
    line = text.line(finding.location)
    if line is None or not isinstance(item, Cmd | Entrypoint) or not item.command.shell:
        return False
    other = Entrypoint if isinstance(item, Cmd) else Cmd
    if any(isinstance(instruction, other) for instruction in place.stage.instructions):
        return False  # the two forms hand different arguments to each other
    command = item.command.args[0]
    words = command.split()
    if not _SAFE_WORDS.match(command) or words[0] in _SHELL_ONLY or "=" in words[0]:
        return False
    end = line.rstrip(BLANKS)
    if not end.endswith(command):
        return False
    quoted = ", ".join(f'"{word}"' for word in words)
    text.change(finding.location, f"{end[: len(end) - len(command)]}[{quoted}]")
    return True


def _maintainer(text: _Text, finding: Finding, place: _Place) -> bool:
    line = text.line(finding.location)
    if line is None or not isinstance(place.item, Maintainer):
        return False
    keyword = "label" if place.item.origin.keyword.islower() else "LABEL"
    author = "".join(text.escape + char if char in '"$' + text.escape else char for char in place.item.author)
    indent = line[: len(line) - len(line.lstrip(BLANKS))]
    text.change(finding.location, f'{indent}{keyword} {_AUTHORS}="{author}"')
    return True


def _protocol(text: _Text, finding: Finding, place: _Place) -> bool:
    line = text.line(finding.location)
    if line is None or "$" in line or not isinstance(place.item, Expose):
        return False
    changed = re.sub(r"(?i)/(tcp|udp|sctp)(?=\s|\Z)", lambda match: match.group().lower(), line)
    text.change(finding.location, changed)
    return True


def _redundant_platform(text: _Text, finding: Finding, place: _Place) -> bool:
    line = text.line(finding.location)
    changed, count = re.subn(r"""--platform=["']?\$(?:TARGETPLATFORM|\{TARGETPLATFORM\})["']?\s+""", "", line or "")
    if count != 1:
        return False
    text.change(finding.location, changed)
    return True


def _workdir(text: _Text, finding: Finding, place: _Place) -> bool:
    line = text.line(finding.location)
    # Only where the base image tells what the path is relative to, and nothing in it is to be expanded.
    if line is None or not isinstance(place.item, Workdir) or not finding.replacement:
        return False
    path, end = place.item.path, line.rstrip(BLANKS)
    if not end.endswith(path) or any(char in path for char in "$'\"" + text.escape):
        return False
    text.change(finding.location, end[: len(end) - len(path)] + finding.replacement)
    return True


def _remove(text: _Text, finding: Finding, place: _Place) -> bool:
    if not isinstance(place.item, Cmd | Entrypoint | Healthcheck):
        return False
    for number in range(finding.location.start, finding.location.end + 1):
        text.lines[number - 1] = None
    return True


def _drop_empty_lines(text: _Text, finding: Finding, places: Mapping[int, _Place]) -> bool:
    """Remove the blank lines between the first line of an instruction and its last one before heredocs."""
    first = max((start for start in places if start <= finding.line), default=0)
    if not first or places[first].item.origin.location.end < finding.line:
        return False
    blank = [number for number in range(first, finding.line + 1) if not (text.lines[number - 1] or "").strip(BLANKS)]
    for number in blank:
        text.lines[number - 1] = None
    return bool(blank)


_REMOVING = frozenset({"MultipleInstructionsDisallowed", "NoEmptyContinuation"})
_FIXES: Mapping[str, Callable[[_Text, Finding, _Place], bool]] = {
    "ConsistentInstructionCasing": _casing,
    "ExposeProtoCasing": _protocol,
    "FromAsCasing": _as_casing,
    "JSONArgsRecommended": _json_form,
    "LegacyKeyValueFormat": _legacy_pair,
    "MaintainerDeprecated": _maintainer,
    "MultipleInstructionsDisallowed": _remove,
    "RedundantTargetPlatform": _redundant_platform,
    "StageNameCasing": _stage_casing,
    "WorkdirRelativePath": _workdir,
}

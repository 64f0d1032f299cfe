"""From the bytes of a Dockerfile to typed instructions and stages."""

import re
from collections.abc import Callable

from moldar.dockerfile.arguments import blank_separated
from moldar.dockerfile.flags import TEXT
from moldar.dockerfile.instructions import Arg, Dockerfile, Instruction, Origin, Stage
from moldar.dockerfile.parser import Node, ParsedFile, parse
from moldar.dockerfile.read_config import (
    read_arg,
    read_env,
    read_expose,
    read_label,
    read_maintainer,
    read_onbuild,
    read_stop_signal,
    read_user,
    read_volume,
    read_workdir,
)
from moldar.dockerfile.read_files import read_add, read_copy
from moldar.dockerfile.read_process import read_cmd, read_entrypoint, read_healthcheck, read_run, read_shell
from moldar.dockerfile.request import Request, doc_comment
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import did_you_mean
from moldar.dockerfile.wishes import wishes

_READERS: dict[str, Callable[[Request], Instruction]] = {
    "ADD": read_add,
    "ARG": read_arg,
    "CMD": read_cmd,
    "COPY": read_copy,
    "ENTRYPOINT": read_entrypoint,
    "ENV": read_env,
    "EXPOSE": read_expose,
    "HEALTHCHECK": read_healthcheck,
    "LABEL": read_label,
    "MAINTAINER": read_maintainer,
    "ONBUILD": read_onbuild,
    "RUN": read_run,
    "SHELL": read_shell,
    "STOPSIGNAL": read_stop_signal,
    "USER": read_user,
    "VOLUME": read_volume,
    "WORKDIR": read_workdir,
}
NAMES = (*_READERS, "FROM")
_STAGE_NAME = r"[a-z][a-z0-9-_.]*\Z"


def read_dockerfile(data: bytes, name: str = "Dockerfile") -> Dockerfile:
    """The file written in `data`; `name` is what errors call it. DockerfileError, with its place, for any mistake."""
    file, mistake = read_partly(data, name)
    if mistake is not None:
        raise mistake
    return file


def read_partly(data: bytes, name: str = "Dockerfile") -> tuple[Dockerfile, DockerfileError | None]:
    """The file up to its first mistake in an instruction, and that mistake; None when all is well.

    DockerfileError for what keeps the lines themselves from being understood, such as an unterminated heredoc.
    """
    parsed = parse(data, name)
    global_args: list[Arg] = []
    stages: list[Stage] = []
    instructions: list[Instruction] = []
    mistake = None
    try:
        for node in parsed.nodes:
            request = Request(node, _origin(node, parsed), parsed.escape)
            if node.keyword.upper() == "FROM":
                _close(stages, instructions)
                instructions = []
                stages.append(_read_stage(request, len(stages)))
            elif stages:
                instructions.append(_read(request))
            else:
                global_args.append(_read_global(request))
        _need_stages(stages, parsed)
    except DockerfileError as error:
        mistake = error
    _close(stages, instructions)
    return _assemble(parsed, stages, global_args), mistake


def _origin(node: Node, parsed: ParsedFile) -> Origin:
    return Origin(node.keyword, node.line.strip(), parsed.source, node.location, node.comments)


def _read_global(request: Request) -> Arg:
    instruction = _read(request)
    if not isinstance(instruction, Arg):
        raise request.origin.error(
            f"{request.origin.name} before the first build stage",
            hint="only ARG may come before FROM; begin with FROM",
        )
    return instruction


def _need_stages(stages: list[Stage], parsed: ParsedFile) -> None:
    if not stages:
        raise DockerfileError(
            "dockerfile contains no stages to build",
            hint="add FROM",
            source=parsed.source,
            location=parsed.nodes[-1].location,
        )


def read_trigger(text: str, origin: Origin) -> Instruction:
    """The instruction that ONBUILD recorded as `text`; it gets the place of `origin` (the FROM that inherits it).

    DockerfileError, with that place, when it is none.
    """
    try:
        parsed = parse(text.encode("utf-8", "surrogateescape"), "ONBUILD trigger")
        if len(parsed.nodes) != 1:
            raise DockerfileError("an ONBUILD trigger should be a single instruction")
        node = parsed.nodes[0]
        if node.keyword.upper() in ("FROM", "MAINTAINER", "ONBUILD"):
            raise DockerfileError(f"{node.keyword.upper()} isn't allowed as an ONBUILD trigger")
    except DockerfileError as error:
        raise origin.error(f"in the base image's trigger ONBUILD {text}: {error.problem}", hint=error.hint) from None
    at_origin = Origin(node.keyword, node.line.strip(), origin.source, origin.location, node.comments)
    return _read(Request(node, at_origin, parsed.escape))


def _assemble(parsed: ParsedFile, stages: list[Stage], global_args: list[Arg]) -> Dockerfile:
    return Dockerfile(
        parsed.source,
        tuple(stages),
        tuple(global_args),
        parsed.escape,
        syntax=parsed.directives.get("syntax", ""),
        check=parsed.directives.get("check", ""),
        empty_continuations=parsed.empty_continuations,
    )


def _close(stages: list[Stage], instructions: list[Instruction]) -> None:
    if stages:
        stages[-1] = stages[-1]._replace(instructions=tuple(instructions))


def _read(request: Request) -> Instruction:
    reader = _READERS.get(request.origin.name)
    if reader is None:
        word = request.node.keyword
        hint = did_you_mean(word, NAMES, ignore_case=True)
        raise request.origin.error(f"unknown instruction: {word}" if word else "an instruction is missing", hint=hint)
    try:
        if reader is not read_run and wishes(request.node.comments):
            raise DockerfileError(f"moldar:ttl is for RUN and not for {request.origin.name}")
        return reader(request)
    except DockerfileError as error:
        raise error.at(request.origin.source, request.origin.location) from None


def _read_stage(request: Request, number: int) -> Stage:
    try:
        return _read_from(request, number)
    except DockerfileError as error:
        raise error.at(request.origin.source, request.origin.location) from None


def _read_from(request: Request, number: int) -> Stage:
    words = blank_separated(request.node.rest)
    name = name_written = as_written = ""
    if len(words) == 3 and words[1].lower() == "as":
        as_written, name_written = words[1:]
        name = name_written.lower()
        if not re.match(_STAGE_NAME, name):
            raise DockerfileError(
                f'invalid name for build stage: "{name_written}", name can\'t start with a number or contain symbols'
            )
    elif len(words) != 1:
        raise DockerfileError("FROM requires either one or three arguments", hint="FROM <image> [AS <name>]")
    platform = request.flags({"platform": TEXT}).text("platform")
    return Stage(
        request.origin,
        number,
        words[0],
        name=name,
        platform=platform,
        description=doc_comment(request.node.comments, name),
        name_written=name_written,
        as_written=as_written,
    )

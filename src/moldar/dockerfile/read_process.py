"""Reads what runs: RUN, CMD, ENTRYPOINT, HEALTHCHECK, SHELL."""

import re

from moldar.dockerfile.arguments import json_words
from moldar.dockerfile.flags import LIST, TEXT, Flags
from moldar.dockerfile.heredocs import parse_heredoc
from moldar.dockerfile.instructions import Cmd, Command, Entrypoint, Healthcheck, InlineFile, Run, Shell
from moldar.dockerfile.mounts import mount_sources
from moldar.dockerfile.quantities import parse_duration
from moldar.dockerfile.request import Request, read_command
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import did_you_mean
from moldar.dockerfile.wishes import time_to_live
from moldar.dockerfile.words import BLANKS

SCRIPT_DIRECTORY = "/dev/pipes"
NETWORKS = ("default", "none", "host")
SECURITY = ("sandbox", "insecure")
SHORTEST_INTERVAL = 1_000_000
_RUN_FLAGS = {"mount": LIST, "network": TEXT, "security": TEXT, "device": LIST}
_HEALTH_FLAGS = {"interval": TEXT, "timeout": TEXT, "start-period": TEXT, "start-interval": TEXT, "retries": TEXT}
_TYPE_AND_REST = r"(?s)(\S+)\s*(.*)\Z"
_COUNT = r"[-+]?[0-9]{1,10}\Z"


def read_run(request: Request) -> Run:
    """RUN with its flags and heredocs."""
    flags = request.flags(_RUN_FLAGS)
    command, files, summary = _run_command(request)
    if any("\0" in text for text in (*command.args, *(file.content for file in files))):
        raise DockerfileError("a command may not hold a NUL character")
    return Run(
        request.origin,
        command,
        files=files,
        mount_texts=flags.list("mount"),
        mount_sources=mount_sources(flags.list("mount")),
        network=_one_of(flags, "network", NETWORKS),
        security=_one_of(flags, "security", SECURITY),
        devices=flags.list("device"),
        summary=summary,
        max_age=time_to_live(request.node.comments),
    )


def _run_command(request: Request) -> tuple[Command, tuple[InlineFile, ...], str]:
    """What the shell reads, script files and the summary; see `instructions.Run`."""
    command = read_command(request.node.rest)
    if not command.shell and not command.args:
        raise DockerfileError("RUN [] has nothing to run")
    heredocs = request.node.heredocs
    if not heredocs:
        return command, (), ""
    if parse_heredoc(command.args[0]) is None:
        # The shell gets the line and the texts as they stand, and reads the heredocs itself.
        pieces = [command.args[0], *(f"\n{heredoc.content}{heredoc.name}" for heredoc in heredocs)]
        return Command(("".join(pieces),), shell=True), (), ""
    script = heredocs[0].text
    summary = _summary(heredocs[0].content)
    if script.startswith("#!"):
        file = InlineFile(heredocs[0].name, script, expand=False)
        return Command((f"{SCRIPT_DIRECTORY}/{file.name}",), shell=True), (file,), summary
    return Command((script,), shell=True), (), summary


def _summary(content: str) -> str:
    first, *others = content.strip(BLANKS).splitlines() or [""]
    return first + ("..." if others else "")


def _one_of(flags: Flags, name: str, options: tuple[str, ...]) -> str:
    value = flags.text(name, options[0])
    if value not in options:
        hint = did_you_mean(value, options) or f"--{name} may be {', '.join(options)}"
        raise DockerfileError(f'invalid {name} mode "{value}"', hint=hint)
    return value


def read_cmd(request: Request) -> Cmd:
    """CMD in either form."""
    request.flags()
    return Cmd(request.origin, read_command(request.node.rest))


def read_entrypoint(request: Request) -> Entrypoint:
    """ENTRYPOINT in either form."""
    request.flags()
    return Entrypoint(request.origin, read_command(request.node.rest))


def read_shell(request: Request) -> Shell:
    """SHELL, in JSON form only."""
    request.flags()
    words = json_words(request.at_least_one())
    if words is None:
        raise DockerfileError(
            "SHELL requires the arguments to be in JSON form", hint='for example SHELL ["/bin/bash", "-c"]'
        )
    if not words:
        raise DockerfileError("SHELL requires at least one argument")
    return Shell(request.origin, words)


def read_healthcheck(request: Request) -> Healthcheck:
    """HEALTHCHECK NONE, or CMD with options."""
    match = re.match(_TYPE_AND_REST, request.at_least_one())
    kind, rest = match.groups() if match else (request.node.rest, "")
    if kind.upper() == "NONE":
        if rest:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(request.origin, ("NONE",))
    flags = request.flags(_HEALTH_FLAGS)
    if kind.upper() != "CMD":
        raise DockerfileError(
            f'unknown type "{kind}" in HEALTHCHECK (try CMD)', hint=did_you_mean(kind, ["CMD", "NONE"])
        )
    command = read_command(rest)
    if not command.args or (command.shell and not rest):
        raise DockerfileError("missing command after HEALTHCHECK CMD")
    return Healthcheck(
        request.origin,
        ("CMD-SHELL" if command.shell else "CMD", *command.args),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    duration = parse_duration(text) if text else 0
    if duration and duration < SHORTEST_INTERVAL:
        raise DockerfileError(f'the interval "{name}" cannot be less than 1ms: {text}')
    return duration


def _retries(text: str) -> int:
    if not text:
        return 0
    if not re.match(_COUNT, text) or abs(int(text)) >= 1 << 31:
        raise DockerfileError(f"--retries is not a number: {text}")
    if int(text) < 0:
        raise DockerfileError(f"--retries cannot be negative ({text})")
    return int(text)

"""Reads what only changes the image's configuration, and ARG, WORKDIR and ONBUILD."""

import re

from moldar.dockerfile.arguments import blank_separated, json_words, key_values, quoted_words, split_line
from moldar.dockerfile.instructions import (
    Arg,
    Argument,
    Env,
    Expose,
    Label,
    Maintainer,
    Onbuild,
    Pair,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from moldar.dockerfile.request import Request, doc_comment
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import BLANKS

_ONBUILD = r"(?i)\s*ONBUILD\s*"


def read_env(request: Request) -> Env:
    """ENV in the form with `=` or the old one."""
    return Env(request.origin, _pairs(request))


def read_label(request: Request) -> Label:
    """LABEL in the form with `=` or the old one."""
    return Label(request.origin, _pairs(request))


def _pairs(request: Request) -> tuple[Pair, ...]:
    request.flags()
    name = request.origin.name
    pairs = key_values(request.at_least_one(), name, request.escape)
    if not pairs:
        raise DockerfileError(f"{name} requires at least one argument")
    if any(not pair.key for pair in pairs):
        raise DockerfileError(f"{name} names can not be blank")
    return tuple(Pair(pair.key, pair.value, pair.legacy) for pair in pairs)


def read_arg(request: Request) -> Arg:
    """ARG with one or several names."""
    comments = request.origin.comments
    arguments = []
    for word in quoted_words(request.at_least_one(), request.escape):
        key, equals, value = word.partition("=")
        if not key:
            raise DockerfileError("ARG names can not be blank")
        arguments.append(Argument(key, value if equals else None, doc_comment(comments, key)))
    if not arguments:
        raise DockerfileError("ARG requires at least one argument")
    return Arg(request.origin, tuple(arguments))


def read_maintainer(request: Request) -> Maintainer:
    """MAINTAINER and the rest of the line."""
    author = request.one()
    request.flags()
    return Maintainer(request.origin, author)


def read_workdir(request: Request) -> Workdir:
    """WORKDIR and the rest of the line."""
    path = request.one()
    request.flags()
    return Workdir(request.origin, path)


def read_user(request: Request) -> User:
    """USER and the rest of the line."""
    user = request.one()
    request.flags()
    return User(request.origin, user)


def read_stop_signal(request: Request) -> StopSignal:
    """STOPSIGNAL and the rest of the line."""
    return StopSignal(request.origin, request.one())


def read_expose(request: Request) -> Expose:
    """EXPOSE and its words, sorted."""
    ports = blank_separated(request.at_least_one())
    request.flags()
    return Expose(request.origin, tuple(sorted(ports)))


def read_volume(request: Request) -> Volume:
    """VOLUME in words or JSON."""
    rest = request.at_least_one()
    request.flags()
    from_json = json_words(rest)
    paths = blank_separated(rest) if from_json is None else from_json
    paths = tuple(path.strip(BLANKS) for path in paths)
    if not paths:
        raise DockerfileError("VOLUME requires at least one argument")
    if "" in paths:
        raise DockerfileError("VOLUME specified can not be an empty string")
    return Volume(request.origin, paths)


def read_onbuild(request: Request) -> Onbuild:
    """ONBUILD: its instruction is recorded as written, to be read when it is triggered."""
    inner = split_line(request.at_least_one(), request.escape)
    request.flags()
    name = inner.keyword.upper()
    if name == "ONBUILD":
        raise DockerfileError("chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if name in ("FROM", "MAINTAINER"):
        raise DockerfileError(f"{name} isn't allowed as an ONBUILD trigger")
    pieces = [re.sub(_ONBUILD, "", request.node.line, count=1)]
    pieces += [f"\n{heredoc.content}{heredoc.name}" for heredoc in request.node.heredocs]
    return Onbuild(request.origin, "".join(pieces))

"""Reads what brings files: COPY, ADD."""

from moldar.dockerfile.arguments import blank_separated, json_words
from moldar.dockerfile.flags import LIST, SWITCH, TEXT
from moldar.dockerfile.heredocs import Heredoc, parse_heredoc
from moldar.dockerfile.instructions import Add, Copy, InlineFile
from moldar.dockerfile.request import Request
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import process_word

_SHARED_FLAGS = {"chown": TEXT, "chmod": TEXT, "link": SWITCH, "exclude": LIST}
_COPY_FLAGS = _SHARED_FLAGS | {"from": TEXT, "parents": SWITCH}
_ADD_FLAGS = _SHARED_FLAGS | {"checksum": TEXT, "keep-git-dir": SWITCH, "unpack": SWITCH}


def read_copy(request: Request) -> Copy:
    """COPY in either form, with heredocs."""
    sources, files, destination = _paths(request)
    flags = request.flags(_COPY_FLAGS)
    return Copy(
        request.origin,
        sources,
        destination,
        files=files,
        from_stage=_stage(flags.text("from")),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        parents=bool(flags.switch("parents")),
        exclude=flags.list("exclude"),
    )


def read_add(request: Request) -> Add:
    """ADD in either form, with heredocs."""
    sources, files, destination = _paths(request)
    flags = request.flags(_ADD_FLAGS)
    return Add(
        request.origin,
        sources,
        destination,
        files=files,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.list("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.switch("keep-git-dir"),
        unpack=flags.switch("unpack"),
    )


def _stage(name: str) -> str:
    if "$" in name and process_word(name, lambda _: None) != name:
        raise DockerfileError(
            "variable expansion is not supported for --from",
            hint="define a new stage with FROM, using ARG from global scope, and name that stage",
        )
    return name


def _paths(request: Request) -> tuple[tuple[str, ...], tuple[InlineFile, ...], str]:
    """Sources that are paths, sources that are heredocs, and the destination."""
    name = request.origin.name
    from_json = json_words(request.node.rest)
    words = blank_separated(request.node.rest) if from_json is None else from_json
    if len(words) < 2:
        raise DockerfileError(
            f"{name} requires at least two arguments, but {'only one' if words else 'none'} was provided."
            " Destination could not be determined",
            hint=f"{name} <source>... <destination>",
        )
    if from_json is not None:
        return words[:-1], (), words[-1]
    if _heredoc(words[-1]) is not None:
        raise DockerfileError(f"{name} cannot accept a heredoc as a destination")
    bodies = {heredoc.name: heredoc for heredoc in request.node.heredocs}
    sources: list[str] = []
    files: list[InlineFile] = []
    for word in words[:-1]:
        heredoc = _heredoc(word)
        if heredoc is None:
            sources.append(word)
        else:
            body = heredoc._replace(content=bodies.get(heredoc.name, heredoc).content)
            files.append(InlineFile(body.name, body.text, body.expand))
    return tuple(sources), tuple(files), words[-1]


def _heredoc(word: str) -> Heredoc | None:
    try:
        return parse_heredoc(word)
    except DockerfileError:
        return None

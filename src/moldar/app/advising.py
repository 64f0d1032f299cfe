"""Advice on a Dockerfile: collects the facts from the history of builds, the context and the store."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from moldar.advice.advising import advise
from moldar.advice.facts import Advice, Facts, Layer, LayerFile, PastBuild, PastStep
from moldar.advice.rewrite import rewrite
from moldar.app.builds import all_builds, steps_of
from moldar.app.contexts import Opened, open_request
from moldar.app.engine import Engine
from moldar.app.requests import BuildRequest
from moldar.builder.context import open_context
from moldar.dockerfile.instructions import Dockerfile
from moldar.dockerfile.reading import read_dockerfile
from moldar.errors import MoldarError, NotFound, UserMistake
from moldar.image.config import ImageConfig
from moldar.store.builds import BuildRow

MOST_BUILDS = 20
_LARGEST_MANIFEST = 1 << 20
_MANIFESTS = (
    ".txt",
    ".in",
    "package.json",
    "package-lock.json",
    "yarn.lock",
    ".npmrc",
    ".yarnrc",
    "go.mod",
    "go.sum",
)
_REUSED = "reused:"


class Advised(NamedTuple):
    """The advice on the Dockerfile at `path` and the text that `--fix` would write, the same when there is nothing.

    `request` builds it; `builds` says how many past builds were looked at.
    """

    path: str
    before: bytes
    after: bytes
    advice: tuple[Advice, ...]
    request: BuildRequest
    builds: int


def request_for(engine: Engine, name: str, file: str) -> BuildRequest:
    """What to build for `name`: a directory, or an image that the history says how to build. NotFound."""
    if not name or os.path.isdir(name):
        return BuildRequest(context=name or ".", file=file)
    image = engine.images.resolve(name)
    row = next((row for row in all_builds(engine) if row.image == image), None)
    if row is None or not os.path.isdir(row.context):
        raise NotFound(f"no build of {name} is remembered", hint="name the directory of its Dockerfile")
    return BuildRequest(context=row.context, file=file, target=row.target)


def advise_request(engine: Engine, request: BuildRequest) -> Advised:
    """All advice on the Dockerfile of `request`; nothing is built or written. UserMistake without a file."""
    with open_request(request, engine) as opened:
        if not opened.dockerfile_path or opened.temporary:
            raise UserMistake("advice needs a Dockerfile on disk", hint="name it with -f FILE")
        before = opened.read_dockerfile()
        facts = collect(engine, opened, read_dockerfile(before, opened.dockerfile_name))
        text = before.decode("utf-8", "surrogateescape")
        after = rewrite(text, facts).encode("utf-8", "surrogateescape")
        return Advised(opened.dockerfile_path, before, after, advise(facts), request, len(facts.builds))


def collect(engine: Engine, opened: Opened, file: Dockerfile) -> Facts:
    """What is known of the Dockerfile's builds, its context and its last image."""
    rows = [
        row
        for row in all_builds(engine)
        if row.context == opened.directory and row.ended is not None and not row.error
    ][:MOST_BUILDS]
    context = tuple(_context(opened))
    return Facts(
        file,
        tuple(map(_past, rows)),
        context,
        tuple(_contents(opened.directory, [path for path, _ in context])),
        _layers(engine, file, rows),
        tuple(_digests(engine, file)),
        tuple(_users(engine, file)),
    )


def _past(row: BuildRow) -> PastBuild:
    steps = []
    for step in steps_of(row):
        text = " ".join(step.name.partition("] ")[2].split()) if step.name.startswith("[") else step.name
        reused = step.cached and step.reason.startswith(_REUSED)
        steps.append(PastStep(text, step.seconds or 0.0, step.cached, reused, step.reason))
    return PastBuild(row.id, tuple(steps))


def _context(opened: Opened) -> Iterator[tuple[str, int]]:
    tree = open_context(opened.directory, dockerfile=opened.dockerfile_path)
    for entry in tree.walk(""):
        if entry.kind in ("file", "symlink"):
            yield entry.path, entry.size


def _contents(directory: str, paths: list[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        whole = os.path.join(directory, path)
        if path.endswith(_MANIFESTS) and os.path.isfile(whole) and os.path.getsize(whole) <= _LARGEST_MANIFEST:
            with open(whole, encoding="utf-8", errors="replace") as file:
                yield path, file.read()


def _base_config(engine: Engine, name: str) -> ImageConfig | None:
    try:
        return engine.images.config(engine.images.resolve(name))
    except MoldarError:
        return None


def _users(engine: Engine, file: Dockerfile) -> Iterator[tuple[str, str]]:
    for stage in file.stages:
        config = _base_config(engine, stage.base)
        if config is not None and config.config.user:
            yield stage.base, config.config.user


def _digests(engine: Engine, file: Dockerfile) -> Iterator[tuple[str, str]]:
    """What the store knows base images by: the digests under which registries gave them."""
    for stage in file.stages:
        try:
            image = engine.images.resolve(stage.base)
        except MoldarError:
            continue
        known = engine.images.repository_digests(image)
        if known:
            yield stage.base, known[0][1]


def _layers(engine: Engine, file: Dockerfile, rows: list[BuildRow]) -> tuple[Layer, ...] | None:
    """The layers that the last build put over its base; None when its image is gone."""
    image = next((row.image for row in rows if row.image), "")
    if not image or engine.images.get(image) is None:
        return None
    from moldar.app.image_files import layer_files

    config = engine.images.config(image)
    base = _base_config(engine, _first_base(file))
    below = len(base.diff_ids) if base and config.diff_ids[: len(base.diff_ids)] == base.diff_ids else 0
    made = [entry.created_by for entry in config.history if not entry.empty_layer]
    layers = []
    for position in range(below, len(config.diff_ids)):
        stack = config.diff_ids[: position + 1]
        files = tuple(LayerFile(entry.path, entry.kind, entry.size) for entry in layer_files(engine, stack))
        text = _instruction(made[position]) if position < len(made) else ""
        layers.append(Layer(text, sum(each.size for each in files), files))
    return tuple(layers)


def _first_base(file: Dockerfile) -> str:
    """The image below the last stage, through the stages that it is built on."""
    stage = file.stages[-1]
    for earlier in reversed(file.stages[:-1]):
        if stage.base.lower() == earlier.name:
            stage = earlier
    return stage.base


def _instruction(created_by: str) -> str:
    """The instruction in the text of an image's history."""
    text = created_by.removesuffix(" # buildkit")
    words = text.split(" ")
    if words[0] == "RUN" and words[1:2] and words[1].startswith("|") and words[1][1:].isdigit():
        words = ["RUN", *words[2 + int(words[1][1:]) :]]
    return " ".join(words).replace("RUN /bin/sh -c ", "RUN ", 1)

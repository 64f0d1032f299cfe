"""A rewritten Dockerfile tried out: both forms are built in a scratch store, compared, and rebuilt after an edit."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

from moldar.app.advising import Advised
from moldar.app.building import build
from moldar.app.contexts import open_request
from moldar.app.engine import Engine
from moldar.app.image_files import differences
from moldar.app.requests import BuildRequest
from moldar.builder.context import find_ignore_file, open_context
from moldar.dockerfile.reading import read_dockerfile
from moldar.errors import NotFound, UserMistake
from moldar.image.reference import parse_reference

_SOURCES = (
    ".py",
    ".js",
    ".ts",
    ".go",
    ".rs",
    ".c",
    ".cc",
    ".cpp",
    ".java",
    ".rb",
    ".php",
    ".sh",
    ".html",
    ".css",
    ".md",
)
_MANIFESTS = frozenset({"setup.py", "conftest.py"})
_VOLATILE = (
    "var/cache/",
    "var/log/",
    "var/lib/apt/",
    "root/.cache/",
    "root/.npm/",
    "usr/local/share/.cache/",
    "tmp/",
)
Tell = Callable[[str], None]


class Trial(NamedTuple):
    """What a trial measured: seconds of a rebuild with exact caching after an edit of `edited`, both ways.

    `different` are paths at which the images differ, caches and what differs from build to build apart.
    """

    edited: str
    before: float
    after: float
    different: tuple[str, ...]
    config_differs: bool

    @property
    def same(self) -> bool:
        """Whether both images behave the same."""
        return not self.different and not self.config_differs


def try_out(engine: Engine, advised: Advised, tell: Tell, rounds: int = 1) -> Trial:
    """Build and compare both forms of the Dockerfile. UserMistake without a source to edit."""
    with tempfile.TemporaryDirectory(prefix="moldar-advise-") as directory:
        context, requests = _prepare(engine, advised, directory)
        edited = _source_to_edit(context, advised)
        with Engine(engine.settings._replace(home=f"{directory}/home")) as scratch:
            _lend_bases(engine, scratch, advised)
            tell("building the Dockerfile as it is, in a scratch store")
            old = build(scratch, requests[0]).image_id
            tell("building the rewritten Dockerfile")
            new = build(scratch, requests[1]).image_id
            different = _significant(differences(scratch, old, new))
            if different:
                again = build(scratch, requests[0]._replace(no_cache=True)).image_id
                different -= differences(scratch, old, again)
            tell(f"building both anew after an edit of {edited}")
            before, after = _rebuild(scratch, requests, os.path.join(context, edited), rounds)
            configs = [scratch.images.config(image).config for image in (old, new)]
            return Trial(edited, before, after, tuple(sorted(different)), configs[0] != configs[1])


def _prepare(engine: Engine, advised: Advised, directory: str) -> tuple[str, tuple[BuildRequest, BuildRequest]]:
    """A copy of the context, and the requests that build it with either Dockerfile."""
    with open_request(advised.request, engine) as opened:
        context = f"{directory}/context"
        shutil.copytree(opened.directory, context, symlinks=True)
        ignore = find_ignore_file(opened.directory, opened.dockerfile_path)
    requests = []
    for name, data in (("before", advised.before), ("after", advised.after)):
        path = f"{directory}/{name}.Dockerfile"
        with open(path, "wb") as file:
            file.write(data)
        if ignore:
            shutil.copyfile(ignore, path + ".dockerignore")
        requests.append(advised.request._replace(context=context, file=path, exact_cache=True, tags=()))
    return context, (requests[0], requests[1])


def _source_to_edit(context: str, advised: Advised) -> str:
    """A file that a person would edit: of the commonest kind of source, near the top."""
    tree = open_context(context, dockerfile=advised.path)
    found = [entry.path for entry in tree.walk("") if entry.kind == "file"]
    sources = [path for path in found if path.endswith(_SOURCES) and os.path.basename(path) not in _MANIFESTS]
    if not sources:
        raise UserMistake("the context has no source file whose edit could be tried", hint="edit the file by hand")
    return min(sources, key=lambda path: (_SOURCES.index(os.path.splitext(path)[1]), path.count("/"), path))


def _lend_bases(engine: Engine, scratch: Engine, advised: Advised) -> None:
    """Bring the base images from the real store; what is not there the scratch builds pull."""
    from moldar.app.machinery import machinery
    from moldar.export.store_image import StoreImage, receive

    file = read_dockerfile(advised.before, os.path.basename(advised.path))
    for base in {stage.base for stage in file.stages}:
        try:
            image = engine.images.resolve(base)
            reference = parse_reference(base)
        except (NotFound, UserMistake):
            continue
        parts = machinery(engine)
        receive(StoreImage(parts.store, parts.forms, image), machinery(scratch).store, (reference,))


def _rebuild(
    scratch: Engine, requests: tuple[BuildRequest, BuildRequest], path: str, rounds: int
) -> tuple[float, float]:
    """The quickest rebuild of each form, each after an edit of its own."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for position, request in enumerate(requests):
            with open(path, "ab") as file:
                file.write(b"\n")
            start = time.perf_counter()
            build(scratch, request)
            best[position] = min(best[position], time.perf_counter() - start)
    return best[0], best[1]


def _significant(paths: frozenset[str]) -> frozenset[str]:
    """The paths that matter: no caches and logs, nor the directories that hold them, nor compiled Python."""
    return frozenset(
        path
        for path in paths
        if not path.endswith(".pyc")
        and not path.startswith(_VOLATILE)
        and not any(volatile.startswith(path + "/") for volatile in _VOLATILE)
        and path
    )

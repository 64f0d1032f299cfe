"""Where a build's files come from: the context and the Dockerfile of a request, opened.

A directory is used where it lies. Stdin is read once: as a Dockerfile, or as a tar archive that is unpacked to a
temporary directory for the length of the build.
"""

import os
from typing import NamedTuple

from moldar.app.engine import Engine
from moldar.app.requests import BuildRequest
from moldar.builder.plan import NamedContext
from moldar.errors import Unsupported, UserMistake
from moldar.image.model import Digest

DEFAULT_NAME = "Dockerfile"
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")
_LARGEST_DOCKERFILE = 64 << 20


class NoDockerfile(UserMistake):
    """There is no Dockerfile where one is expected."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"failed to read dockerfile: open {path}: {why}", hint="name another one with -f FILE")
        self.path = path


class Layout(NamedTuple):
    """An image in a directory: by `digest`, else by `tag`. `root` is the digest of its manifest or index."""

    directory: str
    tag: str = ""
    digest: str = ""
    root: Digest = Digest("")


class Opened(NamedTuple):
    """An opened context. `dockerfile_path` is empty when the Dockerfile came from stdin, in `dockerfile_data`.

    `temporary` are directories to delete at the end; `layouts` are images that named contexts found in directories.
    """

    directory: str
    dockerfile_path: str
    dockerfile_name: str
    dockerfile_data: bytes | None
    contexts: tuple[tuple[str, str], ...]
    temporary: tuple[str, ...] = ()
    layouts: tuple[Layout, ...] = ()

    def read_dockerfile(self) -> bytes:
        """The Dockerfile's bytes; NoDockerfile."""
        if self.dockerfile_data is not None:
            return self.dockerfile_data
        try:
            with open(self.dockerfile_path, "rb") as file:
                return file.read(_LARGEST_DOCKERFILE)
        except FileNotFoundError as error:
            raise NoDockerfile(self.dockerfile_path, "no such file or directory") from error
        except OSError as error:
            raise NoDockerfile(self.dockerfile_path, error.strerror or str(error)) from error

    def directories(self) -> dict[str, str]:
        """The directories that are contexts, by name; the main one under the empty name."""
        local = {name: context.location for name, context in self.named_contexts().items() if context.kind == "local"}
        return {"": self.directory, **local}

    def named_contexts(self) -> dict[str, NamedContext]:
        """The values of --build-context, as the planner takes them."""
        return {name: _named(name, value) for name, value in self.contexts}

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.temporary:
            import shutil

            for directory in self.temporary:
                shutil.rmtree(directory, ignore_errors=True)


def open_request(request: BuildRequest, engine: Engine | None = None) -> Opened:
    """Open what `request` names; UserMistake when it is not there. Remote contexts need the `engine`."""
    opened = _open_main(request, engine)
    if engine is not None and any(value.startswith("oci-layout://") for _, value in request.contexts):
        from moldar.app.layout_contexts import name_layouts

        opened = name_layouts(engine, opened)
    if engine is None or not any(value.startswith(_REMOTE) for _, value in request.contexts):
        return opened
    from moldar.app.web import fetch_named

    return fetch_named(engine, opened, _REMOTE)


def _open_main(request: BuildRequest, engine: Engine | None) -> Opened:
    if request.context == "-":
        from moldar.app.stdin_context import open_stdin

        return open_stdin(request)
    if request.context.startswith(_REMOTE):
        if engine is None:
            raise Unsupported(f"remote build context {request.context}: not possible here")
        from moldar.app.web import open_remote

        return open_remote(engine, request)
    directory = os.path.abspath(request.context)
    if not os.path.isdir(directory):
        why = "is not a directory" if os.path.lexists(directory) else "not found"
        raise UserMistake(f"unable to prepare context: path {request.context!r} {why}")
    if request.file == "-":
        import sys

        return Opened(directory, "", DEFAULT_NAME, sys.stdin.buffer.read(), request.contexts)
    path = os.path.abspath(request.file) if request.file else os.path.join(directory, DEFAULT_NAME)
    if (
        not request.file
        and not os.path.exists(path)
        and os.path.exists(os.path.join(directory, DEFAULT_NAME.lower()))
    ):
        path = os.path.join(directory, DEFAULT_NAME.lower())
    return Opened(directory, path, os.path.basename(path), None, request.contexts)


def _named(name: str, value: str) -> NamedContext:
    if value.startswith("docker-image://"):
        return NamedContext("image", value.removeprefix("docker-image://"))
    if value.startswith(("oci-layout://", *_REMOTE)):
        raise Unsupported(f"--build-context {name}={value}: this kind of context is not possible here")
    directory = os.path.abspath(value)
    if not os.path.isdir(directory):
        raise UserMistake(f"--build-context {name}={value}: no such directory")
    return NamedContext("local", directory)

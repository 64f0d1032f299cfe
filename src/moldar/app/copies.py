"""Copying files between containers and the host, and archives of either."""

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

from moldar.app.archives import opened
from moldar.app.containers import service
from moldar.app.engine import Engine
from moldar.containers.copying import (
    CannotCopy,
    Spot,
    copy_members,
    find_directory,
    find_source,
    find_target,
    members,
)
from moldar.image.decompression import open_decompressed
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_read import read_entries
from moldar.image.layer_write import write_layer

ROOT = (0, 0)


def copy_from(
    engine: Engine, container: str, path: str, target: str, *, follow: bool = False, archive: bool = False
) -> int:
    """Copy what is at `path` of a container to the host path `target`; the bytes copied, as an archive has them.

    Files get our user and group as owners, with `archive` those that they have. A link at `path` is copied as such
    unless `follow`. ContainerNotFound, NoSuchFile, CannotCopy.
    """
    owner = None if archive else (os.geteuid(), os.getegid())
    with service(engine).root(container) as root, _host() as host:
        tree = find_source(Spot(root, path, container), follow=follow)
        try:
            there = find_target(Spot(host, _absolute(target)), tree)
            return copy_members(members(tree, there.name), host, there, owner)
        finally:
            os.close(tree.parent)


def copy_to(
    engine: Engine, container: str, source: str, path: str, *, follow: bool = False, archive: bool = False
) -> int:
    """Copy the host path `source` to `path` of a container; the bytes copied.

    Files belong to root, with `archive` to whom they do on the host. Otherwise as `copy_from`.
    """
    with service(engine).root(container) as root, _host() as host:
        tree = find_source(Spot(host, _absolute(source)), follow=follow)
        try:
            there = find_target(Spot(root, path, container), tree)
            return copy_members(members(tree, there.name), root, there, None if archive else ROOT)
        finally:
            os.close(tree.parent)


def archive_from(engine: Engine, container: str, path: str, output: int, *, follow: bool = False) -> None:
    """Write what is at `path` of a container as a tar to the descriptor `output`."""
    with service(engine).root(container) as root, opened(output) as out:
        tree = find_source(Spot(root, path, container), follow=follow)
        try:
            write_layer(members(tree, tree.called), out.write)
        finally:
            os.close(tree.parent)


def archive_to(engine: Engine, container: str, source: int, path: str) -> int:
    """Unpack the tar, maybe compressed, that the descriptor `source` gives into a directory of a container."""
    with service(engine).root(container) as root, open(source, "rb", buffering=0, closefd=False) as stream:
        there = find_directory(Spot(root, path, container))
        found = read_entries(open_decompressed(stream), contents=True)
        return copy_members(found, root, there, None)


def export(engine: Engine, container: str, output: str | int) -> None:
    """Write the file system of a container as a tar, without what is in its volumes; `output` as for `save`."""
    with service(engine).root(container, mounts=False) as root, opened(output) as out:
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            write_layer(diff_entries(top), out.write)
        finally:
            os.close(top)


@contextmanager
def _host() -> Iterator[int]:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root
    finally:
        os.close(root)


def _absolute(path: str) -> str:
    """The host path without `..`, with the slash or dot at its end kept, because they mean something."""
    if not path:
        raise CannotCopy("a path is empty")
    ending = "/." if posixpath.basename(path) == "." else "/" if path.endswith("/") else ""
    return os.path.abspath(path).rstrip("/") + ending or "/"

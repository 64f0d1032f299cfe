"""What a build fetches by URL: files, git repositories, whole contexts. The network's modules load when needed."""

import os
from contextlib import ExitStack

from moldar.app.contexts import DEFAULT_NAME, Opened
from moldar.app.engine import Engine
from moldar.app.requests import BuildRequest
from moldar.builder.graph import GitOp, HttpOp
from moldar.builder.tree import FileTree, Tree
from moldar.errors import UserMistake


class Downloads:
    """What ADD names by URL; a context manager that deletes what was checked out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cleanup = ExitStack()

    def __enter__(self) -> "Downloads":
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def tree(self, op: HttpOp | GitOp) -> Tree:
        """The downloaded file or the repository; NotFound, RegistryRefused, CorruptData, UserMistake."""
        if isinstance(op, HttpOp):
            return download(self._engine, op)
        from moldar.builder.git_source import check_out, parse_git_address

        address = parse_git_address(op.url)
        if op.checksum:
            address = address._replace(commit=op.checksum)
        return check_out(address, _temporary(self._cleanup), keep_git_dir=op.keep_git_dir)


def download(engine: Engine, op: HttpOp) -> FileTree:
    """The file at a URL, from the store where the server says that it is still right."""
    from moldar.app.registries import registry_config
    from moldar.builder.downloads import WebFiles
    from moldar.remote.web import WebSession
    from moldar.store.downloads import DownloadTable

    session = WebSession(registry_config(engine))
    try:
        return WebFiles(lambda: session, engine.blobs, DownloadTable(engine.database), engine.lease.protect).tree(op)
    finally:
        session.close()


def open_remote(engine: Engine, request: BuildRequest) -> Opened:
    """The context at a URL: a git repository, a tar archive, or a Dockerfile alone."""
    from moldar.builder.tree import LocalTree, resolve

    with ExitStack() as cleanup:
        directory = _temporary(cleanup)
        root, dockerfile = _fetch(engine, request.context, directory)
        path = ""
        if dockerfile is None:  # which may be a link, but only to what is in the context
            path = f"{root}/{resolve(LocalTree(root), request.file or DEFAULT_NAME)}"
        cleanup.pop_all()
    return Opened(root, path, os.path.basename(path) or DEFAULT_NAME, dockerfile, request.contexts, (directory,))


def fetch_named(engine: Engine, opened: Opened, remote: tuple[str, ...]) -> Opened:
    """`opened` with the named contexts whose values begin as in `remote` fetched into directories."""
    with ExitStack() as cleanup:
        cleanup.enter_context(opened)
        contexts: list[tuple[str, str]] = []
        temporary: list[str] = []
        for name, value in opened.contexts:
            if value.startswith(remote):
                temporary.append(_temporary(cleanup))
                root, file = _fetch(engine, value, temporary[-1])
                if file is not None:
                    raise UserMistake(f"--build-context {name}={value}: neither a git repository nor an archive")
                contexts.append((name, root))
            else:
                contexts.append((name, value))
        cleanup.pop_all()
    return opened._replace(contexts=tuple(contexts), temporary=(*opened.temporary, *temporary))


def _fetch(engine: Engine, url: str, directory: str) -> tuple[str, bytes | None]:
    """The directory of a context that was fetched to `directory`, or the content of what is but one file."""
    from moldar.builder.git_source import check_out, is_git_address, parse_git_address

    if is_git_address(url):
        return check_out(parse_git_address(url), directory).root, None
    from moldar.builder.entry import Place
    from moldar.builder.unpacking import is_archive
    from moldar.image.decompression import open_decompressed
    from moldar.image.unpack import unpack

    tree = download(engine, HttpOp(url))
    (entry,) = tree.children("")
    place = tree.locate(entry)
    assert isinstance(place, Place)
    with open(place.path, "rb") as file:
        if not is_archive(place):
            return directory, file.read()
        unpack(open_decompressed(file), directory, whiteouts="apply", keep_owners=False)
    return directory, None


def _temporary(cleanup: ExitStack) -> str:
    import shutil
    import tempfile

    directory = tempfile.mkdtemp(prefix="moldar-source-")
    cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory

"""save and load: images of the store to and from archives."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.errors import HostTrouble, MoldarError, UserMistake
from moldar.export.archive_read import open_archive
from moldar.export.layout_write import LayoutWriter, TarTarget
from moldar.export.store_image import StoreImage, receive
from moldar.image.model import Digest
from moldar.image.reference import Reference, parse_reference
from moldar.image.transfer import copy


class Output(NamedTuple):
    """An open file that is being written; `write` appends all that it is given."""

    descriptor: int

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.descriptor, rest) :]


def save_archive(engine: Engine, names: Sequence[str], output: str | int) -> None:
    """Write the named images, each with the names given for it; a repository's name alone means its :latest."""
    parts = machinery(engine)
    wanted = _by_image(engine, names)
    with opened(output) as out:
        layout = LayoutWriter(TarTarget(out.write, out.descriptor), docker=True)
        for image, references in wanted.items():
            tag = engine.images.find_tag(references[0]) if references else None
            source = StoreImage(parts.store, parts.forms, image, manifest=tag.manifest if tag else None)
            copy(source, layout.sink(references), jobs=1)
        layout.close()


def _by_image(engine: Engine, names: Sequence[str]) -> dict[Digest, list[Reference]]:
    wanted: dict[Digest, list[Reference]] = {}
    for name in names:
        references = wanted.setdefault(engine.images.resolve(name), [])
        try:
            reference = parse_reference(name)
        except UserMistake:
            continue  # an ID
        if reference.tag and engine.images.find_tag(reference):
            references.append(reference)
    return wanted


def load_archive(engine: Engine, source: str | int) -> list[str]:
    """Bring every image of an archive into the store; their names as Docker shows them, or IDs."""
    parts = machinery(engine)
    loaded: list[str] = []
    with open_archive(source, engine.home.ingest) as images:
        for image in images:
            identity = receive(image.source, parts.store, image.names, prefer=engine.platform, native=image.native)
            loaded += [name.familiar for name in image.names if name.tag] or [identity]
    return loaded


@contextmanager
def opened(output: str | int) -> Iterator[Output]:
    """A file to write: a path, which appears whole or not at all, or a descriptor, which stays the caller's."""
    if isinstance(output, int):
        yield Output(output)
        return
    staged = f"{output}.{os.getpid()}.part"
    try:
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HostTrouble(f"cannot write {output}: {error.strerror}") from error
    try:
        yield Output(descriptor)
        os.replace(staged, output)
    except OSError as error:
        os.unlink(staged)
        raise HostTrouble(f"cannot write {output}: {error.strerror}") from error
    except (MoldarError, KeyboardInterrupt):
        os.unlink(staged)
        raise
    finally:
        os.close(descriptor)

"""The root file system of an image, all layers in one: as a tar, or as files in a directory."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from moldar.errors import HostTrouble
from moldar.export.layer_forms import LayerForms
from moldar.export.streams import WrittenTar
from moldar.image.layer_diff import diff_entries
from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_write import Opener, Write, write_layer
from moldar.image.unpack import unpack
from moldar.sandbox.snapshots import Snapshots
from moldar.sandbox.unpacked import Stack


def write_tar(forms: LayerForms, snapshots: Snapshots, stack: Stack, write: Write) -> None:
    """Write the files of `stack` as one uncompressed tar, sorted by name."""
    forms.unpacked(stack)
    with snapshots.mount(stack) as root:
        write_layer(diff_entries(root), write)


def write_platforms_tar(
    forms: LayerForms, snapshots: Snapshots, roots: Sequence[tuple[str, Stack]], write: Write
) -> None:
    """Write the files of several stacks as one tar, those of each in the directory that goes with it."""

    def entries(mounts: ExitStack) -> Iterator[tuple[LayerEntry, Opener | None]]:
        for prefix, stack in sorted(roots):
            forms.unpacked(stack)
            yield LayerEntry(prefix, "dir", 0o755), None
            for entry, opener in diff_entries(mounts.enter_context(snapshots.mount(stack))):
                target = f"{prefix}/{entry.target}" if entry.kind == "link" else entry.target
                yield entry._replace(path=f"{prefix}/{entry.path}", target=target), opener

    with ExitStack() as mounts:
        write_layer(entries(mounts), write)


def write_directory(
    forms: LayerForms, snapshots: Snapshots, stack: Stack, directory: str, owner: tuple[int, int] | None = None
) -> None:
    """Put the files of `stack` into `directory`, which is made; what lies there stays unless it is replaced.

    With `owner` (user and group ID) everything belongs to it, as BuildKit's local output does; else owners are kept.
    Links that lie in `directory` already are not followed out of it.
    """
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise HostTrouble(f"cannot make {directory}: {error.strerror}") from error
    forms.unpacked(stack)
    with snapshots.mount(stack) as root, WrittenTar(_owned(root, owner)) as stream:
        unpack(stream, directory, whiteouts="apply")


def _owned(root: str, owner: tuple[int, int] | None) -> Iterator[tuple[LayerEntry, Opener | None]]:
    for entry, opener in diff_entries(root):
        yield (entry._replace(uid=owner[0], gid=owner[1]) if owner else entry), opener

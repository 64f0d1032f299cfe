"""Volumes: directories that outlive containers, below the store's `volumes/NAME/_data`."""

import os
import re
import shutil
from typing import NamedTuple

from moldar.errors import HostTrouble, UserMistake
from moldar.sandbox.copying import copy_tree
from moldar.sandbox.mounts import open_in_root

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


class Volume(NamedTuple):
    """A volume; `fresh` when it was made just now and is empty."""

    name: str
    path: str
    fresh: bool


def open_volume(base: str, name: str) -> Volume:
    """The volume `name`, made if it is not there; UserMistake for a bad name, HostTrouble."""
    if not _NAME.match(name):
        raise UserMistake(
            f"invalid volume name {name!r}", hint="use letters, digits, _ . -, or a path for a bind mount"
        )
    path = f"{base}/{name}/_data"
    try:
        os.makedirs(path)
    except FileExistsError:
        return Volume(name, path, False)
    except OSError as error:
        raise HostTrouble(f"cannot make the volume {name}: {error.strerror}") from error
    return Volume(name, path, True)


def new_volume_name() -> str:
    """The name of an anonymous volume."""
    return os.urandom(32).hex()


def populate(volume: Volume, root: str, target: str) -> None:
    """Fill a fresh volume with what the image has at `target`, as Docker does. `root` is the image, mounted."""
    try:
        source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # the image has no such directory
    try:
        os.rmdir(volume.path)
        copy_tree(f"/proc/self/fd/{source}", volume.path)
    finally:
        os.close(source)


def remove_volume(base: str, name: str) -> None:
    """Delete a volume; one that is not there is fine."""
    shutil.rmtree(f"{base}/{name}", ignore_errors=True)

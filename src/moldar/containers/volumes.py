"""Volumes: directories that outlive containers, below the store's `volumes/NAME/_data`.

Beside `_data` lies `volume.json` with the labels and when it was made. A volume is there when its `_data` is. One
that is being removed gets a name with a dot in front first, so that whatever a killed removal leaves is no volume.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from moldar.errors import HostTrouble, NotFound, UserMistake
from moldar.sandbox.copying import copy_members
from moldar.sandbox.mounts import open_in_root
from moldar.sandbox.workdirs import copy_attributes

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""The label by which Docker tells volumes that nobody gave a name."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_NEW_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_ANONYMOUS_NAME = re.compile(r"[0-9a-f]{64}\Z")
_RECORD = "volume.json"
_REMOVED = ".removed-"


class VolumeNotFound(NotFound):
    """No volume of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"get {name}: no such volume", hint="`moldar volume ls` lists the volumes")
        self.name = name


class VolumeInUse(UserMistake):
    """A volume cannot be removed while a container has it, running or not."""

    def __init__(self, name: str, containers: Iterable[str]) -> None:
        super().__init__(
            f"remove {name}: volume is in use - [{', '.join(containers)}]",
            hint="remove the containers first: `moldar ps -a --filter volume=NAME` lists them",
        )


class Volume(NamedTuple):
    """A volume. `path` is where its files are, `created` in seconds since the epoch."""

    name: str
    path: str
    created: float
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def anonymous(self) -> bool:
        """Whether nobody gave it a name."""
        return ANONYMOUS_LABEL in dict(self.labels)


def open_volume(base: str, name: str, labels: Iterable[tuple[str, str]] = (), *, anonymous: bool = False) -> Volume:
    """The volume `name`, made with `labels` if it is not there; UserMistake for a bad name, HostTrouble."""
    with suppress(VolumeNotFound):
        return find_volume(base, name)
    if not _NEW_NAME.match(name):
        raise UserMistake(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed',
            hint="use at least two of these characters, or an absolute path for a bind mount",
        )
    folder = f"{base}/{name}"
    own = dict(labels) | ({ANONYMOUS_LABEL: ""} if anonymous else {})
    try:
        os.makedirs(folder, mode=0o711, exist_ok=True)
        _write_record(folder, {"created": time.time(), "labels": own})
        with suppress(FileExistsError):  # another process made it at the same time
            os.mkdir(f"{folder}/_data", 0o755)
    except OSError as error:
        raise HostTrouble(f"cannot make the volume {name}: {error.strerror}") from error
    return find_volume(base, name)


def find_volume(base: str, name: str) -> Volume:
    """The volume of that name; VolumeNotFound."""
    path = f"{base}/{name}/_data"
    if not _NAME.match(name) or not os.path.isdir(path):
        raise VolumeNotFound(name)
    try:
        with open(f"{base}/{name}/{_RECORD}") as file:
            record = json.load(file)
        return Volume(name, path, float(record["created"]), tuple(record["labels"].items()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # made before there were records
        labels = ((ANONYMOUS_LABEL, ""),) if _ANONYMOUS_NAME.match(name) else ()
        return Volume(name, path, os.stat(f"{base}/{name}").st_mtime, labels)


def list_volumes(base: str) -> list[Volume]:
    """All volumes by name."""
    found = []
    for name in sorted(os.listdir(base)):
        with suppress(VolumeNotFound, FileNotFoundError):
            found.append(find_volume(base, name))
    return found


def new_volume_name() -> str:
    """The name of an anonymous volume."""
    return os.urandom(32).hex()


def populate(volume: Volume, root: str, target: str) -> None:
    """Fill an empty volume with what the image has at `target`, as Docker does. `root` is the image, mounted."""
    try:
        source = open_in_root(root, target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # the image has no such directory
    filling = os.open(volume.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(filling, fcntl.LOCK_EX)  # another container may be made with it at the same time
        if not os.listdir(filling):
            copy_members(f"/proc/self/fd/{source}", volume.path)
            copy_attributes(f"/proc/self/fd/{source}", volume.path)
    finally:
        os.close(filling)
        os.close(source)


def remove_volume(base: str, name: str) -> None:
    """Delete a volume; one that is not there is fine."""
    with suppress(FileNotFoundError):
        os.rename(f"{base}/{name}", f"{base}/{_REMOVED}{os.urandom(8).hex()}")
    for left in os.listdir(base):
        if left.startswith(_REMOVED):
            shutil.rmtree(f"{base}/{left}", ignore_errors=True)


def _write_record(folder: str, record: dict[str, object]) -> None:
    staged = f"{folder}/{_RECORD}.{os.getpid()}"
    with open(staged, "w") as file:
        json.dump(record, file)
    os.replace(staged, f"{folder}/{_RECORD}")

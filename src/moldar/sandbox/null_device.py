"""A null device of our own, as a standard stream of somebody's process.

crun gives the device that it finds there to the process's user, as it should give a terminal; the host's own must not
be given away.
"""

import os
import stat

_NUMBER = os.makedev(1, 3)
_MODE = stat.S_IFCHR | 0o666


def open_null(directory: str) -> int:
    """A descriptor to read nothing from and to write anything to. `directory` is one of ours.

    The host's where there can be none: in a user namespace, which cannot give it away either, and on a file system
    without devices. OSError.
    """
    path = f"{directory}/null-{os.urandom(6).hex()}"
    try:
        os.mknod(path, _MODE, _NUMBER)
    except PermissionError:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.unlink(path)

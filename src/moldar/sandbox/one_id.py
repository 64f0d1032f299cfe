"""Sandboxes where there is no other id than root's: what they cannot have, and what helps package managers along.

System calls that would change ids only seem to succeed there (`confinement`). A program that looks whether they did
has to be told not to try: apt, which downloads as another user.
"""

import os

from moldar.errors import UserMistake
from moldar.sandbox.mounts import open_in_root
from moldar.sandbox.spec import BindMount, Mount, ProcessSpec, SandboxSpec, TmpfsMount, User

_APT_FOLDER = "/etc/apt/apt.conf.d"
_APT_FILE = "zz-one-user"
_APT_TEXT = 'APT::Sandbox::User "root";\n'


class NeedsIds(UserMistake):
    """A process is to have a user for whom there is no id; 126 as Docker's exit code for users that are not there."""

    exit_code = 126

    def __init__(self, user: User) -> None:
        super().__init__(
            f"cannot run as user {user.uid}:{user.gid}: without root and subordinate ids there is only user 0",
            hint="install newuidmap (apt-get install uidmap) and give yourself ids: "
            "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER",
        )


def with_one_id(spec: SandboxSpec, directory: str) -> SandboxSpec:
    """`spec` as it can be with root's id only; `directory` is for files that it then needs. Raises NeedsIds."""
    mounts: tuple[Mount, ...] = tuple(
        mount._replace(uid=0, gid=0) if isinstance(mount, TmpfsMount) else mount for mount in spec.mounts
    )
    if _has_apt(spec.root):
        os.makedirs(directory, mode=0o711, exist_ok=True)
        path = f"{directory}/{_APT_FILE}"
        with open(path, "w") as file:
            file.write(_APT_TEXT)
        os.chmod(path, 0o644)
        mounts += (BindMount(path, f"{_APT_FOLDER}/{_APT_FILE}", readonly=True),)
    return spec._replace(process=as_root(spec.process), mounts=mounts)


def as_root(process: ProcessSpec) -> ProcessSpec:
    """`process`, which must be root's, in no other groups. Raises NeedsIds."""
    user = process.user
    if user.uid or user.gid:
        raise NeedsIds(user)
    return process._replace(user=User())


def _has_apt(root: str) -> bool:
    try:
        os.close(open_in_root(root, _APT_FOLDER, os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True

"""Users and groups of an image, as `--chown` and `USER` name them."""

from collections.abc import Iterator
from typing import NamedTuple

from moldar.builder.rootview import RootView
from moldar.errors import UserMistake

_LARGEST_ID = (1 << 32) - 2


class Owner(NamedTuple):
    """Who owns what is made. `unknown` are the names that the image does not know."""

    uid: int = 0
    gid: int = 0
    unknown: tuple[str, ...] = ()


class NoAccounts(UserMistake):
    """A name where there is no file system to look it up in. `name` as written."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"cannot look up {name!r}: there is no /etc/passwd or /etc/group here",
            hint="use numbers: an empty image has no users, and --link does not look at the image",
        )
        self.name = name


class InvalidId(UserMistake):
    """A number that is no user or group id. `text` as written."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text} is not a valid user or group id")
        self.text = text


def find_owner(text: str, view: RootView) -> Owner:
    """The owner that `text` (`user`, `user:group` or `:group`, names or numbers) means in `view`.

    A user by name brings the group of its passwd entry, a user by number the group of the same number. An unknown
    user becomes root and an unknown group stays with the user's, as in BuildKit. Raises NoAccounts, InvalidId.
    """
    user, _, group = text.partition(":")
    uid = gid = 0
    unknown: list[str] = []
    if user:
        found = _number(user)
        if found is not None:
            uid = gid = found
        else:
            known = _find_user(user, view)
            uid, gid = known or (0, 0)
            unknown += [] if known else [user]
    if group:
        found = _number(group)
        if found is None:
            found = _find_group(group, view)
            unknown += [] if found is not None else [group]
        gid = gid if found is None else found
    return Owner(uid, gid, tuple(unknown))


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    if int(text) > _LARGEST_ID:
        raise InvalidId(text)
    return int(text)


def _find_user(name: str, view: RootView) -> tuple[int, int] | None:
    for fields in _records("etc/passwd", name, view):
        if len(fields) >= 4 and fields[0] == name and fields[2].isdigit() and fields[3].isdigit():
            return int(fields[2]), int(fields[3])
    return None


def _find_group(name: str, view: RootView) -> int | None:
    for fields in _records("etc/group", name, view):
        if len(fields) >= 3 and fields[0] == name and fields[2].isdigit():
            return int(fields[2])
    return None


def _records(path: str, name: str, view: RootView) -> Iterator[list[str]]:
    if view.is_empty:
        raise NoAccounts(name)
    for line in (view.read(path) or b"").decode("utf-8", "replace").splitlines():
        if line and not line.startswith("#"):
            yield line.strip().split(":")

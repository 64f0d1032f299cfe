"""Who a process is to run as: `user[:group]` of USER and --user, looked up in the root it will run in."""

import os
from typing import NamedTuple

from moldar.errors import UserMistake
from moldar.sandbox.mounts import open_in_root
from moldar.sandbox.spec import User

_MOST = 16 << 20
_HIGHEST = 2**32 - 2


class UnknownUser(UserMistake):
    """A user or group name that the root's /etc/passwd or /etc/group does not have; 126 as Docker's exit code."""

    exit_code = 126

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"unable to find {kind} {name}: no matching entries in {'passwd' if kind == 'user' else 'group'} file"
        )
        self.kind = kind
        self.name = name


class Account(NamedTuple):
    """A resolved user with its home directory ("/" when unknown)."""

    user: User
    home: str


class _Person(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


def resolve_user(root: str | int, text: str, extra_groups: tuple[str, ...] = ()) -> Account:
    """The account for `text`: empty (root), name, uid, name:group, uid:gid and mixtures, as Docker resolves them.

    A numeric user that /etc/passwd knows gets that entry's group and home; additional groups come from /etc/group
    unless a group is given. `extra_groups` are more names or numbers. Raises UnknownUser.
    """
    name, colon, group = text.partition(":")
    people = _people(root)
    groups = _groups(root)
    person = _find(people, name or "0")
    if colon and group:
        gid, additional = _group_number(groups, group), []
    else:
        gid = person.gid
        additional = [number for _, number, members in groups if person.name and person.name in members]
    additional += [_group_number(groups, extra) for extra in extra_groups]
    return Account(User(person.uid, gid, tuple(dict.fromkeys(additional))), person.home or "/")


def _find(people: list[_Person], name: str) -> _Person:
    number = _number(name)
    for person in people:
        if person.name == name or (number is not None and person.uid == number):
            return person
    if number is None:
        raise UnknownUser("user", name)
    return _Person("", number, 0, "")


def _group_number(groups: list[tuple[str, int, tuple[str, ...]]], name: str) -> int:
    for group, number, _ in groups:
        if group == name:
            return number
    number_given = _number(name)
    if number_given is None:
        raise UnknownUser("group", name)
    return number_given


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text) if len(text) < 11 else _HIGHEST + 1
    if number > _HIGHEST:
        raise UserMistake(f"uids and gids must be in range 0-{_HIGHEST}, not {text}")
    return number


def _people(root: str | int) -> list[_Person]:
    found = []
    for line in _lines(root, "/etc/passwd"):
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdigit() and fields[3].isdigit():
            home = fields[5] if len(fields) > 5 else ""
            found.append(_Person(fields[0], int(fields[2]), int(fields[3]), home))
    return found


def _groups(root: str | int) -> list[tuple[str, int, tuple[str, ...]]]:
    found = []
    for line in _lines(root, "/etc/group"):
        fields = line.split(":")
        if len(fields) >= 3 and fields[2].isdigit():
            members = tuple(fields[3].split(",")) if len(fields) > 3 and fields[3] else ()
            found.append((fields[0], int(fields[2]), members))
    return found


def _lines(root: str | int, path: str) -> list[str]:
    try:
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        try:
            text = file.read(_MOST)
        except OSError:
            return []
    return [line for line in text.decode("utf-8", "surrogateescape").splitlines() if line and line[0] != "#"]

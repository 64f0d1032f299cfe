"""The modes of `--chmod`: octal as in 0644, or symbolic as in u=rwX,go=rX (POSIX chmod, umask 022)."""

from typing import NamedTuple

from moldar.errors import UserMistake

_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_UMASK = 0o022


class InvalidMode(UserMistake):
    """A mode that is neither octal nor symbolic. `mode` as written."""

    def __init__(self, mode: str) -> None:
        super().__init__(
            f"invalid chmod parameter {mode!r}: it should be an octal number between 0 and 07777"
            " or symbolic as in u=rwX,go=rX"
        )
        self.mode = mode


class _Clause(NamedTuple):
    who: int
    explicit: bool
    operator: str
    permissions: str


class ModeChange(NamedTuple):
    """A parsed `--chmod`: `octal` is -1 for a symbolic one; nothing at all when `octal` is -1 without clauses."""

    octal: int = -1
    clauses: tuple[_Clause, ...] = ()

    def apply(self, mode: int, is_directory: bool) -> int:
        """The mode that a file or directory of `mode` gets."""
        if self.octal >= 0:
            return self.octal
        for clause in self.clauses:
            mode = _apply(clause, mode, is_directory)
        return mode


def parse_mode(text: str) -> ModeChange:
    """The change that `--chmod=text` asks for, none for an empty text. Raises InvalidMode."""
    if not text:
        return ModeChange()
    if text[0].isdigit():
        if not set("01234567").issuperset(text) or int(text, 8) > 0o7777:
            raise InvalidMode(text)
        return ModeChange(int(text, 8))
    clauses: list[_Clause] = []
    for part in text.split(","):
        clauses += _parse_clauses(part, text)
    return ModeChange(-1, tuple(clauses))


def _parse_clauses(part: str, text: str) -> list[_Clause]:
    who = 0
    at = 0
    while at < len(part) and part[at] in _WHO:
        who |= _WHO[part[at]]
        at += 1
    explicit = at > 0
    clauses = []
    while at < len(part):
        operator = part[at]
        end = at + 1
        while end < len(part) and part[end] not in "+-=":
            end += 1
        permissions = part[at + 1 : end]
        copies = len(permissions) == 1 and permissions in _SHIFTS
        if operator not in "+-=" or not (copies or set("rwxXst").issuperset(permissions)):
            raise InvalidMode(text)
        clauses.append(_Clause(who or _WHO["a"], explicit, operator, permissions))
        at = end
    if not clauses:
        raise InvalidMode(text)
    return clauses


def _apply(clause: _Clause, mode: int, is_directory: bool) -> int:
    bits = _wanted(clause, mode, is_directory)
    if not clause.explicit:
        bits &= ~_UMASK
    if clause.operator == "+":
        return mode | bits
    if clause.operator == "-":
        return mode & ~bits
    cleared = clause.who
    if is_directory:  # as GNU chmod, `=` leaves the set-id bits of a directory that it does not mention
        cleared &= 0o1777
    if "t" in clause.permissions or not clause.explicit:
        cleared |= 0o1000
    return (mode & ~cleared) | bits


def _wanted(clause: _Clause, mode: int, is_directory: bool) -> int:
    if clause.permissions in _SHIFTS:
        copied = mode >> _SHIFTS[clause.permissions] & 7
        return (copied << 6 | copied << 3 | copied) & clause.who
    bits = 0
    for letter in clause.permissions:
        if letter == "X":
            bits |= 0o111 if is_directory or mode & 0o111 else 0
        elif letter == "s":
            bits |= 0o6000
        elif letter == "t":
            bits |= 0o1000
        else:
            bits |= _BITS[letter]
    return bits & (clause.who | 0o1000)

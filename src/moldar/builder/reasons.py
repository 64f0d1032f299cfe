"""Why a step ran, in a person's words: pure functions over the parts of an earlier key and of the present one."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from moldar.builder.file_reasons import File, Lines, file_changes, shown, summary
from moldar.builder.graph import Mount
from moldar.builder.keys import COPIED, ENVIRONMENT, MOUNTS, OWNERS
from moldar.builder.solver import BELOW

NEVER = "it was not built before"
GONE = "the layers of its result are gone from the store"
ALIKE = 0.6
"""How alike two steps over the same root must be for one to be the other's earlier wording."""
_LONGEST = 60
_LONGEST_VALUE = 40
_SECRET_WORDS = ("PASS", "TOKEN", "SECRET", "KEY", "AUTH", "CREDENTIAL", "PWD", "PRIVATE", "COOKIE")
_FLAGS = (
    "--link",
    "--parents",
    "--exclude",
    "ADD instead of COPY",
    "--unpack",
    "SOURCE_DATE_EPOCH",
    "--reproducible",
)
_SIZES = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


class Image(NamedTuple):
    """A base image: the name that a person wrote, and the digest that it led to."""

    reference: str
    digest: str


class Known(NamedTuple):
    """What the digests in the parts of keys stand for; each function gives None for what it does not know."""

    files: Callable[[str], Sequence[File] | None]
    lines: Lines
    image: Callable[[str], Image | None]


class Difference(NamedTuple):
    """One thing that differs. `part` is the key's; `clauses` all of it, `text` in one clause."""

    part: str
    text: str
    clauses: tuple[str, ...] = ()


def differences(before: Mapping[str, str], after: Sequence[tuple[str, str]], known: Known) -> list[Difference]:
    """All parts that differ, in the order of their importance."""
    now = dict(after)
    names = [*now, *(name for name in before if name not in now)]
    found = []
    for name in names:
        old, new = before.get(name, ""), now.get(name, "")
        if old != new:
            clauses = _part(name, old, new, known)
            text = summary(clauses) if name in (COPIED, MOUNTS) else clauses[0]
            found.append(Difference(name, text, tuple(clauses)))
    return found


def likeness(one: Mapping[str, str], other: Mapping[str, str]) -> int:
    """How many parts two keys have in common."""
    return sum(1 for name, value in other.items() if one.get(name) == value)


def alike(one: str, other: str) -> bool:
    """Whether a step may be the new wording of the other."""
    import difflib  # few builds come here

    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE


def evicted(when: float, cause: str, amount: float) -> str:
    """That a result was collected, when, and by which limit."""
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    text = f"its result was evicted from the cache on {day}"
    if cause == "size":
        return f"{text}: the cache was larger than {_size(amount)}"
    if cause == "age":
        return f"{text}: unused for {_age(amount)}" if amount else f"{text}: the whole cache was pruned"
    return f"{text}: its record was damaged"


def _part(name: str, old: str, new: str, known: Known) -> list[str]:
    if name == BELOW:
        return [_base(old, new, known)]
    if name == COPIED:
        return _files(old, new, known)
    if name == ENVIRONMENT:
        return _variables(old, new)
    if name == MOUNTS:
        return _mounts(_rows(old), _rows(new), known)
    if name == "the command":
        return [_commands(old, new)]
    if name == "the scripts":
        return _scripts(_rows(old), _rows(new))
    if name == "the flags":
        return _flags(_rows(old), _rows(new))
    if name == "the limits":
        return _limits(_rows(old), _rows(new))
    if name == "the hosts":
        return _hosts(_rows(old), _rows(new))
    if name == "the sources":
        return [_changed(name, old.replace("\n", " "), new.replace("\n", " "))]
    if name == "the date":
        return [_changed("SOURCE_DATE_EPOCH", *("" if text == "None" else text for text in (old, new)))]
    return [_changed(name, old or _DEFAULTS.get(name, ""), new or _DEFAULTS.get(name, ""))]


_DEFAULTS = {"the user": "root", "the working directory": "/", OWNERS: "everybody"}


def _base(old: str, new: str, known: Known) -> str:
    before, now = known.image(old), known.image(new)
    if before and now:
        if before.reference == now.reference:
            return f"{shown(now.reference)} is now {now.digest[:19]}… (was {before.digest[:19]}…)"
        return f"the base image changed: {shown(before.reference)} -> {shown(now.reference)}"
    return "what is below it changed"


def _files(old: str, new: str, known: Known) -> list[str]:
    before, now = known.files(old), known.files(new)
    if before is not None and now is not None:
        return file_changes(before, now, known.lines) or ["the copied files changed"]
    images = [(known.image(one), known.image(other)) for one, other in zip(old.split(), new.split(), strict=False)]
    for one, other in images:
        if one and other and one != other:
            if one.reference == other.reference:
                return [f"{shown(other.reference)} is now {other.digest[:19]}… (was {one.digest[:19]}…)"]
            return [f"the image that it copies from changed: {shown(one.reference)} -> {shown(other.reference)}"]
    return ["the copied files changed"]


def _variables(old: str, new: str) -> list[str]:
    before, now = _pairs(old), _pairs(new)
    clauses = []
    for name in sorted(before.keys() | now.keys()):
        one, other = before.get(name), now.get(name)
        if one == other:
            continue
        if one is None:
            clauses.append(f"the variable {shown(name)} is new{_value(name, other or '')}")
        elif other is None:
            clauses.append(f"the variable {shown(name)} is gone")
        elif presentable(name, one) and presentable(name, other):
            clauses.append(f"{shown(name)} changed: {one or 'empty'} -> {other or 'empty'}")
        else:
            clauses.append(f"{shown(name)} changed")
    return clauses or ["the environment changed"]


def _pairs(text: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in text.split("\n") if line)


def _value(name: str, value: str) -> str:
    return f": {value}" if value and presentable(name, value) else ""


def presentable(name: str, value: str) -> bool:
    """Whether a variable's value may be shown: short, printable, and neither named nor shaped like a secret."""
    if any(word in name.upper() for word in _SECRET_WORDS) or len(value) > _LONGEST_VALUE or not value.isprintable():
        return False
    if "@" in value and ":" in value:
        return False
    kinds = sum((any(c.isdigit() for c in value), any(c.islower() for c in value), any(c.isupper() for c in value)))
    return not (len(value) >= 20 and kinds >= 2 and value.replace("-", "").replace("_", "").isalnum())


def _rows(text: str) -> list[Any]:
    try:
        found = json.loads(text) if text else []
    except ValueError:
        return []
    return found if isinstance(found, list) else []


_FIELDS = tuple(name for name in Mount._fields if name != "source")


def _mounts(old: list[Any], new: list[Any], known: Known) -> list[str]:
    """Mounts by kind and target (a secret that is only a variable: by its name)."""
    before, now = _by_target(old), _by_target(new)
    clauses = []
    for key in sorted(before.keys() | now.keys()):
        one, other = before.get(key), now.get(key)
        name = f"the {key[0]} mount {shown(key[1])}"
        if one is None:
            clauses.append(f"{name} is new")
        elif other is None:
            clauses.append(f"{name} is gone")
        elif one[:-1] != other[:-1]:
            changed = [field for field, a, b in zip(_FIELDS, one, other, strict=False) if a != b]
            clauses.append(f"{name} is defined otherwise ({', '.join(changed)})")
        elif one[-1] != other[-1]:
            files = _files(str(one[-1]), str(other[-1]), known)
            if files == ["the copied files changed"]:
                clauses.append(f"what {name} shows changed")
            else:
                clauses += [f"{clause} in {name}" for clause in files]
    return clauses or ["the mounts changed"]


def _by_target(rows: list[Any]) -> dict[tuple[str, str], list[Any]]:
    found = {}
    for row in rows:
        if isinstance(row, list) and len(row) == len(_FIELDS) + 1:
            named = dict(zip(_FIELDS, row, strict=False))
            found[str(named["kind"]), str(named["target"] or named["cache_id"])] = row
    return found


def _scripts(old: list[Any], new: list[Any]) -> list[str]:
    before, now = ({str(name): digest for name, digest in rows} for rows in (old, new))
    changed = [name for name in now if name in before and now[name] != before[name]]
    if changed:
        return [f"the script in the heredoc {shown(name)} changed" for name in changed]
    if len(now) != len(before):
        return ["a heredoc came" if len(now) > len(before) else "a heredoc went"]
    return ["the heredoc was renamed"]


def _flags(old: list[Any], new: list[Any]) -> list[str]:
    clauses = []
    for at, name in enumerate(_FLAGS):
        one, other = (rows[at] if at < len(rows) else None for rows in (old, new))
        if one == other:
            continue
        if _absent(one):
            clauses.append(f"{name} is given now")
        elif _absent(other):
            clauses.append(f"{name} is not given any more")
        else:
            clauses.append(_changed(name, _words(one), _words(other)))
    return clauses or ["the flags changed"]


def _absent(value: object) -> bool:
    """Whether a flag is not given; 0 is a date."""
    return value is None or value is False or value in ("", [])


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _limits(old: list[Any], new: list[Any]) -> list[str]:
    clauses = []
    if old[:1] != new[:1]:
        clauses.append(_changed("--shm-size", *(_size(rows[0]) if rows and rows[0] else "" for rows in (old, new))))
    if old[1:] != new[1:]:
        limits = (" ".join(":".join(map(str, one)) for one in (rows[1] if rows[1:] else ())) for rows in (old, new))
        clauses.append(_changed("--ulimit", *limits))
    return clauses or ["the limits changed"]


def _hosts(old: list[Any], new: list[Any]) -> list[str]:
    return [_changed("--add-host", *(" ".join(":".join(map(str, host)) for host in rows) for rows in (old, new)))]


def _commands(old: str, new: str) -> str:
    before, now = _command(old), _command(new)
    if before != now:
        return _changed("the command", before, now)
    how = "in another way"
    if _has_shell(old) != _has_shell(new):
        how = "with a shell" if _has_shell(new) else "without a shell"
    return f"the command changed: {_cut(shown(before), 0)} -> {_cut(shown(now), 0)}, run {how}"


def _has_shell(text: str) -> bool:
    return text.startswith("/bin/sh\n-c\n")


def _command(text: str) -> str:
    """The command without the shell that everybody has."""
    return text.removeprefix("/bin/sh\n-c\n").replace("\n", " ")


def _changed(name: str, old: str, new: str) -> str:
    """`name changed: old -> new`, long texts cut to where they begin to differ."""
    old, new = shown(old), shown(new)
    start = 0
    if len(old) > _LONGEST or len(new) > _LONGEST:
        same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        start = max(0, same - 20)
    return f"{name} changed: {_cut(old, start)} -> {_cut(new, start)}"


def _cut(text: str, start: int) -> str:
    if not text:
        return "none"
    part = text[start : start + _LONGEST]
    return ("…" if start else "") + part + ("…" if start + _LONGEST < len(text) else "")


def _size(count: float) -> str:
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{count:.0f} B"


def _age(seconds: float) -> str:
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit:
            count = round(seconds / unit)
            return f"{count} {name}{'s' if count != 1 else ''}"
    return "0 seconds"

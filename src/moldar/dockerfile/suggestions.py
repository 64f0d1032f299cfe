"""The nearest valid word to a misspelt one."""

from collections.abc import Iterable

FURTHEST = 2
LONGEST = 64


def nearest(word: str, options: Iterable[str], *, ignore_case: bool = False) -> str:
    """The option fewest edits away from `word`, two at most and fewer than its letters; empty for none."""
    if len(word) > LONGEST:
        return ""
    found, best = "", FURTHEST + 1
    for option in sorted(options):
        ours, theirs = (word.lower(), option.lower()) if ignore_case else (word, option)
        if ours == theirs:
            return ""
        distance = _distance(ours, theirs)
        if distance < best and distance < len(option):
            found, best = option, distance
    return found


def did_you_mean(word: str, options: Iterable[str], *, ignore_case: bool = False) -> str:
    """A hint that names the nearest option, or nothing."""
    found = nearest(word, options, ignore_case=ignore_case)
    return f"did you mean {found}?" if found else ""


def _distance(left: str, right: str) -> int:
    """Levenshtein's distance."""
    if abs(len(left) - len(right)) > FURTHEST:
        return FURTHEST + 1
    previous = list(range(len(right) + 1))
    for row, ours in enumerate(left, 1):
        current = [row]
        for column, theirs in enumerate(right, 1):
            change = previous[column - 1] + (ours != theirs)
            current.append(min(change, previous[column] + 1, current[-1] + 1))
        previous = current
    return previous[-1]

"""The shell patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*`, `?` and literal characters, no bracket expressions.

A backslash makes `*`, `?` and itself literal; before `}` and `/` it only kept these from ending the pattern. Matching
is done without regular expressions, so that no pattern can take more than (pattern length x value length) steps.
"""

_ANY_RUN = ""
_ANY_ONE = "?"

Token = tuple[bool, str]  # (is a wildcard, character); the wildcard * is an empty string


class PatternMistake(ValueError):
    """A pattern that means nothing."""


def tokens(pattern: str) -> list[Token]:
    """`pattern` as wildcards and literal characters. PatternMistake for an escape of anything else."""
    found: list[Token] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            position += 1
            char = pattern[position : position + 1]
            if char not in ("*", "?", "\\", "}", "/"):
                raise PatternMistake(f"invalid escape '\\{char}'")
            found.append((False, char))
        elif char == "*":
            found.append((True, _ANY_RUN))
        elif char == "?":
            found.append((True, _ANY_ONE))
        else:
            found.append((False, char))
        position += 1
    return found


def trim_prefix(pattern: str, value: str, *, longest: bool) -> str:
    """`value` without the shortest or longest prefix that `pattern` matches."""
    return value[_prefix_length(tokens(pattern), value, longest) :] if pattern else value


def trim_suffix(pattern: str, value: str, *, longest: bool) -> str:
    """`value` without the shortest or longest suffix that `pattern` matches."""
    if not pattern:
        return value
    length = _prefix_length(tokens(pattern)[::-1], value[::-1], longest)
    return value[: len(value) - length]


def replace(pattern: str, replacement: str, value: str, *, every: bool) -> str:
    """`value` with the first or each leftmost match of `pattern` replaced; `*` takes as much as it can."""
    wanted = tokens(pattern)
    if all(not wildcard for wildcard, _ in wanted) and wanted:
        return value.replace("".join(char for _, char in wanted), replacement, -1 if every else 1)
    pieces: list[str] = []
    position = copied = 0
    last_end = -1
    while position <= len(value):
        if wanted and not wanted[0][0]:  # only here can a match begin
            position = value.find(wanted[0][1], position)
            if position < 0:
                break
        length = _match_length(wanted, value[position:], longest=True)
        if length < 0 or (length == 0 and position == last_end):
            position += 1
            continue
        pieces += [value[copied:position], replacement]
        copied = last_end = position + length
        position = copied if length else position + 1
        if not every:
            break
    return "".join([*pieces, value[copied:]])


def _prefix_length(wanted: list[Token], value: str, longest: bool) -> int:
    return max(0, _match_length(wanted, value, longest=longest))


def _match_length(wanted: list[Token], value: str, *, longest: bool) -> int:
    """How much of the start of `value` matches: the longest or shortest way, -1 for none. No `.` matches a line end.

    A set of reachable positions is carried through the tokens: that is what bounds the work.
    """
    reached = {0}
    for wildcard, char in wanted:
        if wildcard and char == _ANY_RUN:
            reached = _spread(reached, value)
        elif wildcard:
            reached = {at + 1 for at in reached if at < len(value) and value[at] != "\n"}
        else:
            reached = {at + 1 for at in reached if value[at : at + 1] == char}
        if not reached:
            return -1
    return max(reached) if longest else min(reached)


def _spread(reached: set[int], value: str) -> set[int]:
    spread: set[int] = set()
    furthest = -1
    for start in sorted(reached):
        if start <= furthest:
            continue
        end = value.find("\n", start)
        furthest = len(value) if end < 0 else end
        spread.update(range(start, furthest + 1))
    return spread

"""Comments that ask something of Moldar for the instruction below them: `# moldar:ttl=24h` above a RUN.

Other builders read them as the comments that they are.
"""

import re

from moldar.dockerfile.quantities import parse_duration
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.suggestions import did_you_mean

_WISH = r"moldar:\s*([^=\s]*)\s*(?:=\s*(.*?)\s*)?\Z"
_DAYS = r"([0-9]{1,5})([dw])\Z"
_NAMES = ("ttl",)
_HOURS = {"d": 24, "w": 168}


def wishes(comments: tuple[str, ...]) -> dict[str, str]:
    """The wishes in the comments above an instruction, by name. DockerfileError for one that does not exist."""
    found = {}
    for comment in comments:
        match = re.match(_WISH, comment)
        if match is None:
            continue
        name, value = match.groups()
        if name not in _NAMES or value is None:
            hint = did_you_mean(name, _NAMES) or "write # moldar:ttl=24h above a RUN"
            raise DockerfileError(f'unknown wish "{comment}"', hint=hint)
        found[name] = value
    return found


def time_to_live(comments: tuple[str, ...]) -> float | None:
    """How old the cached result of the instruction may be, in seconds; None for any age. DockerfileError."""
    text = wishes(comments).get("ttl")
    if text is None:
        return None
    days = re.match(_DAYS, text)
    seconds = parse_duration(f"{int(days[1]) * _HOURS[days[2]]}h" if days else text) / 1e9
    if seconds < 0:
        raise DockerfileError(f"moldar:ttl cannot be negative: {text}")
    return seconds

"""The words of an image's history: `created_by` texts and vertex names, as Docker's own builder writes them.

Other tools read these texts (`docker history`, scanners), so their spelling is a contract.
"""

from collections.abc import Iterable, Mapping, Sequence

from moldar.image.config import Healthcheck

_UNITS = ((3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"))
_SMALL_UNITS = ((1_000_000, "ms"), (1_000, "µs"))
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def quoted_list(words: Iterable[str]) -> str:
    """`["a" "b"]`: how CMD and ENTRYPOINT show their words."""
    return "[" + " ".join(map(quoted, words)) + "]"


def quoted(text: str) -> str:
    """`text` in double quotes, with Go's escapes for what cannot be printed."""
    out: list[str] = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        else:
            out.append(_escape_code(ord(char)))
    return '"' + "".join(out) + '"'


def _escape_code(code: int) -> str:
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `1m30s`, `500ms`, `0s`."""
    if nanoseconds < 1_000_000_000:
        for size, unit in _SMALL_UNITS:
            if nanoseconds >= size:
                return _decimal(nanoseconds, size) + unit
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    hours, rest = divmod(nanoseconds, _UNITS[0][0])
    minutes, rest = divmod(rest, _UNITS[1][0])
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return text + _decimal(rest, _UNITS[2][0]) + "s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{rest:0{digits}d}".rstrip("0") if rest else str(whole)


def healthcheck(check: Healthcheck) -> str:
    """The text after HEALTHCHECK."""
    return (
        f"{{Test:[{' '.join(check.test)}] Interval:{duration(check.interval)} Timeout:{duration(check.timeout)} "
        f"StartPeriod:{duration(check.start_period)} StartInterval:{duration(check.start_interval)} "
        f"Retries:{check.retries}}}"
    )


def run(args: Sequence[str], declared: Sequence[tuple[str, str]], environment: Mapping[str, str]) -> str:
    """The text of a RUN: the ARGs in effect with the values that the process sees, and its words.

    `declared` are the ARGs in order with their own values, which count where the environment has none.
    """
    values = {name: environment.get(name, value) for name, value in declared}
    words = [f"|{len(values)}", *(f"{name}={value}" for name, value in values.items())] if values else []
    return " ".join(["RUN", *words, *args]) + " # buildkit"


def copy(name: str, flags: Sequence[str], sources: Sequence[str], heredocs: Sequence[str], destination: str) -> str:
    """The text of a COPY or ADD. Of the flags only --parents, --chown and --chmod are shown."""
    words = [name, *flags, *sources, *(f"<<{heredoc}" for heredoc in heredocs), destination]
    return " ".join(words) + " # buildkit"

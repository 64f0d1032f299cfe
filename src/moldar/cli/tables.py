"""Columns, sizes and ages, written as Docker writes them."""

import time
from collections.abc import Iterable, Sequence

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns three spaces apart, header first."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def size(count: float) -> str:
    """Bytes with Docker's decimal units and about three significant digits: 133MB, 1.25kB, 0B."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            return (
                f"{count:.3g}{unit}" if count < 999.5 or unit == _UNITS[-1] else f"1{_UNITS[_UNITS.index(unit) + 1]}"
            )
        count /= 1000
    raise AssertionError("unreachable")


def binary_size(count: float) -> str:
    """Bytes with binary units and four significant digits, as Docker shows memory: 1.055GiB, 640KiB, 0B."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.4g}{unit}"
        count /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """An age in words: Less than a second, 5 seconds, About a minute, 3 hours, 2 weeks."""
    seconds = int(seconds)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"


def ago(then: float, now: float | None = None) -> str:
    """How long ago a moment (seconds since the epoch) was; N/A for an unknown one."""
    if then <= 0:
        return "N/A"
    return duration((time.time() if now is None else now) - then) + " ago"


def local_time(seconds: float) -> str:
    """A moment as Go prints it: 2026-01-31 10:00:00 +0000 UTC; N/A for an unknown one."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds)) if seconds > 0 else "N/A"


def timestamp(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 when it is empty or malformed."""
    import datetime

    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def short_id(digest: str) -> str:
    """The first twelve hexadecimal digits of a digest or ID."""
    return digest.removeprefix("sha256:")[:12]

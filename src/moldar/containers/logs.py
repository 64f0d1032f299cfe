"""The output of containers, kept as lines of JSON: `{"time", "stream", "log"}`, as Docker's json-file driver.

A record is one line of output, its end included, or a piece of 16 KiB of a longer one. Bytes that are no UTF-8 are
kept as surrogate escapes.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii
from typing import NamedTuple

from moldar.errors import UserMistake

FILE = "log.jsonl"
_PIECE = 16384
_PATIENCE = 0.05
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


class LogLine(NamedTuple):
    """One line of output. `time` is RFC 3339 with nanoseconds in UTC, `stream` stdout or stderr."""

    time: str
    stream: str
    data: bytes


class LogWriter:
    """Appends to a container's log."""

    def __init__(self, directory: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(f"{directory}/{FILE}", flags, 0o640)
        self._partial = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        """Keep `data`; what does not end a line waits for the rest of it. A full disk loses lines."""
        now = _now()
        lines = (self._partial[stream] + data).split(b"\n")
        partial = lines.pop()
        records = [_record(now, stream, piece) for line in lines for piece in _pieces(line + b"\n")]
        while len(partial) >= _PIECE:
            records.append(_record(now, stream, partial[:_PIECE]))
            partial = partial[_PIECE:]
        self._partial[stream] = partial
        self._append(records)

    def flush(self) -> None:
        """Keep lines that were not ended."""
        for stream, partial in self._partial.items():
            if partial:
                self._append([_record(_now(), stream, partial)])
                self._partial[stream] = b""

    def close(self) -> None:
        self.flush()
        os.close(self._file)

    def _append(self, records: list[bytes]) -> None:
        rest = memoryview(b"".join(records))
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            return


def read_logs(
    directory: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: str = "",
    until: str = "",
    running: Callable[[], bool] = lambda: False,
) -> Iterator[LogLine]:
    """The lines kept so far, the last `tail` only if given, and with `follow` those to come while `running()`.

    `since` and `until` are RFC 3339 times, seconds since the epoch, or durations before now such as 10m. UserMistake.
    """
    first, last = moment(since) if since else None, moment(until) if until else None
    try:
        file = open(f"{directory}/{FILE}", "rb")
    except FileNotFoundError:
        return
    with file:
        if tail is not None:
            file.seek(_tail_offset(file.fileno(), tail))
        for raw in _lines(file.fileno(), file.tell(), follow, running):
            line = _parse(raw)
            if line and (first is None or line.time >= first):
                if last is not None and line.time > last:
                    return
                yield line


def moment(text: str, now: float | None = None) -> str:
    """The time that `text` means, in the form of LogLine.time; UserMistake."""
    now = time.time() if now is None else now
    try:
        return _stamp(float(text))
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return _stamp(now - _duration(text))
    return _stamp((parsed if parsed.tzinfo else parsed.astimezone()).timestamp())


def _duration(text: str) -> float:
    """Seconds of Go's durations: 1h30m, 10s."""
    total, number = 0.0, ""
    for character in text:
        if character in _UNITS and number:
            total += float(number) * _UNITS[character]
            number = ""
        elif character.isdigit() or character == ".":
            number += character
        else:
            number = "bad"
            break
    if number or not text:
        raise UserMistake(
            f"invalid time {text!r}", hint="use a duration such as 10m, or a time such as 2026-01-31T10:00:00Z"
        )
    return total


def _stamp(seconds: float) -> str:
    nanoseconds = int(seconds * 10**9)
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"


def _now() -> str:
    now = time.time_ns()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    return f"{whole}.{now % 10**9:09d}Z"


def _pieces(line: bytes) -> Iterator[bytes]:
    """`line` in records' size; nearly always that is itself."""
    for start in range(0, len(line), _PIECE):
        yield line[start : start + _PIECE]


def _record(now: str, stream: str, data: bytes) -> bytes:
    text = encode_basestring_ascii(data.decode("utf-8", "surrogateescape"))
    return f'{{"time": "{now}", "stream": "{stream}", "log": {text}}}\n'.encode("ascii")


def _parse(raw: bytes) -> LogLine | None:
    """The record in `raw`, or None for one that a power failure cut short."""
    try:
        document = json.loads(raw)
        return LogLine(document["time"], document["stream"], document["log"].encode("utf-8", "surrogateescape"))
    except (ValueError, KeyError, TypeError):
        return None


def _lines(file: int, offset: int, follow: bool, running: Callable[[], bool]) -> Iterator[bytes]:
    pending = b""
    while True:
        alive = follow and running()  # asked before reading, so that nothing written before the end is missed
        while chunk := os.pread(file, 1 << 16, offset):
            offset += len(chunk)
            *whole, pending = (pending + chunk).split(b"\n")
            yield from whole
        if not alive:
            return
        time.sleep(_PATIENCE)


def _tail_offset(file: int, lines: int) -> int:
    """Where the last `lines` lines begin."""
    if not lines:
        return os.fstat(file).st_size
    end = os.fstat(file).st_size
    offset, found = end, 0
    while offset:
        size = min(1 << 16, offset)
        chunk = os.pread(file, size, offset - size)
        for position in range(len(chunk) - 1, -1, -1):
            if chunk[position] == 10 and offset - size + position + 1 < end:
                found += 1
                if found == lines:
                    return offset - size + position + 1
        offset -= size
    return 0

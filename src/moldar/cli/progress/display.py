"""The state of a build as a person sees it, and the lines that show it: pure, so that it can be tested.

`Display.apply` takes events, `lines` draws the whole picture for a width and a height. The layout is the one that
BuildKit's users know: a heading with the time and the count of finished steps, a line for each step with its time
at the right edge, sub-lines for its parts and, below running steps, the last lines of their output.
"""

from moldar.builder.progress import Event, VertexCompleted, VertexLog, VertexStarted, VertexStatus, Warned
from moldar.cli.tables import size

LOG_LINES = 6
KEPT_LINES = 40
BLUE, RED, YELLOW, DIM, RESET = "\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


class Part:
    """A part of a step, such as a layer being pulled."""

    __slots__ = ("current", "ended", "started", "total")

    def __init__(self, started: float) -> None:
        self.started = started
        self.ended = 0.0
        self.current = 0
        self.total = 0


class Step:
    """A vertex: when it ran, how it ended, its parts and the end of its output."""

    __slots__ = ("cached", "ended", "error", "name", "output", "parts", "reason", "started", "unfinished")

    def __init__(self, name: str, started: float) -> None:
        self.name = name
        self.started = started
        self.ended = 0.0
        self.cached = False
        self.error = ""
        self.reason = ""
        self.parts: dict[str, Part] = {}
        self.output: list[str] = []
        self.unfinished = b""

    def take(self, data: bytes) -> None:
        """Keep the last lines of the output."""
        *whole, self.unfinished = (self.unfinished + data).split(b"\n")
        self.output = [*self.output, *(_visible(line) for line in whole)][-KEPT_LINES:]


class Display:
    """The picture of one build."""

    def __init__(self, title: str, *, colour: bool) -> None:
        self.title = title
        self.colour = colour
        self.steps: dict[str, Step] = {}
        self.warnings: list[Warned] = []
        self.first = 0.0

    def apply(self, event: Event) -> None:
        """Take one event into the picture."""
        if isinstance(event, VertexStarted):
            self.first = self.first or event.time
            self.steps[event.id] = Step(event.name, event.time)
        elif isinstance(event, Warned):
            self.warnings.append(event)
        elif (step := self.steps.get(event.id)) is None:
            return
        elif isinstance(event, VertexCompleted):
            step.ended, step.cached, step.error, step.reason = event.time, event.cached, event.error, event.reason
        elif isinstance(event, VertexLog):
            step.take(event.data)
        elif isinstance(event, VertexStatus):
            part = step.parts.setdefault(event.part, Part(event.time))
            part.current, part.total = event.current, event.total
            part.ended = event.time if event.completed else 0.0

    def failures(self) -> list[str]:
        """The end of the output of every step that failed, to be shown below the last picture."""
        lines: list[str] = []
        for step in self.steps.values():
            rest = [_visible(step.unfinished)] if step.unfinished else []
            if step.error and (step.output or rest):
                lines += ["------", f" > {step.name}:", *step.output, *rest, "------"]
        return lines

    def lines(self, width: int, height: int, now: float, *, final: bool = False) -> list[str]:
        """The picture: at most `height` lines unless `final`, each at most `width` columns."""
        body = [line for step in self.steps.values() for line in self._step(step, width, now, final=final)]
        if not final and len(body) > height - 2:
            body = self._fit(body, height - 2, width, now)
        return [self._heading(now, final=final), *body]

    def _fit(self, body: list[str], room: int, width: int, now: float) -> list[str]:
        """Drop finished steps from the top, then from the top whatever is left."""
        running = [
            line
            for step in self.steps.values()
            if not step.ended
            for line in self._step(step, width, now, final=False)
        ]
        finished = [line for step in self.steps.values() if step.ended for line in self._step(step, width, now)[:1]]
        kept = finished[len(finished) - max(0, room - len(running)) :] if room > len(running) else []
        return [*kept, *running][-room:] if room > 0 else []

    def _heading(self, now: float, *, final: bool) -> str:
        done = sum(1 for step in self.steps.values() if step.ended)
        failed = any(step.error for step in self.steps.values())
        end = max((step.ended for step in self.steps.values()), default=now) if final else now
        state = "" if not final else " ERROR" if failed else " FINISHED"
        text = f"[+] {self.title} {max(0.0, end - self.first):.1f}s ({done}/{len(self.steps)}){state}"
        return self._paint(text, BLUE if final and not failed else RED if failed else "")

    def _step(self, step: Step, width: int, now: float, *, final: bool = False) -> list[str]:
        mark = "CACHED " if step.cached else "ERROR " if step.error else ""
        colour = RED if step.error else BLUE if step.ended else ""
        end = step.ended or now
        lines = [self._line(f" => {mark}{step.name}", end - step.started, width, colour)]
        if step.reason and not step.cached:
            lines.append(self._paint(f" => => {step.reason}"[:width], DIM))
        for name, part in step.parts.items():
            text = f" => => {name} {_amount(part)}".rstrip()
            lines.append(self._line(text, (part.ended or end) - part.started, width, colour))
        if not step.ended and not final:
            lines += [self._paint(f" => => # {line}"[:width], DIM) for line in step.output[-LOG_LINES:]]
        return lines

    def _line(self, text: str, seconds: float, width: int, colour: str) -> str:
        clock = f" {max(0.0, seconds):.1f}s"
        room = max(1, width - len(clock))
        if len(text) > room:
            text = text[: max(1, room - 1)] + "…"
        return self._paint(f"{text:<{room}}{clock}", colour)

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{RESET}" if colour and self.colour else text


def _visible(line: bytes) -> str:
    """A line of output as a terminal would leave it: after carriage returns, without escape sequences."""
    import re

    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", "", text)
    return "".join(char for char in text.expandtabs() if char.isprintable())


def _amount(part: Part) -> str:
    if part.total:
        return f"{size(part.current)} / {size(part.total)}"
    return size(part.current) if part.current else ""

"""What this process counts while it serves, and Prometheus' text format (version 0.0.4) for it.

Counting is a look-up and a few additions for each request, so that a pull does not notice. Everything but the
collector's and the senders' figures is counted by the event loop alone; those come from threads and take a lock.
"""

import os
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the histogram of durations, in seconds."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    """One line of a metric: `suffix` goes behind its name."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


class Metric(NamedTuple):
    """One metric with its lines. `kind`: counter, gauge or histogram."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


class _Series:
    """Requests of one route, method and status."""

    __slots__ = ("buckets", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.received = 0
        self.sent = 0


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self.started = time.time()
        self.uploads_in_flight = 0
        self.login_failures: Counter[str] = Counter()
        self._requests: dict[tuple[str, str, int], _Series] = {}
        self._events: dict[tuple[str, str], float] = {}
        self._gauges: dict[str, float] = {}
        self._lock = threading.Lock()

    def answered(self, route: str, method: str, status: int, seconds: float, sizes: tuple[int, int]) -> None:
        """Counts a request. `route`: a pattern, of which there are few; `status` 0: the client went away before.

        `sizes`: bytes of the bodies that came in and went out.
        """
        series = self._requests.get((route, method, status))
        if series is None:
            series = self._new_series(route, method, status)
        series.buckets[bisect_left(BUCKETS, seconds)] += 1
        series.seconds += seconds
        series.received += sizes[0]
        series.sent += sizes[1]

    def count(self, name: str, label: str = "", amount: float = 1) -> None:
        """Adds to one of the counters of threads; `label` is the value of the counter's one label."""
        with self._lock:
            self._events[name, label] = self._events.get((name, label), 0) + amount

    def set(self, name: str, value: float) -> None:
        with self._lock:
            self._gauges[name] = value

    def event_counts(self, name: str) -> dict[str, float]:
        """What `count` added up under `name`, by label."""
        with self._lock:
            return {label: number for (other, label), number in self._events.items() if other == name}

    def gauge(self, name: str) -> float:
        """What `set` was last given, or 0."""
        with self._lock:
            return self._gauges.get(name, 0.0)

    def requests(self) -> tuple[Metric, ...]:
        """Counters of requests and bytes by route, method and status; durations by route and method."""
        series = sorted(self._requests.items())
        labelled = [(_request_labels(key), one) for key, one in series]
        by_route: dict[tuple[str, str], list[_Series]] = {}
        for (route, method, _), one in series:
            by_route.setdefault((route, method), []).append(one)
        durations = [
            sample for (route, method), group in by_route.items() for sample in _histogram(route, method, group)
        ]
        return (
            Metric(
                "moldar_hub_requests_total",
                "counter",
                "Requests answered.",
                tuple(Sample(sum(one.buckets), labels) for labels, one in labelled),
            ),
            Metric(
                "moldar_hub_request_duration_seconds",
                "histogram",
                "From the request's head to the last byte of its answer.",
                tuple(durations),
            ),
            Metric(
                "moldar_hub_received_bytes_total",
                "counter",
                "Bytes of request bodies.",
                tuple(Sample(one.received, labels) for labels, one in labelled),
            ),
            Metric(
                "moldar_hub_sent_bytes_total",
                "counter",
                "Bytes of answers' bodies.",
                tuple(Sample(one.sent, labels) for labels, one in labelled),
            ),
        )

    def _new_series(self, route: str, method: str, status: int) -> _Series:
        """Clients may invent methods: those share one label, so that nobody can fill the memory with them."""
        known = method if method in _METHODS else "other"
        return self._requests.setdefault((route, known, status), _Series())


def simple(name: str, kind: str, about: str, value: float) -> Metric:
    """A metric of one number."""
    return Metric(name, kind, about, (Sample(value),))


def by_label(name: str, kind: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    """A metric with one label."""
    return Metric(name, kind, about, tuple(Sample(value, ((label, key),)) for key, value in sorted(values.items())))


def process_metrics(started: float) -> tuple[Metric, ...]:
    """What Prometheus' own clients tell about a process, from /proc."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    about = "gauge"
    return (
        simple("process_start_time_seconds", about, "When the process started, since 1970.", started),
        simple("process_cpu_seconds_total", "counter", "CPU time of the process.", cpu),
        simple("process_resident_memory_bytes", about, "Resident memory.", int(fields[21]) * _PAGE_BYTES),
        simple("process_open_fds", about, "Open file descriptors.", len(os.listdir("/proc/self/fd"))),
    )


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The text that Prometheus reads."""
    lines: list[str] = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [f"{metric.name}{s.suffix}{_labels(s.labels)} {_number(s.value)}" for s in metric.samples]
    return ("\n".join(lines) + "\n").encode()


def _request_labels(key: tuple[str, str, int]) -> tuple[tuple[str, str], ...]:
    route, method, status = key
    return (("route", route), ("method", method), ("status", str(status)))


def _histogram(route: str, method: str, group: list[_Series]) -> list[Sample]:
    labels = (("route", route), ("method", method))
    total = 0
    samples = []
    for number, bound in enumerate((*map(str, BUCKETS), "+Inf")):
        total += sum(series.buckets[number] for series in group)
        samples.append(Sample(total, (*labels, ("le", bound)), "_bucket"))
    samples.append(Sample(sum(series.seconds for series in group), labels, "_sum"))
    samples.append(Sample(total, labels, "_count"))
    return samples


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    escaped = ((name, text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')) for name, text in labels)
    return "{" + ",".join(f'{name}="{text}"' for name, text in escaped) + "}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

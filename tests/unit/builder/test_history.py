"""The history of builds, kept from their events."""

import pytest

from moldar.builder.history import BuildRecorder, read_log, steps_of
from moldar.builder.run import ProcessFailed
from moldar.store.builds import BuildTable

from .builder_bench import Bench


def test_steps_are_kept_with_their_reasons_and_logs(bench: Bench) -> None:
    table = BuildTable(bench.database)
    bench.wrap = lambda events: BuildRecorder(table, "one", "/context", "", events)
    bench.build("FROM busybox\nRUN echo hello\nRUN true")
    assert isinstance(bench.sink, BuildRecorder)
    bench.sink.end(image="sha256:x")
    row = table.get("one")
    assert row.image == "sha256:x" and row.ended is not None and row.ended >= row.started
    hello, silent = [step for step in steps_of(row) if "RUN" in step.name]
    assert read_log(str(bench.base / "logs"), hello) == b"hello\n"
    assert read_log(str(bench.base / "logs"), silent) == b""
    assert hello.seconds is not None and not hello.cached


def test_a_running_build_and_a_failed_one(bench: Bench) -> None:
    table = BuildTable(bench.database)
    bench.wrap = lambda events: BuildRecorder(table, "two", "/context", "t", events)
    with pytest.raises(ProcessFailed) as caught:
        bench.build("FROM busybox\nRUN exit 4")
    recorder = bench.sink
    assert isinstance(recorder, BuildRecorder)
    recorder.begin()
    assert table.get("two").ended is None
    recorder.end(error=caught.value.message)
    row = table.get("two")
    assert "exit code: 4" in row.error
    assert "exit code: 4" in steps_of(row)[-1].error


def test_rows_of_another_version_have_no_steps(bench: Bench) -> None:
    table = BuildTable(bench.database)
    recorder = BuildRecorder(table, "three", "", "", bench.last)
    recorder.end()
    row = table.get("three")
    assert steps_of(row) == ()
    assert steps_of(row._replace(document='{"steps": [[1]]}')) == ()
    assert steps_of(row._replace(document="{")) == ()

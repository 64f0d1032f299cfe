"""The solver over an executor in memory: order, sharing, laziness, threads, failure."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moldar.builder.graph import ContextOp, CopyOp, Graph, ImageOp, Op, RunOp, ScratchOp, Vertex, join
from moldar.builder.progress import VertexCompleted, VertexStarted
from moldar.builder.solver import Record, Result, Reuse, solve
from moldar.errors import StepFailed
from moldar.image.model import Platform, digest_of

from .memory_executor import ListSink, MemoryCache, MemoryExecutor

IMAGE = ImageOp("base", digest_of(b"base"), Platform(), (digest_of(b"layer"),))


def run(*args: str) -> RunOp:
    return RunOp(args, (), "", "/")


def graph(*steps: tuple[Op, tuple[int, ...]], no_cache: bool = False) -> Graph:
    vertices = [
        Vertex(op, inputs, f"step {index}", ignore_cache=no_cache) for index, (op, inputs) in enumerate(steps)
    ]
    return Graph(tuple(vertices), (len(vertices) - 1,))


class Build:
    """One store: the same cache for every solve."""

    def __init__(self) -> None:
        self.cache = MemoryCache()
        self.executor = MemoryExecutor()

    def solve(self, graph: Graph, *, jobs: int = 4, complete: bool = True) -> tuple[Result | None, ...]:
        self.executor.ran.clear()
        self.executor.fetched.clear()
        self.events = ListSink()
        return solve(graph, self.cache, self.executor, self.events, jobs=jobs, complete=complete)


@pytest.fixture
def build() -> Build:
    return Build()


def test_layers_pile_up_on_the_base(build: Build) -> None:
    results = build.solve(graph((IMAGE, ()), (run("write", "a"), (0,)), (run("write", "bc"), (1,))))
    assert results[2] is not None
    assert results[2].layers == ((digest_of(b"layer"), 1), (digest_of(b"a"), 1), (digest_of(b"bc"), 2))
    assert build.executor.ran == ["step 1", "step 2"]


@pytest.mark.usefixtures("no_new_threads")
def test_a_second_build_runs_nothing_and_starts_no_thread(build: Build) -> None:
    steps = graph((IMAGE, ()), (ContextOp(), ()), (CopyOp(((1, "."),), "/"), (0, 1)), (run("write", "a"), (2,)))
    first = build.solve(steps)
    build.executor.threads.clear()
    build.executor.here.add("base")
    assert build.solve(steps) == first
    assert build.executor.ran == build.executor.fetched == []
    assert not build.executor.threads
    completed = [event for event in build.events.events if isinstance(event, VertexCompleted)]
    assert [event.id for event in completed if event.cached] == ["0", "2", "3"]


def other_base(name: str) -> ImageOp:
    return IMAGE._replace(reference=name, digest=digest_of(name.encode()), diff_ids=(digest_of(name.encode()),))


def test_several_targets_are_solved_as_one(build: Build) -> None:
    """Two plans whose first stage is the same: it runs once, the rest side by side, and each has its result."""
    names = ("one", "two")
    plans = [
        graph((IMAGE, ()), (run("write", "tools"), (0,)), (other_base(name), ()), (run("meet", "2"), (2, 1)))
        for name in names
    ]
    joined, places = join(plans)
    assert len(joined.vertices) == 6
    results = build.solve(joined)
    assert sorted(build.executor.ran) == ["step 1", "step 3", "step 3"]
    assert sorted(build.executor.fetched) == ["base", "one", "two"]
    for place, name in zip(places, names, strict=True):
        made = results[place[3]]
        assert made is not None
        assert [diff_id for diff_id, _ in made.layers] == [digest_of(name.encode()), digest_of(b"2")]
    build.executor.here |= {"base", *names}
    assert build.solve(joined) == results
    assert build.executor.ran == []


def test_every_base_of_the_targets_is_fetched(build: Build) -> None:
    joined, _ = join([graph((other_base(name), ())) for name in ("one", "two")])
    build.solve(joined, complete=False)
    assert build.executor.fetched == []
    build.solve(joined)
    assert sorted(build.executor.fetched) == ["one", "two"]


def test_a_changed_source_reruns_only_what_comes_after(build: Build) -> None:
    steps = graph(
        (ScratchOp(), ()), (run("write", "deps"), (0,)), (ContextOp(), ()), (CopyOp(((1, "."),), "/"), (1, 2)),
        (run("write", "make"), (3,)),
    )  # fmt: skip
    build.solve(steps)
    build.executor.context = "other"
    build.solve(steps)
    assert build.executor.ran == ["step 3", "step 4"]


def test_an_image_is_fetched_only_when_a_step_that_runs_reads_it(build: Build) -> None:
    steps = graph((IMAGE, ()), (run("write", "a"), (0,)))
    build.solve(steps)
    assert build.executor.fetched == ["base"]
    build.solve(steps, complete=False)
    assert build.executor.fetched == []
    build.solve(steps)
    assert build.executor.fetched == ["base"]


def test_two_steps_wait_for_one_fetch(build: Build) -> None:
    build.solve(
        graph((IMAGE, ()), (run("write", "a"), (0,)), (run("write", "b"), (0,)), (CopyOp(((1, "/"),), "/"), (1, 2)))
    )
    assert build.executor.fetched == ["base"]
    assert sorted(build.executor.ran) == ["step 1", "step 2", "step 3"]


def test_equal_vertices_run_once_and_share_the_result(build: Build) -> None:
    results = build.solve(
        graph(
            (ScratchOp(), ()), (run("write", "a"), (0,)), (ScratchOp(), ()), (run("write", "a"), (2,)),
            (CopyOp(((1, "/"),), "/"), (1, 3)),
        )
    )  # fmt: skip
    assert build.executor.ran == ["step 1", "step 4"]
    assert results[1] == results[3]


def test_steps_with_one_key_run_once_even_when_the_cache_is_ignored(build: Build) -> None:
    same = ImageOp("alias", digest_of(b"other manifest"), Platform(), IMAGE.diff_ids)
    build.solve(
        graph(
            (IMAGE, ()), (same, ()), (run("write", "a"), (0,)), (run("write", "a"), (1,)),
            (CopyOp(((1, "/"),), "/"), (2, 3)), no_cache=True,
        )
    )  # fmt: skip
    assert sorted(build.executor.ran) == ["step 2", "step 4"]


def test_a_copy_whose_source_changed_but_not_what_it_selects_is_cached_by_content(build: Build) -> None:
    def stages(text: str) -> Graph:
        return graph((ScratchOp(), ()), (run("write", text), (0,)), (CopyOp(((1, "/"),), "/"), (0, 1)))

    build.solve(stages("one"))
    build.solve(stages("two"))
    assert build.executor.ran == ["step 1"]
    completed = [event for event in build.events.events if isinstance(event, VertexCompleted)]
    assert completed[-1] == ("2", completed[-1].time, True, "", "", ())


def test_independent_steps_run_at_the_same_time(build: Build) -> None:
    build.solve(
        graph(
            (ScratchOp(), ()), (run("meet", "3", "a"), (0,)), (run("meet", "3", "b"), (0,)),
            (run("meet", "3", "c"), (0,)), (CopyOp(((1, "/"), (2, "/")), "/"), (1, 2, 3)),
        )
    )  # fmt: skip
    assert build.executor.most == 3


def test_no_more_than_jobs_steps_run_at_once(build: Build) -> None:
    steps: list[tuple[Op, tuple[int, ...]]] = [(ScratchOp(), ())]
    steps += [(run("write", str(number)), (0,)) for number in range(8)]
    build.solve(graph(*steps, (CopyOp(((1, "/"),), "/"), tuple(range(9)))), jobs=2)
    assert build.executor.most <= 2
    assert len(build.executor.ran) == 9


def test_a_failure_cancels_what_runs_and_is_raised(build: Build) -> None:
    steps = graph(
        (ScratchOp(), ()), (run("wait"), (0,)), (run("fail"), (0,)), (CopyOp(((1, "/"),), "/"), (1, 2)),
    )  # fmt: skip
    with pytest.raises(StepFailed, match="step 2 failed"):
        build.solve(steps)
    errors = {event.id: event.error for event in build.events.events if isinstance(event, VertexCompleted)}
    assert errors == {"1": "cancelled", "2": "step 2 failed"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("step-")]


def test_why_a_step_ran_is_told(build: Build) -> None:
    build.solve(graph((ScratchOp(), ()), (run("write", "a"), (0,))))
    build.solve(graph((ScratchOp(), ()), (run("write", "a"), (0,)), no_cache=True))
    completed = [event for event in build.events.events if isinstance(event, VertexCompleted)]
    assert "because of --no-cache" in next(event.reason for event in completed if event.id == "1")


def test_a_step_that_would_do_the_same_again_is_not_run(build: Build) -> None:
    steps = graph((ScratchOp(), ()), (run("write", "a"), (0,)), (run("write", "b"), (1,)))
    made = Record(((digest_of(b"before"), 6),), digest_of(b"made before"), time.time() - 60)
    build.executor.reuses["step 1"] = Reuse(made, "reused: read nothing")
    results = build.solve(steps)
    assert build.executor.ran == ["step 2"]
    assert results[1] is not None
    assert results[1].layers == made.layers
    completed = [event for event in build.events.events if isinstance(event, VertexCompleted)]
    assert [(event.cached, event.reason) for event in completed if event.id == "1"] == [
        (True, "reused: read nothing")
    ]
    assert build.cache.explained == ["step 2"]
    build.solve(steps)
    assert build.executor.ran == []  # now it is known under its own key


def test_a_reuse_is_not_taken_when_the_cache_is_ignored_or_it_is_too_old(build: Build) -> None:
    made = Record(((digest_of(b"before"), 6),), digest_of(b"made before"), time.time() - 60)
    build.executor.reuses["step 1"] = Reuse(made, "reused: read nothing")
    build.solve(graph((ScratchOp(), ()), (run("write", "a"), (0,)), no_cache=True))
    assert build.executor.ran == ["step 1"]
    old = Vertex(run("write", "b"), (0,), "step 1", max_age=30)
    build.solve(Graph((Vertex(ScratchOp(), (), "step 0"), old), (1,)))
    assert build.executor.ran == ["step 1"]
    build.solve(Graph((Vertex(ScratchOp(), (), "step 0"), old._replace(op=run("write", "c"), max_age=90)), (1,)))
    assert build.executor.ran == []


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, set[int]]:
    """Random graphs of steps, and the steps that fail."""
    count = draw(st.integers(1, 14))
    steps: list[tuple[Op, tuple[int, ...]]] = [(ScratchOp(), ())]
    failing: set[int] = set()
    for index in range(1, count + 1):
        inputs = draw(st.lists(st.integers(0, index - 1), min_size=1, max_size=3, unique=True))
        kind = draw(st.sampled_from(["write"] * 9 + ["fail"]))
        steps.append((run(kind, str(index)), tuple(inputs)))
        if kind == "fail":
            failing.add(index)
    return graph(*steps), failing


def ancestors(graph: Graph) -> set[int]:
    found: set[int] = set()
    rest = [graph.target]
    while rest:
        index = rest.pop()
        if index not in found:
            found.add(index)
            rest += graph.vertices[index].inputs
    return found


@given(graphs(), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_every_needed_vertex_runs_once_and_after_its_inputs(case: tuple[Graph, set[int]], jobs: int) -> None:
    graph, failing = case
    build = Build()
    needed = ancestors(graph)
    try:
        results = build.solve(graph, jobs=jobs)
        assert not failing & needed
        assert sorted(build.executor.ran) == sorted(f"step {index}" for index in needed - {0})
        assert {index for index, result in enumerate(results) if result} == needed
    except StepFailed:
        assert failing & needed
    assert len(build.executor.ran) == len(set(build.executor.ran))
    done: set[int] = {0}
    for event in build.events.events:
        if isinstance(event, VertexStarted) and event.id != "0":
            assert set(graph.vertices[int(event.id)].inputs) <= done
        if isinstance(event, VertexCompleted) and not event.error:
            done.add(int(event.id))
    started = {event.id for event in build.events.events if isinstance(event, VertexStarted)}
    assert started == {event.id for event in build.events.events if isinstance(event, VertexCompleted)}

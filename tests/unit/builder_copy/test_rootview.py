"""Layers looked at without mounting: what is deleted, hidden, linked; the same from tars and from directories."""

from typing import Any

import pytest

from moldar.builder.rootview import LazyLayers, RootView, TarLayer
from moldar.builder.tree import LinkLoop
from moldar.errors import HostTrouble
from moldar.image.layer_entry import LayerEntry


def directory(path: str, mode: int = 0o755) -> LayerEntry:
    return LayerEntry(path, "dir", mode)


def file(path: str) -> LayerEntry:
    return LayerEntry(path, "file")


@pytest.fixture(params=[(False, False, False), (True, True, True), (True, False, True), (False, True, False)])
def view(bench: Any, request: Any) -> RootView:
    one, two, three = request.param
    bench.below(
        directory("a", 0o700),
        file("a/one"),
        file("a/gone"),
        directory("a/dir"),
        file("a/dir/below"),
        directory("opaque"),
        file("opaque/old"),
        directory("b"),
        file("b/file"),
        LayerEntry("loop", "symlink", target="loop"),
        LayerEntry("up", "symlink", target="../../a/dir"),
        LayerEntry("absolute", "symlink", target="/up/below"),
        file("turned"),
        contents={"a/one": b"one 1", "a/dir/below": b"below 1", "b/file": b"1"},
        unpacked=one,
    )
    bench.below(
        directory("a", 0o711),
        file("a/.wh.gone"),
        file("a/new"),
        directory("opaque"),
        file("opaque/.wh..wh..opq"),
        file("opaque/new"),
        file(".wh.b"),
        directory("turned"),
        file("turned/in"),
        contents={"a/new": b"new 2"},
        unpacked=two,
    )
    bench.below(directory("a", 0o711), file("a/one"), directory("b"), contents={"a/one": b"one 3"}, unpacked=three)
    made: RootView = bench.view
    return made


def test_the_topmost_layer_decides(view: RootView) -> None:
    top, one = view.lookup("a"), view.lookup("a/one")
    assert top and top.mode == 0o711 and top.kind == "dir"
    assert one and one.size == 5
    assert view.read("a/one") == b"one 3"
    assert view.read("a/new") == b"new 2"
    assert view.read("a/dir/below") == b"below 1"
    assert view.children("a") == ["dir", "new", "one"]


def test_what_is_deleted_or_hidden_is_not_there(view: RootView) -> None:
    for path in ("a/gone", "opaque/old", "b/file", "none", "none/below", "a/one/below"):
        assert view.lookup(path) is None, path
        assert view.read(path) is None, path
    assert view.lookup("b") is not None
    assert view.children("b") == []
    assert view.children("opaque") == ["new"]
    assert view.children("turned") == ["in"]
    turned = view.lookup("turned")
    assert turned and turned.kind == "dir"


def test_links_are_resolved_below_the_root(view: RootView) -> None:
    assert view.resolve("absolute") == "a/dir/below"
    assert view.resolve("/up/../one") == "a/one"
    assert view.resolve("../up/not/there") == "a/dir/not/there"
    assert view.read("absolute") == b"below 1"
    with pytest.raises(LinkLoop):
        view.resolve("loop/x")


def test_the_root_is_always_there(view: RootView) -> None:
    root = view.lookup("")
    assert root and root.kind == "dir"
    assert RootView().lookup("") == LayerEntry("", "dir", 0o755)
    assert RootView().is_empty and not view.is_empty
    assert view.children("") == ["a", "absolute", "b", "loop", "opaque", "turned", "up"]


def test_lower_layers_are_made_ready_only_when_asked(bench: Any) -> None:
    bench.below(directory("deep"), file("deep/f"), contents={"deep/f": b"deep"})
    below = bench.view
    loads: list[int] = []

    def load() -> RootView:
        loads.append(1)
        return below

    bench.below(directory("top"), file("top/.wh..wh..opq"), file("top/f"), contents={"top/f": b"top"})
    view = RootView([LazyLayers(load), bench.layers[-1]])
    assert view.read("top/f") == b"top" and view.lookup("top/none") is None and not loads
    assert view.read("deep/f") == b"deep" and view.lookup("deep/none") is None and loads == [1]


def test_hard_links_in_a_tar_are_files(bench: Any) -> None:
    bench.below(file("a"), LayerEntry("b", "link", target="a"), contents={"a": b"shared"})
    bench.below(LayerEntry("c", "link", target="b"))
    for name in ("a", "b", "c"):
        entry = bench.view.lookup(name)
        assert entry.kind == "file" and entry.path == name and entry.size == 6
        assert bench.view.read(name) == b"shared"


def test_directories_that_a_tar_only_implies_are_there(bench: Any) -> None:
    bench.below(file("x/y/z"), contents={"x/y/z": b"z"})
    assert bench.view.children("") == ["x"] and bench.view.children("x") == ["y"]
    assert bench.view.read("x/y/z") == b"z"


def test_a_missing_tar_is_a_trouble_of_the_host(bench: Any) -> None:
    with pytest.raises(HostTrouble, match="nowhere"):
        RootView([TarLayer("/nowhere/at/all")]).lookup("x")

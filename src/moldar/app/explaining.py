"""Puts together what says why steps run, when the first one does."""

from moldar.app.engine import Engine
from moldar.app.requests import BuildRequest
from moldar.builder.explain import Explainer, images_of
from moldar.builder.graph import Graph
from moldar.builder.sources import Sources
from moldar.store.cache import CacheTable
from moldar.store.explanations import EvictionTable, InputTable


def make_explainer(engine: Engine, request: BuildRequest, graph: Graph, sources: Sources, since: float) -> Explainer:
    """The explainer of one build, which began at `since`."""
    return Explainer(
        CacheTable(engine.database),
        InputTable(engine.database),
        EvictionTable(engine.database),
        sources,
        images_of(graph),
        since=since,
        ignoring="--no-cache" if request.no_cache else "--no-cache-filter",
    )

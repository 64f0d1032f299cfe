"""From a parsed Dockerfile and the command line's options to a graph and an image config: no file, no network."""

from moldar.builder.plan.builder import plan
from moldar.builder.plan.environment import parse_platform
from moldar.builder.plan.finish import finish
from moldar.builder.plan.locate import located
from moldar.builder.plan.options import (
    HistoryStep,
    ImageRequest,
    ImageResolver,
    NamedContext,
    Plan,
    PlanOptions,
    ResolvedImage,
    Unset,
)

__all__ = [
    "HistoryStep",
    "ImageRequest",
    "ImageResolver",
    "NamedContext",
    "Plan",
    "PlanOptions",
    "ResolvedImage",
    "Unset",
    "finish",
    "located",
    "parse_platform",
    "plan",
]

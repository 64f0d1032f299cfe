"""Solves a graph: decides what is cached, what runs, when, and in which thread. Knows nothing of how."""

from moldar.builder.solver.contracts import (
    BELOW,
    Cache,
    Cancellation,
    Cancelled,
    Executor,
    Explanation,
    Inputs,
    Key,
    Record,
    Result,
    Reuse,
    StepContext,
)
from moldar.builder.solver.solution import solve

__all__ = [
    "BELOW",
    "Cache",
    "Cancellation",
    "Cancelled",
    "Executor",
    "Explanation",
    "Inputs",
    "Key",
    "Record",
    "Result",
    "Reuse",
    "StepContext",
    "solve",
]

"""What a step can observe of one layer, and the values that it observed: the contract of this package.

A layer is looked at by itself, as a directory in overlayfs's format or as the tar that unpacks to it. A question says
what was looked at; `LayerTree.answer` gives what anybody who asks sees. A step's changes can be reused over another
layer when every question that it asked has the same answer there.

Questions, with `path` relative to the layer's root ("" is the root itself):

- ENTRY: the name was looked up, or its attributes were asked for. Missing is an answer. For a directory: type, mode,
  owner; for a file also size, and for one with several names how many and the first; for a link its target's
  length; for devices their numbers; whiteouts are an answer of their own. No modification times.
- NAMES: a directory was listed: its sorted names with their types.
- CONTENT: a file was read: the SHA-256 of all of it.
- TARGET: a symbolic link was read.
- ATTRIBUTE + name: an extended attribute was read; its absence is an answer.
- ATTRIBUTES: the names of extended attributes were listed.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

ENTRY = "entry"
NAMES = "names"
CONTENT = "content"
TARGET = "target"
ATTRIBUTE = "attribute "
ATTRIBUTES = "attributes"


class Question(NamedTuple):
    """What was looked at. `path` is text with surrogate escapes for bytes that are no UTF-8."""

    kind: str
    path: str


class Observation(NamedTuple):
    """A question and the answer that a step got."""

    question: Question
    answer: str


class LayerTree(Protocol):
    """One layer, to be asked. What cannot be asked (a file where a directory was) is answered like a missing name."""

    def answer(self, question: Question) -> str:
        """What the layer shows; short, with digests in place of contents. Raises HostTrouble, CorruptData."""
        ...


def observe(tree: LayerTree, questions: Iterable[Question]) -> tuple[Observation, ...]:
    """The answers to all `questions`, in a stable order."""
    return tuple(Observation(question, tree.answer(question)) for question in sorted(set(questions)))


def first_difference(tree: LayerTree, observations: Iterable[Observation]) -> Observation | None:
    """The first of `observations` that does not hold in `tree`; None when all do, and the step may be reused."""
    for observation in observations:
        if tree.answer(observation.question) != observation.answer:
            return observation
    return None

"""What the readers of instructions are given: one node with its origin, and the ways to take it apart."""

from collections.abc import Mapping
from typing import NamedTuple

from moldar.dockerfile.arguments import json_words
from moldar.dockerfile.flags import Flags
from moldar.dockerfile.instructions import Command, Origin
from moldar.dockerfile.parser import Node
from moldar.dockerfile.source import DockerfileError


class Request(NamedTuple):
    """One instruction to be read. Readers raise DockerfileError without a place; their caller adds it."""

    node: Node
    origin: Origin
    escape: str

    def flags(self, kinds: Mapping[str, str] | None = None) -> Flags:
        """The flags, which must be among `kinds`."""
        return Flags(self.node.flags, kinds or {}, self.origin.name)

    def one(self) -> str:
        """The rest of the line as the only argument."""
        if not self.node.rest:
            raise DockerfileError(f"{self.origin.name} requires exactly one argument")
        return self.node.rest

    def at_least_one(self) -> str:
        """The rest of the line, which may not be empty."""
        if not self.node.rest:
            raise DockerfileError(f"{self.origin.name} requires at least one argument")
        return self.node.rest


def read_command(text: str) -> Command:
    """JSON form or shell form."""
    words = json_words(text) if text else None
    return Command((text,), shell=True) if words is None else Command(words, shell=False)


def doc_comment(comments: tuple[str, ...], name: str) -> str:
    """The description of the stage or argument `name`: a comment above that begins with its name."""
    if name:
        for comment in comments:
            if comment.startswith(name + " "):
                return comment[len(name) + 1 :]
    return ""

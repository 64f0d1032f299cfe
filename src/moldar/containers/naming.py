"""Identities and names of containers: 64 hexadecimal digits, and two words for people."""

import os
import re
from collections.abc import Iterable

from moldar.errors import UserMistake

_ADJECTIVES = (
    "able amber ample apt balmy blithe bold brave breezy bright brisk calm candid cheery civil clever coral "
    "cosy crisp daring deft eager early easy fair fine fond free fresh frosty gentle glad golden grand happy "
    "hardy honest humble jolly keen kind lively loyal lucid lucky mellow merry mild mossy neat noble nimble "
    "patient plucky polite proud quick quiet ready rosy rustic sage sandy serene sharp silver smart snug sober "
    "solid spry steady sunny sweet swift tidy tranquil trusty upbeat vivid warm wise witty woody young zesty"
)
_NOUNS = (
    "acorn anchor arrow badger barge beacon birch bison bobbin brook cactus canoe cedar chisel cloud clover "
    "comet crane creek dahlia dolphin drum ember falcon fern ferry finch forge fox garnet gecko glacier grove "
    "harbor hare hazel heron ibis iris island jasper kettle kiln kite koala lagoon lantern larch lark lemur "
    "lichen lily loom lynx mango maple marble marsh meadow mill mole moss moth nectar newt nutmeg oak oasis "
    "ocelot olive opal orchid osprey otter owl panda pebble pelican pepper pigeon pine plover pond poppy "
    "prairie puffin quail quartz raven reed ridge robin sail salmon sparrow spruce starling stork summit swan "
    "thistle tiger toucan tulip valley violet walnut willow wren"
)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


def new_id() -> str:
    """A new container's identity."""
    return os.urandom(32).hex()


def check_name(name: str) -> str:
    """`name` without a leading slash; UserMistake unless it is one that Docker takes."""
    bare = name.removeprefix("/")
    if not _NAME.match(bare):
        raise UserMistake(
            f"invalid container name {name!r}", hint="use letters, digits, _ . - and begin with a letter or digit"
        )
    return bare


def new_name(taken: Iterable[str]) -> str:
    """Two words that no container has for its name yet."""
    used = set(taken)
    name = _words()
    while name in used:
        name = f"{_words()}{os.urandom(1)[0]}"
    return name


def _words() -> str:
    return f"{_pick(_ADJECTIVES)}_{_pick(_NOUNS)}"


def _pick(words: str) -> str:
    choices = words.split()
    return choices[int.from_bytes(os.urandom(2)) % len(choices)]

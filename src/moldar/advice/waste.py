"""Bytes that layers carry although a later layer overwrites or deletes their files."""

from moldar.advice.facts import Advice, Facts, Layer, size_text
from moldar.advice.weight import line_of

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_LEAST = 50_000


def advise_waste(facts: Facts) -> tuple[Advice, ...]:
    """Advice for each layer of the last image with files that nobody can see."""
    layers = facts.layers or ()
    found = []
    for position, layer in enumerate(layers):
        hidden = wasted(layer, layers[position + 1 :])
        size = sum(size for _, size in hidden)
        if size >= _LEAST:
            largest = max(hidden, key=lambda item: item[1])[0]
            message = (
                f"{size_text(size)} of this layer's {size_text(layer.size)} are overwritten or deleted later"
                f" ({len(hidden)} {'file' if len(hidden) == 1 else 'files'}, the largest /{largest})"
            )
            found.append(Advice("waste", line_of(facts, layer), message, size=size))
    return tuple(found)


def wasted(layer: Layer, later: tuple[Layer, ...]) -> tuple[tuple[str, int], ...]:
    """The files of `layer` that `later` layers hide, with their bytes."""
    replaced: set[str] = set()
    emptied: set[str] = set()
    for other in later:
        for file in other.files:
            directory, slash, name = file.path.rpartition("/")
            if name == _OPAQUE:
                emptied.add(directory)
            elif name.startswith(_WHITEOUT):
                gone = directory + slash + name.removeprefix(_WHITEOUT)
                replaced.add(gone)
                emptied.add(gone)
            elif file.kind != "dir":
                replaced.add(file.path)
    return tuple(
        (file.path, file.size)
        for file in layer.files
        if file.kind == "file" and file.size and (file.path in replaced or _below(file.path, emptied))
    )


def _below(path: str, directories: set[str]) -> bool:
    while path:
        path = path.rpartition("/")[0]
        if path in directories:
            return True
    return False

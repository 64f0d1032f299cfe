"""The values of --annotation: `[LEVEL,...:]key=value`; a level may name a platform: `manifest[linux/arm64]:`."""

from collections.abc import Iterable

from moldar.image.model import Platform

LEVELS = ("manifest", "index", "manifest-descriptor", "index-descriptor")


def annotations_for(level: str, given: Iterable[tuple[str, str]], platform: Platform | None = None) -> dict[str, str]:
    """Those of `given` that belong to `level`; what names no level belongs to the manifest of every platform."""
    found = {}
    for word, value in given:
        levels, key = _split(word)
        for name, wanted in levels:
            if name == level and wanted in ("", str(platform) if platform else ""):
                found[key] = value
    return found


def _split(word: str) -> tuple[list[tuple[str, str]], str]:
    head, colon, key = word.partition(":")
    levels = [
        (name, wanted.removesuffix("]")) for name, _, wanted in (part.partition("[") for part in head.split(","))
    ]
    if colon and all(name in LEVELS for name, _ in levels):
        return levels, key
    return [("manifest", "")], word

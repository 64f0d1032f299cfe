"""The values of --cache-from and --cache-to, which `moldar cache` takes too: `type=local,dest=DIR,mode=max`."""

import os

from moldar.app.requests import CachePlace
from moldar.cli.build_options import attributes
from moldar.errors import Unsupported, UserMistake

ELSEWHERE = ("gha", "s3", "azblob")
_SETTINGS = {"mode", "compression", "compression-level", "force-compression", "mounts", "tag"}
_WITHOUT_EFFECT = {"ignore-error", "oci-mediatypes", "image-manifest", "digest", "name"}
_BOOLEANS = ("mounts", "force-compression")


def source(word: str, flag: str = "--cache-from") -> CachePlace:
    """Where a cache is read from; a bare name is an image of the store or of a registry. UserMistake, Unsupported."""
    if "=" not in word:
        return CachePlace("image", word)
    values = attributes(word, flag)
    kind = _kind(values, word, flag, ("local", "registry"))
    place = _place(kind, values, {"local": ("src", "source"), "registry": ("ref",)}, word, flag)
    _check_names(values, {"tag"}, word, flag)
    return CachePlace(kind, place, tuple(values.items()))


def target(
    word: str, flag: str = "--cache-to", kinds: tuple[str, ...] = ("local", "registry", "inline")
) -> CachePlace:
    """Where a cache is written to; a bare name is a registry's. UserMistake, Unsupported."""
    if "=" not in word and word != "inline":
        return CachePlace("registry", word)
    values = attributes(word if word != "inline" else "type=inline", flag)
    kind = _kind(values, word, flag, kinds)
    place = _place(kind, values, {"local": ("dest", "destination"), "registry": ("ref",)}, word, flag)
    _check_names(values, _SETTINGS, word, flag)
    if values.get("mode", "min") not in ("min", "max"):
        raise UserMistake(f"invalid mode {values['mode']!r} in {flag} {word!r}", hint="use mode=min or mode=max")
    for name in _BOOLEANS:
        if values.get(name, "true") not in ("true", "false"):
            raise UserMistake(
                f"invalid value {values[name]!r} for {name} in {flag} {word!r}", hint="use true or false"
            )
    if values.get("compression", "gzip") not in ("gzip", "zstd", "uncompressed"):
        raise UserMistake(
            f"unsupported compression {values['compression']!r} in {flag} {word!r}",
            hint="use one of gzip, zstd, uncompressed",
        )
    return CachePlace(kind, place, tuple(values.items()))


def _kind(values: dict[str, str], word: str, flag: str, kinds: tuple[str, ...]) -> str:
    kind = values.pop("type", "")
    known = ", ".join(f"type={name}" for name in kinds)
    if kind in ELSEWHERE:
        raise Unsupported(f"{flag} type={kind} is not supported", hint=f"supported are {known}")
    if kind not in kinds:
        what = f"unknown type {kind!r}" if kind else "no type"
        raise UserMistake(f"{what} in {flag} {word!r}", hint=f"use one of {known}")
    return kind


def _place(kind: str, values: dict[str, str], names: dict[str, tuple[str, ...]], word: str, flag: str) -> str:
    if kind not in names:
        return ""
    found = [value for name in names[kind] if (value := values.pop(name, ""))]
    if not found:
        raise UserMistake(f"no {names[kind][0]} in {flag} {word!r}", hint=f"give {names[kind][0]}=…")
    if kind == "local":
        return os.path.abspath(os.path.expanduser(found[0]))
    from moldar.image.reference import parse_reference

    parse_reference(found[0])
    return found[0]


def _check_names(values: dict[str, str], known: set[str], word: str, flag: str) -> None:
    for name in _WITHOUT_EFFECT:
        values.pop(name, None)
    unknown = values.keys() - known
    if unknown:
        raise UserMistake(
            f"unexpected key {min(unknown)!r} in {flag} {word!r}", hint="use " + ", ".join(sorted(known))
        )

"""Gives an error its place in the Dockerfile."""

from moldar.dockerfile.source import DockerfileError, Location, Source
from moldar.errors import MoldarError


def located(error: MoldarError, source: Source, location: Location) -> MoldarError:
    """`error` with file and line before its message and the lines as its excerpt, unless it has a place already."""
    if isinstance(error, DockerfileError):
        return error.at(source, location)
    if error.excerpt or location.start < 1:
        return error
    error.message = f"{source.name}:{location.start}: {error.message}"
    error.args = (error.message,)
    error.excerpt = source.excerpt(location)
    return error

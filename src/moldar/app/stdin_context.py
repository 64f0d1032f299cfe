"""`moldar build -`: a Dockerfile or a whole context (a tar archive, maybe compressed) on standard input."""

import os
import sys
import tempfile

from moldar.app.contexts import DEFAULT_NAME, Opened
from moldar.app.requests import BuildRequest
from moldar.errors import UserMistake

_MAGIC = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00")


def open_stdin(request: BuildRequest) -> Opened:
    """Read standard input to its end. UserMistake when it is empty, or a terminal."""
    if sys.stdin.isatty():
        raise UserMistake("nothing on standard input", hint="moldar build - < Dockerfile")
    data = sys.stdin.buffer.read()
    if not data:
        raise UserMistake("the Dockerfile on standard input is empty")
    temporary = tempfile.mkdtemp(prefix="moldar-context-")
    if not data.startswith(_MAGIC) and data[257:262] != b"ustar":
        return Opened(temporary, "", DEFAULT_NAME, data, request.contexts, (temporary,))
    _unpack(data, temporary)
    path = os.path.join(temporary, request.file or DEFAULT_NAME)
    return Opened(temporary, path, os.path.basename(path), None, request.contexts, (temporary,))


def _unpack(data: bytes, directory: str) -> None:
    import io

    from moldar.image.decompression import open_decompressed
    from moldar.image.unpack import unpack

    unpack(open_decompressed(io.BytesIO(data)), directory, whiteouts="apply", keep_owners=False)

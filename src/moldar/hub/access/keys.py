"""The hub's own secrets: files in the data directory, made on the first start, readable by their owner only."""

import contextlib
import os
import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from moldar.errors import CorruptData
from moldar.hub.data.database import make_private_directory

_SECRET_BYTES = 32


def load_signing_key(directory: str) -> ec.EllipticCurvePrivateKey:
    """The key for bearer tokens. CorruptData when its file holds none."""
    path = os.path.join(directory, "token-es256.pem")
    raw = _load(path, _new_signing_key)
    try:
        key = serialization.load_pem_private_key(raw, password=None)
    except ValueError as error:
        raise CorruptData(f"{path} holds no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CorruptData(f"{path} holds no key for ES256")
    return key


def load_form_secret(directory: str) -> bytes:
    """What the pages' forms are protected with. CorruptData when its file is cut short."""
    path = os.path.join(directory, "forms.key")
    raw = _load(path, lambda: secrets.token_bytes(_SECRET_BYTES))
    if len(raw) != _SECRET_BYTES:
        raise CorruptData(f"{path} holds no key")
    return raw


def _new_signing_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(path: str, make: Callable[[], bytes]) -> bytes:
    """The file's bytes; made when missing, unless another process was faster: a link never replaces a file."""
    make_private_directory(os.path.dirname(path))
    if not os.path.exists(path):
        temporary = f"{path}.{secrets.token_hex(4)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            os.unlink(temporary)
    with open(path, "rb") as file:
        return file.read()

"""The hub's own secrets, made on the first start.

They are files in the data directory, readable by their owner only; or rows of a database that several hubs share, so
that each takes the tokens and forms of the others.
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert, select

from moldar.errors import CorruptData
from moldar.hub.data.database import Database, make_private_directory
from moldar.hub.data.schema import SECRETS

_SECRET_BYTES = 32


class KeyStore(Protocol):
    """A place for secrets."""

    def load(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of this name; made when there is none yet, by one process for all."""

    def describe(self, name: str) -> str:
        """Where the secret is, for people."""


def load_signing_key(store: KeyStore) -> ec.EllipticCurvePrivateKey:
    """The key for bearer tokens. CorruptData when the store holds none."""
    name = "token-es256.pem"
    try:
        key = serialization.load_pem_private_key(store.load(name, _new_signing_key), password=None)
    except ValueError as error:
        raise CorruptData(f"{store.describe(name)} holds no private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CorruptData(f"{store.describe(name)} holds no key for ES256")
    return key


def load_form_secret(store: KeyStore) -> bytes:
    """What the pages' forms are protected with. CorruptData when it is cut short."""
    name = "forms.key"
    raw = store.load(name, lambda: secrets.token_bytes(_SECRET_BYTES))
    if len(raw) != _SECRET_BYTES:
        raise CorruptData(f"{store.describe(name)} holds no key")
    return raw


class FileKeys:
    """Secrets as files of one directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def load(self, name: str, make: Callable[[], bytes]) -> bytes:
        return _load(self.describe(name), make)

    def describe(self, name: str) -> str:
        return os.path.join(self._directory, name)


class SharedKeys:
    """Secrets as rows of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, name: str, make: Callable[[], bytes]) -> bytes:
        found = self._find(name)
        if found is not None:
            return found
        with self._database.writing() as connection:
            kept = connection.execute(select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar()
            if kept is None:  # no other hub was faster
                kept = make()
                connection.execute(insert(SECRETS).values(name=name, value=kept))
        return bytes(kept)

    def describe(self, name: str) -> str:
        return f"the row {name!r} of the table {SECRETS.name!r}"

    def _find(self, name: str) -> bytes | None:
        with self._database.reading() as connection:
            value = connection.execute(select(SECRETS.c.value).where(SECRETS.c.name == name)).scalar()
        return None if value is None else bytes(value)


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

"""The certificate of a hub that makes its own: one key and one self-signed certificate in the data directory.

It is kept over restarts, so that clients which trust it go on to, and made anew when it is about to expire or when
the hub is to answer to a name that it does not hold.
"""

import datetime
import ipaddress
import os
import socket

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from moldar.hub.data.database import make_private_directory

_LIFETIME = datetime.timedelta(days=365)
_REPLACED_BEFORE_END = datetime.timedelta(days=30)


def self_signed(directory: str, names: tuple[str, ...]) -> tuple[str, str]:
    """Paths of a certificate and its key in `directory`, good for `names` (host names and addresses)."""
    make_private_directory(directory)
    certificate, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    if not _is_good(certificate, key, names):
        _make(certificate, key, names)
    return certificate, key


def names_of_host(*more: str) -> tuple[str, ...]:
    """How this machine may be called, and `more`; addresses that mean every interface are no names."""
    names = ("localhost", "127.0.0.1", "::1", socket.gethostname(), *more)
    return tuple(dict.fromkeys(name for name in names if name not in ("", "0.0.0.0", "::")))


def _is_good(certificate: str, key: str, names: tuple[str, ...]) -> bool:
    try:
        with open(certificate, "rb") as file:
            found = x509.load_pem_x509_certificate(file.read())
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    if not os.path.exists(key):
        return False
    soon = datetime.datetime.now(datetime.UTC) + _REPLACED_BEFORE_END
    return found.not_valid_after_utc > soon and {_name(name) for name in names} <= set(alternatives)


def _make(certificate: str, key: str, names: tuple[str, ...]) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Moldar hub")])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(usage, critical=False)
        .sign(private, hashes.SHA256())
    )
    encoded = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, encoded, 0o600)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: str, data: bytes, mode: int) -> None:
    """Replaces `path` at once, so that no reader and no kill finds half of it."""
    temporary = path + ".new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    os.replace(temporary, path)

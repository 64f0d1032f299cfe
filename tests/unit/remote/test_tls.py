"""Encrypted connections: whom we trust, and what we say when we do not."""

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from moldar.image.reference import parse_reference
from moldar.remote.client import Registry, RegistryImage
from moldar.remote.config import HostSettings, RegistryConfig
from moldar.remote.connections import BadCertificateFile
from moldar.remote.failures import MissingAtRegistry, TlsTrouble


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for the loopback address; its key lies beside it."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test registry")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "own.key").write_bytes(key.private_bytes(*plain))
    (directory / "own.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    return directory / "own.crt"


@pytest.fixture
def secure(server: Any, certificate: Path) -> Iterator[Any]:
    """The small registry, speaking TLS only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.registry
    server.shutdown()
    thread.join()


def resolve(address: str, config: RegistryConfig) -> None:
    with Registry(address, config=config) as registry:
        RegistryImage(registry, parse_reference(f"{address}/alice/app:v1")).resolve()


def test_an_unknown_authority_is_not_trusted(secure: Any) -> None:
    with pytest.raises(TlsTrouble, match="certificate is not trusted") as caught:
        resolve(secure.address, RegistryConfig())
    assert "ca =" in caught.value.hint
    assert f'[registry."{secure.address}"]' in caught.value.hint


def test_a_configured_authority_is_trusted(secure: Any, certificate: Path) -> None:
    with pytest.raises(MissingAtRegistry):
        resolve(secure.address, RegistryConfig({secure.address: HostSettings(ca=str(certificate))}))
    with pytest.raises(MissingAtRegistry):
        resolve(secure.address, RegistryConfig({"127.0.0.1": HostSettings(ca=str(certificate))}))


def test_dockers_directory_of_certificates(secure: Any, certificate: Path, tmp_path: Path) -> None:
    directory = tmp_path / secure.address
    directory.mkdir()
    (directory / "ca.crt").write_bytes(certificate.read_bytes())
    (directory / "client.cert").write_bytes(certificate.read_bytes())
    (directory / "client.key").write_bytes(certificate.with_suffix(".key").read_bytes())
    with pytest.raises(MissingAtRegistry):
        resolve(secure.address, RegistryConfig(certificates=str(tmp_path)))


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")
    for path in (tmp_path / "ca.crt", tmp_path / "absent.crt"):
        config = RegistryConfig({"r.invalid": HostSettings(ca=str(path))})
        with pytest.raises(BadCertificateFile, match="certificate authority"):
            resolve("r.invalid", config)

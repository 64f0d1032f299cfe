"""Connection pools by host: whose certificates to trust, which proxy to use, how long to wait.

Certificates of a host come from the system, from `ca` in moldar.toml, and from Docker's layout
`certs.d/HOST/*.crt` (authorities) and `NAME.cert` with `NAME.key` (our own certificate).
"""

import os
import ssl
import threading

import urllib3

from moldar.errors import UserMistake
from moldar.remote.config import RegistryConfig

CONNECT_SECONDS = 15
READ_SECONDS = 60
_BLOCK = 1024 * 1024
_POOLED = 8


class BadCertificateFile(UserMistake):
    """A certificate file that was configured cannot be read."""


class Pools:
    """The connection pools of one process, made when first needed; safe for threads."""

    def __init__(self, config: RegistryConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._trust: ssl.SSLContext | None = None

    def pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        """The pool for `host` (`name[:port]`); BadCertificateFile when its certificates cannot be read."""
        with self._lock:
            pool = self._pools.get((scheme, host))
            if pool is None:
                pool = self._pools[scheme, host] = self._make(scheme, host)
            return pool

    def close(self) -> None:
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def _make(self, scheme: str, host: str) -> urllib3.PoolManager:
        proxy = self._config.proxies.for_host(scheme, host)
        context = self._context(host) if scheme == "https" else None
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
        if proxy:
            return urllib3.ProxyManager(
                proxy, maxsize=_POOLED, ssl_context=context, retries=False, timeout=timeout, blocksize=_BLOCK
            )
        return urllib3.PoolManager(
            maxsize=_POOLED, ssl_context=context, retries=False, timeout=timeout, blocksize=_BLOCK
        )

    def _context(self, host: str) -> ssl.SSLContext:
        authorities, own = self._files(host)
        if not (authorities or own):
            if self._trust is None:
                self._trust = ssl.create_default_context()
            return self._trust
        context = ssl.create_default_context()
        for path in authorities:
            try:
                context.load_verify_locations(path)
            except (OSError, ssl.SSLError) as error:
                raise BadCertificateFile(
                    f"cannot use the certificate authority {path} for {host}: {error}"
                ) from error
        for certificate, key in own:
            try:
                context.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                raise BadCertificateFile(f"cannot use the certificate {certificate} for {host}: {error}") from error
        return context

    def _files(self, host: str) -> tuple[list[str], list[tuple[str, str]]]:
        """Authorities of `host`, and our own certificates with their keys."""
        configured = self._config.settings(host).ca
        authorities = [configured] if configured else []
        own: list[tuple[str, str]] = []
        directory = os.path.join(self._config.certificates, host) if self._config.certificates else ""
        for name in sorted(os.listdir(directory)) if directory and os.path.isdir(directory) else ():
            path = os.path.join(directory, name)
            if name.endswith(".crt"):
                authorities.append(path)
            elif name.endswith(".cert"):
                own.append((path, path.removesuffix(".cert") + ".key"))
        return authorities, own

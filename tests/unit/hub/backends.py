"""A PostgreSQL and an S3 server for the tests: real ones, started when the first test needs them."""

import glob
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

S3_KEYS = {"s3_region": "us-east-1", "s3_key_id": "key", "s3_secret": "secret"}


class Postgres:
    """A PostgreSQL of one's own, on a port of the loopback interface."""

    def __init__(self, root: str, port: int) -> None:
        self.port = port
        self._root = root
        self._log = os.path.join(root, "log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        import psycopg

        options = {"port": self.port, "unix_socket_directories": "", "fsync": "off", "listen_addresses": "127.0.0.1"}
        flags = [flag for name, value in options.items() for flag in ("-c", f"{name}={value}")]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", f"{self._root}/data", *flags],
                user="postgres",
                group="postgres",
                stderr=log,
            )
        _wait(lambda: psycopg.connect(self.address("postgres")).close(), self._log)

    def stop(self) -> None:
        """At once, as a crash would."""
        assert self._process is not None
        self._process.send_signal(3)  # SIGQUIT: immediate shutdown
        self._process.wait(30)

    def address(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The address of an empty database."""
        import psycopg

        name = f"hub_{secrets.token_hex(6)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return self.address(name)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    root = tempfile.mkdtemp(prefix="hub-postgres-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    owner = pwd.getpwnam("postgres")
    os.chown(root, owner.pw_uid, owner.pw_gid)
    initdb = [_program("initdb"), "-D", f"{root}/data", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]
    subprocess.run(initdb, check=True, capture_output=True, user="postgres", group="postgres", cwd=root)
    server = Postgres(root, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(root)


class S3:
    """An S3 server."""

    def __init__(self, log: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        _wait(lambda: urllib.request.urlopen(self.url, timeout=1).close(), self._log)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)

    def new_bucket(self) -> dict[str, Any]:
        """Settings of a hub that keeps its blobs in a bucket of its own."""
        name = f"bucket-{secrets.token_hex(6)}"
        self.make_bucket(name)
        return {"storage": f"s3://{name}/some/prefix", "s3_endpoint": self.url, **S3_KEYS}

    def make_bucket(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")).close()


@contextmanager
def running_s3(log: Path) -> Iterator[S3]:
    server = S3(str(log))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str:
    """A program of PostgreSQL; Debian keeps them off the PATH."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else name


def _wait(attempt: Callable[[], Any], log: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            attempt()
            return
        except Exception:  # the server is not there yet
            assert time.monotonic() < deadline, Path(log).read_text()
            time.sleep(0.05)

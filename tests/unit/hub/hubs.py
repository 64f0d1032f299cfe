"""Hubs as processes of their own, clients that push to them, and the other helpers of these tests."""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from moldar.hub.data.connecting import connect
from moldar.hub.settings import HubSettings
from moldar.hub.storage.opening import open_storage

PASSWORD = "a long password"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
SERVE = """
import json, os, sys
from moldar.hub.server import serve
from moldar.hub.settings import HubSettings
serve(HubSettings(**json.loads(sys.argv[1])))
os._exit(0)  # as the program ends: a thread of the server's may still want the interpreter
"""


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Running:
    """A hub in a process of its own."""

    def __init__(self, data: str, log: Path, **settings: Any) -> None:
        self.data = data
        self.where = HubSettings(data, **settings)
        self.log = log
        self._log = log.open("ab")
        arguments = json.dumps({"data": data, "port": 0, "access_log": "json", **settings})
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, arguments], stdout=subprocess.PIPE, stderr=self._log
        )
        self.url = self._ready()
        self.host = self.url.partition("://")[2]

    def _ready(self) -> str:
        assert self.process.stdout
        poll = select.poll()  # not select(2), which takes no descriptor above 1023
        poll.register(self.process.stdout, select.POLLIN)
        line = self.process.stdout.readline().decode() if poll.poll(30_000) else ""
        assert "listening on http" in line, self.log.read_text()
        return line.split()[-1]

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout
        self.process.stdout.close()
        self._log.close()
        return code

    def uploads(self) -> list[str]:
        """The sessions of which the storage holds anything."""
        database = connect(self.where.sqlalchemy_url)
        storage = open_storage(self.where, database)
        try:
            return list(storage.uploads())
        finally:
            storage.close()
            database.close()

    def client(self, user: str = "", password: str = PASSWORD) -> "Client":
        return Client(self.url, (user, password) if user else None)


class Client(httpx.Client):
    """An HTTP client that can push."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        super().__init__(base_url=url, auth=auth, headers=headers, timeout=30)

    def push_blob(self, repository: str, data: bytes, digest: str = "") -> str:
        digest = digest or sha256(data)
        answer = self.post(f"/v2/{repository}/blobs/uploads/", params={"digest": digest}, content=data)
        assert answer.status_code == 201, answer.text
        return digest

    def push_manifest(self, repository: str, reference: str, document: Any) -> httpx.Response:
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        media_type = json.loads(raw).get("mediaType", MANIFEST)
        return self.put(f"/v2/{repository}/manifests/{reference}", content=raw, headers={"Content-Type": media_type})

    def push_image(self, repository: str, tag: str = "latest", config: Any = None, **extra: Any) -> str:
        """Pushes an image of one layer; gives its digest."""
        layer = os.urandom(200)
        raw = json.dumps(config if config is not None else {"architecture": "amd64", "os": "linux"}).encode()
        document = image_manifest(
            self.push_blob(repository, raw), len(raw), [(self.push_blob(repository, layer), len(layer))]
        )
        answer = self.push_manifest(repository, tag, {**document, **extra})
        assert answer.status_code == 201, answer.text
        return answer.headers["docker-content-digest"]


def run(*arguments: str, fails: bool = False, env: dict[str, str] | None = None) -> str:
    """What a program prints; it must end well, or not when it `fails`."""
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **(env or {})}
    )
    output = done.stdout + done.stderr
    assert (done.returncode != 0) is fails, output
    return output if fails else done.stdout


def image_manifest(config: str, size: int, layers: list[tuple[str, int]]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config, "size": size},
        "layers": [{"mediaType": LAYER, "digest": digest, "size": length} for digest, length in layers],
    }


def code_of(answer: httpx.Response) -> str:
    """The first error code of an error body."""
    return str(answer.json()["errors"][0]["code"])


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


class Tick:
    """A clock that a test moves."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

"""The hub beside Debian's docker-registry in the same run: manifests, small and large blobs, uploads, as ratios.

    python bench/hub.py [--rounds 3] [--seconds 3] [--megabytes 300] [--directory /dev/shm]

Needs docker-registry, wrk and curl (Debian packages). Both keep their data in `--directory`; every figure is the best
of the rounds, which alternate between the two, so that noise of the machine hits both. docker-registry runs without
authentication throughout: where Moldar checks a token, the other side checks nothing.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

NAME = "bench/app"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SERVE = """
import sys
from moldar.hub.server import serve
from moldar.hub.settings import HubSettings
serve(HubSettings(sys.argv[1], port=int(sys.argv[2]), allow_anonymous_push=True))
"""
SMALL, MEDIUM = b"s" * 2000, b"m" * 1_000_000
USER, PASSWORD = "alice", "a long password"
OURS, THEIRS = "http://127.0.0.1:5871", "http://127.0.0.1:5872"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--megabytes", type=int, default=300)
    options.add_argument("--directory", default="/dev/shm")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory, ExitStack() as stack:
        root = Path(directory)
        for process in start(root):
            stack.callback(process.wait)
            stack.callback(process.terminate)
        large = root / "large"
        large.write_bytes(os.urandom(chosen.megabytes * 1_000_000))
        for url in (OURS, THEIRS):
            wait(url)
            fill(url)
        small, medium = sha256(SMALL), sha256(MEDIUM)
        token = ask_token()
        rows: dict[str, Callable[[str], float]] = {
            "manifest GETs by tag, per second": lambda url: wrk(url, "manifests/latest", chosen.seconds),
            "the same with a token, per second": lambda url: wrk(url, "manifests/latest", chosen.seconds, token),
            "2 kB blob GETs, per second": lambda url: wrk(url, f"blobs/{small}", chosen.seconds),
            "the same with a token, blobs": lambda url: wrk(url, f"blobs/{small}", chosen.seconds, token),
            "1 MB blobs, MB/s": lambda url: wrk(url, f"blobs/{medium}", chosen.seconds),
            "upload, MB/s": lambda url: upload(url, large),
            "download, MB/s": lambda url: download(url, large),
        }
        for title, measure in rows.items():
            figures: dict[str, list[float]] = {OURS: [], THEIRS: []}
            for _ in range(chosen.rounds):
                for url, found in figures.items():
                    found.append(measure(url))
            ours, theirs = max(figures[OURS]), max(figures[THEIRS])
            print(f"{title:36} moldar {ours:8.0f}   docker-registry {theirs:8.0f}   ratio {ours / theirs:.2f}")


def start(root: Path) -> list[subprocess.Popen[bytes]]:
    config = root / "registry.json"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(root / "registry")}},
                "http": {"addr": THEIRS.removeprefix("http://")},
            }
        )
    )
    add = [
        sys.executable,
        "-m",
        "moldar",
        "hub",
        "user",
        "add",
        "--data",
        str(root / "hub"),
        "--password-stdin",
        USER,
    ]
    subprocess.run(add, check=True, capture_output=True, text=True, input=PASSWORD)
    port = OURS.rpartition(":")[2]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [
        subprocess.Popen([sys.executable, "-c", SERVE, str(root / "hub"), port], **quiet),
        subprocess.Popen(["docker-registry", "serve", str(config)], **quiet),
    ]


def wait(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{url}/v2/").close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def fill(url: str) -> None:
    config, small = b"{}", SMALL
    for data in (config, small, MEDIUM):
        send("PUT", with_digest(session(url), sha256(data)), data, "application/octet-stream")
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(small), "size": len(small)}
    about = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": len(config)}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": about, "layers": [layer]}
    send("PUT", f"{url}/v2/{NAME}/manifests/latest", json.dumps(document).encode(), MANIFEST)


def session(url: str) -> str:
    request = urllib.request.Request(f"{url}/v2/{NAME}/blobs/uploads/", method="POST", data=b"")
    with urllib.request.urlopen(request) as answer:
        location = str(answer.headers["Location"])
    return location if location.startswith("http") else url + location


def with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def send(method: str, url: str, data: bytes, media_type: str) -> None:
    request = urllib.request.Request(url, method=method, data=data, headers={"Content-Type": media_type})
    urllib.request.urlopen(request).close()


def ask_token() -> str:
    scope = f"repository:{NAME}:pull"
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(
        f"{OURS}/auth/token?service=moldar-hub&scope={scope}", headers={"Authorization": f"Basic {basic}"}
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["token"])


def wrk(url: str, path: str, seconds: int, token: str = "") -> float:
    """Requests per second; for blobs of 1 MB that is MB/s."""
    headers = ["-H", f"Accept: {MANIFEST}", *(("-H", f"Authorization: Bearer {token}") if token else ())]
    command = ["wrk", "-t1", "-c16", f"-d{seconds}", *headers, f"{url}/v2/{NAME}/{path}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in text, text
    match = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert match, text
    return float(match[1])


def upload(url: str, large: Path) -> float:
    target = with_digest(session(url), sha256(large.read_bytes()))
    headers = ["-H", "Content-Type: application/octet-stream"]
    return _curl("speed_upload", "201", *headers, "-T", str(large), target)


def download(url: str, large: Path) -> float:
    return _curl("speed_download", "200", f"{url}/v2/{NAME}/blobs/{sha256(large.read_bytes())}")


def _curl(figure: str, status: str, *arguments: str) -> float:
    command = ["curl", "-s", "-o", os.devnull, "-w", f"%{{http_code}} %{{{figure}}}", *arguments]
    code, speed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert code == status, code
    return float(speed) / 1e6


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()

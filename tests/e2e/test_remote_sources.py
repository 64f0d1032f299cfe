"""Contexts and ADD by URL, served by a plain web server on this machine."""

import functools
import http.server
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar

FILES = {
    "Dockerfile": "FROM scratch\nCOPY . /x/\n",
    "sub/Dockerfile": "FROM scratch\nCOPY Dockerfile /y/\n",
    "f": "f",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A directory with a repository `r.git`, the same as `context.tgz`, and `Dockerfile`."""
    root = tmp_path / "served"
    work = tmp_path / "work"
    for name, text in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    root.mkdir()
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(work)]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "x"], ["update-server-info"]):
        subprocess.run([*git, *command], check=True)
    (work / ".git").rename(root / "r.git")
    with tarfile.open(root / "context.tgz", "w:gz") as archive:
        archive.add(work, ".")
    (root / "Dockerfile").write_text("FROM scratch\nLABEL from=url\n")
    return root


@pytest.fixture
def url(served: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def files_of(moldar: Moldar, directory: Path, *words: str | Path) -> dict[str, bytes]:
    """The files of the image that a build gives."""
    out = directory / "out.tar"
    moldar("build", *words, "-o", f"type=tar,dest={out}")
    with tarfile.open(fileobj=io.BytesIO(out.read_bytes())) as archive:
        members = [(member.name, archive.extractfile(member)) for member in archive if member.isfile()]
        return {name: content.read() for name, content in members if content}


@pytest.mark.parametrize("context", ["/r.git", "/r.git#main", "/context.tgz"])
def test_contexts_by_url(moldar: Moldar, url: str, tmp_path: Path, context: str) -> None:
    expected = {f"x/{name}": text.encode() for name, text in FILES.items()}
    assert files_of(moldar, tmp_path, url + context) == expected


def test_a_part_of_a_repository(moldar: Moldar, url: str, tmp_path: Path) -> None:
    assert files_of(moldar, tmp_path, url + "/r.git#:sub") == {"y/Dockerfile": FILES["sub/Dockerfile"].encode()}


def test_named_contexts_by_url(moldar: Moldar, url: str, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY --from=a f /a\nCOPY --from=b sub /b\n")
    named = [f"--build-context=a={url}/r.git", f"--build-context=b={url}/context.tgz"]
    assert files_of(moldar, tmp_path, context, *named) == {
        "a": b"f",
        "b/Dockerfile": FILES["sub/Dockerfile"].encode(),
    }
    assert "neither" in moldar.fails("build", context, f"--build-context=a={url}/Dockerfile", named[1])


def test_a_linked_dockerfile_cannot_show_the_host(moldar: Moldar, url: str, served: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("MYSECRET")
    with tarfile.open(served / "linked.tar", "w") as archive:
        link = tarfile.TarInfo("Dockerfile")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(link)
    assert "MYSECRET" not in moldar.fails("build", url + "/linked.tar")


def test_a_dockerfile_by_url(moldar: Moldar, url: str) -> None:
    moldar("build", "-t", "by-url", url + "/Dockerfile")
    assert "from" in moldar("image", "inspect", "by-url")


def test_add_by_url_is_cached_until_it_changes(moldar: Moldar, url: str, served: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM scratch\nADD {url}/Dockerfile /a/\nADD {url}/r.git /b/\n")
    repository = {f"b/{name}": text.encode() for name, text in FILES.items()}
    before = files_of(moldar, tmp_path, context)
    assert before == {"a/Dockerfile": (served / "Dockerfile").read_bytes(), **repository}
    assert moldar.run("build", "--progress", "plain", context).stderr.count("CACHED") == 2
    (served / "Dockerfile").write_text("FROM scratch\nLABEL from=elsewhere\n")
    later = time.time() + 10  # the server tells changes by whole seconds
    os.utime(served / "Dockerfile", (later, later))
    assert files_of(moldar, tmp_path, context)["a/Dockerfile"].endswith(b"elsewhere\n")


def test_what_is_not_served_is_one_clear_message(moldar: Moldar, url: str) -> None:
    assert "404" in moldar.fails("build", url + "/none.tar")
    assert "none.git" in moldar.fails("build", url + "/none.git")
    assert "no directory 'none'" in moldar.fails("build", url + "/r.git#:none")

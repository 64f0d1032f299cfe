"""`moldar hub check`: what is whole is found whole, and every kind of harm is named."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from moldar.errors import NotFound
from moldar.hub import administration
from moldar.hub.data.schema import MANIFESTS
from moldar.hub.registry.checking import Checker
from moldar.hub.services import Hub
from moldar.image.model import Digest

from .hubs import sha256
from .test_garbage import push, push_image


def harm(hub: Hub, digest: Digest, content: bytes) -> None:
    """Puts other bytes in a blob's place, as a broken disk or bucket would."""
    storage: Any = hub.storage
    if storage.is_remote:
        storage._library.put(storage._store, f"blobs/sha256/{digest[7:9]}/{digest[7:]}", content)
    else:
        Path(storage.path(digest)).write_bytes(content)


def problems(hub: Hub, **options: bool) -> list[tuple[str, str, str]]:
    return [tuple(problem) for problem in Checker(hub.database, hub.storage).check(**options).problems]


def test_what_is_whole(hub: Hub) -> None:
    push_image(hub, "a/b", b"{}", b"layer")
    push_image(hub, "a/c", b"{}", b"other", b"")
    found = Checker(hub.database, hub.storage).check()
    assert found == (4, len(b"{}layerother"), 2, 0, ())


def test_what_is_missing_or_damaged(hub: Hub) -> None:
    for name in ("a/b", "a/c", "a/d", "a/e"):
        push_image(hub, name, b"{}", b"layer", name.encode())
    manifest = push_image(hub, "a/b", b"{}", b"to be missed")
    unused = push(hub, "a/f", b"only held")
    hub.storage.delete_all([Digest(sha256(b"to be missed")), unused])
    harm(hub, Digest(sha256(b"layer")), b"liver")
    harm(hub, Digest(sha256(b"a/d")), b"short"[:1])
    with hub.database.writing() as connection:
        connection.execute(update(MANIFESTS).where(MANIFESTS.c.digest == manifest).values(content=b"{}"))
    both = [
        ("missing blob", sha256(b"to be missed"), "a/b"),
        ("missing blob", unused, "a/f"),
        ("damaged blob", sha256(b"a/d"), "a/d"),
    ]
    everything = [*both, ("damaged blob", sha256(b"layer"), "a/b, a/c, a/d and 1 more")]
    assert sorted(problems(hub)) == sorted([*everything, ("damaged manifest", manifest, "a/b")])
    assert sorted(problems(hub, quick=True)) == sorted([*both, ("damaged manifest", manifest, "a/b")])


def test_strays_are_counted(hub: Hub) -> None:
    hub.storage.begin("half")
    writer = hub.storage.resume("half", "sha256")
    writer.write(b"half a push")
    writer.seal(Digest(sha256(b"half a push")))
    writer.publish(Digest(sha256(b"half a push")))
    assert Checker(hub.database, hub.storage).check().strays == 1


def test_the_command(local_hub: Hub) -> None:
    push_image(local_hub, "a/b", b"{}", b"layer")
    command = [sys.executable, "-m", "moldar", "hub", "check", "--data", local_hub.settings.data]
    good = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "CHECKED" in good.stdout
    harm(local_hub, Digest(sha256(b"layer")), b"liver")
    bad = subprocess.run(command, check=False, capture_output=True, text=True)
    assert bad.returncode == 1
    assert f"damaged blob: {sha256(b'layer')} of a/b" in bad.stdout
    with pytest.raises(NotFound):
        administration.check(local_hub.settings.data + "/nowhere")

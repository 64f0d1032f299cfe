"""Cache keys: everything that decides a result is in them, and nothing else."""

import pytest

from moldar.builder import keys
from moldar.builder.graph import CopyOp, HostEntry, Mount, RunOp, Ulimit, WorkdirOp
from moldar.image.model import Digest, Platform, digest_of

BASE = digest_of(b"base")
MOUNT = Mount("bind", "/m", 1)
RUN = RunOp(("sh", "-c", "x"), ("A=1", "B=2"), "app", "/w", (MOUNT,))
COPY = CopyOp(((1, "a"),), "/a")
WORKDIR = WorkdirOp("/w")

RUN_CHANGES = {
    "args": ("sh", "-c", "y"), "environment": ("A=1",), "user": "", "workdir": "/", "network": "none",
    "security": "insecure", "script_files": (("EOF", b"#!"),), "hosts": (HostEntry("a", "1.1.1.1"),), "shm_size": 1,
    "ulimits": (Ulimit("nofile", 1, 2),), "platform": Platform("linux", "arm64"), "newest": 0,
    "one_id": True,
}  # fmt: skip
MOUNT_CHANGES = {
    "kind": "cache", "target": "/n", "subpath": "/s", "readonly": False, "cache_id": "x", "sharing": "locked",
    "mode": 1, "uid": 1, "gid": 1, "size": 1, "required": True, "env": "E",
}  # fmt: skip
COPY_CHANGES = {
    "sources": ((1, "b"),), "destination": "/b", "chown": "1", "chmod": "600", "link": True, "parents": True,
    "exclude": ("x",), "is_add": True, "unpack": True, "created_epoch": 1,
    "reproducible": True,
}  # fmt: skip


def run_digest(op: RunOp, base: Digest = BASE, content: str = "content") -> str:
    return keys.run_key(op, base, [content]).digest


@pytest.mark.parametrize("name", RUN_CHANGES)
def test_every_part_of_a_run_counts(name: str) -> None:
    assert run_digest(RUN._replace(**{name: RUN_CHANGES[name]})) != run_digest(RUN)


@pytest.mark.parametrize("name", MOUNT_CHANGES)
def test_every_part_of_a_mount_counts(name: str) -> None:
    changed = MOUNT._replace(**{name: MOUNT_CHANGES[name]})
    assert run_digest(RUN._replace(mounts=(changed,))) != run_digest(RUN)


@pytest.mark.parametrize("name", COPY_CHANGES)
def test_every_part_of_a_copy_counts(name: str) -> None:
    changed = keys.copy_key(COPY._replace(**{name: COPY_CHANGES[name]}), BASE, "content")
    assert changed.digest != keys.copy_key(COPY, BASE, "content").digest


def test_contents_and_the_base_count() -> None:
    other = digest_of(b"other")
    assert len({run_digest(RUN), run_digest(RUN, other), run_digest(RUN, content="other")}) == 3
    assert keys.copy_key(COPY, BASE, "a").digest != keys.copy_key(COPY, BASE, "b").digest
    assert keys.copy_key(COPY, BASE, "a").digest != keys.copy_key(COPY, other, "a").digest
    assert keys.workdir_key(WORKDIR, BASE).digest != keys.workdir_key(WORKDIR, other).digest


def test_a_linked_copy_does_not_depend_on_what_is_below() -> None:
    op = COPY._replace(link=True)
    assert keys.copy_key(op, BASE, "a").digest == keys.copy_key(op, digest_of(b"other"), "a").digest


def test_proxies_order_of_variables_and_input_numbers_do_not_count() -> None:
    assert run_digest(RUN._replace(proxies=("HTTP_PROXY=x",))) == run_digest(RUN)
    assert run_digest(RUN._replace(environment=("B=2", "A=1"))) == run_digest(RUN)
    assert run_digest(RUN._replace(mounts=(MOUNT._replace(source=2),))) == run_digest(RUN)


def test_fields_are_not_forgotten() -> None:
    """A new member of an op must be put here, and so be thought about."""
    assert set(RunOp._fields) == RUN_CHANGES.keys() | {"mounts", "proxies"}
    assert set(Mount._fields) == MOUNT_CHANGES.keys() | {"source"}
    assert set(CopyOp._fields) == COPY_CHANGES.keys() | {"checksum"}

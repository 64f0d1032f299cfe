"""Cache keys: what of a step and its inputs decides its result, digested, and described for a person.

A key holds digests of contents and never secrets, proxies, names of vertices or positions in the file. The parts of
a key are kept beside the record, so that a later miss can say what differs.
"""

import hashlib
from collections.abc import Sequence

from moldar.builder.graph import CopyOp, Mount, RunOp, WorkdirOp
from moldar.builder.solver import BELOW, Key
from moldar.image.model import Digest, encode_json

ENVIRONMENT = "the environment"
COPIED = "the copied files"
MOUNTS = "the mounts"
OWNERS = "who can own files"
VERSION = 1
"""Part of every key; raised when the meaning of a step changes."""


def run_key(op: RunOp, base: Digest, mount_contents: Sequence[str]) -> Key:
    """The key of a RUN over a root with identity `base`; `mount_contents[i]` digests what mount i shows, or is empty.

    A cache mount's content, a secret's value and the proxies are no part of it.
    """
    mounts = [[*_mount(mount), content] for mount, content in zip(op.mounts, mount_contents, strict=True)]
    parts = [
        (BELOW, base),
        ("the command", "\n".join(op.args)),
        (ENVIRONMENT, "\n".join(sorted(op.environment))),
        ("the user", op.user),
        ("the working directory", op.workdir),
        (MOUNTS, _text(mounts) if mounts else ""),
        ("the scripts", _text([[name, hashlib.sha256(data).hexdigest()] for name, data in op.script_files])),
        ("the network", op.network),
        ("the security mode", op.security),
        ("the hosts", _text(op.hosts) if op.hosts else ""),
        ("the limits", _text([op.shm_size, op.ulimits])),
        ("the platform", str(op.platform)),
    ]
    if op.newest is not None:
        parts.append(("the date", str(op.newest)))
    if op.one_id:
        parts.append((OWNERS, "root only"))
    return make_key("RUN", parts, "RUN " + " ".join(op.args))


def workdir_key(op: WorkdirOp, base: Digest) -> Key:
    """The key of a WORKDIR over a root with identity `base`."""
    parts = [(BELOW, base), ("the directory", op.path), ("the user", op.user)]
    parts.append(("the date", str(op.created_epoch)))
    return make_key("WORKDIR", parts, f"WORKDIR {op.path}")


def copy_key(op: CopyOp, base: Digest, contents: str) -> Key:
    """The key of a COPY or ADD whose selected sources have the digest `contents`.

    With --link the layer does not depend on what is below it; --chmod turns that off.
    """
    paths = [path for _, path in op.sources]
    flags = [op.link, op.parents, op.exclude, op.is_add, op.unpack, op.created_epoch]
    if op.reproducible:
        flags.append("reproducible")
    parts = [
        (BELOW, "" if op.link and not op.chmod else base),
        (COPIED, contents),
        ("the destination", op.destination),
        ("the sources", "\n".join(paths)),
        ("--chown", op.chown),
        ("--chmod", op.chmod),
        ("the flags", _text(flags)),
    ]
    name = "ADD" if op.is_add else "COPY"
    return make_key(name, parts, " ".join([name, *paths, op.destination]))


def make_key(kind: str, parts: Sequence[tuple[str, str]], step: str) -> Key:
    """A key over all of `parts`; empty ones are left out of the description."""
    digest = hashlib.sha256(encode_json([VERSION, kind, *parts])).hexdigest()
    return Key(Digest(f"sha256:{digest}"), tuple((name, value) for name, value in parts if value), step)


def _mount(mount: Mount) -> list[object]:
    return [value for name, value in zip(mount._fields, mount, strict=True) if name != "source"]


def _text(value: object) -> str:
    return encode_json(value).decode()

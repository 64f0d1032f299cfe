"""One member of a layer, and the names that the OCI layer format gives a meaning (image-spec 1.1, layer.md)."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from moldar.errors import CorruptData

WHITEOUT_PREFIX = ".wh."
OPAQUE_WHITEOUT = ".wh..wh..opq"
META_PREFIX = ".wh..wh."
OVERLAY_OPAQUE = "trusted.overlay.opaque"
OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")
Whiteouts = Literal["overlay", "userxattr", "apply"]
"""How an unpacked layer says that names are gone: by overlayfs's marks, those of root or of users, or by not having
them."""
OPAQUE_MARKS: Mapping[str, str] = {"overlay": OVERLAY_OPAQUE, "userxattr": "user.overlay.opaque"}
"""The attribute of opaque directories, by that style."""
KINDS = ("file", "dir", "symlink", "link", "fifo", "char", "block")


class LayerEntry(NamedTuple):
    """One member of a layer's tar.

    `path` is relative, without `./`, leading or trailing slash; the root directory itself is "". Names are text with
    surrogate escapes, so that any bytes survive. `kind` is one of KINDS; a "link" is a hard link whose `target` is a
    path in the layer, a "symlink"'s target is as stored. `mode` holds permission bits with set-id and sticky bits;
    `mtime` is in seconds since the epoch; `size` is of a file's content. A whiteout is an empty file whose last
    component begins with `.wh.`.
    """

    path: str
    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    size: int = 0
    target: str = ""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


class BadLayer(CorruptData):
    """A layer's tar that is malformed, truncated or tries to reach outside its root. `member` may be empty."""

    def __init__(self, why: str, member: str = "") -> None:
        shown = member.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        super().__init__(f"bad layer: member {shown!r}: {why}" if member else f"bad layer: {why}")
        self.why = why
        self.member = member


class NeedsParents(CorruptData):
    """A layer that cannot be unpacked on its own: it relies on a directory or file of the layers beneath it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the layer relies on {path!r} of a layer beneath it")
        self.path = path


def is_metadata(path: str) -> bool:
    """Whether a member belongs to AUFS, which kept its own books in names that begin with `.wh..wh.`."""
    return any(part.startswith(META_PREFIX) and part != OPAQUE_WHITEOUT for part in path.split("/"))

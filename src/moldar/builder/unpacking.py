"""ADD of a local archive: a tar, plain or compressed, recognised by its content and unpacked onto a canvas.

Names cannot leave the destination: `..` stops there, and links are followed as if it were the root. Names that mark
deletions in layers are plain names here.
"""

import io
import os

from moldar.builder.accounts import Owner
from moldar.builder.canvas import Addition, Canvas, Slice
from moldar.builder.entry import Place
from moldar.builder.hashing import CAPABILITY, check_unchanged, open_unchanged
from moldar.errors import CorruptData, HostTrouble
from moldar.image.decompression import detect, open_decompressed
from moldar.image.layer_entry import BadLayer, LayerEntry
from moldar.image.layer_read import Readable, read_entries, scan_entries

_CHUNK = 1 << 20


def is_archive(place: Place | bytes) -> bool:
    """Whether the file begins as a tar does, after decompression (gzip, bzip2, xz, zstd)."""
    if isinstance(place, bytes):
        return _begins_as_tar(io.BytesIO(place))
    with open(open_unchanged(place.path), "rb", buffering=0) as file:
        return _begins_as_tar(file)


def unpack_archive(canvas: Canvas, place: Place | bytes, root: str, owner: Owner | None, scratch: str) -> None:
    """Unpack the archive below the directory `root` of the canvas. `owner` replaces the archive's owners.

    Raises CorruptData for a broken archive, HostTrouble when `scratch` cannot hold its contents.
    """
    if isinstance(place, bytes):
        descriptor = canvas.keep(_spool(io.BytesIO(place), scratch))
    else:
        descriptor = _open_plain(canvas, place, scratch)
    unpacker = _Unpacker(canvas, root, owner, descriptor)
    for entry, offset in scan_entries(descriptor, clamp=True):
        unpacker.add(entry, offset)


def _begins_as_tar(file: Readable) -> bool:
    try:
        return next(iter(read_entries(open_decompressed(file), contents=False, clamp=True)), None) is not None
    except CorruptData:
        return False


def _open_plain(canvas: Canvas, place: Place, scratch: str) -> int:
    """A descriptor of the raw tar, which the canvas closes: the file itself, or its decompressed content."""
    descriptor = canvas.keep(open_unchanged(place.path))
    if detect(os.pread(descriptor, 16, 0)) == "none":
        canvas.watch(descriptor, place)
        return descriptor
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        plain = canvas.keep(_spool(file, scratch))
    check_unchanged(descriptor, place.path, place.key)
    return plain


def _spool(file: Readable, scratch: str) -> int:
    plain = open_decompressed(file)
    try:
        spooled = os.open(scratch, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            while data := plain.read(_CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(spooled, view) :]
        except BaseException:
            os.close(spooled)
            raise
    except OSError as error:
        raise HostTrouble(f"cannot unpack an archive to {scratch}: {error.strerror}") from error
    return spooled


class _Unpacker:
    """Adds the members of one archive to a canvas."""

    def __init__(self, canvas: Canvas, root: str, owner: Owner | None, descriptor: int) -> None:
        self._canvas = canvas
        self._root = root
        self._owner = owner
        self._descriptor = descriptor

    def add(self, entry: LayerEntry, offset: int) -> None:
        """One member. Its parents are made when the archive did not name them."""
        if not entry.path:
            return  # the destination keeps its own mode
        where = self._locate(entry.path)
        existing = self._canvas.lookup(where)
        if existing is not None and not (existing.kind == "dir" and entry.kind == "dir"):
            self._canvas.replace(where)
        if entry.kind == "link":
            self._add_link(entry, where)
            return
        uid, gid = self._owner[:2] if self._owner else (entry.uid, entry.gid)
        capability = tuple(pair for pair in entry.xattrs if pair[0] == CAPABILITY)
        mode = 0o777 if entry.kind == "symlink" else entry.mode
        made = entry._replace(path=where, uid=uid, gid=gid, mode=mode, xattrs=capability)
        is_file = entry.kind == "file"
        group = (self._descriptor, offset) if is_file else None
        self._canvas.add(Addition(made, Slice(self._descriptor, offset) if is_file else None, group))

    def _locate(self, path: str) -> str:
        """The final path of the member `path`, in a directory that exists."""
        parent, _, name = path.rpartition("/")
        directory = self._canvas.resolve(parent, self._root)
        self._canvas.make_directories(directory, LayerEntry("", "dir", 0o755))
        return f"{directory}/{name}" if directory else name

    def _add_link(self, entry: LayerEntry, where: str) -> None:
        """A hard link, to a member of the archive or to a file that the image has."""
        parent, _, name = entry.target.rpartition("/")
        directory = self._canvas.resolve(parent, self._root)
        source = f"{directory}/{name}" if directory else name
        addition = self._canvas.addition(source)
        if addition is None:
            addition = self._pull(source, entry)
        self._canvas.add(addition._replace(entry=addition.entry._replace(path=where)))

    def _pull(self, source: str, entry: LayerEntry) -> Addition:
        """A file of the image, brought into the new layer so that it can have another name there."""
        found = self._canvas.lookup(source)
        if found is None or found.kind == "dir":
            raise BadLayer(f"a hard link to {entry.target!r}, which is not there", entry.path)
        content = None
        if found.kind == "file":
            descriptor, _ = self._canvas.view.open(source)
            self._canvas.keep(descriptor)
            content = Slice(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
        addition = Addition(found._replace(path=source), content, (source, self._descriptor))
        self._canvas.add(addition)
        return addition

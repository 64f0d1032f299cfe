"""The program that shows layers through FUSE and notes what is looked at; `view.py` starts it, nothing imports it.

It runs by itself (no site, nothing of moldar) because it must start in a few milliseconds and must not share the
builder's interpreter lock. Its descriptors are 0: a socket to the builder, 2: for what goes wrong, 3 and up: one
/dev/fuse each, mounted already; its arguments are the layers' directories in the same order.

One thread serves each layer with blocking reads, which is two system calls for most requests. The builder's one byte
on the socket asks for the log, which is written there; then, or when the builder is gone, the program ends, and the
kernel aborts the mounts. The log is fields that end in NUL: the layer's number, the kind and the path of each
question, and at the end "complete", or else what makes it unusable.

A question is noted before its reply is written, so whatever a process of the step could know is in the log. Timeouts
are long, because layers never change. Everything that a layer's answers do not cover is constant here: sizes, link
counts and times of directories, inode numbers (hashes of paths). Numbers are those of linux/fuse.h.
"""

import _thread
import errno
import os
import select
import stat
import struct
import sys
import time
from _collections_abc import Callable  # os has loaded this one already
from zlib import adler32, crc32

DIRECTORY_TIME = 946684800
"""The modification time of all directories, 2000-01-01: not before 1980, which zip files cannot express."""

_IN = struct.Struct("=IIQQ16x")
_OUT = struct.Struct("=IiQ")
_ENTRY = struct.Struct("=QQQQII")
_ATTR = struct.Struct("=QQQqqqIIIIIIIIII")
_ATTR_HEAD = struct.Struct("=QII")
_READ_IN = struct.Struct("=8xQI")
_SIZE = struct.Struct("=I4x")
_SEEK_IN = struct.Struct("=8xQi")
_DIRENT = struct.Struct("=QQII")
_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
_STATFS = struct.Struct("=QQQQQIIII24x")

_FOREVER = 1 << 31
_MINOR = 45
_MOST_READ = 1 << 20
_REQUEST = 16384
# Sleeping and being woken costs up to 0.1 ms, on virtual machines above all: after a short sleep it is better to look
# for the next request some times before sleeping again, which takes about as long.
_SHORT = 0.0002
_LOOKS = 50
_OPEN_FILES = 512  # of all layers together; most systems allow 1024
# ASYNC_READ, PARALLEL_DIROPS, ABORT_ERROR, MAX_PAGES, CACHE_SYMLINKS, INIT_EXT; never READDIRPLUS: it hides lookups
_FLAGS = 1 << 0 | 1 << 18 | 1 << 21 | 1 << 22 | 1 << 23 | 1 << 30
# Overlayfs asks for these of every file and directory. With our mount options it makes none but origins, which change
# nothing then, and unpacking drops them: their absence says nothing about a layer, so only their presence is noted.
_METACOPY = (b"trusted.overlay.metacopy\0", b"user.overlay.metacopy\0")
_NOT_IN_LAYERS = (b"trusted.overlay.redirect", b"trusted.overlay.origin")
_OF_USERS, _OF_ROOT = b"user.overlay.", b"trusted.overlay."
_LOOKUP, _GETATTR, _READLINK, _READ, _STATFS_CODE, _GETXATTR, _LISTXATTR = 1, 3, 5, 15, 17, 22, 23
_INIT, _READDIR, _LSEEK, _IOCTL = 26, 28, 46, 39
_SILENT = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET
_EMPTY = (18, 29, 38)  # RELEASE, RELEASEDIR, DESTROY
# OPEN, FLUSH, OPENDIR, ACCESS, STATX: without OPEN there are fewer requests, and truncating reads nothing
_UNSUPPORTED = (14, 25, 27, 34, 52)
# What a layer itself can answer; any other failure is the host's, which the step must not have seen.
_HONEST = (
    errno.ENOENT, errno.ENODATA, errno.ERANGE, errno.EOPNOTSUPP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENOTTY,
    errno.ENOSYS, errno.EINVAL,
)  # fmt: skip


class Layer:
    """One mount: answers its requests and notes the questions. Paths are absolute until the log is written."""

    def __init__(self, device: int, root: bytes, most_open: int) -> None:
        self.trouble = ""
        self._device = device
        self._waiting = select.poll()
        self._waiting.register(device, select.POLLIN)
        os.set_blocking(device, False)
        self._most_open = most_open
        self._root = root
        self._asked: set[tuple[str, bytes]] = set()
        self._paths = {1: root}
        self._nodes = {root: 1}
        self._read: set[int] = set()
        self._groups: dict[int, bytes] | None = None
        self._files: dict[int, int] = {}
        self._listings: dict[int, list[bytes]] = {}
        self._buffer = memoryview(bytearray(_MOST_READ))
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            _LOOKUP: self._lookup, _GETATTR: self._getattr, _READLINK: self._readlink, _INIT: self._init,
            _STATFS_CODE: self._statfs, _GETXATTR: self._getxattr, _LISTXATTR: self._listxattr,
            _READDIR: self._readdir, _LSEEK: self._lseek,
        }  # fmt: skip

    def serve(self) -> None:
        """Answer requests until the mount is gone."""
        try:
            self._serve()
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ECONNABORTED):
                os._exit(2)
        except BaseException:
            os._exit(2)

    def questions(self) -> list[tuple[str, bytes]]:
        """What was asked so far, with paths relative to the layer."""
        start = len(self._root) + 1
        return [(kind, path[start:]) for kind, path in list(self._asked)]

    def _serve(self) -> None:
        device, head, read, answers = self._device, _IN.size, os.read, self._answers
        most = looks = 0
        worthwhile = _LOOKS if len(os.sched_getaffinity(0)) > 1 else 0  # on one CPU nobody can ask meanwhile
        while True:
            try:
                request = read(device, _REQUEST)
                looks = most
            except BlockingIOError:
                looks -= 1
                if looks < 0:
                    most = looks = worthwhile if self._sleep() < _SHORT else 0
                continue
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                raise
            _, code, unique, node = _IN.unpack_from(request)
            if code in _SILENT:
                continue
            if code == _GETXATTR and request[head + 8 :] in _METACOPY:
                self._reply(_OUT.pack(16, -errno.ENODATA, unique), b"")
                continue
            try:
                if code == _READ:
                    data: bytes | memoryview = self._content(node, request)
                elif code in answers:
                    data = answers[code](node, request[head:])
                else:
                    data = self._other(code)
                self._reply(_OUT.pack(16 + len(data), 0, unique), data)
            except OSError as error:
                number = error.errno or errno.EIO
                if number in (errno.ENODEV, errno.ECONNABORTED):
                    raise
                if number not in _HONEST:
                    self.trouble = f"request {code}: {error.strerror}"
                self._reply(_OUT.pack(16, -number, unique), b"")

    def _sleep(self) -> float:
        """Until there is a request; the seconds that this took."""
        began = time.monotonic()
        self._waiting.poll()
        return time.monotonic() - began

    def _reply(self, head: bytes, data: bytes | memoryview) -> None:
        try:
            if isinstance(data, bytes):
                os.write(self._device, head + data)
            else:
                os.writev(self._device, (head, data))
        except OSError as error:
            if error.errno != errno.ENOENT:  # not just an interrupted request: nobody must wait for a reply
                os._exit(2)

    def _other(self, code: int) -> bytes:
        if code in _EMPTY:
            return b""
        if code == _IOCTL:
            raise OSError(errno.ENOTTY, "")
        if code not in _UNSUPPORTED:
            self.trouble = f"unknown request {code}"
        raise OSError(errno.ENOSYS, "")

    def _init(self, node: int, body: bytes) -> bytes:
        _, minor, readahead, flags = _INIT_IN.unpack_from(body)
        kept = flags & _FLAGS
        return _INIT_OUT.pack(
            7, min(minor, _MINOR), max(readahead, _MOST_READ), kept, 64, 48, 4096, 1, _MOST_READ >> 12, 0, 0
        )

    def _lookup(self, node: int, body: bytes) -> bytes:
        path = self._paths[node] + b"/" + body[:-1]
        self._asked.add(("entry", path))
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return _ENTRY.pack(0, 0, _FOREVER, 0, 0, 0) + bytes(_ATTR.size)
        found = self._nodes.get(path)
        if found is None:
            found = len(self._nodes) + 1
            self._paths[found] = path
            self._nodes[path] = found
        return _ENTRY.pack(found, 0, _FOREVER, _FOREVER, 0, 0) + self._attributes(path, status)

    def _getattr(self, node: int, body: bytes) -> bytes:
        path = self._paths[node]
        self._asked.add(("entry", path))
        return _ATTR_HEAD.pack(_FOREVER, 0, 0) + self._attributes(path, os.lstat(path))

    def _attributes(self, path: bytes, status: os.stat_result) -> bytes:
        mode, size, links = status.st_mode, status.st_size, status.st_nlink
        second, nano = divmod(status.st_mtime_ns, 1_000_000_000)
        if stat.S_ISDIR(mode):
            second, nano, size, links = DIRECTORY_TIME, 0, 4096, 1
        shown = self._group(path, status.st_ino) if links > 1 else path
        return _ATTR.pack(
            self._inode(shown), size, -(-size // 4096) * 8, second, second, second, nano, nano, nano,
            mode, links, status.st_uid, status.st_gid, _device_number(status.st_rdev), 4096, 0,
        )  # fmt: skip

    def _group(self, path: bytes, inode: int) -> bytes:
        """The first of a file's names: all of them show its inode number, which is how programs know hard links."""
        if self._groups is None:
            self._groups = _linked_names(self._root)
        return self._groups.get(inode, path)

    def _inode(self, path: bytes) -> int:
        relative = path[len(self._root) :]
        return (crc32(relative) << 31 ^ adler32(relative[::-1])) + 2

    def _readlink(self, node: int, body: bytes) -> bytes:
        path = self._paths[node]
        self._asked.add(("target", path))
        return os.readlink(path)

    def _content(self, node: int, request: bytes) -> memoryview:
        offset, size = _READ_IN.unpack_from(request, _IN.size)
        self._note_content(node)
        buffer = self._buffer[: min(size, _MOST_READ)]
        descriptor = self._files.get(node)
        if descriptor is not None:
            return buffer[: os.preadv(descriptor, (buffer,), offset)]
        descriptor = self._open(node)
        read = os.preadv(descriptor, (buffer,), offset)
        if read < size:  # that was its end: most files are read at once
            os.close(descriptor)
        else:
            self._keep_open(node, descriptor)
        return buffer[:read]

    def _note_content(self, node: int) -> None:
        if node not in self._read:
            self._read.add(node)
            self._asked.add(("content", self._paths[node]))

    def _open(self, node: int) -> int:
        return os.open(self._paths[node], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def _keep_open(self, node: int, descriptor: int) -> None:
        """For the next request; all are closed when there are many, as nothing tells when a file is done with."""
        if len(self._files) >= self._most_open:
            for other in self._files.values():
                os.close(other)
            self._files.clear()
        self._files[node] = descriptor

    def _lseek(self, node: int, body: bytes) -> bytes:
        offset, whence = _SEEK_IN.unpack_from(body)
        self._note_content(node)
        if node not in self._files:
            self._keep_open(node, self._open(node))
        return struct.pack("=Q", os.lseek(self._files[node], offset, whence))

    def _readdir(self, node: int, body: bytes) -> bytes:
        offset, size = _READ_IN.unpack_from(body)
        if not offset or node not in self._listings:
            self._listings[node] = self._list(node)
        listing = self._listings[node]
        chunks = []
        for entry in listing[offset:]:
            size -= len(entry)
            if size < 0:
                break
            chunks.append(entry)
        if not chunks:
            del self._listings[node]
        return b"".join(chunks)

    def _list(self, node: int) -> list[bytes]:
        path = self._paths[node]
        self._asked.add(("names", path))
        inode = self._inode(path)
        entries = [_entry(inode, 1, b".", stat.S_IFDIR), _entry(inode, 2, b"..", stat.S_IFDIR)]
        with os.scandir(path) as members:
            for member in sorted(members, key=lambda member: member.name):
                kind = _kind(member)
                entries.append(_entry(self._inode(member.path), len(entries) + 1, member.name, kind))
        return entries

    def _getxattr(self, node: int, body: bytes) -> bytes:
        path, name = self._paths[node], body[8:-1]
        # What is noted is the same whether the layers are root's or a user's, so that records serve both.
        noted = _OF_ROOT + name[len(_OF_USERS) :] if name.startswith(_OF_USERS) else name
        if noted not in _NOT_IN_LAYERS:
            self._note_attribute(path, noted)
        value = os.getxattr(path, name, follow_symlinks=False)
        self._note_attribute(path, noted)
        return _sized(value, body)

    def _note_attribute(self, path: bytes, name: bytes) -> None:
        self._asked.add(("attribute " + os.fsdecode(name), path))

    def _listxattr(self, node: int, body: bytes) -> bytes:
        path = self._paths[node]
        self._asked.add(("attributes", path))
        names = os.listxattr(path, follow_symlinks=False)
        return _sized(b"".join(os.fsencode(name) + b"\0" for name in names), body)

    def _statfs(self, node: int, body: bytes) -> bytes:
        found = os.statvfs(self._root)
        return _STATFS.pack(found.f_blocks, 0, 0, found.f_files, 0, found.f_bsize, found.f_namemax, found.f_frsize, 0)


def _linked_names(root: bytes) -> dict[int, bytes]:
    """By inode, the first name of every file that has several."""
    first: dict[int, bytes] = {}
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as members:
            for member in members:
                if member.is_dir(follow_symlinks=False):
                    pending.append(member.path)
                    continue
                status = member.stat(follow_symlinks=False)
                if status.st_nlink > 1:
                    first[status.st_ino] = min(member.path, first.get(status.st_ino, member.path))
    return first


def _entry(inode: int, place: int, name: bytes, kind: int) -> bytes:
    return _DIRENT.pack(inode, place, len(name), kind >> 12) + name + bytes(-len(name) % 8)


def _kind(member: "os.DirEntry[bytes]") -> int:
    if member.is_symlink():
        return stat.S_IFLNK
    if member.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if member.is_file(follow_symlinks=False):
        return stat.S_IFREG
    return stat.S_IFMT(member.stat(follow_symlinks=False).st_mode)


def _sized(data: bytes, body: bytes) -> bytes:
    """An attribute as asked for: its size when the room is 0."""
    (room,) = _SIZE.unpack_from(body)
    if not room:
        return _SIZE.pack(len(data))
    if len(data) > room:
        raise OSError(errno.ERANGE, "")
    return data


def _device_number(device: int) -> int:
    """In the kernel's 32-bit form."""
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def _log(layers: list[Layer]) -> bytes:
    fields = []
    for number, layer in enumerate(layers):
        for kind, path in layer.questions():
            fields += [b"%d" % number, os.fsencode(kind), path]
    trouble = next((layer.trouble for layer in layers if layer.trouble), "complete")
    return b"".join(field + b"\0" for field in [*fields, trouble.encode()])


def main() -> None:
    """Serve until the builder asks for the log, or is gone."""
    roots = [os.fsencode(root) for root in sys.argv[1:]]
    layers = [Layer(3 + number, root, _OPEN_FILES // len(roots) + 1) for number, root in enumerate(roots)]
    for layer in layers:
        _thread.start_new_thread(layer.serve, ())
    asked = os.read(0, 1)
    data = memoryview(_log(layers)) if asked else memoryview(b"")
    while data:
        data = data[os.write(0, data) :]
    os._exit(0 if asked else 1)


if __name__ == "__main__":
    main()

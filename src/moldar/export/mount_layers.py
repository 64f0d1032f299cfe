"""The files of a cache mount as a layer blob, so that they can travel; equal files give the same blob."""

import os
import shutil
from functools import partial

from moldar.errors import HostTrouble
from moldar.export.layer_forms import WrongLayer
from moldar.export.streams import Hashing, WrittenTar
from moldar.image.compression import MEDIA_TYPE, Codec, compressor
from moldar.image.decompression import open_decompressed
from moldar.image.layer_diff import diff_entries
from moldar.image.model import Descriptor, Digest
from moldar.image.unpack import unpack
from moldar.store.blobs import BlobStore

_CHUNK = 1 << 20
_MODE = 0o755


def pack_directory(blobs: BlobStore, directory: str, codec: Codec = "gzip") -> tuple[Digest, int, Descriptor]:
    """Diff ID, tar size and blob of what is in `directory`. Raises HostTrouble, CorruptData when it changes."""
    work = compressor(codec)
    with blobs.writer() as writer:
        with WrittenTar(diff_entries(directory)) as stream:
            plain = Hashing(stream)
            for data in iter(partial(plain.read, _CHUNK), b""):
                writer.write(work.compress(data))
        writer.write(work.flush())
        descriptor = Descriptor(MEDIA_TYPE[codec], writer.commit(), writer.size)
    return plain.digest, plain.size, descriptor


def unpack_directory(blobs: BlobStore, blob: Descriptor, diff_id: Digest, directory: str) -> None:
    """Make `directory` of a blob, whole or not at all. Raises WrongLayer, BadLayer, HostTrouble."""
    staged = f"{directory}.{os.urandom(6).hex()}.new"
    try:
        os.mkdir(staged)
        os.chmod(staged, _MODE)
        with blobs.open(blob.digest) as file:
            plain = Hashing(open_decompressed(file))
            unpack(plain, staged, whiteouts="apply")
        if plain.digest != diff_id:
            raise WrongLayer(diff_id, plain.digest)
        os.rename(staged, directory)
    except OSError as error:
        raise HostTrouble(f"cannot fill {directory}: {error.strerror}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)

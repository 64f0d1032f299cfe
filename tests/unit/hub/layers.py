"""Layers made in memory, honest and hostile, for the tests of the layer view."""

import gzip
import io
import json
import tarfile
from typing import Any

from .hubs import Client, image_manifest, sha256

LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


class Bytes:
    """A blob in memory, as the storage hands one out."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def chunks(self, start: int, end: int) -> Any:
        yield self._data[start:end]

    def close(self) -> None:
        pass


def tar(*members: tuple[str, Any], mode: int = 0o644) -> bytes:
    """A tar of names with their content: bytes, None for a directory, `-> target` for a symbolic link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def push_layers(client: Client, repository: str, tag: str, layers: list[bytes], config: Any = None) -> str:
    """Pushes an image of these layers' raw bytes; gives its digest."""
    raw = config if config is not None else {"os": "linux", "architecture": "amd64"}
    encoded = json.dumps(raw).encode()
    held = [(client.push_blob(repository, layer), len(layer)) for layer in layers]
    document = image_manifest(client.push_blob(repository, encoded), len(encoded), held)
    answer = client.push_manifest(repository, tag, document)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["docker-content-digest"])


def zeros(size: int) -> bytes:
    """A gzip of a tar whose one file has `size` zero bytes, made without holding them."""
    out = io.BytesIO()
    info = tarfile.TarInfo("bomb")
    info.size = size
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6) as file:
        file.write(info.tobuf())
        block = bytes(1 << 20)
        for _ in range(size >> 20):
            file.write(block)
        file.write(bytes(1024))
    return out.getvalue()


__all__ = ["LAYER_GZIP", "Bytes", "push_layers", "sha256", "tar", "zeros"]

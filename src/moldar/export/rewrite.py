"""Images whose layers have no time later than a given one, so that builds at different times give the same bytes."""

from functools import partial

from moldar.export.layer_forms import LayerForms
from moldar.export.store_image import ImageStore
from moldar.image.config import encode_image_config, parse_image_config
from moldar.image.layer_read import read_entries
from moldar.image.layer_write import LayerWriter
from moldar.image.model import Digest, digest_of
from moldar.sandbox.unpacked import Stack

_CHUNK = 1 << 20


def clamp_times(store: ImageStore, forms: LayerForms, image: Digest, epoch: int, *, keep: int = 0) -> Digest:
    """An image like `image` in whose layers everything newer than `epoch` (in seconds) is as old as that.

    The lowest `keep` layers, those of a base image, stay as they are. The result, which is `image` itself when
    nothing was newer, lives as long as the caller's lease: it is made to leave the store.
    """
    store.protect("blob", [image])
    config = parse_image_config(store.blobs.read(image))
    diff_ids = [*config.diff_ids[:keep]]
    for depth in range(keep + 1, len(config.diff_ids) + 1):
        diff_ids.append(_clamped(store, forms, config.diff_ids[:depth], epoch))
    if tuple(diff_ids) == config.diff_ids:
        return image
    raw = encode_image_config(config._replace(diff_ids=tuple(diff_ids)))
    store.protect("blob", [digest_of(raw)])
    return store.blobs.put(raw)


def _clamped(store: ImageStore, forms: LayerForms, stack: Stack, epoch: int) -> Digest:
    with store.blobs.writer() as writer, forms.open_tar(stack) as stream:
        layer = LayerWriter(writer.write)
        newer = False
        for entry, content in read_entries(stream, contents=True):
            newer = newer or entry.mtime > epoch
            entry = entry._replace(mtime=min(entry.mtime, epoch))
            if content is None:
                layer.add(entry)
            else:
                layer.add_chunks(entry, iter(partial(content.read, _CHUNK), b""))
        layer.close()
        if not newer:  # the same files in other bytes would be another layer for nothing
            return stack[-1]
        store.protect("layer", [writer.digest])
        diff_id = writer.commit()
    store.layers.record(diff_id, writer.size)
    return diff_id

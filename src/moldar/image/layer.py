"""Layers as tar archives: what other rooms import; the parts live in the modules named below."""

from moldar.image.layer_diff import diff_entries
from moldar.image.layer_entry import OPAQUE_WHITEOUT, WHITEOUT_PREFIX, BadLayer, LayerEntry
from moldar.image.layer_read import Readable, read_entries, scan_entries
from moldar.image.layer_write import LayerWriter, Opener, Write, write_layer
from moldar.image.unpack import UnpackResult, unpack

__all__ = [
    "OPAQUE_WHITEOUT",
    "WHITEOUT_PREFIX",
    "BadLayer",
    "LayerEntry",
    "LayerWriter",
    "Opener",
    "Readable",
    "UnpackResult",
    "Write",
    "diff_entries",
    "read_entries",
    "scan_entries",
    "unpack",
    "write_layer",
]

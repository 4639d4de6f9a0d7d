"""Readers of bags on disk: CLAM, TRIDENT, torchmil, STAMP, tables, and plain files."""

from milforge.data.readers.bag_reader import BagHeader, BagReader, Rows, Unit
from milforge.data.readers.layout import bag_id_of
from milforge.data.readers.opening import LAYOUTS, detect_layout, open_reader

__all__ = [
    "LAYOUTS",
    "BagHeader",
    "BagReader",
    "Rows",
    "Unit",
    "bag_id_of",
    "detect_layout",
    "open_reader",
]

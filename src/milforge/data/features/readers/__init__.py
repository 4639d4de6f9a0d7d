"""Readers of bags on disk: CLAM, TRIDENT, torchmil, STAMP, tables, and plain files."""

from milforge.data.features.readers.bag_reader import BagHeader, BagReader, Rows, Unit
from milforge.data.features.readers.layouts.layout import bag_id_of
from milforge.data.features.readers.open_reader import LAYOUTS, detect_layout, open_reader

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

"""Images that are read window by window, from memory and from files."""

from milforge.data.images.sources.file_source import FileSource
from milforge.data.images.sources.formats.array import ArraySource
from milforge.data.images.sources.formats.slide import SlideSource
from milforge.data.images.sources.formats.tiff import TiffSource
from milforge.data.images.sources.handles import close_files
from milforge.data.images.sources.level import LevelSource
from milforge.data.images.sources.low import low_resolution
from milforge.data.images.sources.open import open_source
from milforge.data.images.sources.tensor import TensorSource
from milforge.data.images.sources.tolerant import TolerantSource

__all__ = [
    "ArraySource",
    "FileSource",
    "LevelSource",
    "SlideSource",
    "TensorSource",
    "TiffSource",
    "TolerantSource",
    "close_files",
    "low_resolution",
    "open_source",
]

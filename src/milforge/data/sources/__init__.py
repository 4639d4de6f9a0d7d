"""Images that are read window by window, from memory and from files."""

from milforge.data.sources.array import ArraySource
from milforge.data.sources.file_source import FileSource
from milforge.data.sources.handles import close_files
from milforge.data.sources.level import LevelSource
from milforge.data.sources.low import low_resolution
from milforge.data.sources.open import open_source
from milforge.data.sources.slide import SlideSource
from milforge.data.sources.tensor import TensorSource
from milforge.data.sources.tiff import TiffSource
from milforge.data.sources.tolerant import TolerantSource

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

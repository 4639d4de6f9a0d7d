"""The reader that a file asks for."""

from importlib.util import find_spec
from pathlib import Path

from milforge.data.images.sources.file_source import FileSource
from milforge.data.images.sources.formats.array import ArraySource
from milforge.data.images.sources.formats.packages import require
from milforge.data.images.sources.formats.slide import SlideSource
from milforge.data.images.sources.formats.tiff import TiffSource

ARRAYS = (".npy", ".zarr")
TIFFS = (".tif", ".tiff")
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
# What OpenSlide calls a TIFF file that no scanner's maker has put a meaning of its own into.
_PLAIN = (None, "generic-tiff")


def open_source(path: str | Path, axes: str | None = None) -> FileSource:
    """Opens a large image by the reader that fits it.

    By suffix: `.npy` and `.zarr` are an `ArraySource`; the formats of the scanners' makers, such as
    `.svs`, `.ndpi` and `.mrxs`, a `SlideSource`; `.tif` and `.tiff` a `TiffSource`, but where
    OpenSlide finds a maker's format in them a `SlideSource`, for such files may store overlapping
    tiles, or padding.

    Args:
        path: the file, or the folder of a Zarr array.
        axes: axes of an array, as `ArraySource` takes them.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for another suffix, axes for a file that is no array, and as the readers.
        ModuleNotFoundError: where a package is not installed; the message says how to.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*ARRAYS, *TIFFS, *SLIDES):
        raise ValueError(
            f"{path}: expected one of {', '.join((*ARRAYS, *TIFFS, *SLIDES))}, got "
            f"{suffix or 'no suffix'}: convert it to tiled TIFF"
        )
    if suffix in ARRAYS:
        return ArraySource(path, axes)
    if axes is not None:
        raise ValueError(
            f"{path}: expected axes for {' and '.join(ARRAYS)} only, got {axes!r}: leave them out, "
            "the file tells them"
        )
    return SlideSource(path) if suffix in SLIDES or _is_slide(path) else TiffSource(path)


def _is_slide(path: Path) -> bool:
    """Whether a TIFF file is one of a scanner's maker."""
    if find_spec("openslide") is None or not path.is_file():
        return False
    return require("openslide").OpenSlide.detect_format(path) not in _PLAIN

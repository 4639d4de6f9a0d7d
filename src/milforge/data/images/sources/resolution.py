"""How large a pixel of an image is."""

import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from milforge.data.images.sources.formats.packages import require

_PLAUSIBLE = (0.02, 50.0)  # micrometres
# Many a TIFF says what a printer is to do: 72 dots per inch are 353 micrometres, 1,200 are 21.
_LARGEST_OF_TAGS = 10.0
_UNITS = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
_INCH, _CENTIMETRE = 2, 3


def micrometres_per_pixel(path: str | Path) -> float | None:
    """The side of a pixel at full resolution, across; None where the file does not tell.

    As OpenSlide has it of the formats of the scanners' makers, OME-TIFF's `PhysicalSizeX`, or the
    resolution of a TIFF. What no microscope has counts as not told.

    Args:
        path: an image that can be opened.
    """
    path = Path(path)
    told = [_of_slide(path)]
    if path.suffix.lower() in (".tif", ".tiff"):
        told += [_of_tiff(path)]
    low, high = _PLAUSIBLE
    return next((each for each in told if each is not None and low <= each <= high), None)


def _of_slide(path: Path) -> float | None:
    if find_spec("openslide") is None:
        return None
    openslide = require("openslide")
    try:
        with openslide.OpenSlide(path) as slide:
            if slide.properties.get("openslide.vendor") == "generic-tiff":
                return None  # it has it of the tags
            return _number(slide.properties.get("openslide.mpp-x"))
    except openslide.OpenSlideError:
        return None


def _of_tiff(path: Path) -> float | None:
    tifffile = require("tifffile")
    try:
        with tifffile.TiffFile(path) as tiff:
            return ome_size(tiff.ome_metadata or "") or _of_tags(tiff.pages[0].tags)
    except (ValueError, OSError, LookupError, TypeError):
        return None


def ome_size(xml: str) -> float | None:
    """The width of a pixel in micrometres, as OME's XML tells it.

    Example:
        >>> ome_size('<Pixels PhysicalSizeX="0.5" SizeX="9"/>'), ome_size("<Pixels/>")
        (0.5, None)
    """
    size = _number(_first(r'PhysicalSizeX="([^"]*)"', xml))
    unit = _first(r'PhysicalSizeXUnit="([^"]*)"', xml) or "µm"
    return None if size is None or unit not in _UNITS else size * _UNITS[unit]


def _of_tags(tags: Any) -> float | None:
    resolution, unit = (tags.get(name) for name in ("XResolution", "ResolutionUnit"))
    micrometres = {_INCH: 25_400.0, _CENTIMETRE: 10_000.0}.get(int(unit.value)) if unit else None
    if resolution is None or micrometres is None:
        return None
    numerator, denominator = resolution.value
    size = micrometres * denominator / numerator if numerator else math.inf
    return size if size <= _LARGEST_OF_TAGS else None


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None

"""Values of pixels as they are stored, and as they are read."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def pixel_dtype(stored: DTypeLike, path: Path) -> np.dtype[Any]:
    """The dtype of the windows of an image that is stored in this one.

    uint8 and floats stay what they are; uint16 becomes float32 in [0, 1], divided by 65535.

    Raises:
        ValueError: for any other dtype.

    Example:
        >>> pixel_dtype(np.uint16, Path("a.tif"))
        dtype('float32')
    """
    dtype = np.dtype(stored).newbyteorder("=")
    if dtype == np.uint16:
        return np.dtype(np.float32)
    if dtype not in (np.uint8, np.float16, np.float32, np.float64):
        raise ValueError(
            f"{path}: expected pixels of uint8, uint16 or float, got {dtype}: convert them"
        )
    return dtype


def as_pixels(stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Stored values as what `pixel_dtype` said of them.

    Example:
        >>> as_pixels(np.array([0, 13107, 65535], np.uint16), np.dtype(np.float32))
        array([0. , 0.2, 1. ], dtype=float32)
    """
    if stored.dtype.kind == "u" and dtype.kind == "f":
        scaled: NDArray[Any] = stored.astype(dtype) / dtype.type(65535)
        return scaled
    return stored.astype(dtype, copy=False)

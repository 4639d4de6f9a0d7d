"""Which axis of a stored array is which."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = ("HW", "HWC", "CHW")


def find_axes(shape: tuple[int, ...], axes: str | None, name: str) -> str:
    """A letter for each axis of an array: `H`, `W`, `C`.

    Where they are not given, two axes are HW; three are HWC if the last is at most 4 long, else CHW
    if the first is.

    Args:
        shape: shape of the array.
        axes: one of `AXES`, or None.
        name: what errors call the array.

    Raises:
        ValueError: where the axes cannot be found out, do not fit the shape, or one has no length.

    Example:
        >>> find_axes((3, 100, 200), None, "a.npy"), find_axes((8, 100, 200), "CHW", "a.npy")
        ('CHW', 'CHW')
    """
    if axes is not None and axes not in AXES:
        raise ValueError(f"{name}: expected axes to be one of {list(AXES)}, got {axes!r}")
    if axes is None and len(shape) == 2:
        axes = "HW"
    elif axes is None and len(shape) == 3 and shape[2] <= 4:
        axes = "HWC"
    elif axes is None and len(shape) == 3 and shape[0] <= 4:
        axes = "CHW"
    if axes is None:
        raise ValueError(
            f"{name}: expected an image of two axes, or of three of which the first or the last "
            f"holds up to 4 channels, got the shape {shape}: give axes, one of {list(AXES)}"
        )
    if len(axes) != len(shape) or 0 in shape:
        raise ValueError(f"{name}: expected an image with axes {axes}, got the shape {shape}")
    return axes


def sizes(shape: tuple[int, ...], axes: str) -> tuple[int, int, int]:
    """Channels, height and width.

    Example:
        >>> sizes((1, 100, 200), "ZHW")
        (1, 100, 200)
    """
    found = dict(zip(axes, shape, strict=True))
    return found.get("C", 1), found["H"], found["W"]


def cut(array: Any, axes: str, rows: slice, columns: slice) -> NDArray[Any]:
    """A window `(C, h, w)` of an array; along an axis that is none of C, H and W its first.

    Example:
        >>> cut(np.arange(12).reshape(2, 3, 2), "HWC", slice(0, 1), slice(1, 3)).tolist()
        [[[2, 4]], [[3, 5]]]
    """
    index = tuple({"H": rows, "W": columns, "C": slice(None)}.get(axis, 0) for axis in axes)
    window = np.asarray(array[index])
    left = [axis for axis in axes if axis in "CHW"]
    if "C" not in left:
        window, left = window[None], ["C", *left]
    return window.transpose([left.index(axis) for axis in "CHW"])

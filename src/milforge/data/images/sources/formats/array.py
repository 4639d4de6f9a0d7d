"""Arrays on disk: `.npy` and Zarr."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data.images.sources.file_source import FileSource
from milforge.data.images.sources.formats.axes import cut, find_axes, sizes
from milforge.data.images.sources.formats.packages import require
from milforge.data.images.sources.formats.pixels import as_pixels, pixel_dtype

# What OME-Zarr calls the axes, and we.
_OME = {"c": "C", "y": "H", "x": "W"}


class ArraySource(FileSource):
    """An array on disk as an `ImageSource`, of uint8, uint16 (read as float32 in [0, 1]) or float.

    - `.npy`: mapped into memory, so that only what is read is loaded. No pickled objects.
    - `.zarr`: one array, or a group of arrays, which are the levels, largest first. In an OME-Zarr
      group the metadata say which arrays and axes; time and depth must be 1 long. A chunk that is
      not stored holds the fill value. A window costs the chunks that it touches: chunks of 256 to
      1024 pixels a side, all channels in one, are read fast.

    Args:
        path: the file, or the folder of a Zarr array.
        axes: `HW`, `HWC` or `CHW`; None: as `find_axes` finds them from the shape.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no such array or truncated, is of another dtype, its axes cannot be
            found out, or its levels differ in channels or dtype.
        ModuleNotFoundError: for Zarr, where the package is not installed.

    Example:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "image.npy"
        >>> np.save(path, np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
        >>> source = ArraySource(path)
        >>> source.shape
        (3, 4, 2)
        >>> source.read(torch.tensor([[3, 0]]), (2, 2))[0, 0]
        tensor([[18, 21],
                [ 0,  0]], dtype=torch.uint8)
    """

    def __init__(self, path: str | Path, axes: str | None = None) -> None:
        super().__init__(_Arrays, path, axes)


class _Arrays:
    """An open array, or the arrays of a group."""

    def __init__(self, path: Path, axes: str | None) -> None:
        self._mapped = path.suffix == ".npy"
        if self._mapped:
            arrays: Sequence[Any] = [_map(path)]
            axes = find_axes(arrays[0].shape, axes, str(path))
        else:
            arrays, axes = _open_zarr(path, axes)
        self._axes = axes
        self._arrays = sorted(arrays, key=lambda array: -array.size)
        shapes = [sizes(array.shape, axes) for array in self._arrays]
        first = self._arrays[0].dtype
        for shape, array in zip(shapes, self._arrays, strict=True):
            if shape[0] != shapes[0][0] or array.dtype != first:
                raise ValueError(
                    f"{path}: expected levels of the same channels and dtype, got {shapes[0][0]} "
                    f"of {first} and {shape[0]} of {array.dtype}"
                )
        self.channels = shapes[0][0]
        self.levels = tuple(shape[1:] for shape in shapes)
        self.dtype = pixel_dtype(first, path)

    def read(self, row: int, column: int, height: int, width: int, level: int) -> NDArray[Any]:
        if self._mapped:
            _check_length(self._arrays[level])
        rows, columns = slice(row, row + height), slice(column, column + width)
        return as_pixels(cut(self._arrays[level], self._axes, rows, columns), self.dtype)

    def close(self) -> None:
        # The last reference to a mapped file closes it.
        self._arrays = []


def _map(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: expected a whole .npy file of numbers, got one that cannot be read "
            f"({error}): save it again with numpy.save"
        ) from error


def _check_length(array: Any) -> None:
    """Checks that a mapped file was not cut off since: what is missing would kill the process."""
    end, length = array.offset + array.nbytes, array._mmap.size()
    if length < end:
        raise OSError(f"expected a file of {end} bytes, got {length}")


def _open_zarr(path: Path, axes: str | None) -> tuple[Sequence[Any], str]:
    zarr = require("zarr")
    try:
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            return [node], find_axes(node.shape, axes, str(path))
        ome = _multiscales(node.attrs.asdict())
        if ome is None:
            arrays = [array for _, array in node.arrays()]
        else:
            arrays = [node[dataset["path"]] for dataset in ome["datasets"]]
    except (ValueError, OSError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a Zarr array, or a group of arrays that are the levels, got what "
            f"cannot be read ({error}): check the path, or store it again"
        ) from error
    if not arrays:
        raise ValueError(f"{path}: expected a group of arrays, the levels, got one without any")
    named = None if ome is None else _ome_axes(ome, arrays, path)
    found = [named or find_axes(array.shape, axes, f"{path}/{array.path}") for array in arrays]
    if len(set(found)) > 1:
        raise ValueError(f"{path}: expected levels with the same axes, got {sorted(set(found))}")
    return arrays, found[0]


def _multiscales(attributes: Mapping[str, Any]) -> Any:
    """The first image of OME-Zarr 0.5 or 0.4, None where there is none."""
    images = attributes.get("ome", attributes).get("multiscales")
    return images[0] if images else None


def _ome_axes(ome: Mapping[str, Any], arrays: Sequence[Any], path: Path) -> str | None:
    """A letter for each axis of an OME-Zarr image, None where it names none."""
    if "axes" not in ome:
        return None
    names = [axis["name"] if isinstance(axis, Mapping) else axis for axis in ome["axes"]]
    axes = "".join(_OME.get(name, name[0]) for name in names)
    for array in arrays:
        others = [n for name, n in zip(names, array.shape, strict=False) if name not in _OME]
        if len(axes) != array.ndim or not {"H", "W"} <= set(axes) or set(others) - {1}:
            raise ValueError(
                f"{path}: expected an OME-Zarr image with x and y, and every other axis but c of "
                f"length 1, got axes {names} and the shape {array.shape}: store one plane"
            )
    return axes

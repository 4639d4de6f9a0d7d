"""Pyramids that the tests write, and what their windows must hold."""

import numpy as np
import pytest
import tifffile

from milforge.data import close_files


@pytest.fixture(autouse=True)
def _no_files_left_open():
    yield
    close_files()


def smooth(height, width, channels, dtype=np.uint8):
    """`(H, W, C)`, smooth enough for JPEG, different everywhere."""
    rows, columns = np.mgrid[:height, :width]
    waves = [
        np.sin(rows / (17 + 3 * c)) + np.cos(columns / (23 - c)) + rows / height - columns / width
        for c in range(channels)
    ]
    image = np.stack(waves, -1)
    image = (image - image.min()) / (image.max() - image.min())
    if np.issubdtype(dtype, np.integer):
        return (image * np.iinfo(dtype).max).astype(dtype)
    return image.astype(dtype)


@pytest.fixture(scope="session")
def image():
    """Makes an image `(H, W, C)`."""
    return smooth


@pytest.fixture(scope="session")
def pyramid():
    """Writes levels `(H, W, C)` as a pyramid of SubIFDs or of pages; gives the path."""

    def write(path, levels, layout="subifds", tile=(64, 48), **options):
        grey = levels[0].shape[-1] != 3
        options = {"tile": tile, "photometric": "minisblack" if grey else "rgb", **options}
        if levels[0].shape[-1] > 1:
            options["planarconfig"] = "contig"
        else:
            levels = [level[..., 0] for level in levels]
        if layout == "pages":
            options["metadata"] = None
        with tifffile.TiffWriter(path) as tiff:
            first = {"subifds": len(levels) - 1} if layout == "subifds" else {}
            for i, level in enumerate(levels):
                tiff.write(level, **options, **(first if i == 0 else {"subfiletype": 1}))
        return path

    return write


@pytest.fixture(scope="session")
def cut():
    """The window of an array `(H, W, C)` as `(C, h, w)`: pads the array and takes a slice."""

    def window(array, row, column, height, width):
        far = 600
        padded = np.pad(array, ((far, far), (far, far), (0, 0)))
        row, column = row + far, column + far
        return padded[row : row + height, column : column + width].transpose(2, 0, 1)

    return window

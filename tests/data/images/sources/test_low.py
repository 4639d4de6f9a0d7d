import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from milforge.data import ArraySource, TensorSource, TiffSource, low_resolution
from milforge.data.images.sources import low


def means(image, height, width):
    """The mean of the area under each pixel of the view: a loop in float64."""
    channels, rows, columns = image.shape
    out = np.zeros((channels, height, width))
    weights = []
    for count, length in ((height, rows), (width, columns)):
        weight = np.zeros((count, length))
        for i in range(count):
            first, last = i * length / count, (i + 1) * length / count
            for pixel in range(length):
                weight[i, pixel] = max(0, min(pixel + 1, last) - max(pixel, first))
        weights.append(weight / weight.sum(1, keepdims=True))
    for channel in range(channels):
        out[channel] = weights[0] @ image[channel] @ weights[1].T
    return out


@given(
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    share=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    window=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_each_pixel_is_the_mean_of_its_area(size, share, window):
    """For all sizes, and wherever the windows that are read end."""
    view = tuple(max(1, int(n * part)) for n, part in zip(size, share, strict=True))
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(low, "_WINDOW", window)
        found = low_resolution(TensorSource(image), size=view)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, means(image.numpy(), *view), rtol=0, atol=1e-5)


def test_whole_fractions_are_means_of_blocks():
    image = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))
    found = low_resolution(TensorSource(image), scale=0.1)
    torch.testing.assert_close(found, F.avg_pool2d(image, 10))


def test_uint8_stays_uint8_and_is_rounded(image):
    pixels = torch.from_numpy(image(61, 47, 3)).permute(2, 0, 1)
    found = low_resolution(TensorSource(pixels), size=(20, 10))
    assert found.dtype == torch.uint8
    exact = means(pixels.double().numpy(), 20, 10)
    assert np.abs(found.numpy() - exact).max() <= 0.5 + 1e-4
    white = TensorSource(torch.full((1, 61, 47), 255, dtype=torch.uint8))
    assert (low_resolution(white, size=(20, 10)) == 255).all()


def test_the_same_size_is_the_image_itself(image):
    pixels = torch.from_numpy(image(61, 47, 3)).permute(2, 0, 1)
    assert torch.equal(low_resolution(TensorSource(pixels), size=(61, 47)), pixels)


class Levels:
    """A pyramid whose levels hold their own number; notes what is read."""

    name, shape, levels = "a", (1, 400, 200), ((400, 200), (200, 100), (100, 50))

    def __init__(self):
        self.read_levels, self.largest = set(), 0

    def read(self, offsets, size, level=0):
        self.read_levels.add(level)
        self.largest = max(self.largest, size[0] * size[1])
        return torch.full((len(offsets), 1, *size), float(level))


@pytest.mark.parametrize(
    ("size", "level"),
    [
        ((400, 200), 0),
        ((201, 100), 0),
        ((200, 100), 1),
        ((101, 50), 1),
        ((100, 50), 2),
        ((1, 1), 2),
    ],
)
def test_the_smallest_level_that_is_as_large_is_read(size, level):
    source = Levels()
    assert low_resolution(source, size=size).sub(level).abs().max() < 1e-5
    assert source.read_levels == {level}


def test_it_reads_windows_of_bounded_size():
    source = Levels()
    source.shape, source.levels = (1, 5000, 7000), ((5000, 7000),)
    low_resolution(source, size=(10, 10))
    assert source.largest == 1024 * 2048


def test_files(tmp_path, image, pyramid):
    array = image(301, 203, 3)
    np.save(tmp_path / "a.npy", array)
    path = pyramid(tmp_path / "a.tif", [array, array[::2, ::2]])
    expected = low_resolution(TensorSource(torch.from_numpy(array).permute(2, 0, 1)), scale=0.6)
    assert torch.equal(low_resolution(ArraySource(tmp_path / "a.npy"), scale=0.6), expected)
    assert torch.equal(low_resolution(TiffSource(path), scale=0.6), expected)
    half = TensorSource(torch.from_numpy(array[::2, ::2]).permute(2, 0, 1))
    size = (100, 70)
    assert torch.equal(low_resolution(TiffSource(path), size=size), low_resolution(half, size=size))


@pytest.mark.parametrize("sides", [(2070, 2055), (2048, 2048), (2047, 2017), (63, 64), (20, 1000)])
def test_a_scale_asks_for_no_more_than_the_level_of_that_scale_has(sides):
    """Levels are halved again and again, what is left over cut off."""
    source = Levels()
    halved = [tuple(max(1, side >> i) for side in sides) for i in range(7)]
    source.shape, source.levels = (1, *sides), tuple(halved)
    assert tuple(low_resolution(source, scale=1 / 32).shape[1:]) == halved[5]
    assert source.read_levels == {5} if halved[5] != halved[6] else {6}


@pytest.mark.parametrize(("side", "scale", "size"), [(100, 0.29, 29), (30, 0.1, 3), (9, 0.99, 8)])
def test_a_scale_that_floats_miss_is_met(side, scale, size):
    view = low_resolution(TensorSource(torch.zeros(1, side, side)), scale=scale)
    assert tuple(view.shape[1:]) == (size, size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a size or a scale"),
        ({"size": (4, 4), "scale": 0.5}, "either a size or a scale"),
        ({"size": (21, 4)}, r"slide: expected a view no larger than the image, 20 x 30, got \(21"),
        ({"scale": 1.5}, "slide: .*got scale 1.5"),
        ({"scale": 0.0}, "slide: .*got scale 0.0"),
        ({"size": (0, 4)}, r"size.*\(0, 4\)"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        low_resolution(TensorSource(torch.zeros(1, 20, 30), "slide"), **options)

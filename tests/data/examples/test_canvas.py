"""A sparse canvas says what the dense one says."""

import pickle
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milforge.data import Canvas
from milforge.sampling import ImageSource, read_patches


def make_canvas(size=(37, 53), shapes=((6, 6), (1, 9), (5, 3), (7, 7)), seed=0):
    """Glyphs at random places that do not overlap; one in each corner of the plane's order."""
    rng = np.random.default_rng(seed)
    taken = np.zeros(size, bool)
    glyphs, places = [], []
    for height, width in shapes:
        while True:
            row = int(rng.integers(0, size[0] - height + 1))
            column = int(rng.integers(0, size[1] - width + 1))
            where = slice(row, row + height), slice(column, column + width)
            if not taken[where].any():
                break
        taken[where] = True
        glyphs.append(rng.integers(1, 256, (height, width), dtype=np.uint8))
        places.append((row, column))
    return Canvas(size, glyphs, np.array(places, np.int64), "a canvas")


def dense(canvas):
    """The whole canvas, glyph by glyph and pixel by pixel."""
    image = np.zeros(canvas.size, np.uint8)
    for glyph, (row, column) in zip(canvas.glyphs, canvas.places.tolist(), strict=True):
        for y in range(glyph.shape[0]):
            for x in range(glyph.shape[1]):
                image[row + y, column + x] = glyph[y, x]
    return image


def cut(image, row, column, height, width):
    """A window, pixel by pixel, zero outside."""
    window = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            if 0 <= row + y < image.shape[0] and 0 <= column + x < image.shape[1]:
                window[y, x] = image[row + y, column + x]
    return window


def shares(high, low):
    """`(low, high)` of each low pixel, the share of it that each high pixel covers, exactly."""
    scale = Fraction(high, low)
    return np.array(
        [
            [max(Fraction(0), min((i + 1) * scale, j + 1) - max(i * scale, j)) / scale]
            for i in range(low)
            for j in range(high)
        ],
        float,
    ).reshape(low, high)


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(-30, 60), st.integers(-30, 80)), min_size=1, max_size=6),
    st.tuples(st.integers(1, 45), st.integers(1, 60)),
)
def test_windows_are_those_of_the_dense_canvas(seed, offsets, size):
    canvas = make_canvas(seed=seed)
    windows = canvas.read(torch.tensor(offsets), size)
    assert windows.shape == (len(offsets), 1, *size)
    assert windows.dtype == torch.uint8
    image = dense(canvas)
    for window, (row, column) in zip(windows, offsets, strict=True):
        np.testing.assert_array_equal(window[0], cut(image, row, column, *size))


@pytest.mark.parametrize(
    "low", [(37, 53), (1, 1), (10, 10), (36, 7), (12, 53)], ids=lambda size: f"{size[0]}x{size[1]}"
)
@pytest.mark.parametrize("seed", range(3))
def test_the_view_is_the_area_average(low, seed):
    canvas = make_canvas(seed=seed)
    view = canvas.low(low)
    assert view.shape == (1, *low)
    assert view.dtype == torch.float32
    expected = shares(37, low[0]) @ (dense(canvas) / 255.0) @ shares(53, low[1]).T
    np.testing.assert_allclose(view[0], expected, rtol=1e-6, atol=1e-8)
    # Light is neither lost nor made.
    assert float(view.double().mean()) == pytest.approx(dense(canvas).mean() / 255, rel=1e-6)


def test_the_view_of_a_whole_scale_is_that_of_pooling():
    canvas = make_canvas((36, 54))
    image = torch.from_numpy(dense(canvas))[None].double() / 255
    expected = torch.nn.functional.avg_pool2d(image, 3).float()
    torch.testing.assert_close(canvas.low((12, 18)), expected)


def test_a_canvas_without_glyphs_is_black():
    canvas = Canvas((20, 30), [], np.empty((0, 2), np.int64))
    assert not canvas.read(torch.tensor([[0, 0], [-5, 25]]), (10, 10)).any()
    assert not canvas.low((5, 6)).any()


def test_it_is_an_image_source():
    canvas = make_canvas()
    assert isinstance(canvas, ImageSource)
    assert canvas.name == "a canvas"
    assert canvas.shape == (1, 37, 53)
    assert canvas.levels == ((37, 53),)
    offsets = torch.tensor([[[0, 0], [20, 40]], [[-3, 7], [5, 5]]])
    patches = read_patches([canvas, make_canvas(seed=1)], offsets, (9, 8))
    for i, each in enumerate((canvas, make_canvas(seed=1))):
        assert torch.equal(patches[i], each.read(offsets[i], (9, 8)))


def test_it_survives_pickling():
    canvas = make_canvas()
    again = pickle.loads(pickle.dumps(canvas))
    offsets = torch.tensor([[0, 0]])
    assert torch.equal(again.read(offsets, (37, 53)), canvas.read(offsets, (37, 53)))
    assert (again.name, again.size) == (canvas.name, canvas.size)


@pytest.mark.parametrize(
    "place",
    [(-1, 0), (0, -1), (35, 0), (0, 51)],
    ids=["above", "left", "below", "right"],
)
def test_a_glyph_that_sticks_out_is_refused(place):
    glyphs = [np.ones((2, 2), np.uint8), np.ones((3, 4), np.uint8)]
    Canvas((37, 53), glyphs, np.array([[35, 51], [34, 49]]))  # just within
    message = (
        r"^sheet 7: expected glyphs within the canvas of 37 x 53, got one of 3 x 4 at "
        rf"\[{place[0]}, {place[1]}\]$"
    )
    with pytest.raises(ValueError, match=message):
        Canvas((37, 53), glyphs, np.array([[0, 0], place]), "sheet 7")


@pytest.mark.parametrize("places", [np.zeros((1, 2), int), np.zeros((3, 2), int), np.zeros(2, int)])
def test_a_place_is_needed_for_each_glyph(places):
    glyphs = [np.ones((2, 2), np.uint8)] * 2
    with pytest.raises(
        ValueError, match=r"^canvas: expected places of shape \(2, 2\), one a glyph"
    ):
        Canvas((37, 53), glyphs, places)


def test_there_is_one_level():
    with pytest.raises(ValueError, match=r"^a canvas: expected level 0, the only one, got 1$"):
        make_canvas().read(torch.zeros(1, 2, dtype=torch.int64), (2, 2), level=1)


def test_a_canvas_of_400_megapixels_takes_memory_for_its_glyphs_alone():
    side = 20_000
    rng = np.random.default_rng(0)
    glyphs = list(rng.integers(0, 256, (50, 28, 28), dtype=np.uint8))
    places = np.stack([np.arange(50) * 390, rng.integers(0, side - 28, 50)], axis=1)
    tracemalloc.start()
    try:
        canvas = Canvas((side, side), glyphs, places)
        windows = canvas.read(torch.from_numpy(places[:10] - 11), (50, 50))
        view = canvas.low((180, 180))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6
    np.testing.assert_array_equal(windows[3, 0, 11:39, 11:39], glyphs[3])
    light = sum(int(glyph.sum()) for glyph in glyphs) / 255 / side**2
    assert float(view.double().mean()) == pytest.approx(light, rel=1e-5)

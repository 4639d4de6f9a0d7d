import pickle

import numpy as np
import pytest
import tifffile
import torch
from openslide import OpenSlide, OpenSlideError

from milforge.data import SlideSource, TiffSource, close_files
from milforge.data.images.sources.handles import handles

OFFSETS = torch.tensor([[10, 20], [-30, 5], [180, 7], [40, -20], [55, 130], [-9, -9], [500, 0]])
SIZE = (70, 51)


def expected(cut, array):
    return torch.from_numpy(np.stack([cut(array, *each, *SIZE) for each in OFFSETS.tolist()]))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_levels_are_read_where_they_lie(factor, tmp_path, image, pyramid, cut):
    """OpenSlide asks for corners in pixels of level 0, at every level."""
    whole = image(432, 288, 3)
    levels = [whole, whole[::factor, ::factor], whole[:: factor**2, :: factor**2]]
    source = SlideSource(pyramid(tmp_path / "a.tif", levels, "pages", tile=(64, 48)))
    assert source.shape == (3, 432, 288)
    assert source.levels == tuple(level.shape[:2] for level in levels)
    for i, level in enumerate(levels):
        found = source.read(OFFSETS, SIZE, i)
        assert found.dtype == torch.uint8
        assert torch.equal(found, expected(cut, level))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_between_the_pixels_of_level_0(factor, tmp_path, image, pyramid):
    """Where a level is no whole fraction, OpenSlide shifts by up to half a pixel of level 0."""
    whole = image(1003, 701, 3)
    level = whole[::factor, ::factor]
    source = SlideSource(pyramid(tmp_path / "a.tif", [whole, level], "pages", tile=(64, 48)))
    height, width = source.levels[1]
    found = source.read(torch.tensor([[height - 90, width - 90]]), (89, 89), 1)[0]
    expected = level[-90:-1, -90:-1].astype(int)
    steps = [np.abs(np.diff(level.astype(int), axis=axis)).max() for axis in (0, 1)]
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() <= sum(steps) / (2 * factor) + 1


def test_another_decoder_sees_the_same(tmp_path, image, pyramid):
    """JPEG, by OpenSlide's libjpeg and by imagecodecs'."""
    options = {"compression": "jpeg", "tile": (64, 48)}
    path = pyramid(tmp_path / "a.tif", [image(201, 151, 3)], "pages", **options)
    slide, tiff = (kind(path).read(OFFSETS, SIZE).int() for kind in (SlideSource, TiffSource))
    assert (slide - tiff).abs().max() <= 3
    assert slide.any()


class Transparent:
    """A slide of which the left half was not scanned, and the middle row half."""

    level_dimensions, level_downsamples = ((8, 6),), (1.0,)

    def __init__(self, path):
        self.properties = {"openslide.background-color": "0000FF"} if "blue" in path.name else {}

    def set_cache(self, cache):
        pass

    def close(self):
        pass

    def read_region(self, corner, level, size):
        pixels = np.full((6, 8, 4), (200, 100, 0, 255), np.uint8)
        pixels[:, :4] = 0
        pixels[2, 4:, 3] = 51
        return pixels[corner[1] :, corner[0] :][: size[1], : size[0]]


@pytest.mark.parametrize(
    ("name", "nothing", "half"),
    [("white", (255, 255, 255), (244, 224, 204)), ("blue", (0, 0, 255), (40, 20, 204))],
)
def test_the_background_shines_through(name, nothing, half, tmp_path, monkeypatch):
    monkeypatch.setattr("openslide.OpenSlide", Transparent)
    (tmp_path / name).touch()
    window = SlideSource(tmp_path / name).read(torch.tensor([[0, 0]]), (6, 9))[0].permute(1, 2, 0)
    assert window[0, 5].tolist() == [200, 100, 0]
    assert window[0, 0].tolist() == list(nothing)
    assert window[2, 7].tolist() == list(half)
    assert window[0, 8].tolist() == [0, 0, 0]  # beside the slide


def test_a_corrupt_tile_is_told_and_spoils_no_other(tmp_path, image, pyramid):
    """OpenSlide itself would refuse everything after its first error."""
    path = pyramid(tmp_path / "a.tif", [image(201, 151, 3)], "pages", compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        place, count = page.dataoffsets[5], page.databytecounts[5]
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(b"\xff" * count)
    with OpenSlide(path) as slide, pytest.raises(OpenSlideError):
        slide.read_region((60, 80), 0, (10, 10))
    source = SlideSource(path)
    good = source.read(torch.tensor([[0, 0]]), (60, 40))
    for _ in range(2):
        message = r"a.tif: cannot read the window of 10 x 12 at row 80, column 60 of level 0 \("
        with pytest.raises(OSError, match=message):
            source.read(torch.tensor([[80, 60]]), (10, 12))
        assert torch.equal(source.read(torch.tensor([[0, 0]]), (60, 40)), good)


def test_an_error_of_another_thread_is_not_this_windows(tmp_path, image, pyramid, cut):
    """The window is tried again by itself, on a slide that has not failed."""
    array = image(201, 151, 3)
    path = pyramid(tmp_path / "a.tif", [array], "pages")
    source = SlideSource(path)
    with handles.lend(*source._key, stamp=source._stamp) as handle:
        handle._slide.close()
        broken = handle._slide

        def fail(*args):
            raise handle._openslide.OpenSlideError("failed before")

        broken.read_region = fail
        found = source.read(OFFSETS, SIZE)
        assert handle._slide is not broken
    assert torch.equal(found, expected(cut, array))


def test_files_that_are_no_slides(tmp_path, image, pyramid):
    path = tmp_path / "a.svs"
    with pytest.raises(FileNotFoundError, match=r"a.svs: expected an image, found no file"):
        SlideSource(path)
    path.write_text("a text")
    with pytest.raises(ValueError, match=r"a.svs: expected a slide that OpenSlide reads"):
        SlideSource(path)


def test_a_truncated_slide_is_told_when_it_is_opened(tmp_path, image, pyramid):
    """OpenSlide opens it where the tiles of the smallest level are there."""
    path = tmp_path / "a.svs"
    with tifffile.TiffWriter(path) as tiff:  # the smallest level lies first
        options = {"tile": (64, 48), "photometric": "rgb", "metadata": None}
        tiff.write(image(201, 151, 3), **options)
        tiff.write(image(101, 76, 3), subfiletype=1, **options)
        tiff.write(image(402, 302, 3), **options)
    whole = path.read_bytes()
    SlideSource(path)
    close_files()
    for end in (100, len(whole) // 2, len(whole) - 1000, len(whole) - 20):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"a.svs: expected .*truncated"):
            SlideSource(path)
    with OpenSlide(path) as slide:  # the last of them only this check finds
        assert slide.level_count > 0


def test_a_level_that_there_is_not(tmp_path, image, pyramid):
    source = SlideSource(pyramid(tmp_path / "a.tif", [image(60, 50, 3)], "pages"))
    with pytest.raises(
        ValueError, match=r"a.tif: expected one of its levels \(0: 60 x 50\), got 1"
    ):
        source.read(OFFSETS, SIZE, 1)


def test_a_path_is_pickled(tmp_path, image, pyramid):
    source = SlideSource(pyramid(tmp_path / "a.tif", [image(60, 50, 3)], "pages"))
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy.read(OFFSETS, SIZE), source.read(OFFSETS, SIZE))

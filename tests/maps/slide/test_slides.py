"""Slides behind maps: found, read, checked against the coords, and shown from afar."""

import base64
import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from milforge.data import TensorSource
from milforge.data.images.sources.resolution import micrometres_per_pixel
from milforge.maps.checks.blocks import blocks_of
from milforge.maps.ome_tiff import write_ome_tiff
from milforge.maps.picture import draw_map, raster
from milforge.maps.scale import Scale, scales_of
from milforge.maps.slide.ground import lay
from milforge.maps.slide.pyramid import as_rgb, build_pyramid, seen_from_afar
from milforge.maps.slide.slides import Slide, check_inside, find_slides, open_slide
from tile_maps import make_map


def picture_of(address):
    kind, _, text = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int)


def make_pixels(height=3000, width=4000):
    """Each 448 pixels another colour."""
    y, x = np.mgrid[:height, :width] // 448
    return np.stack([x * 24, y * 24, 0 * x + 128], 2).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide in several kinds of files."""
    root = tmp_path_factory.mktemp("slides")
    (root / "deep").mkdir()
    tiled = {"tile": (256, 256), "photometric": "rgb"}
    pixels = make_pixels()
    tifffile.imwrite(root / "deep" / "a.b.ome.tif", pixels, metadata={
        "axes": "YXS", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm"}, **tiled)  # fmt: skip
    cm = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(root / "c.tif", pixels, **tiled, **cm)
    tifffile.imwrite(root / "d.tif", pixels, **tiled, resolution=(72, 72), resolutionunit="INCH")
    Image.fromarray(pixels).save(root / "c.png")  # a thumbnail of c
    Image.fromarray(pixels).save(root / "p.jpg")
    (root / "broken.png").write_bytes(b"no picture")
    (root / "e.tif").write_bytes(b"no slide")
    np.save(root / "twice.npy", pixels)
    np.save(root / "deep" / "twice.npy", pixels)
    return root


def test_slides_are_found_by_the_names_of_bags(folder):
    found = find_slides(folder)
    assert set(found) == {"a.b", "c", "d", "p", "broken", "e", "twice"}
    assert found["c"] == [folder / "c.tif"]
    assert open_slide(found, "a.b").mpp == 0.25
    assert open_slide(found, "c").mpp == 0.5
    assert open_slide(found, "d").mpp is None  # 72 dots per inch are no microscope's
    assert open_slide(found, "p").mpp is None
    assert open_slide(found, "a.b", 0.4).mpp == 0.4
    assert open_slide(found, "p").size == open_slide(found, "c").size == (4000, 3000)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none", ValueError, "there is no slide of its name in the folder slides="),
        ("twice", ValueError, "there are several slides of its name"),
        ("broken", OSError, "broken.png: cannot be read"),
        ("e", ValueError, "e.tif"),
    ],
)
def test_slides_that_cannot_be_opened(folder, name, error, message):
    with pytest.raises(error, match=message):
        open_slide(find_slides(folder), name)


@pytest.mark.parametrize(("dots", "mpp"), [(1200, None), (25_400, 1.0), (101_600, 0.25)])
def test_what_a_printer_is_to_do_is_no_resolution(tmp_path, dots, mpp):
    size = {"resolution": (dots, dots), "resolutionunit": "INCH"}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), np.uint8), **size)
    assert micrometres_per_pixel(tmp_path / "a.tif") == mpp


def test_folders_that_hold_no_slide(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder of slides, found none"):
        find_slides(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"suffixes .npy, .zarr, .tif, .*, found none"):
        find_slides(tmp_path)


def test_tiles_must_lie_on_the_slide(folder):
    slide = open_slide(find_slides(folder), "c")
    check_inside(slide, np.array([[-100.0, 0.0], [3999.0, 2999.0]]), 448)
    for corners in ([[4000.0, 0.0]], [[0.0, 3000.0]], [[-448.0, 0.0]]):
        with pytest.raises(ValueError, match=r"the slide has 4,000 x 3,000 pixels.*another slide"):
            check_inside(slide, np.array(corners), 448)


def test_a_tile_is_cut_where_it_lies(folder):
    slide = open_slide(find_slides(folder), "c")
    cut = np.asarray(slide.cut(np.array([896.0, 448.0]), 448.0))
    assert cut.shape == (224, 224, 3)
    assert (cut == [48, 24, 128]).all()
    assert slide.cut(np.array([0.0, 0.0]), 100.0).size == (100, 100)  # as it is


def test_a_tile_is_cut_from_the_level_that_has_its_pixels():
    class Levels:
        name, shape, levels = "", (3, 3584, 3584), ((3584, 3584), (896, 896), (224, 224))

        def read(self, offsets, size, level=0):
            self.read_at = offsets.tolist(), size, level
            return torch.zeros(1, 3, *size, dtype=torch.uint8)

    source = Levels()
    Slide(source, None).cut(np.array([896.0, 448.0]), 896.0)
    assert source.read_at == ([[112, 224]], (224, 224), 1)


def test_the_pyramid_halves_from_level_to_level():
    whole = seen_from_afar(TensorSource(torch.from_numpy(make_pixels()).permute(2, 0, 1)), 2001)
    assert whole.size == (2001, 1501)
    pyramid = build_pyramid(whole)
    assert (pyramid.width, pyramid.height) == (2001, 1501)
    assert [len(level) for level in pyramid.levels] == [1, 4]
    assert picture_of(pyramid.levels[0][0]).shape == (751, 1001, 3)
    assert picture_of(pyramid.levels[1][3]).shape == (1501 - 1024, 2001 - 1024, 3)
    # Column 1500 of it is column 3000 of the slide.
    assert np.abs(picture_of(pyramid.levels[1][1])[10, 1500 - 1024] - [144, 0, 128]).max() < 8


def test_any_pixels_become_a_picture():
    assert as_rgb(torch.full((1, 2, 2), 9, dtype=torch.uint8)).tolist() == [[[9] * 3] * 2] * 2
    assert as_rgb(torch.rand(5, 2, 3)).shape == (2, 3, 3)
    large = as_rgb(torch.tensor([[[0.0, 500.0, 1000.0, float("nan")]]]))
    assert large[0, :, 0].tolist() == [0, 128, 255, 0]


def test_the_ground_of_a_map(folder):
    slide = open_slide(find_slides(folder), "c")
    tiles = make_map(to_pixels=2.0, to_micrometres=1.0, side=224.0)  # in micrometres
    ground = lay(slide, tiles)
    assert (ground.width, ground.height) == (2000, 1500)
    order = np.argsort(-tiles.contributions[:, 1])
    assert list(ground.highest) == order[:6].tolist()
    assert list(ground.lowest) == order[::-1][:6].tolist()
    x, y = (2 * tiles.corners[0] // 448).astype(int)
    assert np.abs(picture_of(ground.highest[0])[100, 50] - [24 * x, 24 * y, 128]).max() < 8
    figure = draw_map(tiles, scales_of([tiles]), ground)
    assert "500 µm" in [each.get_text() for each in figure.axes[0].texts]
    scale = Scale("signed", -1.5, 1.5)
    pixels = raster(tiles, tiles.main_values, scale, ground)
    assert pixels.shape == (1200, 1600, 3)
    assert np.abs(pixels[5, 5].astype(int) - [0, 0, 128]).max() < 3  # no tile
    px, py = ((tiles.corners[0] + 60) * 0.8).astype(int)
    mixed = 0.55 * scale.colours[255] + 0.45 * make_pixels()[int(py / 0.4), int(px / 0.4)]
    assert np.abs(pixels[py, px] - mixed).max() < 3


def test_a_map_as_ome_tiff(folder, tmp_path):
    slide = open_slide(find_slides(folder), "c")
    tiles = make_map(to_pixels=1.0, to_micrometres=0.5)
    scale = scales_of([tiles])["contribution"]
    path = tmp_path / "map.ome.tif"
    write_ome_tiff(path, tiles, scale, lay(slide, tiles))
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert tiff.is_ome
        assert series.levels[0].shape == (54, 71, 3)  # 8 pixels for 448
        pixels = series.asarray()
    assert micrometres_per_pixel(path) == pytest.approx(0.5 * 448 / 8)
    x, y = (tiles.corners[0] * 8 / 448 + 3).astype(int)
    assert (pixels[y, x] == scale.colours[255]).all()
    assert (pixels[0, 0] == 255).all()
    large = make_map(n=16_384, columns=128)
    write_ome_tiff(path, large, scale)
    with tifffile.TiffFile(path) as tiff:
        assert [level.shape[:2] for level in tiff.series[0].levels] == [(1024, 1024), (512, 512)]


def test_blocks_are_squares_of_neighbours():
    i = np.arange(10_000)
    corners = np.stack([7 + 448.0 * (i % 100), 448.0 * (i // 100)], 1)
    blocks = blocks_of(corners, 448)
    assert blocks.max() + 1 == 225  # 7 tiles wide: 15 x 15 of them
    assert len(np.unique(blocks)) == 225
    same = corners[blocks == blocks[0]]
    assert np.ptp(same, axis=0).tolist() == [6 * 448, 6 * 448]
    few = blocks_of(corners[:200], 448)
    assert few.tolist() == list(range(200))


@pytest.mark.parametrize(("n", "columns"), [(30, 30), (30, 1), (30, 6)])
def test_a_picture_is_as_large_as_its_map(n, columns):
    """No margin grows with the map, and the scale can be read beside a flat one."""
    tiles = make_map(n=n, columns=columns)
    figure = draw_map(tiles, scales_of([tiles]))
    width, height = figure.get_size_inches()
    axes, bar = (each.get_position() for each in figure.axes)
    assert max(axes.width * width, axes.height * height) == pytest.approx(8)
    assert (axes.width * width) / (axes.height * height) == pytest.approx(columns**2 / n)
    assert (1 - axes.y1) * height < 0.7
    assert (bar.x0 - axes.x1) * width < 0.3
    assert bar.height * height >= 1.19

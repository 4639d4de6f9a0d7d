import logging

import numpy as np
import pytest
import tifffile
import torch

from milforge.data import TiffSource

# Across every edge and corner, inside, over several tiles, beside, and outside.
OFFSETS = torch.tensor(
    [[10, 20], [-30, 5], [180, 7], [40, -20], [55, 130], [-9, -9], [190, 140], [60, 44], [500, 0]]
)
SIZE = (70, 51)


def halves(image, count=3):
    return [image[:: 2**i, :: 2**i] for i in range(count)]


def expected(cut, array):
    return torch.from_numpy(np.stack([cut(array, *each, *SIZE) for each in OFFSETS.tolist()]))


def assert_same(source, levels, cut):
    assert source.shape == (levels[0].shape[2], *levels[0].shape[:2])
    assert source.levels == tuple(level.shape[:2] for level in levels)
    for i, level in enumerate(levels):
        assert torch.equal(source.read(OFFSETS, SIZE, i), expected(cut, level))


@pytest.mark.parametrize("compression", [None, "deflate", "lzw", "zstd"])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("layout", ["subifds", "pages"])
def test_pyramids(compression, channels, layout, tmp_path, image, pyramid, cut):
    """Of odd sizes, so that the last tiles reach beyond the image."""
    levels = halves(image(201, 151, channels))
    path = pyramid(tmp_path / "a.tif", levels, layout, compression=compression)
    assert_same(TiffSource(path), levels, cut)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["subifds", "pages"])
@pytest.mark.parametrize("factors", [(1, 8), (1, 8, 64), (1, 4, 16, 32), (1, 2, 4, 16), (1, 5, 10)])
def test_levels_are_any_fraction_of_the_one_before(
    factors, layout, channels, tmp_path, image, pyramid, cut
):
    """Their sides rounded up or down, as writers have it."""
    whole = image(615, 453, channels)
    levels = [whole]
    for number, factor in enumerate(factors[1:]):
        up = number % 2
        h, w = ((n + up * (factor - 1)) // factor for n in whole.shape[:2])
        levels.append(image(h, w, channels))
    path = pyramid(tmp_path / "a.tif", levels, layout)
    assert_same(TiffSource(path), levels, cut)


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((100, 75, 3), np.uint8, {}),
        ((100, 75, 3), np.uint8, {"metadata": None}),
        ((100, 79, 3), np.uint8, {"subfiletype": 1}),
        ((94, 75, 3), np.uint8, {"subfiletype": 1}),
        ((100, 75), np.uint8, {"subfiletype": 1, "photometric": "minisblack"}),
        ((100, 75, 3), np.uint16, {"subfiletype": 1}),
        ((1000, 755, 3), np.uint8, {"subfiletype": 1}),
    ],
    ids=["second", "plain second", "wide", "flat", "grey", "uint16", "larger"],
)
def test_images_of_another_kind_are_no_levels(shape, dtype, options, tmp_path, image, cut):
    """A label, a thumbnail that was cut, a second image."""
    whole = image(800, 604, 3)
    other = np.zeros(shape, dtype)
    options = {"photometric": "rgb", "tile": (64, 48), **options}
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(whole, photometric="rgb", tile=(64, 48), metadata=options.get("metadata", {}))
        tiff.write(other, **options)
    assert_same(TiffSource(tmp_path / "a.tif"), [whole], cut)


@pytest.mark.parametrize(
    "options",
    [
        {"planarconfig": "separate"},
        {"predictor": True, "compression": "deflate"},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"tile": None, "rowsperstrip": 16},
        {"tile": None, "rowsperstrip": 16, "compression": "lzw"},
        {"tile": None, "rowsperstrip": 16, "planarconfig": "separate"},
        {"tile": None},
    ],
)
def test_other_ways_to_store_it(options, tmp_path, image, cut):
    array = image(201, 151, 3)
    options = {"tile": (64, 48), "photometric": "rgb", **options}
    stored = array.transpose(2, 0, 1) if options.get("planarconfig") == "separate" else array
    tifffile.imwrite(tmp_path / "a.tif", stored, **options)
    assert_same(TiffSource(tmp_path / "a.tif"), [array], cut)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg(subsampling, photometric, tmp_path, image, cut):
    if photometric == "rgb" and subsampling != (1, 1):
        subsampling = None
    array = image(201, 151, 3)
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        tile=(64, 48),
        photometric=photometric,
        compression="jpeg",
        compressionargs={"level": 95},
        subsampling=subsampling,
    )
    source = TiffSource(tmp_path / "a.tif")
    if photometric == "rgb":  # the other takes the values for YCbCr
        inside = torch.tensor([[10, 20], [60, 44]])  # the last tiles ring at the edge
        found = torch.stack([torch.from_numpy(cut(array, *each, 60, 40)) for each in inside])
        assert (source.read(inside, (60, 40)).int() - found.int()).abs().max() < 12
    # What tifffile makes of the whole image is what the windows are cut from.
    assert_same(source, [tifffile.imread(tmp_path / "a.tif")], cut)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_channels_as_pages(name, tmp_path, image, cut):
    array = image(201, 151, 4)
    metadata = {"axes": "CYX"} if "ome" in name else {}
    stored = array.transpose(2, 0, 1)
    tifffile.imwrite(
        tmp_path / name, stored, tile=(64, 48), photometric="minisblack", metadata=metadata
    )
    assert_same(TiffSource(tmp_path / name), [array], cut)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_dtypes(dtype, tmp_path, image, pyramid, cut):
    array = image(201, 151, 2, dtype)
    found = TiffSource(pyramid(tmp_path / "a.tif", [array])).read(OFFSETS, SIZE)
    if dtype == np.uint16:
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected(cut, array / 65535).float())
    else:
        assert torch.equal(found, expected(cut, array))


def tables(path):
    """Where the tiles of the first page lie, their bytes, and where in the file these stand."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        tag = page.tags["TileByteCounts"]
        width = {3: 2, 4: 4}[int(tag.dtype)]
        places = [tag.valueoffset + width * i for i in range(tag.count)]
        return page.dataoffsets, page.databytecounts, [(place, b"\0" * width) for place in places]


def damage(path, place, data):
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(data)


def test_a_tile_that_is_not_stored_is_zero(tmp_path, image, pyramid, cut):
    array = image(201, 151, 3)
    path = pyramid(tmp_path / "a.tif", [array], compression="deflate")
    damage(path, *tables(path)[2][5])
    array[64:128, 48:96] = 0  # the sixth tile of four a row
    assert_same(TiffSource(path), [array], cut)


@pytest.mark.parametrize("compression", ["deflate", "jpeg"])
def test_a_corrupt_tile_names_file_level_and_window(compression, tmp_path, image, pyramid):
    path = pyramid(tmp_path / "a.tif", halves(image(201, 151, 3)), compression=compression)
    offsets, counts, _ = tables(path)
    damage(path, offsets[5], b"\xff" * counts[5])
    source = TiffSource(path)
    message = r"a.tif: cannot read the window of 70 x 51 at row 10, column 20 of level 0 \(.+\): "
    with pytest.raises(OSError, match=message):
        source.read(OFFSETS, SIZE)
    whole = torch.tensor([[130, 0], [0, 97]])
    assert source.read(whole, (20, 20)).any()  # all other tiles can be read
    assert source.read(OFFSETS, SIZE, 1).any()


@pytest.mark.parametrize("layout", ["subifds", "pages"])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_truncated_file_is_told_when_it_is_opened(
    layout, compression, tmp_path, image, pyramid, caplog
):
    """Wherever it is cut off: in the data, in a list of tiles, in a list of pages."""
    caplog.set_level(logging.CRITICAL, "tifffile")
    path = pyramid(tmp_path / "a.tif", halves(image(130, 100, 3)), layout, compression=compression)
    whole = path.read_bytes()
    TiffSource(path)
    cuts = np.random.default_rng(0).integers(0, len(whole) - 1, 60).tolist()
    for end in [0, 4, 8, 9, *cuts, len(whole) - 3]:
        cut_off = tmp_path / f"{end}.tif"
        cut_off.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=rf"{end}.tif: expected a whole TIFF file"):
            TiffSource(cut_off)


def test_a_file_truncated_after_it_was_opened(tmp_path, image, pyramid):
    path = pyramid(tmp_path / "a.tif", [image(201, 151, 3)])
    source = TiffSource(path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 64 * 48 * 3 - 100)
    with pytest.raises(OSError, match=r"a.tif: .*column 120 of level 0 \(expected a tile of"):
        source.read(torch.tensor([[195, 120]]), (20, 20))


@pytest.mark.parametrize("level", [-1, 3])
def test_a_level_that_there_is_not(level, tmp_path, image, pyramid):
    source = TiffSource(pyramid(tmp_path / "a.tif", halves(image(200, 150, 3))))
    message = rf"a.tif: .*\(0: 200 x 150, 1: 100 x 75, 2: 50 x 38\), got {level}"
    with pytest.raises(ValueError, match=message):
        source.read(OFFSETS, SIZE, level)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((7, 40, 50), {"metadata": {"axes": "ZYX"}}, r"axes ZYX of shape \(7, 40, 50\)"),
        ((7, 40, 50), {"metadata": None}, r"axes IYX of shape \(7, 40, 50\)"),
        ((40, 50), {"photometric": "miniswhite"}, "got MINISWHITE with compression 1"),
        ((40, 50), {"dtype": "int32"}, "expected pixels of uint8, uint16 or float, got int32"),
        ((40, 50), {"dtype": "bool"}, "whole bytes, got 1 bits"),
        (
            (32, 64, 48),
            {"tile": (16, 16, 16), "volumetric": True, "metadata": None},
            r"a volume of depth 32|axes ZYX",
        ),
        ((6000, 12000), {}, "got strips of 6000 x 12000 pixels: store it in tiles"),
    ],
)
def test_images_that_are_refused(shape, options, message, tmp_path):
    options = {"photometric": "minisblack", **options}
    array = np.zeros(shape, options.pop("dtype", "uint8"))
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    with pytest.raises(ValueError, match=rf"a.tif: .*({message})"):
        TiffSource(tmp_path / "a.tif")


def test_what_is_no_tiff(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a.tif: expected an image, found no file"):
        TiffSource(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_text("a text")
    with pytest.raises(ValueError, match=r"a.tif: expected a whole TIFF file.*not a TIFF"):
        TiffSource(tmp_path / "a.tif")
    with pytest.raises(OSError, match=str(tmp_path)):
        TiffSource(tmp_path)

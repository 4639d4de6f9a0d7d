"""Where tiles lie, in which units, and on what."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from milforge.data.dataset import Tile
from milforge.maps.places import place_tiles
from milforge.maps.slide.slides import find_slides, open_slide
from milforge.maps.sums import check_sum

CORNERS = np.array([[0.0, 0], [100, 0], [100, 200]])


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    Image.new("RGB", (600, 801)).save(folder / "a.png")
    return find_slides(folder)


def test_what_files_tell_is_taken_and_else_the_stride():
    told = place_tiles("a", CORNERS, Tile("px", 256.0))
    assert (told.side, told.to_pixels, told.to_micrometres, told.notes) == (256, 1, None, ())
    unknown = place_tiles("a", CORNERS, Tile())
    assert (unknown.side, unknown.to_pixels, unknown.to_micrometres) == (100, None, None)
    assert "taken to be as large as the stride" in unknown.notes[0]
    given = place_tiles("a", CORNERS, Tile("px", 256.0), tile_size=50.0, mpp=0.5)
    assert (given.side, given.to_micrometres, given.notes) == (50, 0.5, ())


def test_micrometres_lie_on_pixels_where_their_size_is_known(slides):
    told = Tile("um", 50.0)
    alone = place_tiles("a", CORNERS, told)
    assert (alone.to_pixels, alone.to_micrometres) == (None, 1)
    unknown = place_tiles("a", CORNERS, told, slides)
    assert unknown.slide is None
    assert unknown.missing.endswith("give mpp=MICROMETRES")
    known = place_tiles("a", CORNERS, told, slides, mpp=0.25)
    assert (known.to_pixels, known.to_micrometres, known.missing) == (4, 1, None)
    assert known.slide.size == (600, 801)
    # 200 um are 800 pixels of 0.25, and more of a smaller one.
    beyond = place_tiles("a", CORNERS + np.array([0, 1]), told, slides, mpp=0.25)
    assert "begin at up to 400, 804" in beyond.missing


def test_coords_of_no_unit_are_pixels_of_the_slide(slides):
    place = place_tiles("a", CORNERS, Tile(), slides)
    assert (place.to_pixels, place.missing) == (1, None)
    assert "Its coords are taken for pixels of level 0 of the slide." in place.notes
    assert place_tiles("b", CORNERS, Tile(), slides).missing.startswith("there is no slide")


def test_coords_of_no_unit_have_a_scale_only_where_they_are_pixels():
    bare = place_tiles("a", CORNERS, Tile(), mpp=0.5)
    assert (bare.to_pixels, bare.to_micrometres) == (1, 0.5)
    assert "Its coords are taken for pixels of level 0 of the slide." in bare.notes


@pytest.mark.parametrize("told", [Tile("px", 50.0), Tile("um", 900.0), Tile()])
def test_a_slide_that_is_another_one_says_nothing_of_the_scale(tmp_path, told):
    pixels = np.zeros((64, 64, 3), np.uint8)
    size = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), photometric="rgb", **size)
    slides = find_slides(tmp_path)
    assert open_slide(slides, "a").mpp == 0.5
    place = place_tiles("a", CORNERS + 9, told, slides)
    assert place.missing.startswith("the slide has 64 x 64 pixels")
    if told.unit == "um":
        assert (place.to_pixels, place.to_micrometres) == (None, 1)
    else:
        assert place.to_micrometres is None
        assert place.to_pixels == (1 if told.unit else None)


def test_contributions_that_do_not_add_up_are_refused():
    added, offset = np.array([[1.0, -2.0], [0.5, 0.5]]), np.array([0.1, 0.2])
    check_sum(added, offset, np.array([1.6, -1.3]))
    with pytest.raises(ValueError, match=r"they are 0.1 apart\): mend its method contributions"):
        check_sum(added, offset, np.array([1.6, -1.4]))

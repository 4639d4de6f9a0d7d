"""Small pictures of bags."""

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from milforge.plots.style import BLUE
from milforge.plots.thumbnail import MOST_IMAGES, SIDE, thumbnail

BLUE_BYTES = (np.array(to_rgb(BLUE)) * 255).round()


def test_a_map_has_a_square_for_each_tile_where_it_lies():
    coords = torch.tensor([[448, 448], [896, 448], [448, 896], [1792, 1344]])
    weights = torch.tensor([0.7, 0.1, 0.1, 0.1])
    picture = thumbnail(weights, coords=coords)
    side = SIDE // 4
    assert picture.shape == (3 * side, 4 * side, 3)
    tiles = picture.reshape(3, side, 4, side, 3)
    assert (tiles == tiles[:, :1, :, :1]).all()  # no square is mixed
    tiles = tiles[:, 0, :, 0]
    white = (tiles == 255).all(-1)
    assert np.argwhere(~white).tolist() == [[0, 0], [0, 1], [1, 0], [2, 3]]
    yellow = (np.array(colormaps["viridis"](1.0)[:3]) * 255).round()
    assert np.array_equal(tiles[0, 0], yellow)
    assert np.array_equal(tiles[0, 1], tiles[2, 3])


def test_a_slide_of_any_size_is_no_larger_than_a_picture():
    rng = np.random.default_rng(0)
    coords = torch.tensor(rng.integers(0, 400, (5000, 2)) * 256)
    weights = torch.full((5000,), 1 / 5000)
    weights[7] = 1.0
    picture = thumbnail(weights, coords=coords)
    assert max(picture.shape) <= SIDE
    yellow = (np.array(colormaps["viridis"](1.0)[:3]) * 255).round()
    assert (picture == yellow).all(-1).any()  # the tile of the largest weight is not lost


def test_one_tile_and_a_volume_are_drawn():
    assert thumbnail(torch.ones(1), coords=torch.tensor([[5.0, 5.0]])).shape == (SIDE, SIDE, 3)
    volume = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert thumbnail(torch.tensor([0.2, 0.5, 0.3]), coords=volume).shape[2] == 3


def test_images_stand_side_by_side_the_most_attended_first():
    images = torch.zeros(12, 1, 8, 8)
    images[5] = 1.0
    weights = torch.full((12,), 0.05)
    weights[5] = 0.45
    picture = thumbnail(weights, images=images)
    tile = picture.shape[1] // MOST_IMAGES
    assert (picture[1 : tile - 1, 1 : tile - 1] == 255).all()
    assert (picture[1 : tile - 1, tile + 1 : 2 * tile - 1] == 0).all()
    bars = (picture[-3] == BLUE_BYTES).all(-1).reshape(MOST_IMAGES, tile).sum(1)
    assert bars[0] == tile - 2
    assert bars[1] == round((tile - 2) / 9)


def test_bars_are_as_high_as_the_weights():
    picture = thumbnail(torch.tensor([0.125, 0.5, 0.25, 0.125]))
    heights = (picture == BLUE_BYTES).all(-1).sum(0)
    assert heights.tolist() == [SIDE] * 32 + [SIDE // 2] * 32 + [SIDE // 4] * 64

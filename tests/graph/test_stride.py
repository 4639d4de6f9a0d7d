import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milforge.graph import grid_stride, radius_from_tiles


def tiles(side, keep=1.0, dim=2, seed=0):
    grid = torch.cartesian_prod(*[torch.arange(side)] * dim).reshape(-1, dim)
    chance = torch.rand(len(grid), generator=torch.Generator().manual_seed(seed))
    return grid[chance < keep]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("keep", [1.0, 0.6, 0.3])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_stride_of_tiles_with_holes(dim, keep, dtype):
    coords = tiles(11, keep, dim) * 448 + 31_337
    assert grid_stride(coords.to(dtype)) == 448.0


@given(st.integers(0, 2**31), st.floats(1e-3, 1e4))
def test_any_stride_survives_float32(seed, stride):
    coords = tiles(30, 0.5, seed=seed).float() * stride
    assert grid_stride(coords) == pytest.approx(stride, rel=1e-5)


def test_pieces_tiled_from_corners_of_their_own_do_no_harm():
    # Their gaps are 1 and 47 pixels along an axis, but only between pieces.
    pieces = [tiles(6) * 448 + torch.tensor(corner) for corner in ([0, 0], [1, 3000], [9000, 47])]
    assert grid_stride(torch.cat(pieces)) == 448.0


def test_a_chance_meeting_in_a_row_does_no_harm():
    coords = torch.cat([tiles(4) * 448, torch.tensor([[3 * 448 + 5, 448]])])
    assert grid_stride(coords) == 448.0


def test_the_smallest_of_the_common_gaps_counts():
    ends = torch.tensor([0, 2, 3, 4, 6, 8, 10])  # gaps of 2 four times, of 1 twice
    assert grid_stride(ends[:, None] * 448) == 448.0
    assert grid_stride(torch.tensor([[0, 0], [900, 0], [1000, 0]])) == 100.0


def test_a_few_tiles_that_do_not_adjoin_in_a_row():
    # The only two in a row are two tiles apart.
    coords = torch.tensor([[1, 0], [3, 0], [2, 1], [0, 2]]) * 448
    assert grid_stride(coords) == 448.0
    assert grid_stride(coords.float() / 3) == pytest.approx(448 / 3)
    # Like a checkerboard: 16 gaps of two tiles, 4 of one.
    rows = ["#.#...", ".#.#.#", "#.#.##", ".#.#..", "#.#...", "##.#.#"]
    board = torch.tensor([[r, c] for r in range(6) for c in range(6) if rows[r][c] == "#"])
    assert grid_stride(board * 448) == 448.0
    # Two pieces of tissue that happen to lie 7 pixels apart are on no grid of 7.
    pieces = torch.tensor([[0, 0], [448, 0], [1001, 500], [1449, 500], [3000, 7]])
    assert grid_stride(pieces) == 448.0
    # Corners at multiples of 64 put all tiles on a grid of 64 or 128, on which none adjoin.
    pieces = torch.tensor([[0, 0], [256, 0], [1408, 640], [1664, 640], [2816, 1920]])
    assert grid_stride(pieces) == 256.0
    # Any whole numbers are on a grid of 1.
    assert grid_stride(torch.tensor([[0, 0], [448, 1], [448, 449], [3, 2000], [7, 3000]])) == 448.0


@given(st.integers(0, 2**31), st.integers(3, 6), st.floats(0.1, 1.0))
def test_a_stride_never_breaks_a_small_grid(seed, side, keep):
    coords = tiles(side, keep, seed=seed)
    if len(coords) < 3 or len(coords.unique(dim=0)) < 2:
        return
    stride = grid_stride(coords * 448) / 448
    assert stride == round(stride)  # a whole number of tiles
    links = len(coords) >= side * side * 0.6
    assert stride == 1 or not links


def test_without_a_common_row_or_column_the_smallest_gap_of_an_axis_counts():
    assert grid_stride(torch.tensor([[0, 0], [448, 500], [1448, 1500]])) == 448.0


def test_instances_at_the_same_place_have_no_gap():
    coords = tiles(4).repeat(3, 1) * 10
    assert grid_stride(coords) == 10.0


def test_a_radius_in_tiles():
    coords = tiles(5) * 448
    assert radius_from_tiles(coords, 1) == pytest.approx(1.01 * 448)
    assert radius_from_tiles(coords.float(), 2.5) == pytest.approx(1.01 * 2.5 * 448)


@pytest.mark.parametrize("tiles_", [0, -1.0, math.nan, math.inf])
def test_a_radius_that_is_none(tiles_):
    with pytest.raises(ValueError, match=f"expected a radius in tiles above 0, got {tiles_}"):
        radius_from_tiles(tiles(3), tiles_)


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (torch.zeros(1, 2), "expected coords of at least 2 instances"),
        (torch.zeros(3, 2), "expected coords that differ"),
        (torch.tensor([[0.0, math.nan], [1.0, 0.0]]), "got 1 of 2 instances with NaN"),
        (torch.zeros(0, 2), r"got \(0, 2\)"),
        (torch.zeros(4), r"got \(4,\)"),
        (torch.zeros(4, 2, dtype=torch.complex64), "got .*complex64"),
    ],
)
def test_bad_coords_are_named(coords, message):
    with pytest.raises(ValueError, match=message):
        grid_stride(coords)

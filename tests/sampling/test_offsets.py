from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milforge.sampling import patch_offsets

SIZES = st.tuples(st.integers(1, 400), st.integers(1, 400))


def offset(index, cells, low, high, patch, rf):
    """In exact fractions; Python rounds them half to even."""
    scale = Fraction(high, low)
    step = (low - rf) * scale / cells
    return round(Fraction(rf, 2) * scale + index * step + step / 2 - Fraction(patch, 2))


@given(SIZES, SIZES, st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), SIZES, st.data())
def test_exact_fractions_agree(map_size, low, high, patch, data):
    rf = data.draw(st.integers(0, min(low) - 1))
    rows = data.draw(st.lists(st.integers(0, map_size[0] - 1), min_size=1, max_size=5))
    columns = [data.draw(st.integers(0, map_size[1] - 1)) for _ in rows]
    indices = torch.tensor([list(zip(rows, columns, strict=True))])
    expected = [
        [
            offset(index, cells, lo, hi, size, rf)
            for index, cells, lo, hi, size in zip(place, map_size, low, high, patch, strict=True)
        ]
        for place in indices[0].tolist()
    ]
    found = patch_offsets(indices, map_size, low, high, patch, rf)
    assert found.dtype == torch.int64
    assert found[0].tolist() == expected


@given(SIZES, SIZES, SIZES, SIZES, st.data())
def test_patches_are_moved_inside_by_as_little_as_can_be(map_size, low, high, patch, data):
    """By a search of all places at which a patch lies in the image, or covers it."""
    indices = torch.tensor([[[data.draw(st.integers(0, cells - 1)) for cells in map_size]]])
    free = patch_offsets(indices, map_size, low, high, patch)[0, 0].tolist()
    found = patch_offsets(indices, map_size, low, high, patch, inside=True)[0, 0].tolist()
    for was, now, side, length in zip(free, found, high, patch, strict=True):
        best = [
            o
            for o in range(min(0, side - length), max(0, side - length) + 1)
            if (o >= 0 and o + length <= side) or (o <= 0 and o + length >= side)
        ]
        assert now in best
        assert abs(now - was) == min(abs(o - was) for o in best)


def test_halves_go_to_the_even_number():
    """One cell a pixel, a patch of 2: the exact offsets are i - 1/2."""
    indices = torch.arange(5).repeat(2, 1).T[None]
    found = patch_offsets(indices, (5, 5), (5, 5), (5, 5), (2, 2))
    assert found[0, :, 0].tolist() == [0, 0, 2, 2, 4]


def test_patches_lie_centred_on_their_cells():
    """A map of 3 x 5 on 300 x 1000: cells of 100 x 200, patches of 20 x 50."""
    indices = torch.tensor([[[0, 0], [1, 2], [2, 4]]])
    found = patch_offsets(indices, (3, 5), (30, 100), (300, 1000), (20, 50))
    assert found.tolist() == [[[40, 75], [140, 475], [240, 875]]]


def test_a_valid_convolution_looks_at_the_middle_of_its_window():
    """A kernel of 5 on 20 pixels gives 16 cells; cell i is centred on pixel i + 2."""
    indices = torch.arange(16).repeat(2, 1).T[None]
    found = patch_offsets(indices, (16, 16), (20, 20), (200, 200), (10, 10), receptive_field=4)
    assert found[0, :, 1].tolist() == [10 * (i + 2) for i in range(16)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": torch.zeros(1, 2, dtype=torch.int64)}, r"shape \(B, n, 2\).*\(1, 2\)"),
        ({"indices": torch.zeros(1, 1, 2)}, "integer indices.*float32"),
        ({"map_size": (0, 3)}, r"map_size.*\(0, 3\)"),
        ({"patch_size": (3,)}, r"patch_size.*\(3,\)"),
        ({"receptive_field": -1}, "receptive field of at least 0"),
        ({"receptive_field": 8}, r"below the low-resolution size \(8, 9\), got 8"),
    ],
)
def test_errors(change, message):
    arguments = {
        "indices": torch.zeros(1, 1, 2, dtype=torch.int64),
        "map_size": (2, 3),
        "low_size": (8, 9),
        "high_size": (80, 90),
        "patch_size": (5, 5),
        **change,
    }
    with pytest.raises(ValueError, match=message):
        patch_offsets(**arguments)

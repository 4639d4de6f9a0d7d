import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milforge.plots.attention.frames import place_numbers

# Less than the figure's numbers are drawn at, so that two that touch here do so there.
WIDTH, HEIGHT = 5.0, 8.0


def overlaps(one, other):
    return abs(one[0] - other[0]) < WIDTH and abs(one[1] - other[1]) < HEIGHT


@given(
    st.lists(
        st.tuples(st.floats(0, 150), st.floats(0, 150), st.floats(0, 50), st.floats(0, 50)),
        min_size=1,
        max_size=16,
    )
)
def test_numbers_lie_within_the_panel_and_never_on_each_other(frames):
    boxes = np.array([[x, y, x + width, y + height] for x, y, width, height in frames])
    centres = place_numbers(boxes, ["9"] * len(boxes), (200.0, 200.0))
    assert centres.shape == (len(boxes), 2)
    assert (centres >= [WIDTH / 2, HEIGHT / 2]).all()
    assert (centres <= [200 - WIDTH / 2, 200 - HEIGHT / 2]).all()
    for number, centre in enumerate(centres):
        assert not any(overlaps(centre, other) for other in centres[:number])


@pytest.mark.parametrize("size", [0.0, 4.0, 14.0])
def test_the_number_of_a_small_frame_stands_beside_it(size):
    box = np.array([[100.0, 60.0, 100.0 + size, 60.0 + size]])
    ((x, y),) = place_numbers(box, ["1"], (200.0, 200.0))
    gap = max(100 - x, x - 100 - size) - WIDTH / 2, max(60 - y, y - 60 - size) - HEIGHT / 2
    assert max(gap) > 0
    assert max(gap) < 8


def test_the_number_of_a_large_frame_stands_in_its_upper_left_corner():
    ((x, y),) = place_numbers(np.array([[50.0, 30.0, 120.0, 90.0]]), ["1"], (200.0, 200.0))
    assert 50 < x < 60
    assert 30 < y < 40


def test_a_number_makes_way_for_another_small_frame():
    box = np.array([[100.0, 100.0, 104.0, 104.0]])
    (alone,) = place_numbers(box, ["1"], (200.0, 200.0))
    half = np.array([6, 1.5])
    in_its_place = np.concatenate([alone - half, alone + half])
    moved, _ = place_numbers(np.stack([box[0], in_its_place]), ["1", "2"], (200.0, 200.0))
    reach = np.array([6 + WIDTH / 2, 1.5 + HEIGHT / 2])
    assert (np.abs(moved - alone) >= reach).any()
    assert np.linalg.norm(moved - 102) < 20


def test_the_number_of_a_frame_in_a_corner_of_the_panel_stays_within():
    boxes = np.array([[0.0, 0.0, 5.0, 5.0], [195.0, 195.0, 200.0, 200.0]])
    centres = place_numbers(boxes, ["10", "11"], (200.0, 200.0))
    assert (np.abs(centres - 100) < [100 - WIDTH, 100 - HEIGHT / 2]).all()

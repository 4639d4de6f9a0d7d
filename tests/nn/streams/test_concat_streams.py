import numpy as np
import pytest
import torch

from milforge.nn import ConcatStreams


@pytest.mark.parametrize("leading", [(), (5,), (2, 3), (0,)])
def test_it_is_numpy_s_concatenation(leading):
    streams = [torch.randn(*leading, width) for width in (4, 1, 3)]
    fused = ConcatStreams((4, 1, 3))(streams)
    expected = np.concatenate([stream.numpy() for stream in streams], axis=-1)
    np.testing.assert_array_equal(fused.numpy(), expected)


def test_it_has_a_width_and_no_parameters():
    concat = ConcatStreams([4, 1])
    assert concat.dim == 5
    assert not list(concat.parameters())
    assert not hasattr(concat, "per_item")


@pytest.mark.parametrize("in_dims", [(), (3, 0), (-1,)])
def test_widths_are_checked(in_dims):
    with pytest.raises(ValueError, match="expected in_dims, each of at least 1"):
        ConcatStreams(in_dims)


@pytest.mark.parametrize(
    "shapes", [[], [(5, 4)], [(5, 4), (5, 2)], [(5, 4), (6, 1)], [(5, 4), (5, 1), (5, 1)]]
)
def test_streams_are_checked(shapes):
    with pytest.raises(ValueError, match=r"expected streams of widths \[4, 1\] \(in_dims\)"):
        ConcatStreams((4, 1))([torch.zeros(shape) for shape in shapes])

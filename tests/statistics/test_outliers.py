"""The range without values that lie alone, by values chosen by hand."""

import numpy as np
import pytest

from milforge.statistics.outliers import main_range

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (0, 1)),
        ([NAN, INF, -INF], (0, 1)),
        ([3.0], (3, 3)),
        # The quartiles of 0, 1, 2, 3, x are 1 and 3 where x is above: 5 widths further is 13.
        ([0, 1, 2, 3, 13.0], (0, 13)),
        ([0, 1, 2, 3, 13.1], (0, 3)),
        ([0, -1, -2, -3, -13.0], (-13, 0)),
        ([0, -1, -2, -3, -13.1], (-3, 0)),
        ([0, 1, 2, 3, 100, NAN, INF], (0, 3)),  # those do not widen the middle half
        ([5, 5, 5, 5, 90], (5, 90)),  # the middle half has no width
    ],
)
def test_values_that_lie_alone_are_left_out(values, expected):
    assert main_range(values) == expected
    assert main_range(np.array(values[::-1])) == expected

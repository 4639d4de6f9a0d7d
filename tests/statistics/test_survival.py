"""Against pairs counted one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milforge.statistics.survival import concordance

rows = st.lists(
    st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=12
)


@given(rows)
def test_concordance_counts_pairs(found):
    agree = pairs = 0.0
    for t1, e1, r1 in found:
        for t2, e2, r2 in found:
            if e1 and (t1 < t2 or (t1 == t2 and not e2)):
                pairs += 1
                agree += 1 if r1 > r2 else 0.5 if r1 == r2 else 0
    value = concordance(*map(np.array, zip(*found, strict=True)))
    assert np.isnan(value) if not pairs else value == pytest.approx(agree / pairs)


def test_refusals():
    with pytest.raises(ValueError, match=r"expected \(n,\) each"):
        concordance([1], [True, False], [1])

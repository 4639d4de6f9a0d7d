"""The memory of a run."""

import sys

import numpy as np
import pytest

from milforge.processes.peak_memory import forget_peak, peak_memory

SIZE = 200_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells")
def test_the_peak_is_of_what_was_taken_since():
    assert forget_peak()
    before = peak_memory(on_gpu=False, is_fresh=True)
    np.ones(SIZE, np.uint8)  # and freed
    taken = peak_memory(on_gpu=False, is_fresh=True)
    assert taken.of == "process"
    assert 0.9 * SIZE < taken.bytes - before.bytes < 1.5 * SIZE
    assert forget_peak()
    assert peak_memory(on_gpu=False, is_fresh=True).bytes < taken.bytes - SIZE / 2


def test_a_peak_of_another_run_is_not_told():
    assert peak_memory(on_gpu=False, is_fresh=False) is None

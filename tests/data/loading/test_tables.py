"""Memory of batches is used again when nothing holds it, and never before."""

import numpy as np
import pytest
import torch

from milforge.data.loading.tables import Tables

SHAPE = (1 << 19, 1)  # 2 MB


def test_memory_is_used_again_once_nothing_holds_it():
    tables = Tables()
    first = tables.take(SHAPE, torch.float32)
    assert (first.shape, first.dtype) == (SHAPE, torch.float32)
    place = first.data_ptr()
    second = tables.take(SHAPE, torch.float32)
    assert second.data_ptr() != place
    del first
    third = tables.take((1 << 20,), torch.float16)
    assert third.data_ptr() == place
    assert tables.nbytes == 2 << 21


@pytest.mark.parametrize(
    "hold",
    [
        lambda x: x[3:5],
        lambda x: x.view(-1).view(torch.uint8),
        lambda x: x.numpy(),
        lambda x: x.numpy()[7:],
        lambda x: x.detach().requires_grad_() * 1 if x is None else x.T,
        lambda x: (x.requires_grad_() * x).grad_fn,
    ],
)
def test_whoever_holds_a_part_keeps_it(hold):
    tables = Tables()
    table = tables.take(SHAPE, torch.float32).fill_(3)
    place = table.data_ptr()
    held = hold(table)
    del table
    others = [tables.take(SHAPE, torch.float32).fill_(5) for _ in range(3)]
    assert place not in [other.data_ptr() for other in others]
    if isinstance(held, torch.Tensor | np.ndarray) and held.dtype not in (torch.uint8,):
        assert (np.asarray(held) == 3).all()
    del held
    assert tables.take(SHAPE, torch.float32).data_ptr() == place


def test_no_more_memory_is_taken_than_is_in_use():
    tables = Tables()
    rng = np.random.default_rng(0)
    held = []
    most = 0
    for rows in rng.integers(1, 40_000, 300).tolist():
        held = [*held[-2:], tables.take((rows, 64), torch.float16)]
        most = max(most, rows)
    assert tables.nbytes <= 4 * 1.125 * most * 128 + 1


def test_small_and_empty_tables():
    tables = Tables()
    for shape in ((0, 3), (5, 2)):
        table = tables.take(shape, torch.float16)
        assert (table.shape, table.dtype) == (shape, torch.float16)
    assert tables.nbytes == 0

import pytest
import torch
from torch.testing import assert_close

from milforge.functional import linear_scan


@pytest.mark.parametrize("length", [1, 2, 3, 8, 11, 50])
def test_row_after_row(length):
    generator = torch.Generator().manual_seed(length)
    decay = torch.rand(length, 3, generator=generator, dtype=torch.float64)
    decay[length // 2] = 0
    inputs = torch.randn(length, 3, generator=generator, dtype=torch.float64)
    state, expected = torch.zeros(3).double(), []
    for a, b in zip(decay, inputs, strict=True):
        state = a * state + b
        expected.append(state)
    assert_close(linear_scan(decay, inputs), torch.stack(expected))


@pytest.mark.parametrize("length", [11, 16])
def test_gradients(length):
    generator = torch.Generator().manual_seed(0)
    decay = torch.rand(length, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(length, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(linear_scan, (decay, inputs))
    starts = torch.tensor([0, 4, 9, 10])
    assert torch.autograd.gradcheck(linear_scan, (decay, inputs, starts))


def test_it_begins_anew():
    generator = torch.Generator().manual_seed(0)
    decay, inputs = (torch.rand(11, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    found = linear_scan(decay, inputs, torch.tensor([0, 4, 9]))
    parts = [linear_scan(decay[i:j], inputs[i:j]) for i, j in ((0, 4), (4, 9), (9, 11))]
    assert_close(found, torch.cat(parts))


def test_no_rows():
    assert linear_scan(torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0, 2)

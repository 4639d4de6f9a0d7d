import itertools

import pytest
import torch
from scipy.stats import chisquare

from milforge.sampling import expectation, sample_locations
from milforge.sampling.locations import attention_probabilities, top_locations

PROBABILITIES = (0.4, 0.3, 0.15, 0.1, 0.05)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def flat(indices, columns):
    return indices[..., 0] * columns + indices[..., 1]


def repeated(probabilities, times):
    return torch.tensor(probabilities).reshape(1, 1, -1).expand(times, -1, -1)


@pytest.mark.parametrize("use_logits", [False, True])
@pytest.mark.parametrize("replace", [False, True])
def test_ordered_draws_have_their_probability(replace, use_logits):
    """Each ordered triple, without replacement as Plackett and Luce have it."""
    times = 60_000
    maps = repeated(PROBABILITIES, times)
    maps = maps.log() + 3 if use_logits else 7 * maps  # neither need be normalised
    indices, probabilities = sample_locations(
        maps, 3, replace=replace, use_logits=use_logits, generator=seeded()
    )
    cells = flat(indices, 5)
    torch.testing.assert_close(probabilities, torch.tensor(PROBABILITIES)[cells])
    expected, counts = [], []
    for draw in itertools.product(range(5), repeat=3):
        if not replace and len(set(draw)) < 3:
            continue
        chance, left = 1.0, 1.0
        for cell in draw:
            chance *= PROBABILITIES[cell] / left
            left -= 0 if replace else PROBABILITIES[cell]
        expected.append(times * chance)
        counts.append(int((cells == torch.tensor(draw)).all(1).sum()))
    assert sum(counts) == times
    assert chisquare(counts, expected, sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize(("replace", "times", "n"), [(False, 50, 41), (True, 1, 2_000_000)])
def test_small_cells_of_a_large_map_are_drawn_alike(replace, times, n):
    """Close to 1 a cumulative sum in float32 knows one in four of these cells."""
    maps = torch.full((1, 256, 256), 1e-3 / 65535)
    maps[0, 0, 0] = 0.999
    maps = maps.expand(times, -1, -1)
    indices, _ = sample_locations(maps, n, replace=replace, generator=seeded())
    cells = flat(indices, 256).flatten()
    tail = cells[cells > 0]
    assert tail.numel() == pytest.approx(2000, abs=200)
    assert len(tail) - len(tail.unique()) < 60  # 30 to be expected, 122 of every fourth cell
    counts = torch.histc(tail.float(), bins=8, min=0, max=65536)
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_are_sampled_all_over(dtype):
    maps = torch.ones(64, 180, 180, dtype=dtype)
    indices, probabilities = sample_locations(maps, 10, generator=seeded())
    counts = torch.histc(flat(indices, 180).float(), bins=16, min=0, max=180 * 180)
    assert chisquare(counts).pvalue > 1e-3
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities, torch.full((64, 10), 1 / 180**2))


def test_without_replacement_no_cell_comes_twice():
    maps = torch.rand(8, 6, 7, generator=seeded(1))
    indices, probabilities = sample_locations(maps, 42, generator=seeded())
    assert (flat(indices, 7).sort(1).values == torch.arange(42)).all()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(8))
    for b, (each, p) in enumerate(zip(indices, probabilities, strict=True)):
        expected = maps[b][each[:, 0], each[:, 1]] / maps[b].sum()
        torch.testing.assert_close(p, expected)


def test_scores_and_their_softmax_draw_alike():
    scores = torch.randn(4, 9, 5, generator=seeded(1), dtype=torch.float64)
    a = sample_locations(scores, 6, use_logits=True, generator=seeded())
    maps = scores.flatten(1).softmax(1).reshape(scores.shape)
    b = sample_locations(maps, 6, generator=seeded())
    torch.testing.assert_close(a, b)


def test_the_generator_decides():
    maps = torch.rand(3, 20, 20)
    for replace in (False, True):
        a, b, c = (
            sample_locations(maps, 5, replace=replace, generator=seeded(seed))[0]
            for seed in (0, 0, 1)
        )
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_cells_of_probability_zero_are_never_drawn():
    maps = torch.zeros(500, 4, 4)
    maps[:, 1, 2] = maps[:, 3, 0] = 1
    for replace in (False, True):
        indices, _ = sample_locations(maps, 2, replace=replace, generator=seeded())
        assert set(flat(indices, 4).flatten().tolist()) == {6, 12}
        scores = maps.log()
        indices, _ = sample_locations(
            scores, 2, replace=replace, use_logits=True, generator=seeded()
        )
        assert set(flat(indices, 4).flatten().tolist()) == {6, 12}


def test_scores_order_cells_whose_softmax_underflows():
    scores = torch.tensor([[[-3000.0, 0.0], [-1000.0, -2000.0]]])
    indices, probabilities = sample_locations(scores, 4, use_logits=True)
    assert flat(indices, 2).tolist() == [[1, 2, 3, 0]]
    assert probabilities.tolist() == [[1, 0, 0, 0]]


def test_gradients_are_those_of_the_probabilities():
    for use_logits in (False, True):
        maps = torch.rand(2, 3, 4, dtype=torch.float64).requires_grad_()
        indices, probabilities = sample_locations(maps, 5, use_logits=use_logits)
        weight = torch.randn(2, 5, dtype=torch.float64)
        (grad,) = torch.autograd.grad((probabilities * weight).sum(), maps)
        whole = maps.flatten(1)
        whole = whole.softmax(1) if use_logits else whole / whole.sum(1, keepdim=True)
        picked = torch.stack([p[i] for p, i in zip(whole, flat(indices, 4), strict=True)])
        (expected,) = torch.autograd.grad((picked * weight).sum(), maps)
        torch.testing.assert_close(grad, expected)


def test_the_most_probable_cells():
    maps = torch.rand(3, 5, 4, generator=seeded())
    indices, probabilities = top_locations(maps, 6)
    expected = attention_probabilities(maps).flatten(1).sort(1, descending=True)
    assert torch.equal(flat(indices, 4), expected.indices[:, :6])
    torch.testing.assert_close(probabilities, expected.values[:, :6])


@pytest.mark.parametrize(
    ("maps", "n", "options", "message"),
    [
        (torch.ones(2, 1, 3, 3), 1, {}, r"shape \(B, h, w\).*\(2, 1, 3, 3\)"),
        (torch.ones(2, 3, 3, dtype=torch.int64), 1, {}, "float.*int64"),
        (torch.ones(2, 3, 3), 0, {}, "at least 1 patch"),
        (torch.ones(2, 3, 3), 10, {}, "at most 9 patches.*3 x 3, got 10"),
        (torch.tensor([[[1.0, -0.1]]]), 1, {}, "at least 0.*use_logits"),
        (torch.tensor([[[1.0, torch.nan]]]), 1, {}, "NaN"),
        (torch.tensor([[[1.0, torch.inf]]]), 1, {"replace": True}, "infinite"),
        (torch.stack([torch.ones(2, 2), torch.zeros(2, 2)]), 1, {}, "map of zeros"),
        (torch.tensor([[[1.0, torch.nan]]]), 1, {"use_logits": True}, "NaN"),
        (torch.tensor([[[1.0, torch.inf]]]), 1, {"use_logits": True}, "inf"),
        (torch.full((1, 2, 2), -torch.inf), 1, {"use_logits": True}, "nothing but -inf"),
    ],
)
def test_errors(maps, n, options, message):
    with pytest.raises(ValueError, match=message):
        sample_locations(maps, n, **options)


@pytest.mark.parametrize(
    ("cells", "message"),
    [([1.0, -0.1], "negative"), ([1.0, torch.nan], "NaN"), ([0.0, 0.0], "map of zeros")],
)
def test_the_most_probable_cells_of_what_is_no_attention(cells, message):
    with pytest.raises(ValueError, match=message):
        top_locations(torch.tensor([[[1.0, 2.0]], [cells]]), 1)


def test_with_replacement_more_than_there_are_cells():
    indices, _ = sample_locations(torch.tensor([[[1.0, 0.0]]]), 30, replace=True)
    assert indices.shape == (1, 30, 2)
    assert not indices.any()


@pytest.mark.parametrize("use_logits", [False, True])
def test_a_saturated_map_is_filled_up_with_cells_that_weigh_nothing(use_logits):
    attention = torch.tensor([[[0.0, 0.7, 0.0], [0.3, 0.0, 0.0]]])
    given = attention.log() if use_logits else attention
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        indices, probabilities = sample_locations(
            given, 4, use_logits=use_logits, generator=generator
        )
        cells = [tuple(cell) for cell in indices[0].tolist()]
        assert len(set(cells)) == 4
        assert set(cells[:2]) == {(0, 1), (1, 0)}
        assert probabilities[0, 2:].tolist() == [0.0, 0.0]
        features = torch.tensor([[1.0, 2.0, 50.0, 60.0]])
        value = expectation(features, probabilities)
        expected = sum(
            float(attention[0][cell]) * x for cell, x in zip(cells[:2], (1, 2), strict=True)
        )
        assert float(value) == pytest.approx(expected, rel=1e-5)

"""Places on glass are never looked at, and what is left is estimated without a bias."""

import itertools
import math

import pytest
import torch

from milforge.data import TensorSource
from milforge.sampling import (
    AttentionSampling,
    Tissue,
    expectation,
    extract_patches,
    patch_offsets,
    sample_locations,
    tissue_mask,
)
from milforge.sampling.expectation import expectation_weights
from milforge.sampling.placement import Placement
from milforge.sampling.tissue import masked_attention, tissue_cells, tissue_shares

GLASS = torch.tensor([0.95, 0.94, 0.95])
PINK = torch.tensor([0.88, 0.6, 0.75])


def slide(tissue):
    """A view `(1, 3, H, W)` of a slide; `tissue` `(H, W)` bool."""
    return torch.where(tissue, PINK[:, None, None], GLASS[:, None, None])[None]


def spots(size=(6, 8), share=0.3, seed=0):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share


def test_glass_is_bright_and_without_colour():
    """Pixel by pixel, of colours on both sides of each threshold."""
    levels = [0.0, 0.5, 0.74, 0.76, 0.83, 0.87, 1.0]
    colours = list(itertools.product(levels, repeat=3))
    view = torch.tensor(colours).T[None, :, None]
    (found,) = tissue_mask(view, brightness=0.75, colour=0.05)
    expected = [min(c) < 0.75 or max(c) - min(c) > 0.05 for c in colours]
    assert found[0].tolist() == expected
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize(
    "view",
    [
        torch.zeros(1, 3, 6, 8),  # black ground
        torch.rand(1, 1, 6, 8),  # a channel
        torch.rand(1, 4, 6, 8),
        torch.rand(1, 1, 60, 80).expand(1, 3, -1, -1),  # a radiograph stored as RGB
        torch.ones(1, 3, 6, 8),  # nothing but glass
        torch.full((1, 3, 6, 8), 200.0),  # of another range
    ],
)
def test_an_image_without_glass_counts_whole(view):
    assert tissue_mask(view).all()


def test_the_images_of_a_batch_are_taken_each_for_itself():
    tissue = spots()
    views = torch.cat([slide(tissue), torch.ones(1, 3, 6, 8), slide(~tissue)])
    found = tissue_mask(views)
    assert torch.equal(found[0], tissue)
    assert found[1].all()
    assert torch.equal(found[2], ~tissue)


def test_shares_are_those_of_finer_pixels():
    """Windows on a grid of eighths of pixels, counted there; some reach beyond the view."""
    mask = spots((5, 7), 0.5)
    fine = torch.nn.functional.pad(
        mask.double().repeat_interleave(8, 0).repeat_interleave(8, 1), (40, 40, 40, 40)
    )
    rows, columns, (height, width) = [-40, -13, 0, 6, 11, 37, 40], [-40, -3, 0, 21, 55], (19, 26)
    found = tissue_shares(
        mask,
        (torch.tensor(rows).double() / 8, torch.tensor(columns).double() / 8),
        (height / 8, width / 8),
    )
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            window = fine[row + 40 : row + 40 + height, column + 40 : column + 40 + width]
            assert found[i, j] == pytest.approx(window.mean().item(), abs=1e-12)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("field", "cells"), [(0, (6, 8)), (0, (3, 5)), (2, (4, 6))])
@pytest.mark.parametrize("patch", [(7, 5), (24, 31)])
def test_cells_are_those_whose_patches_hold_tissue(patch, field, cells, inside):
    """Cut out of the mask at full resolution, of images of several sizes."""
    masks = torch.stack([spots(seed=seed, share=0.25) for seed in (1, 2)])
    scales = [(10, 10), (5, 20)]
    high = [
        mask.repeat_interleave(down, 0).repeat_interleave(across, 1)
        for mask, (down, across) in zip(masks, scales, strict=True)
    ]
    sources = [TensorSource(each[None].float()) for each in high]
    x_low = torch.zeros(2, 1, 6, 8)
    placement = Placement(patch, field, inside)
    found = tissue_cells(masks, cells, x_low, sources, placement, 0.1)
    indices = torch.tensor(list(itertools.product(*map(range, cells))))[None]
    for each, image in zip(found, high, strict=True):
        offsets = patch_offsets(indices, cells, (6, 8), image.shape, patch, field, inside=inside)
        patches = extract_patches(image[None, None].double(), offsets, patch)
        expected = (patches.mean((2, 3, 4)) >= 0.1).reshape(cells)
        assert torch.equal(each, expected)
    assert 0 < found.sum() < found.numel()
    (alone,) = tissue_cells(masks[:1], cells, x_low[:1], high[0][None, None], placement, 0.1)
    assert torch.equal(alone, found[0])


def test_where_no_cell_is_left_all_are():
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[0, 2, 3] = True
    images = torch.zeros(1, 3, 60, 80), Placement((20, 20))
    assert tissue_cells(mask, (6, 8), torch.zeros(1, 3, 6, 8), *images, 0.1).sum() == 5
    assert tissue_cells(mask, (6, 8), torch.zeros(1, 3, 6, 8), *images, 0.9).all()


LOGITS = {"moderate": [0.3, -0.2, 5.0, 0.9, -1.0], "peaked": [4.0, 0.0, 9.0, 1.0, 0.5]}
ALLOWED = [True, True, False, True, True]  # the most probable cell is on glass


def plackett_luce(p, draw):
    """Probability of drawing these cells in this order, without replacement."""
    chance = 1.0
    for k, cell in enumerate(draw):
        chance *= p[cell] / math.fsum(p[c] for c in p if c not in draw[:k])
    return chance


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("estimator", ["unordered", "ordered", "replace"])
def test_estimates_are_unbiased_over_the_places_that_remain(estimator, n, name):
    """All draws of n of the 4 cells that are left, against the softmax of these alone."""
    logits = torch.tensor(LOGITS[name], dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(n)
    features = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    cotangent = torch.randn(3, generator=generator, dtype=torch.float64)

    left = [i for i, each in enumerate(ALLOWED) if each]
    exact = logits[left].softmax(0) @ features[left]
    p = dict(zip(left, logits[left].softmax(0).tolist(), strict=True))

    a = masked_attention(logits.softmax(0)[None, None], torch.tensor([[ALLOWED]])).flatten()
    if estimator == "replace":
        draws = list(itertools.product(left, repeat=n))
        chances = [math.prod(p[cell] for cell in draw) for draw in draws]
        options = {"replace": True}
    else:
        draws = list(itertools.permutations(left, n))
        chances = [plackett_luce(p, draw) for draw in draws]
        options = {"estimator": estimator}
    assert sum(chances) == pytest.approx(1, abs=1e-12)
    cells = torch.tensor(draws)
    mean = torch.tensor(chances, dtype=torch.float64) @ expectation(
        features[cells], a[cells], **options
    )

    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-9)
    of_mean, of_exact = (
        torch.autograd.grad((each * cotangent).sum(), [logits, features]) for each in (mean, exact)
    )
    torch.testing.assert_close(of_mean, of_exact, rtol=0, atol=1e-9)


def test_draws_are_of_what_is_left():
    maps = torch.rand(500, 4, 5)
    allowed = torch.rand(500, 4, 5) < 0.4
    allowed[:, 0, 0] = True
    masked = masked_attention(maps, allowed)
    torch.testing.assert_close(masked.sum((1, 2)), torch.ones(500))
    for replace in (False, True):
        indices, probabilities = sample_locations(masked, 6, replace=replace)
        on_tissue = allowed.flatten(1).gather(1, indices[..., 0] * 5 + indices[..., 1])
        assert torch.equal(on_tissue, probabilities > 0)
        # All that is left is drawn before anything else.
        count = on_tissue.sum(1)
        assert torch.equal(count, torch.full_like(count, 6) if replace else count.clamp(max=6))
        if not replace:
            assert torch.equal(count, allowed.sum((1, 2)).clamp(max=6))


def test_of_fewer_places_than_patches_the_estimate_is_exact():
    allowed = torch.tensor([[[True, False], [False, True]]])
    a = masked_attention(torch.tensor([[[0.1, 0.2], [0.4, 0.3]]], dtype=torch.float64), allowed)
    indices, probabilities = sample_locations(a, 4)
    cells = (indices[0] * torch.tensor([2, 1])).sum(1)
    features = torch.randn(4, 3, dtype=torch.float64)
    found = expectation(features[cells][None], probabilities)
    torch.testing.assert_close(found[0], 0.25 * features[0] + 0.75 * features[3])
    for estimator in ("unordered", "ordered", "published"):
        weights = expectation_weights(probabilities, estimator=estimator)
        assert weights[0, 2:].tolist() == [0, 0]  # of what lies on glass


def test_attention_that_lies_on_glass_alone_is_uniform_over_the_tissue():
    allowed = torch.tensor([[[False, True, True]]])
    logits = torch.tensor([200.0, 0.0, 0.0], requires_grad=True)
    masked = masked_attention(logits.softmax(0)[None, None], allowed)
    assert masked.flatten().tolist() == [0, 0.5, 0.5]
    (grad,) = torch.autograd.grad(masked[0, 0, 1], logits)
    assert grad.isfinite().all()


@pytest.mark.parametrize(("value", "message"), [(0.0, "a map of zeros"), (torch.nan, "NaN")])
def test_what_is_no_attention_is_still_refused(value, message):
    allowed = torch.tensor([[[True, False, True]]])
    with pytest.raises(ValueError, match=message):
        sample_locations(masked_attention(torch.full((1, 1, 3), value), allowed), 1)


@pytest.mark.parametrize("keep", [True, False])
def test_a_map_that_is_all_one_or_the_other_stays_bit_for_bit(keep):
    maps = torch.rand(3, 4, 5, requires_grad=True)
    found = masked_attention(maps, torch.full((3, 4, 5), keep))
    assert torch.equal(found, maps)
    (grad,) = torch.autograd.grad(found.sum(), maps)
    assert torch.equal(grad, torch.ones_like(maps))


def build(tissue, **options):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 1, 3, padding=1)

    def attention(x):
        scores = conv(x)[:, 0]
        return scores.flatten(1).softmax(1).reshape(scores.shape)

    feature = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return AttentionSampling(attention, feature, (9, 7), 3, tissue=tissue, **options)


def high_of(x_low):
    return x_low.repeat_interleave(10, 2).repeat_interleave(10, 3)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("way", ["train", "sample", "topk", "full"])
def test_no_patch_lies_on_glass(way, inside):
    x_low = torch.cat([slide(spots(seed=seed)) for seed in range(20)])
    model = build(Tissue(), inside=inside, inference="sample" if way == "train" else way)
    model.train(way == "train")
    features, attention, patches = model(x_low, high_of(x_low))
    pink = (patches - PINK[:, None, None]).abs().amax(2) < 1e-6
    assert (pink.float().mean((2, 3)) >= 0.05).all()
    allowed = model.allowed(attention, x_low, high_of(x_low))
    assert torch.equal(attention > 0, allowed)
    torch.testing.assert_close(attention.sum((1, 2)), torch.ones(20))
    if way == "full":
        plain = build(None, inside=inside, inference="full").eval()(x_low, high_of(x_low))
        assert (features[:, 0] < plain.features[:, 0]).all()  # glass is the brighter


@pytest.mark.parametrize("channels", [1, 3])
def test_digits_on_a_black_ground_are_looked_at_as_without(channels):
    x_low = torch.zeros(4, 3, 6, 8)
    x_low[:, :, 2:4, 3:5] = torch.rand(4, 1, 2, 2)
    x_low[:, :, 0, 0] = 1.0  # as bright as glass, and as grey
    x_low = x_low[:, :channels]
    found, expected = [], []
    for tissue, outputs in ((Tissue(), found), (None, expected)):
        model = build(tissue)
        if channels == 1:
            model.attention = lambda x: x[:, 0] + 0.1
        torch.manual_seed(1)
        outputs.extend(model(x_low, high_of(x_low)))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"least": 0}, r"tissue.least above 0.*got 0: tissue=null"),
        ({"least": 1.5}, "at most 1, got 1.5"),
        ({"brightness": 204}, "tissue.brightness from 0 to 1.*got 204"),
        ({"colour": -0.1}, "tissue.colour from 0 to 1.*got -0.1"),
    ],
)
def test_errors_of_the_options(options, message):
    with pytest.raises(ValueError, match=message):
        Tissue(**options)

import copy

import pytest
import torch
from torch import nn

from milforge.data import TensorSource
from milforge.sampling import (
    AttentionSampling,
    MultinomialEntropy,
    extract_patches,
    patch_offsets,
    sample_locations,
)
from milforge.sampling.attention_sampling import AttentionSamplingOutput


class AttentionNetwork(nn.Module):
    """A convolution and a softmax over the cells."""

    def __init__(self, padding=1):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=padding)

    def forward(self, x):
        scores = self.conv(x)[:, 0]
        return scores.flatten(1).softmax(1).reshape(scores.shape)


def build(patch_size=(7, 5), n_patches=4, **options):
    torch.manual_seed(0)
    feature = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return AttentionSampling(AttentionNetwork(), feature, patch_size, n_patches, **options).double()


def images(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 2, 6, 8, generator=generator, dtype=torch.float64),
        torch.randn(count, 2, 60, 80, generator=generator, dtype=torch.float64),
    )


def every_cell(model, x_low, x_high, size=(7, 5)):
    """The expectation over all cells, one after the other."""
    attention = model.attention(x_low)
    total = 0
    for i in range(attention.shape[1]):
        for j in range(attention.shape[2]):
            indices = torch.tensor([[i, j]]).expand(len(x_low), 1, 2)
            low, high = tuple(x_low.shape[2:]), tuple(x_high.shape[2:])
            offsets = patch_offsets(indices, tuple(attention.shape[1:]), low, high, size)
            patches = extract_patches(x_high, offsets, size)[:, 0]
            total = total + attention[:, i, j, None] * model.feature(patches)
    return total


def test_what_it_gives():
    model = build()
    found = model(*images())
    assert isinstance(found, AttentionSamplingOutput)
    assert found._fields == ("features", "attention", "patches")
    features, attention, patches = found
    assert features.shape == (3, 4)
    assert attention.shape == (3, 6, 8)
    assert patches.shape == (3, 4, 2, 7, 5)


@pytest.mark.parametrize("estimator", ["unordered", "ordered", "published"])
@pytest.mark.parametrize("replace", [False, True])
def test_training_draws_anew_and_is_right_in_the_mean(estimator, replace):
    model = build(estimator=estimator, replace=replace)
    x_low, x_high = images(1)
    expected = every_cell(model, x_low, x_high)
    torch.manual_seed(1)
    with torch.no_grad():
        many = model(x_low.expand(4000, -1, -1, -1), x_high.expand(4000, -1, -1, -1)).features
    assert many.std(0).min() > 0
    error = (many.mean(0) - expected[0]) / (many.std(0) / 4000**0.5)
    assert error.abs().max() < 4


@pytest.mark.parametrize("n_patches", [1, 5, 48, 100])
def test_full_inference_is_the_expectation_over_all_cells(n_patches):
    """Also where n_patches does not divide the cells; the patches are the most probable."""
    model = build(n_patches=n_patches, inference="full").eval()
    x_low, x_high = images()
    features, attention, patches = model(x_low, x_high)
    torch.testing.assert_close(features, every_cell(model, x_low, x_high))
    assert patches.shape == (3, min(n_patches, 48), 2, 7, 5)
    best = attention.flatten(1).argmax(1)
    indices = torch.stack([best // 8, best % 8], 1)[:, None]
    offsets = patch_offsets(indices, (6, 8), (6, 8), (60, 80), (7, 5))
    assert torch.equal(patches[:, :1], extract_patches(x_high, offsets, (7, 5)))


@pytest.mark.parametrize("inference", ["sample", "topk"])
def test_with_all_cells_inference_is_exact(inference):
    model = build(n_patches=48, inference=inference).eval()
    x_low, x_high = images()
    torch.testing.assert_close(model(x_low, x_high).features, every_cell(model, x_low, x_high))


def test_topk_weighs_the_most_probable_patches():
    model = build(n_patches=2, inference="topk").eval()
    x_low, x_high = images(1)
    features, attention, patches = model(x_low, x_high)
    top = attention.flatten().sort(descending=True).values[:2]
    found = model.feature(patches[0])
    expected = (top[0] * found[0] + top[1] * found[1]) / (top[0] + top[1])
    torch.testing.assert_close(features[0], expected)


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
@pytest.mark.parametrize("replace", [False, True])
def test_inference_repeats_itself_and_knows_no_other_image(inference, replace):
    model = build(inference=inference, replace=replace).eval()
    x_low, x_high = images()
    together = model(x_low, x_high)
    state = torch.get_rng_state()
    for b in (2, 0, 1):
        alone = model(x_low[[b]], x_high[[b]])
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[b])
    assert torch.equal(torch.get_rng_state(), state)  # evaluation does not move training on


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
def test_locate_names_the_patches(inference):
    model = build(inference=inference).eval()
    x_low, x_high = images()
    _, attention, patches = model(x_low, x_high)
    indices, probabilities = model.locate(attention)
    offsets = patch_offsets(indices, (6, 8), (6, 8), (60, 80), (7, 5))
    assert torch.equal(patches, extract_patches(x_high, offsets, (7, 5)))
    torch.testing.assert_close(
        probabilities, attention.flatten(1).gather(1, indices[..., 0] * 8 + indices[..., 1])
    )


def test_inference_is_for_evaluation_only():
    model = build(inference="topk")
    x_low, x_high = images()
    torch.manual_seed(1)
    a = model(x_low, x_high).patches
    assert not torch.equal(a, model(x_low, x_high).patches)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_sources_give_exactly_what_tensors_give(training, inference, dtype):
    model = build(inference=inference).train(training)
    x_low, x_high = images()
    x_high = (x_high * 50).to(dtype)
    results = []
    for high in (x_high, [TensorSource(image) for image in x_high]):
        model.zero_grad()
        torch.manual_seed(1)
        output = model(x_low, high)
        output.features.square().sum().backward()
        results.append([*output, *(parameter.grad for parameter in model.parameters())])
    for of_tensors, of_sources in zip(*results, strict=True):
        assert torch.equal(of_tensors, of_sources)


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
def test_sources_of_different_sizes(inference):
    """Each image is what it would be alone."""
    model = build(inference=inference).eval()
    x_low, _ = images(2)
    sources = [TensorSource(torch.rand(2, *size).double()) for size in ((61, 83), (120, 50))]
    together = model(x_low, sources)
    for b, source in enumerate(sources):
        alone = model(x_low[[b]], source.image[None])
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_[b])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("replace", [False, True])
def test_seeds_fix_the_draws_of_each_image(training, replace):
    """In any company and order, and without moving the global generator."""
    model = build(replace=replace).train(training)
    x_low, x_high = images()
    seeds = torch.tensor([5, 2**40, 7])
    state = torch.get_rng_state()
    together = model(x_low, x_high, seeds=seeds)
    order = [2, 0]
    some = model(x_low[order], x_high[order], seeds=seeds[order].tolist())
    assert torch.equal(torch.get_rng_state(), state)
    for one, all_ in zip(some, together, strict=True):
        torch.testing.assert_close(one, all_[order])
    attention = model.attention(x_low)
    indices, probabilities = model.locate(attention, seeds=seeds)
    for b, seed in enumerate(seeds.tolist()):
        generator = torch.Generator().manual_seed(seed)
        expected = sample_locations(attention[[b]], 4, replace=replace, generator=generator)
        assert torch.equal(indices[[b]], expected[0])
        assert torch.equal(probabilities[[b]], expected[1])
    uniform = torch.ones(2, 30, 30)
    same, other = (model.locate(uniform, seeds=pair)[0] for pair in ([3, 3], [3, 4]))
    assert torch.equal(same[0], same[1])
    assert not torch.equal(other[0], other[1])


@pytest.mark.parametrize("inference", ["topk", "full"])
def test_seeds_mean_nothing_where_nothing_is_drawn(inference):
    model = build(inference=inference).eval()
    for one, other in zip(model(*images()), model(*images(), seeds=[1, 2, 3]), strict=True):
        assert torch.equal(one, other)


def test_gradients_reach_both_networks_and_the_image():
    model = build()
    x_low, x_high = images()
    x_high.requires_grad_()
    model(x_low, x_high).features.square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()
    assert model.attention.conv.weight.grad.abs().sum() > 0
    assert x_high.grad.abs().sum() > 0


def test_it_learns_where_to_look():
    """One cell in 48 holds what matters; only the attention can raise the mean feature."""
    torch.manual_seed(0)
    model = AttentionSampling(
        AttentionNetwork(), lambda patches: patches.mean((2, 3))[:, :1], (4, 4), n_patches=6
    )
    x_low = torch.zeros(16, 2, 6, 8)
    cells = torch.randint(48, (16,))
    x_low.flatten(2)[torch.arange(16), 0, cells] = 3.0
    x_high = x_low.repeat_interleave(10, 2).repeat_interleave(10, 3)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.2)
    for _ in range(100):
        optimiser.zero_grad()
        (-model(x_low, x_high).features.mean()).backward()
        optimiser.step()
    attention = model.attention(x_low).flatten(1)
    assert attention[torch.arange(16), cells].min() > 0.9


def test_patch_size_none_is_the_low_resolution_size():
    model = build(patch_size=None)
    assert model(*images()).patches.shape == (3, 4, 2, 6, 8)


def test_a_receptive_field_reaches_the_offsets():
    torch.manual_seed(0)
    model = AttentionSampling(
        AttentionNetwork(padding=0), nn.Flatten(), (4, 4), n_patches=3, receptive_field=2
    ).eval()
    x_low, x_high = (each.float() for each in images())
    _, attention, patches = model(x_low, x_high)
    indices, _ = model.locate(attention)
    offsets = patch_offsets(indices, (4, 6), (6, 8), (60, 80), (4, 4), 2)
    assert torch.equal(patches, extract_patches(x_high, offsets, (4, 4)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
def test_patches_lie_inside_where_that_is_asked_for(training, inference):
    x_low, x_high = images()
    for inside in (True, False):
        model = build((30, 21), 48, inside=inside, inference=inference).train(training)
        patches = model(x_low, torch.ones_like(x_high)).patches
        assert (patches == 1).all() == inside
    model = build((30, 21), 4, inside=True, inference="full").eval()
    plain = build((30, 21), 4, inside=True, inference="topk").eval()
    plain.n_patches = 48  # all cells, by another way
    torch.testing.assert_close(model(x_low, x_high).features, plain(x_low, x_high).features)


def test_uint8_images_are_scaled():
    model = build().float().eval()
    low = torch.randint(0, 256, (2, 2, 6, 8), dtype=torch.uint8)
    high = torch.randint(0, 256, (2, 2, 60, 80), dtype=torch.uint8)
    for one, other in zip(model(low, high), model(low / 255, high / 255), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
def test_autocast_and_half_precision(inference):
    model = build(inference=inference).float().eval()
    x_low, x_high = (each.float() for each in images())
    exact = model(x_low, x_high).features
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(x_low, x_high).features
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)
    half = copy.deepcopy(model).bfloat16()
    assert half(x_low.bfloat16(), x_high.bfloat16()).features.dtype == torch.bfloat16


def test_the_penalty():
    model = build()
    attention = model.attention(images()[0])
    assert model.penalty(attention) == 0
    term = MultinomialEntropy(0.1)
    model = build(attention_regularizer=term)
    torch.testing.assert_close(model.penalty(attention), term(attention))
    assert model.penalty(attention).ndim == 0
    torch.testing.assert_close(model.penalty(7 * attention), term(attention))


def test_scalar_features_and_features_with_more_dimensions():
    for inference in ("sample", "topk", "full"):
        for feature, shape in ((lambda p: p.mean((1, 2, 3)), (3,)), (lambda p: p, (3, 2, 7, 5))):
            model = AttentionSampling(AttentionNetwork(), feature, (7, 5), inference=inference)
            x_low, x_high = (each.float() for each in images())
            assert model(x_low, x_high).features.shape == shape
            assert model.eval()(x_low, x_high).features.shape == shape


def test_the_state_is_that_of_the_two_networks():
    keys = set(build().state_dict())
    networks = {
        "attention.conv.weight",
        "attention.conv.bias",
        "feature.0.weight",
        "feature.0.bias",
    }
    assert keys == networks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_patches": 0}, "n_patches of at least 1, got 0"),
        ({"estimator": "best"}, r"unordered.*'best'"),
        ({"inference": "all"}, r"sample.*topk.*full.*'all'"),
        ({"patch_size": (0, 4)}, r"patch_size.*\(0, 4\)"),
    ],
)
def test_errors_of_the_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("inference", ["sample", "topk", "full"])
def test_errors_of_the_input(inference):
    x_low, x_high = images()
    model = build(inference=inference).eval()
    with pytest.raises(ValueError, match="NaN"):
        model(x_low * torch.nan, x_high)
    with pytest.raises(ValueError, match=r"low-resolution.*\(2, 6, 8\)"):
        model(x_low[0], x_high)
    with pytest.raises(ValueError, match=r"and \(2, 60, 80\)"):
        model(x_low, x_high[0])
    with pytest.raises(ValueError, match=r"\(2, n, 2\)"):
        model(x_low, x_high[:2])
    with pytest.raises(ValueError, match=r"expected 3 sources.*got 2 sources and \(3, 2, 6, 8\)"):
        model(x_low, [TensorSource(image) for image in x_high[:2]])
    with pytest.raises(ValueError, match="a seed for each of 3 attention maps, got 2"):
        model(x_low, x_high, seeds=[1, 2])
    model.attention = nn.Conv2d(2, 1, 1).double()
    with pytest.raises(ValueError, match=r"maps of shape \(B, h, w\).*\(3, 1, 6, 8\)"):
        model(x_low, x_high)
    if inference != "full":
        with pytest.raises(ValueError, match=r"at most 48 patches.*got 49"):
            build(inference=inference, n_patches=49).eval()(x_low, x_high)

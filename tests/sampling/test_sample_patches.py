import pytest
import torch

from milforge.data import TensorSource
from milforge.sampling import SamplePatches, extract_patches, patch_offsets
from milforge.sampling.placement import Placement
from milforge.sampling.sample_patches import patches_at


def coordinates(height, width):
    """An image whose two channels are the row and the column of each pixel, from 1."""
    rows, columns = torch.meshgrid(
        torch.arange(1.0, height + 1), torch.arange(1.0, width + 1), indexing="ij"
    )
    return torch.stack([rows, columns])[None]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("use_logits", [False, True])
def test_patches_lie_where_their_probability_does(replace, use_logits):
    """Rectangular everything; the centre of each patch gives its cell, and so its probability."""
    maps = torch.rand(3, 4, 6)
    sample = SamplePatches(7, (5, 3), replace=replace, use_logits=use_logits)
    x_low, x_high = torch.zeros(3, 2, 8, 12), coordinates(80, 180).repeat(3, 1, 1, 1)
    patches, sampled = sample(x_low, x_high, maps)
    assert patches.shape == (3, 7, 2, 5, 3)
    assert sampled.shape == (3, 7)
    whole = (
        maps.flatten(1).softmax(1) if use_logits else maps.flatten(1) / maps.sum((1, 2))[:, None]
    )
    rows, columns = patches[:, :, :, 2, 1].unbind(2)
    cells = (rows // 20 * 6 + columns // 30).long()
    torch.testing.assert_close(sampled, whole.gather(1, cells))


def test_receptive_field_moves_the_patches():
    indices = torch.tensor([[[0, 3]]])
    x_low, x_high = torch.zeros(1, 2, 10, 10), coordinates(100, 100)
    found = patches_at(indices, (6, 6), x_low, x_high, Placement((4, 4), 4))
    offsets = patch_offsets(indices, (6, 6), (10, 10), (100, 100), (4, 4), 4)
    assert offsets.tolist() == [[[23, 53]]]
    assert torch.equal(found, extract_patches(x_high, offsets, (4, 4)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_uint8_is_converted_after_the_cut(dtype):
    x_high = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    indices = torch.tensor([[[0, 0], [1, 1]], [[1, 0], [0, 1]]])
    found = patches_at(
        indices, (2, 2), torch.zeros(2, 3, 4, 4, dtype=dtype), x_high, Placement((9, 9))
    )
    expected = patches_at(
        indices, (2, 2), torch.zeros(2, 3, 4, 4), x_high.float() / 255, Placement((9, 9))
    )
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype))
    low = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert patches_at(indices, (2, 2), low, x_high, Placement((9, 9))).dtype == torch.float32


def test_sources_are_cut_like_tensors():
    maps = torch.rand(3, 4, 6)
    x_low, x_high = torch.zeros(3, 2, 8, 12), coordinates(80, 180).repeat(3, 1, 1, 1)
    results = []
    for high in (x_high, [TensorSource(image) for image in x_high]):
        torch.manual_seed(0)
        results.append(SamplePatches(7, (5, 3))(x_low, high, maps))
    for of_tensors, of_sources in zip(*results, strict=True):
        assert torch.equal(of_tensors, of_sources)


@pytest.mark.parametrize("low", [torch.uint8, torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("high", [torch.uint8, torch.float32, torch.float64])
def test_what_is_read_takes_the_dtype_of_the_networks(low, high):
    source = TensorSource((torch.rand(3, 40, 40) * 255).to(high))
    x_low, indices = torch.zeros(1, 3, 4, 4, dtype=low), torch.tensor([[[0, 0], [1, 1]]])
    found = patches_at(indices, (2, 2), x_low, [source], Placement((9, 9)))
    kept = high if low == torch.uint8 and high != torch.uint8 else torch.float32
    assert found.dtype == (low if low.is_floating_point else kept)
    expected = patches_at(indices, (2, 2), x_low, source.image[None], Placement((9, 9)))
    torch.testing.assert_close(found, expected.to(found.dtype))


def test_gradients_reach_the_attention_and_the_image():
    maps = torch.rand(1, 3, 3, requires_grad=True)
    x_high = torch.rand(1, 1, 30, 30, requires_grad=True)
    patches, sampled = SamplePatches(2, (4, 4))(torch.zeros(1, 1, 6, 6), x_high, maps)
    (patches.sum() + sampled[:, 0].sum()).backward()
    assert maps.grad.abs().sum() > 0
    assert x_high.grad.sum() == 32


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (torch.zeros(1, 4, 4), torch.zeros(1, 1, 9, 9), r"\(B, C, H, W\), got \(1, 4, 4\)"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 9, 9), r"and \(1, 9, 9\)"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(2, 1, 9, 9), r"offsets of shape \(2, n, 2\)"),
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 9, 9).int(), "uint8 or float, got torch.int32"),
    ],
)
def test_errors(low, high, message):
    with pytest.raises(ValueError, match=message):
        SamplePatches(1, (2, 2))(low, high, torch.ones(1, 2, 2))


def test_a_patch_size_is_two_numbers():
    with pytest.raises(ValueError, match=r"patch_size.*\(5,\)"):
        SamplePatches(1, (5,))
    assert SamplePatches(1, [5, 6]).patch_size == (5, 6)  # as configs give it

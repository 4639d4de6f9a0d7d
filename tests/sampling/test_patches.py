import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from milforge.sampling import extract_patches
from milforge.sampling.patches import gather_patches

CUTS = pytest.mark.parametrize("cut", [extract_patches, gather_patches])


def pixel_by_pixel(image, offsets, size):
    count, channels, height, width = image.shape
    out = torch.zeros(count, offsets.shape[1], channels, *size, dtype=image.dtype)
    for b in range(count):
        for k, (row, column) in enumerate(offsets[b].tolist()):
            for i in range(size[0]):
                for j in range(size[1]):
                    if 0 <= row + i < height and 0 <= column + j < width:
                        out[b, k, :, i, j] = image[b, :, row + i, column + j]
    return out


@CUTS
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    count=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_pixel_by_pixel(cut, shape, size, count, seed):
    """Odd and rectangular sizes, patches across every edge, outside, and larger than the image."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(shape, generator=generator)
    offsets = torch.randint(-25, 25, (shape[0], count, 2), generator=generator)
    offsets = offsets if seed % 2 else offsets % 5 - 2  # half of them close to the image
    assert torch.equal(cut(image, offsets, size), pixel_by_pixel(image, offsets, size))


@CUTS
@pytest.mark.parametrize(
    "dtype",
    [torch.uint8, torch.bool, torch.bfloat16, torch.float16, torch.int32, torch.float64],
)
def test_dtypes_are_kept(cut, dtype):
    image = torch.randint(0, 2, (2, 3, 6, 5)).to(dtype)
    offsets = torch.tensor([[[0, 0], [3, 3]], [[-1, 2], [2, -3]]])
    found = cut(image, offsets, (4, 3))
    assert found.dtype == dtype
    assert torch.equal(found, pixel_by_pixel(image, offsets, (4, 3)))


def test_views_are_cut_without_a_copy():
    image = torch.randn(2, 9, 8, 3).permute(0, 3, 1, 2)[:, :, ::2]
    offsets = torch.tensor([[[-1, 0]], [[2, 5]]])
    found = extract_patches(image, offsets, (3, 4))
    assert torch.equal(found, pixel_by_pixel(image, offsets, (3, 4)))
    endless = torch.ones(1).expand(4, 3, 10**6, 10**6)  # a copy would need 48 TB
    offsets = torch.tensor([[10**6 - 2, 10**6 // 2]]).expand(4, 1, 2)
    found = extract_patches(endless, offsets, (4, 4))
    assert found.sum() == 4 * 3 * 2 * 4


@CUTS
def test_gradients_reach_the_image(cut):
    image = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    # Patches that overlap, repeat, cross an edge and miss the image.
    offsets = torch.tensor([[[0, 0], [1, 1], [1, 1]], [[-2, 2], [3, -1], [9, 9]]])
    assert torch.autograd.gradcheck(lambda x: cut(x, offsets, (3, 2)), image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_have_the_dtype_of_the_image(dtype):
    image = torch.ones(1, 1, 4, 4, dtype=dtype, requires_grad=True)
    extract_patches(image, torch.tensor([[[0, 0], [1, 1]]]), (2, 2)).sum().backward()
    assert image.grad.dtype == dtype
    assert image.grad[0, 0].tolist() == [[1, 1, 0, 0], [1, 2, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_images_that_require_no_gradient_give_none():
    patches = extract_patches(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2).long(), (2, 2))
    assert not patches.requires_grad


def test_no_patches_and_no_images():
    none = torch.zeros(2, 0, 2, dtype=torch.int64)
    assert extract_patches(torch.ones(2, 3, 4, 4), none, (2, 2)).shape == (2, 0, 3, 2, 2)
    assert extract_patches(torch.ones(0, 3, 4, 4), none[:0], (2, 2)).shape == (0, 0, 3, 2, 2)


@pytest.mark.parametrize(
    ("image", "offsets", "size", "message"),
    [
        (torch.ones(3, 4, 4), torch.zeros(1, 1, 2).long(), (2, 2), r"images of shape.*\(3, 4, 4\)"),
        (torch.ones(2, 1, 4, 4), torch.zeros(1, 1, 2).long(), (2, 2), r"shape \(2, n, 2\)"),
        (torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2), (2, 2), "integer offsets.*float32"),
        (torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 2).long(), (2, 0), r"patch_size.*\(2, 0\)"),
    ],
)
def test_errors(image, offsets, size, message):
    with pytest.raises(ValueError, match=message):
        extract_patches(image, offsets, size)


@pytest.mark.gpu
def test_a_gpu_agrees():
    image, offsets = torch.randn(2, 3, 20, 17), torch.randint(-8, 22, (2, 6, 2))
    found = extract_patches(image.cuda(), offsets.cuda(), (7, 4))
    assert torch.equal(found.cpu(), extract_patches(image, offsets, (7, 4)))

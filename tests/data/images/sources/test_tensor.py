import numpy as np
import pytest
import torch

from milforge.data import TensorSource
from milforge.sampling import ImageSource


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.float64])
def test_windows(dtype, image, cut):
    array = image(30, 41, 5)
    source = TensorSource(torch.from_numpy(array).permute(2, 0, 1).to(dtype), "a")
    assert isinstance(source, ImageSource)
    assert (source.name, source.shape, source.levels) == ("a", (5, 30, 41), ((30, 41),))
    offsets = torch.tensor([[3, 4], [-3, 38], [25, -2], [90, 90]])
    found = source.read(offsets, (8, 6))
    expected = np.stack([cut(array, *offset, 8, 6) for offset in offsets.tolist()])
    assert found.dtype == dtype
    assert torch.equal(found, torch.from_numpy(expected).to(dtype))


def test_it_copies_nothing_and_takes_no_gradient():
    image = torch.zeros(1, 4, 4, requires_grad=True)
    source = TensorSource(image)
    assert source.image.data_ptr() == image.data_ptr()
    assert not source.read(torch.tensor([[0, 0]]), (2, 2)).requires_grad


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(4, 4), r"slide: expected a shape \(C, H, W\).*got \(4, 4\)"),
        (torch.zeros(3, 0, 4), r"slide: .*got \(3, 0, 4\)"),
        (torch.zeros(1, 4, 4).int(), r"slide: expected uint8 or float, got torch.int32"),
        (torch.zeros(1, 4, 4, device="meta"), r"slide: .*host memory, got it on meta"),
    ],
)
def test_errors_of_the_image(image, message):
    with pytest.raises(ValueError, match=message):
        TensorSource(image, "slide")


@pytest.mark.parametrize(
    ("offsets", "size", "level", "message"),
    [
        (torch.zeros(1, 2).long(), (2, 2), 1, r"image in memory: .*\(0: 4 x 5\), got 1"),
        (torch.zeros(1, 2).long(), (2, 2), -1, "got -1"),
        (torch.zeros(2).long(), (2, 2), 0, r"\(n, 2\), got torch.int64 of shape \(2,\)"),
        (torch.zeros(1, 2), (2, 2), 0, "integer offsets.*got torch.float32"),
        (torch.zeros(1, 2).long(), (0, 2), 0, r"size.*\(0, 2\)"),
    ],
)
def test_errors_of_a_window(offsets, size, level, message):
    with pytest.raises(ValueError, match=message):
        TensorSource(torch.zeros(1, 4, 5)).read(offsets, size, level)

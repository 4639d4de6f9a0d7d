"""Large images and batches of them."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from milforge.data import Canvas, ImageBatch, LargeImage, TensorSource, collate_images, megapixel
from thinned import thinned


def make_image(i=0, y=None, low=(1, 4, 5), high=(1, 40, 50), dtype=torch.float32):
    source = TensorSource(torch.full(high, i, dtype=torch.uint8), f"source {i}")
    return LargeImage(torch.full(low, i, dtype=dtype), source, y, f"image {i}")


def test_images_are_stacked():
    images = [make_image(i, y=i % 2, high=(1, 40 + i, 50)) for i in range(3)]
    batch = collate_images(images)
    assert isinstance(batch, ImageBatch)
    assert len(batch) == 3
    assert torch.equal(batch.x_low, torch.stack([image.low for image in images]))
    assert list(batch.x_high) == [image.high for image in images]
    assert batch.y.tolist() == [0, 1, 0]
    assert batch.y.dtype == torch.int64
    assert batch.bag_id == ["image 0", "image 1", "image 2"]
    assert batch.seeds is None


def test_labels_may_be_many_or_none():
    labels = [torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0])]
    batch = collate_images([make_image(i, y) for i, y in enumerate(labels)])
    assert torch.equal(batch.y, torch.stack(labels))
    assert collate_images([make_image(), make_image(1)]).y is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_views_keep_their_dtype(dtype):
    assert collate_images([make_image(dtype=dtype)]).x_low.dtype == dtype


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"low": (1, 4, 6)},
            r"^image 'image 1': expected a low-resolution view of shape \(1, 4, 5\) and "
            r"torch.float32, as that of 'image 0', got \(1, 4, 6\).*; give data.low_size$",
        ),
        ({"dtype": torch.uint8}, r"^image 'image 1': .* got \(1, 4, 5\) and torch.uint8"),
        ({"low": (3, 4, 5), "high": (3, 40, 50)}, r"^image 'image 1': .* got \(3, 4, 5\)"),
        ({"y": None}, "labels for all images of a batch or for none: 'image 0' and 'image 1'"),
        (
            {"y": torch.tensor([1, 0])},
            r"^image 'image 1': expected a label of shape \(\) and torch.int64, as that of "
            r"'image 0', got \(2,\)",
        ),
        ({"y": torch.tensor(1.0)}, r"^image 'image 1': expected a label .* got \(\) and torch.fl"),
    ],
)
def test_an_image_that_does_not_fit_the_others_is_named(other, message):
    with pytest.raises(ValueError, match=message):
        collate_images([make_image(y=1), make_image(1, **{"y": 0, **other})])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_image_with_values_that_are_not_finite_is_named(value):
    image = make_image(1)
    image.low[0, 2, 3] = value
    with pytest.raises(ValueError, match=r"^image 'image 1': expected finite pixels.*leave it out"):
        collate_images([make_image(0), image])


def test_no_image_makes_no_batch():
    with pytest.raises(ValueError, match="at least one image, got an empty list"):
        collate_images([])


@pytest.mark.parametrize(
    ("low", "message"),
    [
        ((4, 5), r"^image 'image 0': expected a low-resolution view .*\(C, h, w\), got \(4, 5\)"),
        ((3, 4, 5), r"^image 'image 0': expected a view of 1 channels, .* has, got 3$"),
    ],
)
def test_a_view_that_does_not_fit_its_image_is_refused(low, message):
    with pytest.raises(ValueError, match=message):
        make_image(low=low)


@pytest.mark.parametrize("y", [None, 1])
def test_views_and_labels_move_and_images_stay(y):
    batch = collate_images([make_image(y=y), make_image(1, y=y)])
    moved = batch.to("meta")
    assert moved.x_low.device.type == "meta"
    assert (moved.y is None) if y is None else (moved.y.device.type == "meta")
    assert moved.x_high is batch.x_high
    assert moved.bag_id == batch.bag_id
    assert batch.x_low.device.type == "cpu"


@pytest.mark.gpu
def test_a_batch_goes_to_a_gpu_by_pinned_memory():
    batch = collate_images([make_image(y=0), make_image(1, y=1)]).pin_memory()
    assert batch.x_low.is_pinned()
    assert batch.y.is_pinned()
    moved = batch.to("cuda")
    assert torch.equal(moved.x_low.cpu(), batch.x_low)
    assert moved.y.tolist() == [0, 1]
    assert moved.x_high is batch.x_high


@pytest.mark.slow  # each worker imports torch again
@pytest.mark.parametrize("context", thinned(["fork", "spawn"], every=2))
# Python 3.12 on warns of any fork beside threads; the children below use one thread only.
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_workers_give_what_this_process_gives(context):
    """Canvases go there, with their data set, and come back."""
    images = megapixel(train=6, val=1, test=1, size=120, low_size=30, noise=2, digit_size=16).train
    options = {"batch_size": 3, "collate_fn": collate_images}
    here = list(DataLoader(images, **options))
    there = list(DataLoader(images, **options, num_workers=2, multiprocessing_context=context))
    offsets = torch.tensor([[0, 0], [60, 60], [-8, 110]])
    assert [batch.bag_id for batch in there] == [batch.bag_id for batch in here]
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.x_low, other.x_low)
        assert torch.equal(one.y, other.y)
        for mine, theirs in zip(one.x_high, other.x_high, strict=True):
            assert isinstance(theirs, Canvas)
            assert torch.equal(mine.read(offsets, (60, 60)), theirs.read(offsets, (60, 60)))
            assert np.array_equal(mine.places, theirs.places)

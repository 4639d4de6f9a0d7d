from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from milforge.data import SPLITS, Labels, digits_bags
from milforge.tasks import Auto, Multilabel


def parts(splits):
    return [getattr(splits, name) for name in SPLITS]


def images_of(bags):
    return {image.numpy().tobytes() for bag in bags for image in bag.x}


def test_counts_and_names():
    splits = digits_bags(train=21, val=10, test=5)
    assert [len(part) for part in parts(splits)] == [21, 10, 5]
    assert [int(part.labels.sum()) for part in parts(splits)] == [10, 5, 2]
    assert splits.class_names == ("no 9", "9")
    assert [part[0].bag_id for part in parts(splits)] == ["train_0000", "val_0000", "test_0000"]


def test_defaults_are_the_generator_of_the_paper():
    splits = digits_bags()
    sizes = np.array([len(bag) for bag in splits.train])
    assert sizes.mean() == pytest.approx(10, abs=0.5)
    assert sizes.std() == pytest.approx(2, abs=0.4)
    assert splits.train.labels.float().mean() == 0.5


def test_images_are_real_and_labelled_right():
    digits = load_digits()
    digit_of = {
        (image / 16).astype(np.float32).tobytes(): int(digit)
        for image, digit in zip(digits.images, digits.target, strict=True)
    }
    assert len(digit_of) == 1797  # no two alike, so an image names itself
    for part in parts(digits_bags(train=10, val=10, test=10, target=4)):
        for bag in part:
            assert bag.x.dtype == torch.float32
            assert bag.x.shape[1:] == (1, 8, 8)
            digits_in_bag = [digit_of[image.numpy().tobytes()] for image in bag.x]
            assert bag.y_inst.tolist() == [int(digit == 4) for digit in digits_in_bag]
            assert bag.y == int(4 in digits_in_bag)


def test_parts_share_no_image_for_any_seed():
    seen = [set(), set(), set()]
    for seed in (0, 1):
        options = {"sampling": "plain", "mean_size": 300, "sd_size": 0}
        splits = digits_bags(train=12, val=12, test=12, seed=seed, **options)
        for images, part in zip(seen, parts(splits), strict=True):
            images |= images_of(part)
    # All the images of validation and test are drawn, so a change of split would show.
    assert [len(images) for images in seen[1:]] == [360, 360]
    assert len(seen[0]) > 1050
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_parts_are_stratified():
    for target in range(10):
        options = {"mean_size": 359, "sd_size": 0, "sampling": "plain", "target": target}
        share = (load_digits().target == target).mean()
        for part in parts(digits_bags(train=1, val=1, test=1, **options))[1:]:
            assert int(part[0].y_inst.sum()) == pytest.approx(359 * share, abs=1.01)


def test_seed_decides_and_parts_differ():
    options = {"train": 6, "val": 6, "test": 6}
    first, again, other = (digits_bags(seed=seed, **options) for seed in (5, 5, 6))
    for part, same, different in zip(*map(parts, (first, again, other)), strict=True):
        assert all(torch.equal(a.x, b.x) for a, b in zip(part, same, strict=True))
        assert images_of(part) != images_of(different)


def test_parts_use_different_random_streams():
    sizes = [
        [len(bag) for bag in part]
        for seed in (0, 1, 2)
        for part in parts(digits_bags(train=30, val=30, test=30, seed=seed))
    ]
    assert all(first != second for first, second in pairwise(sorted(sizes)))


def test_a_list_of_targets_is_multilabel():
    splits = digits_bags(train=8, val=4, test=4, target=[3, 9], sampling="plain")
    assert splits.class_names == ("3", "9")
    assert splits.train.labels.shape == (8, 2)
    assert set(splits.train.labels.flatten().tolist()) <= {0, 1}
    one = digits_bags(target=[7], sampling="plain")
    assert one.class_names == ("7",)
    labels = Labels({"7": one.train.labels[:, 0].numpy()}, one.class_names)
    assert isinstance(Auto().resolve(labels), Multilabel)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 10}, r"^train: .*labels of the images, \[0, 1, .*9\], got \[10\]"),
        ({"val": 0}, "^val: .*count of at least 1 bag, got 0"),
        ({"mean_size": 400, "sd_size": 0}, "^val: .*at most 32. images.*got a size of 400"),
        ({"target": [3, 9]}, "^train: .*sampling=plain"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        digits_bags(**options)

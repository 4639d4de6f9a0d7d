"""Bags of scikit-learn's handwritten digits, which need no download."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milforge.data.bag import Bag
from milforge.data.examples.digit_bags import Sampling, image_bag_splits
from milforge.data.parts import BagSplits

# The images of a part are the same in every run: a seed varies the bags, not what is tested on.
_SPLIT_SEED = 0
_TEST_SHARE = 0.2
_VAL_SHARE = 0.2
LARGEST_PIXEL = 16


def digits_bags(
    *,
    train: int = 200,
    val: int = 100,
    test: int = 200,
    target: int | Sequence[int] = 9,
    mean_size: float = 10,
    sd_size: float = 2,
    sampling: Sampling = "balanced",
    seed: int = 0,
) -> BagSplits[Bag]:
    """Bags of the 1,797 real digits, 8 by 8 pixels, that scikit-learn ships.

    Training, validation and test bags are drawn from 60, 20 and 20% of the images, stratified by
    digit; the same ones for every seed, and no image stands in two parts.

    Args:
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        target: the digit that makes a bag positive (binary), or a list of digits, each of which is
            a label of its own (multilabel).
        mean_size: mean number of images in a bag.
        sd_size: standard deviation of that number; 0 for bags of one size.
        sampling: balanced (every second bag is positive) or plain (a uniform draw).
        seed: 0 or more; decides which bags are drawn.

    Raises:
        ValueError: for an option out of its range, as in `draw_bags`.

    Example:
        >>> splits = digits_bags(train=4, val=2, test=2, target=3)
        >>> splits.class_names, splits.train.labels, splits.train[0].x.shape[1:]
        (('no 3', '3'), tensor([0, 1, 0, 1]), torch.Size([1, 8, 8]))
    """
    return image_bag_splits(
        digit_pools(),
        (train, val, test),
        scale=LARGEST_PIXEL,
        target=target,
        mean_size=mean_size,
        sd_size=sd_size,
        sampling=sampling,
        seed=seed,
    )


def digit_pools() -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """The images that training, validation and test bags are drawn from.

    60, 20 and 20% of the 1,797 digits, stratified by digit; always the same ones, and no image
    stands in two parts.

    Returns:
        For train, val and test the images `(M, 8, 8)` uint8, from 0 to `LARGEST_PIXEL`, and their
        digits `(M,)` int64.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    numbers, test_numbers = train_test_split(
        np.arange(len(digits.target)),
        test_size=_TEST_SHARE,
        stratify=digits.target,
        random_state=_SPLIT_SEED,
    )
    train_numbers, val_numbers = train_test_split(
        numbers,
        test_size=_VAL_SHARE / (1 - _TEST_SHARE),
        stratify=digits.target[numbers],
        random_state=_SPLIT_SEED,
    )
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    return [(images[part], labels[part]) for part in (train_numbers, val_numbers, test_numbers)]

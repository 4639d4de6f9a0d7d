"""Scikit-learn's digits in two streams of different worth: their pixels, and their gradients."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.dataset import SPLITS, BagDataset
from milforge.data.examples.digit_bags import Sampling
from milforge.data.examples.digits import LARGEST_PIXEL, digit_pools, digits_bags
from milforge.data.parts import BagSplits

Array = NDArray[np.float32]


def two_stream_digits(
    *,
    train: int = 200,
    val: int = 100,
    test: int = 200,
    target: int = 9,
    mean_size: float = 10,
    sd_size: float = 2,
    sampling: Sampling = "balanced",
    pixel_noise: float = 0.5,
    gradient_noise: float = 1.5,
    streams: Sequence[str] = ("pixels", "gradient"),
    seed: int = 0,
) -> BagSplits[Bag]:
    r"""The bags of `digits_bags`, each image seen in two ways.

    The stream `pixels` are the 64 pixels of an image, `gradient` its 128 slopes, see
    `image_gradient`. Both are noisy: a view v becomes

    $$ x = ((v - m) / s + \sigma \epsilon) / \sqrt{1 + \sigma^2} $$

    with m and s the mean and the standard deviation over all values of that view of all training
    images, and $\epsilon$ standard normal noise of its own for each value of each instance, the
    same whenever the bag is read and whichever streams are. So both streams have mean 0 and
    deviation 1, and only what they show of the digit differs.

    Args:
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        target: the digit that makes a bag positive.
        mean_size: mean number of images in a bag.
        sd_size: standard deviation of that number.
        sampling: balanced (every second bag is positive) or plain (a uniform draw).
        pixel_noise: standard deviation $\sigma$ of the noise on `pixels`, in those of the view.
        gradient_noise: standard deviation $\sigma$ of the noise on `gradient`.
        streams: which to give, `pixels` or `gradient` or both; one alone is a plain tensor.
        seed: 0 or more; decides which bags are drawn, and their noise.

    Raises:
        ValueError: for streams that there are not, negative noise, or as `digits_bags` does.

    Example:
        >>> bag = two_stream_digits(train=2, val=2, test=2).train[0]
        >>> {name: x.shape[1:] for name, x in bag.x.items()}
        {'pixels': torch.Size([64]), 'gradient': torch.Size([128])}
    """
    noises = {"pixels": pixel_noise, "gradient": gradient_noise}
    if not streams or len(set(streams)) < len(streams) or not set(streams) <= set(VIEWS):
        raise ValueError(
            f"expected streams to be {' or '.join(VIEWS)} or both, got {list(streams)}"
        )
    for name, noise in noises.items():
        if not 0 <= noise < math.inf:
            raise ValueError(f"expected noise of at least 0 on {name}, got {noise}")
    splits = digits_bags(
        train=train,
        val=val,
        test=test,
        target=target,
        mean_size=mean_size,
        sd_size=sd_size,
        sampling=sampling,
        seed=seed,
    )
    images, _ = digit_pools()[0]
    known = np.divide(images, LARGEST_PIXEL, dtype=np.float32)
    moments = {name: _moments(VIEWS[name](known)) for name in streams}

    def seen(bag: Bag, part: int, index: int) -> Bag:
        assert isinstance(bag.x, Tensor)
        clean = bag.x[:, 0].numpy()  # (N, 8, 8)
        x = {}
        for name in streams:
            # The third number keeps the noise of a stream apart from that of the other, and the
            # noise of both from the draw of the bag.
            key = (index, 1 + list(VIEWS).index(name))
            sequence = np.random.SeedSequence(len(SPLITS) * seed + part, spawn_key=key)
            view = (VIEWS[name](clean) - moments[name][0]) / moments[name][1]
            x[name] = torch.from_numpy(_noisy(view, noises[name], np.random.default_rng(sequence)))
        return replace(bag, x=x[streams[0]] if len(streams) == 1 else x)

    def part(number: int, bags: BagDataset) -> "_Bags":
        return _Bags([seen(bags[i], number, i) for i in range(len(bags))], bags)

    train_bags, val_bags, test_bags = (
        part(number, getattr(splits, name)) for number, name in enumerate(SPLITS)
    )
    return replace(splits, train=train_bags, val=val_bags, test=test_bags)


def image_gradient(images: Array) -> Array:
    """Slopes of images along both axes, by the Sobel operator.

    Args:
        images: `(M, H, W)` float32.

    Returns:
        `(M, 2 H W)`: those down the rows, then those along the columns, each 8 times the change
        from one pixel to the next; outside the image is zero.

    Example:
        >>> image_gradient(np.eye(3, dtype=np.float32)[None])[0, 3:6].tolist()
        [-2.0, 0.0, 2.0]
    """
    from scipy.ndimage import correlate1d

    # Not scipy's sobel, which would smooth over the images too: that is an axis to it.
    slopes = []
    for axis, other in ((1, 2), (2, 1)):
        steps = correlate1d(images, [-1, 0, 1], axis, mode="constant")
        slopes.append(correlate1d(steps, [1, 2, 1], other, mode="constant"))
    flat: Array = np.concatenate([each.reshape(len(images), -1) for each in slopes], axis=1)
    return flat


def _pixels(images: Array) -> Array:
    return images.reshape(len(images), -1)


VIEWS: dict[str, Callable[[Array], Array]] = {"pixels": _pixels, "gradient": image_gradient}


def _moments(view: Array) -> tuple[float, float]:
    return float(view.mean(dtype=np.float64)), float(view.std(dtype=np.float64))


def _noisy(view: Array, noise: float, rng: np.random.Generator) -> Array:
    drawn = rng.standard_normal(view.shape, dtype=np.float32)
    return ((view + noise * drawn) / math.sqrt(1 + noise**2)).astype(np.float32)


class _Bags:
    """Bags in memory, in place of those of a data set, of which they have the labels."""

    def __init__(self, bags: Sequence[Bag], of: BagDataset) -> None:
        self._bags = bags
        self.labels = of.labels

    def __len__(self) -> int:
        return len(self._bags)

    def __getitem__(self, index: int) -> Bag:
        return self._bags[index]

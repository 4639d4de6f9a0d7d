"""Bags of labelled images: the generators of the ABMIL paper and of the Keras example.

A bag is positive where one of its images is of the target class (Ilse et al. 2018,
https://arxiv.org/abs/1802.04712).
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.dataset import SPLITS
from milforge.data.examples.bags_in_memory import BagsInMemory
from milforge.data.parts import BagSplits
from milforge.functional import segment_sum

Sampling = Literal["balanced", "plain"]
Indices = NDArray[np.int64]

_MOST = 1_000_000  # bags to generate


def draw_bags(
    labels: NDArray[np.integer],
    count: int,
    *,
    target: int | Sequence[int],
    mean_size: float,
    sd_size: float,
    sampling: Sampling,
    seed: int,
) -> list[Indices]:
    """Draws the images of each bag.

    A bag holds `max(1, round(Normal(mean_size, sd_size)))` distinct images. The size is drawn
    before all else, so it says nothing about the label. With `plain` sampling the images are a
    uniform draw. With `balanced` sampling every second bag is positive, `count // 2` in all: a
    uniform draw given that at least one image is a target; the others are a uniform draw of the
    images that are not.

    Bag i depends on `(seed, i)` alone: a longer list begins with the shorter one.

    Args:
        labels: `(M,)` integer, the class of each image.
        count: number of bags.
        target: the class that makes a bag positive, or, with plain sampling, a list of classes.
        mean_size: mean number of images in a bag.
        sd_size: standard deviation of that number; 0 for bags of one size.
        sampling: balanced or plain.
        seed: 0 or more.

    Returns:
        For each bag the numbers of its images, in random order.

    Raises:
        ValueError: for an argument out of its range, a target that does not occur, a list of
            targets with balanced sampling, or a bag larger than the images at hand.

    Example:
        >>> labels = np.array([0, 1, 2, 9] * 10)
        >>> options = {"mean_size": 4, "sd_size": 1, "sampling": "balanced", "seed": 0}
        >>> [bool((labels[i] == 9).any()) for i in draw_bags(labels, 4, target=9, **options)]
        [False, True, False, True]
    """
    targets = _as_targets(target)
    _check_options(count, mean_size, sd_size, sampling, seed)
    _check_occurrence(labels, targets)
    balanced = sampling == "balanced"
    if balanced and not isinstance(target, int):
        raise ValueError(
            f"expected a single target for balanced sampling, got the list {targets}: give one "
            "target, or sampling=plain"
        )
    everything = np.arange(len(labels))
    is_target = np.isin(labels, targets)
    hits, others = everything[is_target], everything[~is_target]
    # A size that only a positive bag can have would give the label away.
    at_hand = others if balanced else everything

    @cache
    def hits_cdf(size: int) -> NDArray[np.float64]:
        """P(X <= 1), P(X <= 2), ... for the number X of targets, given that it is not 0."""
        from scipy.stats import hypergeom

        numbers = np.arange(1, min(size, len(hits)) + 1)
        pmf: NDArray[np.float64] = hypergeom.pmf(numbers, len(labels), len(hits), size)
        cdf = pmf.cumsum()
        cdf /= cdf[-1]
        return cdf

    bags = []
    for index in range(count):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        size = max(1, round(rng.normal(mean_size, sd_size)))
        if size > len(at_hand):
            kind = "that are no target" if balanced else "in all"
            raise ValueError(
                f"expected bags of at most {len(at_hand)} images, as many as there are {kind}, "
                f"got a size of {size}: lower mean_size or sd_size"
            )
        # Alternating, because every shorter list must be balanced too.
        if balanced and index % 2 == 1:
            number = 1 + int(np.searchsorted(hits_cdf(size), rng.random(), side="right"))
            drawn = [_choose(rng, hits, number), _choose(rng, others, size - number)]
            bags.append(rng.permutation(np.concatenate(drawn)))
        else:
            bags.append(_choose(rng, at_hand, size))
    return bags


class ImageBags(BagsInMemory):
    """A `BagDataset` of images in memory.

    Args:
        images: `(M, H, W)` float32 in [0, 1]; scaled once, because a bag is made on the hot path
            of training.
        image_labels: `(M,)` int64, the class of each image.
        indices: for each bag the numbers of its images, as `draw_bags` gives them.
        target: the class that makes a bag positive (binary), or a list of classes, each of which
            is a label of its own (multilabel).
        name: begins the bag ids, `name_0000` and so on.

    Raises:
        ValueError: where images and labels do not fit each other, or there is no bag.

    Example:
        >>> bags = ImageBags(
        ...     torch.zeros(3, 8, 8), torch.tensor([4, 9, 4]), [np.array([0, 1])], 9, "train"
        ... )
        >>> bags[0].x.shape, bags[0].y, bags[0].y_inst, bags[0].bag_id
        (torch.Size([2, 1, 8, 8]), 1, tensor([0, 1]), 'train_0000')
    """

    def __init__(
        self,
        images: Tensor,
        image_labels: Tensor,
        indices: Sequence[Indices],
        target: int | Sequence[int],
        name: str,
    ) -> None:
        if images.ndim != 3 or images.dtype != torch.float32:
            raise ValueError(
                f"{name}: expected images of shape (M, H, W) and float32 in [0, 1], got shape "
                f"{tuple(images.shape)} and {images.dtype}: scale them first"
            )
        if image_labels.shape != images.shape[:1]:
            raise ValueError(
                f"{name}: expected {len(images)} image labels, one per image, got shape "
                f"{tuple(image_labels.shape)}"
            )
        if not indices:
            raise ValueError(f"{name}: expected at least one bag, got none")
        self._images = images[:, None]  # (M, 1, H, W)
        self._indices = torch.from_numpy(np.concatenate(indices))  # (N,), all bags
        targets = torch.tensor(_as_targets(target))
        hits = image_labels[self._indices, None] == targets  # (N, C)
        sizes = [len(each) for each in indices]
        bounds = torch.tensor([0, *sizes]).cumsum(0)
        present = segment_sum(hits.float(), bounds) > 0  # (B, C)
        single = isinstance(target, int)
        labels = (present[:, 0] if single else present).to(torch.int64)
        super().__init__(sizes, labels, name)
        self._y: list[int] | Tensor = labels.tolist() if single else labels
        self._y_inst = hits.any(dim=1).to(torch.int64)

    def _bag(self, index: int, instances: slice, bag_id: str) -> Bag:
        return Bag(
            x=self._images.index_select(0, self._indices[instances]),
            y=self._y[index],
            y_inst=self._y_inst[instances],
            bag_id=bag_id,
        )


def image_bag_splits(
    pools: Sequence[tuple[NDArray[np.uint8], NDArray[np.integer]]],
    counts: Sequence[int],
    *,
    scale: float,
    target: int | Sequence[int],
    mean_size: float,
    sd_size: float,
    sampling: Sampling,
    seed: int,
) -> BagSplits[Bag]:
    """Draws the bags of the three parts, each from its own images and its own random stream.

    Args:
        pools: for train, val and test the images `(M, H, W)` uint8 and their classes `(M,)`.
        counts: number of bags of train, val and test.
        scale: the largest value of a pixel, which becomes 1.
        target: the digit that makes a bag positive, or a list of digits, a label each.
        mean_size: mean number of images in a bag.
        sd_size: standard deviation of that number.
        sampling: balanced (every second bag is positive) or plain (a uniform draw).
        seed: 0 or more.

    Raises:
        ValueError: as `draw_bags` does; the message begins with the part.
    """
    parts = {}
    for number, (name, (images, labels), count) in enumerate(
        zip(SPLITS, pools, counts, strict=True)
    ):
        try:
            indices = draw_bags(
                labels,
                count,
                target=target,
                mean_size=mean_size,
                sd_size=sd_size,
                sampling=sampling,
                # No two pairs of seed and part give the same stream.
                seed=len(SPLITS) * seed + number,
            )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        parts[name] = ImageBags(
            torch.from_numpy(images).div(scale),
            torch.from_numpy(labels.astype(np.int64)),
            indices,
            target,
            name,
        )
    names = tuple(str(digit) for digit in _as_targets(target))
    single = isinstance(target, int)
    return BagSplits(
        parts["train"],
        parts["val"],
        parts["test"],
        class_names=(f"no {target}", *names) if single else names,
    )


def _choose(rng: np.random.Generator, pool: Indices, size: int) -> Indices:
    return pool[rng.choice(len(pool), size, replace=False)]


def _as_targets(target: int | Sequence[int]) -> list[int]:
    targets = [target] if isinstance(target, int) else list(target)
    if not targets or len(set(targets)) < len(targets):
        raise ValueError(
            f"expected target to be one class or a list of distinct ones, got {target}"
        )
    return targets


def check_count(name: str, count: int) -> None:
    """Checks a number of bags, or of images, that are to be generated.

    Raises:
        ValueError: for more than any memory holds, and for what is no whole number.
    """
    if not isinstance(count, int) or count > _MOST:
        raise ValueError(f"expected {name} as a whole number of at most {_MOST:,}, got {count}")


def _check_options(count: int, mean_size: float, sd_size: float, sampling: str, seed: int) -> None:
    if count < 1:
        raise ValueError(f"expected a count of at least 1 bag, got {count}")
    check_count("a count", count)
    if not 1 <= mean_size < math.inf:
        raise ValueError(f"expected mean_size of at least 1, got {mean_size}")
    if not 0 <= sd_size < math.inf:
        raise ValueError(f"expected sd_size of at least 0, got {sd_size}")
    if sampling not in get_args(Sampling):
        raise ValueError(f"expected sampling to be one of {get_args(Sampling)}, got {sampling!r}")
    if seed < 0:
        raise ValueError(f"expected seed of at least 0, got {seed}")


def _check_occurrence(labels: NDArray[np.integer], targets: Sequence[int]) -> None:
    present = np.unique(labels).tolist()
    absent = [target for target in targets if target not in present]
    if absent:
        raise ValueError(
            f"expected target among the labels of the images, {present}, got {absent}: choose a "
            "target that occurs"
        )

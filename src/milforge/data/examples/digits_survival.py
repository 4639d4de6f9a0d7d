"""Bags of digits with times that may be censored, numbers and grades, of which the law is known."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.dataset import SPLITS
from milforge.data.examples.digit_bags import ImageBags, check_count
from milforge.data.examples.digits import LARGEST_PIXEL, digit_pools
from milforge.data.parts import BagSplits
from milforge.data.wrappers.labelled_bags import LabelledBags

COLUMNS = ("time", "event", "value", "grade", "high")

_SHAPE, _SCALE = 1.5, 60.0  # of the Weibull distribution of times without a target
_GRADE_CUTS = (0.25, 0.5, 0.75)
_VALUE_UNIT = 10.0
_AGE, _AGE_SD = 60.0, 10.0


def digits_survival(
    *,
    train: int = 400,
    val: int = 100,
    test: int = 400,
    label_column: str | Sequence[str] = ("time", "event"),
    target: int = 9,
    mean_size: float = 10,
    sd_size: float = 2,
    effect: float = 3.0,
    follow_up: float = 60.0,
    noise: float = 0.15,
    missing: float = 0.0,
    age_effect: float = 0.0,
    seed: int = 0,
) -> BagSplits[Bag]:
    r"""Bags of real digits whose outcomes follow from the share s of targets among their digits.

    The share is about uniform from 0 to 1, so that the mean of all instances can tell it. With
    independent e from a normal distribution of deviation `noise`:

    - `time` and `event`: a Weibull time `T = 60 (-log U / exp(effect s))^(1 / 1.5)`, seen until
      `C`, uniform from 0 to `follow_up`: `min(T, C)`, and 1 where that is T. The log hazards of two
      bags differ by `effect` times the difference of their shares: no risk orders the times better
      than s, `bag.y_inst.float().mean()`.
    - `value`: `10 (s + e)`. No prediction has a smaller mean squared error than `10 s`.
    - `grade`: 0 to 3, how many of 1/4, 1/2, 3/4 are below `s + e`.
    - `high`: 1 where `s + e` is above 1/2, else 0.

    With an `age_effect` each bag has a covariate beside its images, `age`, normally distributed
    about 60 with a deviation of 10 and independent of s: then it is
    `exp(effect s + age_effect (age - 60) / 10)` that shortens the time.

    The images are those of `digits_bags`: no image stands in two parts. Bag i depends on its part,
    `seed` and i alone, and its outcomes do not depend on the columns that are asked for.

    Args:
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        label_column: which of time, event, value, grade and high are the labels, one or several.
        target: the digit that decides.
        mean_size: mean number of images in a bag.
        sd_size: standard deviation of that number; 0 for bags of one size.
        effect: log hazard of a bag of targets alone, above that of a bag without.
        follow_up: longest time that a bag is watched.
        noise: standard deviation of e.
        missing: share of the training bags that lack an outcome, drawn for each by itself; a time
            goes with its event.
        age_effect: log hazard of ten years of age; 0: there is no covariate.
        seed: 0 or more.

    Raises:
        ValueError: for an option out of its range, or another column.

    Example:
        >>> splits = digits_survival(train=3, val=1, test=1)
        >>> splits.class_names, splits.train.labels.shape, splits.train[0].x.shape[1:]
        (('time', 'event'), torch.Size([3, 2]), torch.Size([1, 8, 8]))
    """
    names = (label_column,) if isinstance(label_column, str) else tuple(label_column)
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"expected data.label_column among {', '.join(COLUMNS)}, each once, got "
            f"{', '.join(map(str, names)) or 'none'}"
        )
    for name, value, least in (("follow_up", follow_up, 1e-3), ("mean_size", mean_size, 1.0)):
        if not least <= value < np.inf:
            raise ValueError(f"expected data.{name} of at least {least:g}, got {value}")
    if not 0 <= missing < 1:
        raise ValueError(f"expected data.missing from 0 to below 1, got {missing}")
    if noise < 0 or sd_size < 0 or seed < 0:
        raise ValueError(
            "expected data.noise, data.sd_size and data.seed of at least 0, got "
            f"{noise}, {sd_size} and {seed}"
        )
    parts: dict[str, LabelledBags[Bag]] = {}
    ages: list[float] = []
    for number, (name, (images, digits), count) in enumerate(
        zip(SPLITS, digit_pools(), (train, val, test), strict=True)
    ):
        check_count(f"data.{name}", count)
        if count < 1:
            raise ValueError(f"expected data.{name} of at least 1, got {count}")
        rngs = [
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, index)))
            for index in range(count)
        ]
        indices = [_draw(rng, digits == target, mean_size, sd_size) for rng in rngs]
        shares = [float((digits[chosen] == target).mean()) for chosen in indices]
        older = [_older(seed, number, index) if age_effect else 0.0 for index in range(count)]
        ages += [_AGE + _AGE_SD * each for each in older]
        table = np.array(
            [
                _outcomes(rng, share, effect * share + age_effect * each, follow_up, noise)
                for rng, share, each in zip(rngs, shares, older, strict=True)
            ]
        )
        if name == "train" and missing > 0:
            lost = np.array([rng.random(4) < missing for rng in rngs])
            table[lost[:, [0, 0, 1, 2, 3]]] = np.nan
        bags = ImageBags(
            torch.from_numpy(images).div(LARGEST_PIXEL),
            torch.from_numpy(digits.astype(np.int64)),
            indices,
            target,
            name,
        )
        parts[name] = LabelledBags(bags, np.arange(count), _chosen(table, names))
    return BagSplits(
        **parts,
        class_names=names if len(names) > 1 else (),
        covariates={"age": [f"{age:.4f}" for age in ages]} if age_effect else {},
    )


def _older(seed: int, part: int, index: int) -> float:
    """By how many deviations; of a generator of its own, which changes no other outcome."""
    sequence = np.random.SeedSequence(seed, spawn_key=(part, index, 1))
    return float(np.random.default_rng(sequence).standard_normal())


def _draw(
    rng: np.random.Generator, is_target: NDArray[np.bool_], mean_size: float, sd_size: float
) -> NDArray[np.int64]:
    """The images of a bag, of which about a uniform share are targets."""
    hits, others = np.flatnonzero(is_target), np.flatnonzero(~is_target)
    size = max(1, round(rng.normal(mean_size, sd_size)))
    number = rng.binomial(size, rng.random())
    if number > len(hits) or size - number > len(others):
        raise ValueError(
            f"expected bags of at most {len(hits)} targets, got {size} images: lower "
            "data.mean_size or data.sd_size"
        )
    drawn = [rng.choice(hits, number, replace=False)]
    drawn.append(rng.choice(others, size - number, replace=False))
    chosen: NDArray[np.int64] = rng.permutation(np.concatenate(drawn))
    return chosen


def _outcomes(
    rng: np.random.Generator, share: float, log_hazard: float, follow_up: float, noise: float
) -> tuple[float, float, float, float, float]:
    """Time, event, value, grade, and whether it is high."""
    time = _SCALE * (-np.log(1 - rng.random()) / np.exp(log_hazard)) ** (1 / _SHAPE)
    seen = follow_up * (1 - rng.random())
    value, grade, high = share + noise * rng.standard_normal(3)
    event = float(time <= seen)
    # Not 0 in the dtype in which it is kept.
    time = max(min(time, seen), 1e-6)
    return (
        *(time, event, _VALUE_UNIT * value),
        *(float(np.searchsorted(_GRADE_CUTS, grade)), float(high > _GRADE_CUTS[1])),
    )


def _chosen(table: NDArray[np.float64], names: Sequence[str]) -> Tensor:
    columns = torch.from_numpy(table[:, [COLUMNS.index(name) for name in names]]).float()
    return columns if len(names) > 1 else columns[:, 0]

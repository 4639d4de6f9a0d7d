"""What standardises the features, by the statistics of the bags themselves."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from milforge.data import SPLITS, LabelledDataset, feature_moments
from milforge.nn import EachStream, Standardise

InstanceShape = tuple[int, ...] | dict[str, tuple[int, ...]]

# Instances whose mean and deviation stand for all: those of more differ in the third digit.
_MOST_MEASURED = 1_000_000


def make_standardiser(
    parts: Mapping[str, LabelledDataset[Any]], shape: InstanceShape, how: str | None, seed: int
) -> nn.Module | None:
    """What standardises the features; one per stream, by its name; None: nothing does.

    Of more than a million instances only those of some bags are read, drawn at random.

    Args:
        parts: the bags of each part.
        shape: shape of one instance, or of each stream.
        how: `train`: by the statistics of the training bags. `all`: by those of all bags, test part
            included, which leaks; to reproduce published protocols. `auto`: as `train` where
            instances are vectors, not at all where they are images. None: not at all.
        seed: of the bags that are read.

    Raises:
        ValueError: for another word.
    """
    if how not in ("auto", "train", "all", None):
        raise ValueError(f"expected standardise to be auto, train, all or null, got {how!r}")
    shapes = list(shape.values()) if isinstance(shape, dict) else [shape]
    if how is None or (how == "auto" and any(len(each) > 1 for each in shapes)):
        return None
    names = SPLITS if how == "all" else ("train",)
    bags = [(parts[name], number) for name in names for number in range(len(parts[name]))]
    np.random.default_rng(seed).shuffle(bags)

    def stream(name: str | None) -> Iterator[Tensor]:
        measured = 0
        for part, number in bags:
            x = part[number].x
            chosen = x if name is None else x[name]
            yield chosen
            measured += len(chosen)
            if measured >= _MOST_MEASURED:
                return

    if isinstance(shape, dict):
        return EachStream({name: Standardise(*feature_moments(stream(name))) for name in shape})
    return Standardise(*feature_moments(stream(None)))

"""What standardises the features, by the statistics of the bags themselves."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from milforge.data import SPLITS, LabelledDataset, bag_sizes, feature_moments
from milforge.data.content_cache import content_key
from milforge.data.dataset import bag_state
from milforge.data.user_cache import remembered
from milforge.nn import EachStream, Standardise
from milforge.nn.standardise import hardly_varying

logger = logging.getLogger(__name__)

InstanceShape = tuple[int, ...] | dict[str, tuple[int, ...]]

# Instances whose mean and deviation stand for all: those of more differ in the third digit.
_MOST_MEASURED = 1_000_000

_MOST_NAMED = 5  # features that hardly vary


def make_standardiser(
    parts: Mapping[str, LabelledDataset[Any]],
    shape: InstanceShape,
    how: str | None,
    seed: int,
    clip: float | None = 10.0,
    names: Sequence[str] = (),
) -> nn.Module | None:
    """What standardises the features; one per stream, by its name; None: nothing does.

    Of more than a million instances only those of some bags are read, drawn at random. What an
    earlier run found for the same bags, whose files have not changed since, is not read again. The
    log names features that hardly vary.

    Args:
        parts: the bags of each part.
        shape: shape of one instance, or of each stream.
        how: `train`: by the statistics of the training bags. `all`: by those of all bags, test part
            included, which leaks; to reproduce published protocols. `auto`: as `train` where
            instances are vectors, not at all where they are images. None: not at all.
        seed: of the bags that are read.
        clip: largest absolute value of a standardised feature; None: any. See
            `milforge.nn.Standardise`.
        names: of the features, where they are known.

    Raises:
        ValueError: for another word, or a clip that is not above 0.
    """
    if how not in ("auto", "train", "all", None):
        raise ValueError(f"expected standardise to be auto, train, all or null, got {how!r}")
    shapes = list(shape.values()) if isinstance(shape, dict) else [shape]
    if how is None or (how == "auto" and any(len(each) > 1 for each in shapes)):
        return None
    of = SPLITS if how == "all" else ("train",)
    bags = [(parts[name], number) for name in of for number in range(len(parts[name]))]
    sizes = [bag_sizes(parts[name]) for name in of]
    known = [int(each.sum()) for each in sizes if each is not None]
    if len(known) < len(of) or sum(known) > _MOST_MEASURED:
        np.random.default_rng(seed).shuffle(bags)
    states = [bag_state(part, number) for part, number in bags]

    def stream(name: str | None) -> Iterator[Tensor]:
        measured = 0
        for part, number in bags:
            x = part[number].x
            chosen = x if name is None else x[name]
            yield chosen
            measured += len(chosen)
            if measured >= _MOST_MEASURED:
                return

    def standardise(name: str | None) -> Standardise:
        key = None if None in states else content_key("moments", name, _MOST_MEASURED, states)
        moments = remembered(
            key, lambda: dict(zip(("mean", "std"), feature_moments(stream(name)), strict=True))
        )
        mean, std = moments["mean"], moments["std"]
        _tell_constant("" if name is None else f"stream {name}: ", mean, std, names)
        return Standardise(mean, std, clip)

    if isinstance(shape, dict):
        return EachStream({name: standardise(name) for name in shape})
    return standardise(None)


@rank_zero_only
def _tell_constant(where: str, mean: Tensor, std: Tensor, names: Sequence[str]) -> None:
    numbers = hardly_varying(mean, std).flatten().nonzero()[:, 0].tolist()
    if not numbers:
        return
    named = [names[number] if names else str(number) for number in numbers[:_MOST_NAMED]]
    logger.info(
        "%s%d of %d features hardly vary (%s%s): by at most a ten-thousandth of their mean",
        where,
        len(numbers),
        mean.numel(),
        ", ".join(named),
        ", ..." if len(numbers) > _MOST_NAMED else "",
    )

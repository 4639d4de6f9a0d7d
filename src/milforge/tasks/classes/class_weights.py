"""How much the bags of each class count in the loss."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

Weights = Literal["balanced"] | tuple[float, ...] | None


def checked_weights(weights: str | Sequence[float] | None) -> Weights:
    """What a config says of them.

    Raises:
        ValueError: for what is neither null, `balanced` nor a list of weights.

    Example:
        >>> checked_weights([1, 3])
        (1.0, 3.0)
    """
    if weights is None or weights == "balanced":
        return weights  # type: ignore[return-value]
    if isinstance(weights, str):
        raise ValueError(
            f"expected task.class_weights to be null, balanced or a list, got {weights!r}"
        )
    values = tuple(float(each) for each in weights)
    if not all(math.isfinite(each) and each >= 0 for each in values):
        raise ValueError(f"expected task.class_weights of at least 0, got {list(values)}")
    return values


def balanced(counts: Tensor, names: Sequence[str]) -> Tensor:
    """Weights by which all classes count alike, `n / (C n_c)`, of mean 1 over the bags.

    Args:
        counts: `(..., C)` the bags of each class, of the same n along the last axis.
        names: those of the classes, for the error.

    Raises:
        ValueError: where a class has no bag.

    Example:
        >>> import torch
        >>> balanced(torch.tensor([3, 1]), ["no", "yes"])
        tensor([0.6667, 2.0000])
    """
    if bool((counts == 0).any()):
        raise ValueError(
            f"expected training bags of every class for class_weights=balanced, got counts "
            f"{counts.tolist()} for {tuple(names)}; leave task.class_weights=null"
        )
    return counts.sum(-1, keepdim=True) / (counts.shape[-1] * counts)


def of_mean_one(weights: Tensor, counts: Tensor) -> Tensor:
    """The weights, scaled so that their mean over the bags is 1.

    Args:
        weights: `(C,)`.
        counts: `(C,)` the bags of each class.

    Raises:
        ValueError: where no bag counts.

    Example:
        >>> import torch
        >>> of_mean_one(torch.tensor([1.0, 3.0]), torch.tensor([2, 2]))
        tensor([0.5000, 1.5000])
    """
    total = (weights * counts).sum()
    if not total > 0:
        raise ValueError(
            f"expected a positive task.class_weights of a class that has training bags, got "
            f"{weights.tolist()} for counts {counts.tolist()}"
        )
    return weights * counts.sum() / total

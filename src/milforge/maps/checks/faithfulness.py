"""How faithful a map is: what the logit is without the tiles that say most, and with them alone."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from milforge.maps.kinds import Floats

POINTS = 10  # of a curve
RANDOM_ORDERS = 2
CURVES = ("deletion", "insertion")

Order = NDArray[np.int64]
Curves = dict[tuple[str, str], Floats]


def shares() -> Floats:
    """`(10,)` the shares of the tiles that are left by deletion, or are inserted."""
    return np.arange(1, POINTS + 1) / POINTS


def kept(order: Order, curve: str) -> list[Order]:
    """The numbers of the tiles that are left at each share, at least one, rising.

    In the order in which they stand in the bag, because it may matter to a model.

    Args:
        order: `(N,)` the tiles, those that say most first.
        curve: `deletion` takes the first ones away, `insertion` keeps them alone.

    Example:
        >>> [each.tolist() for each in kept(np.array([2, 0, 1]), "deletion")][-3:]
        [[0, 1], [0, 1, 2], [0, 1, 2]]
        >>> [each.tolist() for each in kept(np.array([2, 0, 1]), "insertion")][:2]
        [[2], [2]]
    """
    counts = np.maximum(1, np.rint(shares() * len(order))).astype(int).tolist()
    if curve == "insertion":
        return [np.sort(order[:count]) for count in counts]
    return [np.sort(order[len(order) - count :]) for count in counts]


def curves_of(
    scores: Mapping[str, Floats],
    logits_of: Callable[[Sequence[Order]], Floats],
    seed: int = 0,
) -> Curves:
    """The curves of a bag by the name of the score and of the curve, and those of `random`.

    Args:
        scores: `(N,)` by name, N at least 2: what speaks for the logit is large.
        logits_of: the logits `(n,)` of the bag when only those tiles are left, for n sets of them.
        seed: of the random orders, of which, from both ends, the mean is taken.

    Returns:
        `(10,)` logits each, at the `shares` that are left.
    """
    rng = np.random.default_rng(seed)
    some = next(iter(scores.values()))
    orders = {name: [np.argsort(-each, kind="stable")] for name, each in scores.items()}
    orders["random"] = [rng.permutation(len(some)) for _ in range(RANDOM_ORDERS)]
    names = [(name, curve) for name in orders for curve in CURVES]
    asked = [kept(order, curve) for name, curve in names for order in orders[name]]
    found = logits_of([part for parts in asked for part in parts]).reshape(len(asked), POINTS)
    rows = iter(found)
    curves = {
        (name, curve): np.mean([next(rows) for _ in orders[name]], axis=0) for name, curve in names
    }
    # A random order is as random from its other end.
    either = np.mean([curves["random", curve] for curve in CURVES], axis=0)
    return curves | {("random", curve): either for curve in CURVES}


def area(curve: Floats) -> float:
    """The mean height of a curve, by the trapezoidal rule.

    Example:
        >>> area(np.linspace(0, 1, 10))
        0.5
    """
    return float(np.trapezoid(curve) / (len(curve) - 1))


def areas_of(bags: Sequence[Curves]) -> dict[str, float]:
    """The mean areas over bags, by `faithfulness/CURVE/SCORE`.

    Small for deletion and large for insertion is faithful; `random` is what to compare with.
    """
    names = dict.fromkeys(name for bag in bags for name in bag)
    return {
        f"faithfulness/{curve}/{score}": float(
            np.mean([area(bag[score, curve]) for bag in bags if (score, curve) in bag])
        )
        for score, curve in names
    }


def agreement(maps: Sequence[Floats]) -> float:
    """The mean rank correlation of the maps of a bag by several models; NaN where one is constant.

    Args:
        maps: at least two, `(N,)` each.

    Example:
        >>> agreement([np.array([1.0, 2, 3]), np.array([2.0, 4, 9]), np.array([3.0, 4, 5])])
        1.0
    """
    if any(np.ptp(each) == 0 for each in maps):
        return float("nan")
    pairs = combinations(maps, 2)
    return float(np.mean([spearmanr(one, other).statistic for one, other in pairs]))

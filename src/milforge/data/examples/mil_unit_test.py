"""Generated bags that show whether a model uses what a MIL model must not.

After Raff and Holt, "Reproducibility in Multiple Instance Learning: A Case For Algorithmic Unit
Tests" (arXiv:2310.17867).
"""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from milforge.data.bag import Bag
from milforge.data.dataset import SPLITS
from milforge.data.examples.digit_bags import check_count
from milforge.data.parts import BagSplits

Rule = Literal["single_concept", "threshold", "false_frequency"]

WIDTH = 16
CONCEPT_A, CONCEPT_B, DECOY = 0, 1, 2  # the feature in which an instance of the kind stands out
_SHIFT = 4.0  # deviations
_SIZES = (20, 30)
_FEW, _MANY = (1, 2), (6, 10)


def mil_unit_test(
    *,
    rule: Rule = "single_concept",
    train: int = 200,
    val: int = 100,
    test: int = 200,
    seed: int = 0,
) -> BagSplits[Bag]:
    """Bags with a rule that holds in all parts, and a shortcut that is turned round in the test.

    An instance is a row of 16 standard normal numbers; one of concept A, of concept B or a decoy
    has 4 more in a feature of its own. A bag has 20 to 30 instances in random order, few means 1 or
    2, many 6 to 10; every second bag is positive.

    - `single_concept`: a bag is positive if it holds A (few). In training and validation the
      negative bags hold many decoys, in the test the positive ones do.
    - `threshold`: positive if it holds A and B (few of each); a negative bag holds one of them.
      Decoys as above.
    - `false_frequency`: positive if it holds A and B (few of B); a negative bag holds one of them.
      In training and validation positive bags hold many of A, and negative ones few of theirs; in
      the test it is the other way round.

    Who scores by the rule has an AUROC of nearly 1 in all parts. Who has learnt that decoys make a
    bag negative, or that frequent concepts make it positive, falls below one half in the test.

    A bag's `y_inst` is 1 for the instances that make it positive.

    Args:
        rule: which of the three.
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        seed: 0 or more.

    Raises:
        ValueError: for an argument out of its range.

    Example:
        >>> bag = mil_unit_test(train=2, val=2, test=2).train[1]
        >>> bag.y, bag.x.shape[1], 1 <= int(bag.y_inst.sum()) <= 2
        (1, 16, True)
    """
    if rule not in get_args(Rule):
        raise ValueError(f"expected data.rule to be {', '.join(get_args(Rule))}, got {rule!r}")
    if seed < 0:
        raise ValueError(f"expected data.seed of at least 0, got {seed}")
    parts = {}
    for number, (name, count) in enumerate(zip(SPLITS, (train, val, test), strict=True)):
        check_count(f"data.{name}", count)
        if count < 2:
            raise ValueError(
                f"expected data.{name} of at least 2, a bag of each class, got {count}"
            )
        bags = []
        for index in range(count):
            key = np.random.SeedSequence(seed, spawn_key=(number, index))
            rng = np.random.default_rng(key)
            counts = _kinds(rule, rng, is_positive=index % 2 == 1, is_test=name == "test")
            bags.append(_bag(rng, counts, index % 2, f"{name}_{index:04d}"))
        parts[name] = bags
    return BagSplits(
        parts["train"], parts["val"], parts["test"], class_names=("negative", "positive")
    )


def _kinds(
    rule: Rule, rng: np.random.Generator, *, is_positive: bool, is_test: bool
) -> tuple[int, int, int]:
    """How many instances of A, of B, and decoys a bag has."""
    few_a, few_b = rng.integers(_FEW[0], _FEW[1] + 1, size=2).tolist()
    many = int(rng.integers(_MANY[0], _MANY[1] + 1))
    holds_a = bool(rng.random() < 0.5)  # of a negative bag that has one of the two
    if rule == "false_frequency":
        if is_positive:
            return (few_a if is_test else many), few_b, 0
        one = many if is_test else few_a
        return (one, 0, 0) if holds_a else (0, one, 0)
    decoys = many if is_positive == is_test else 0
    if rule == "single_concept":
        return (few_a if is_positive else 0), 0, decoys
    if is_positive:
        return few_a, few_b, decoys
    return (few_a, 0, decoys) if holds_a else (0, few_b, decoys)


def _bag(rng: np.random.Generator, counts: tuple[int, int, int], y: int, bag_id: str) -> Bag:
    size = int(rng.integers(_SIZES[0], _SIZES[1] + 1))
    kinds: NDArray[np.int64] = np.full(size, -1)
    kinds[: sum(counts)] = np.repeat((CONCEPT_A, CONCEPT_B, DECOY), counts)
    kinds = rng.permutation(kinds)
    x = rng.standard_normal((size, WIDTH), dtype=np.float32)
    special = np.flatnonzero(kinds >= 0)
    x[special, kinds[special]] += np.float32(_SHIFT)
    inst = ((kinds == CONCEPT_A) | (kinds == CONCEPT_B)) & bool(y)
    return Bag(
        torch.from_numpy(x), y, y_inst=torch.from_numpy(inst.astype(np.int64)), bag_id=bag_id
    )

"""A rule that holds everywhere, and a shortcut that is turned round in the test."""

from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from milforge.data import mil_unit_test
from milforge.data.examples.mil_unit_test import CONCEPT_A, CONCEPT_B, DECOY, Rule

RULES = get_args(Rule)


def auroc(bags, score):
    return roc_auc_score([bag.y for bag in bags], [score(bag.x.numpy()) for bag in bags])


def count(kind):
    return lambda x: (x[:, kind] > 2.5).sum() + 0.01 * x[:, kind].mean()


BY_RULE = {
    "single_concept": lambda x: x[:, CONCEPT_A].max(),
    "threshold": lambda x: min(x[:, CONCEPT_A].max(), x[:, CONCEPT_B].max()),
    "false_frequency": lambda x: min(x[:, CONCEPT_A].max(), x[:, CONCEPT_B].max()),
}
SHORTCUT = {
    "single_concept": lambda x: -count(DECOY)(x),
    "threshold": lambda x: -count(DECOY)(x),
    "false_frequency": lambda x: count(CONCEPT_A)(x) + count(CONCEPT_B)(x),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds_and_the_shortcut_turns_round(rule):
    splits = mil_unit_test(rule=rule, train=200, val=60, test=200)
    for part in (splits.train, splits.val, splits.test):
        assert np.mean([bag.y for bag in part]) == 0.5
        assert auroc(part, BY_RULE[rule]) > 0.95
        # Neither size nor place says anything.
        assert 0.35 < auroc(part, len) < 0.65
    assert auroc(splits.train, SHORTCUT[rule]) > 0.97
    assert auroc(splits.val, SHORTCUT[rule]) > 0.97
    assert auroc(splits.test, SHORTCUT[rule]) < 0.3


def test_a_longer_part_begins_with_the_shorter_one():
    one, other = (mil_unit_test(train=n, val=2, test=2, seed=4) for n in (4, 6))
    assert all(torch.equal(a.x, b.x) for a, b in zip(one.train, other.train[:4], strict=True))
    assert not torch.equal(one.train[0].x, mil_unit_test(train=4, val=2, test=2).train[0].x)
    assert not torch.equal(one.train[0].x, one.test[0].x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "frequency"}, "expected data.rule to be single_concept, threshold, false"),
        ({"val": 1}, "expected data.val of at least 2"),
        ({"seed": -1}, "expected data.seed of at least 0"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mil_unit_test(**options)

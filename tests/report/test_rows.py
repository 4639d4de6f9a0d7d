"""How many more runs a difference needs."""

from pathlib import Path

import numpy as np

from milforge.report.groups import Group, Repeat
from milforge.report.rows import make_row
from milforge.report.runs import Run
from milforge.statistics import pairs_needed

OF_FOLD = (0.03, 0.01, -0.005, 0.02, 0.015)


def group(model, seeds, folds, gains):
    """A run for each seed and fold, those of a fold nearly alike."""
    runs = {
        Repeat((str(fold),), (str(seed),)): Run(
            Path(f"{model}_{fold}_{seed}"), "finished", metrics={"test/auroc": 0.8 + gain}
        )
        for fold, gain in zip(range(folds), gains, strict=False)
        for seed in range(seeds)
    }
    return Group({"model": model}, runs)


def test_seeds_of_a_fold_are_no_further_pairs():
    found = {
        seeds: make_row(
            group("b", seeds, 5, OF_FOLD), "test/auroc", group("a", seeds, 5, np.zeros(5))
        )
        for seeds in (1, 20)
    }
    assert found[20].comparison.pairs == 100
    assert found[1].needed == found[20].needed == pairs_needed(OF_FOLD)


def test_seeds_of_one_split_are():
    gains = iter((0.02, 0.01, 0.04, -0.01))
    other = group("b", 4, 1, [0.0])
    runs = {
        repeat: Run(run.folder, run.state, metrics={"test/auroc": 0.8 + next(gains)})
        for repeat, run in other.runs.items()
    }
    row = make_row(Group({"model": "b"}, runs), "test/auroc", group("a", 4, 1, [0.0]))
    assert row.needed == pairs_needed((0.02, 0.01, 0.04, -0.01))

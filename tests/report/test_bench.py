"""The table of several models."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from milforge.report.bench import (
    bench_cells,
    bench_records,
    bench_rows,
    costs,
    main_metric,
    more_seeds,
    select_on_validation,
)
from milforge.report.groups import Group, Repeat
from milforge.report.runs import Run

SUMMARY = {
    "monitor_mode": "min",
    "wall_seconds": 10.0,
    "went_on": False,
    "parameters": 1234,
    "peak_memory": {"bytes": 500_000_000, "of": "process"},
}


def run(auroc, loss=0.5, fingerprint="f", monitor="val/loss", **summary):
    return Run(
        Path("run"),
        "finished",
        metrics={"test/auroc": auroc, "val/loss": loss},
        monitor=monitor,
        fingerprint=fingerprint,
        summary={**SUMMARY, **summary},
    )


def group(model, runs):
    """Runs by (fold, seed)."""
    keys = {Repeat((str(fold),), (str(seed),)): each for (fold, seed), each in runs.items()}
    return Group({"model": model}, keys)


def noisy(mean, seed, folds=2, seeds=4):
    draw = np.random.default_rng(seed)
    return {
        (f, s): run(float(mean + 0.02 * draw.standard_normal()))
        for f in range(folds)
        for s in range(seeds)
    }


def test_more_seeds_takes_the_mean_over_folds_of_a_seed_for_a_pair():
    mine, other = noisy(0.83, 1), noisy(0.80, 2)
    base = group("base", other)
    row = bench_rows([base, group("mine", mine)], "test/auroc", base)[1].row
    values = lambda runs, s: np.mean([runs[f, s].metrics["test/auroc"] for f in (0, 1)])  # noqa: E731
    pairs = np.array([values(mine, s) - values(other, s) for s in range(4)])

    def power(n, difference):
        """Of the paired t-test, from the noncentral distribution of its square."""
        shift = n * (difference / pairs.std(ddof=1)) ** 2
        return stats.ncf.sf(stats.f.ppf(0.95, 1, n - 1), 1, n - 1, shift)

    for difference in (None, 0.01, 0.005):
        wanted = pairs.mean() if difference is None else difference
        needed = next(n for n in range(2, 10_000) if power(n, wanted) >= 0.8)
        assert more_seeds(row, difference) == max(0, needed - 4)
    assert more_seeds(row, 0.005) > more_seeds(row, 0.01) > 0
    assert more_seeds(bench_rows([base], "test/auroc", base)[0].row) is None


def test_of_one_seed_nobody_knows_how_many_more():
    base, mine = group("base", noisy(0.8, 1, seeds=1)), group("mine", noisy(0.9, 2, seeds=1))
    assert bench_rows([base, mine], "test/auroc", base)[1].more_seeds is None


def test_seconds_of_a_run_that_went_on_are_left_out():
    runs = [run(0.8), run(0.8, wall_seconds=20.0), run(0.8, wall_seconds=1.0, went_on=True)]
    found = costs(runs)
    assert (found.seconds, found.memory, found.parameters) == (15.0, 500_000_000, 1234)
    assert costs(runs[2:]).seconds is None
    assert costs([run(0.8, peak_memory=None)]).memory is None
    both = [run(0.8), run(0.8, peak_memory={"bytes": 7, "of": "GPU"})]
    assert costs(both).memory is None  # of other things


def test_validation_chooses_in_each_fold_by_the_mean_of_its_seeds():
    losses = {"a": {0: (0.1, 0.9), 1: (0.2, 0.2)}, "b": {0: (0.4, 0.4), 1: (0.3, 0.3)}}
    groups = [
        group(
            name,
            {
                (f, s): run(0.5 + 0.1 * (name == "a"), each[s])
                for f, each in folds.items()
                for s in (0, 1)
            },
        )
        for name, folds in losses.items()
    ]
    chosen = select_on_validation(groups)
    found = {(r.fold[0], r.rest[0]): each.metrics["test/auroc"] for r, each in chosen.runs.items()}
    assert found == {("0", "0"): 0.5, ("0", "1"): 0.5, ("1", "0"): 0.6, ("1", "1"): 0.6}
    flipped = [
        Group(
            each.values,
            {
                r: run(one.metrics["test/auroc"], one.metrics["val/loss"], monitor_mode="max")
                for r, one in each.runs.items()
            },
        )
        for each in groups
    ]
    found = [each.metrics["test/auroc"] for each in select_on_validation(flipped).runs.values()]
    assert found == [0.6, 0.6, 0.5, 0.5]


def test_where_each_seed_draws_its_bags_each_seed_chooses():
    a = group("a", {(0, s): run(0.6, loss, f"data {s}") for s, loss in enumerate((0.1, 0.9))})
    b = group("b", {(0, s): run(0.5, 0.4, f"data {s}") for s in (0, 1)})
    found = [each.metrics["test/auroc"] for each in select_on_validation([a, b]).runs.values()]
    assert found == [0.6, 0.5]


def test_nothing_is_chosen_by_test_or_by_several_metrics():
    one = group("a", {(0, 0): run(0.6)})
    for monitor in ("test/auroc", "val/auroc"):
        with pytest.raises(ValueError, match=r"one metric of validation, got .*auroc"):
            select_on_validation([one, group("b", {(0, 0): run(0.6, monitor=monitor)})])
    with pytest.raises(ValueError, match="got test/auroc"):
        select_on_validation([group("a", {(0, 0): run(0.6, monitor="test/auroc")})])


def test_what_stands_beside_is_not_compared_and_corrects_nothing():
    base, mine = group("base", noisy(0.80, 1, 6)), group("mine", noisy(0.83, 2, 6))
    beside = group("bag size alone", noisy(0.5, 3, 6))
    alone = bench_rows([base, mine], "test/auroc", base)
    rows = bench_rows([base, mine], "test/auroc", base, beside=[beside])
    assert rows[1].row.adjusted == alone[1].row.adjusted == rows[1].row.comparison.p
    head, first, second, third = bench_cells(rows, 0.01)
    assert head[7] == "more seeds for 0.01"
    assert first[4] == "baseline"
    assert second[4].startswith("+0.0")
    assert third[4:8] == ["", "", "", ""]
    assert second[8:] == ["10.0", "500", "1,234"]
    assert [each["seconds"] for each in bench_records(rows, None)] == [10.0] * 3


def test_the_metric_of_the_task_is_shown():
    names = ["test/accuracy", "test/auroc", "test/loss"]
    assert main_metric(run(0.5, task={"metric": "auroc"}), names) == "test/auroc"
    assert (
        main_metric(run(0.5, task={"metric": "auroc"}), ["test/loss", "test/auroc_9"])
        == "test/auroc_9"
    )
    assert main_metric(run(0.5), ["test/loss", "test/accuracy"]) == "test/accuracy"

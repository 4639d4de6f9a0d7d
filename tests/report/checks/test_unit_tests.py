"""Verdicts of the unit tests of a MIL model."""

from pathlib import Path

import pytest

from milforge.report.checks.unit_tests import cells, judge
from milforge.report.groups import Group, Repeat
from milforge.report.runs import Run


def group(rule, values):
    runs = {
        Repeat((), (str(seed),)): Run(
            Path("run"), "finished", metrics={"test/auroc": value, "val/auroc": 0.9}
        )
        for seed, value in enumerate(values)
    }
    return Group({"model": "abmil", "rule": rule}, runs)


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        ([0.9, 0.92, 0.95], True),
        ([0.1, 0.12, 0.15], False),
        ([0.9, 0.2, 0.95], False),  # a mean above one half, of which nobody can be sure
        ([0.5], True),
        ([0.49], False),
    ],
)
def test_a_model_passes_that_is_surely_not_below_chance(values, passes):
    (found,) = judge([group("threshold", values)], ["abmil", "simlp"], ["single", "threshold"])
    assert found.passes is passes
    assert found.learnt == pytest.approx(0.9)
    head, line = cells([found])
    assert line[-1] == ("pass" if passes else "fail")
    assert len(head) == len(line)


def test_a_run_without_the_metric_has_no_verdict():
    empty = Group(
        {"model": "abmil", "rule": "threshold"},
        {Repeat((), ("0",)): Run(Path("run"), "finished")},
    )
    (found,) = judge([empty], ["abmil"], ["threshold"])
    assert found.passes is None
    assert cells([found])[1][-1] == ""

"""Which models use what a MIL model must not: the verdicts of the algorithmic unit tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from milforge.report.cells import interval_cell, number_cell
from milforge.report.groups import Group
from milforge.report.rows import Row, make_row

METRIC = "test/auroc"
LEARNT = "val/auroc"
CHANCE = 0.5
NOTES = (
    "A model passes where the lower end of the interval of its test AUROC (of one seed: the AUROC) "
    "is not below one half: it then has not learnt the shortcut that the test turns round.",
    "The validation AUROC, with the shortcut as in training, says whether it has learnt anything.",
    "Intervals: 95%, bootstrap of the mean over seeds.",
)


@dataclass(frozen=True)
class Judged:
    """A model on a rule.

    Attributes:
        model: its name.
        rule: of `milforge.data.mil_unit_test`.
        row: the test AUROC.
        learnt: mean AUROC of the validation part; None where it is not known.
    """

    model: str
    rule: str
    row: Row
    learnt: float | None

    @property
    def passes(self) -> bool | None:
        """Whether it does; None without a value."""
        low = self.row.interval.low if self.row.interval is not None else self.row.mean
        return None if low is None else low >= CHANCE


def judge(groups: Sequence[Group], models: Sequence[str], rules: Sequence[str]) -> list[Judged]:
    """The verdicts, model after model, of groups by `model` and the rule."""
    found = {tuple(group.values.values()): group for group in groups}
    return [
        Judged(
            model,
            rule,
            make_row(found[model, rule], METRIC, None),
            make_row(found[model, rule], LEARNT, None).mean,
        )
        for model in models
        for rule in rules
        if (model, rule) in found
    ]


def cells(judged: Sequence[Judged]) -> list[list[str]]:
    """The head of the table, and its lines."""
    lines = [["model", "rule", "n", "validation", "test", "95% interval", "verdict"]]
    verdicts = {True: "pass", False: "fail", None: ""}
    for each in judged:
        row = each.row
        lines.append(
            [
                *(each.model, each.rule, str(len(row.values)), number_cell(each.learnt)),
                *(number_cell(row.mean), interval_cell(row.interval), verdicts[each.passes]),
            ]
        )
    return lines


def judged_records(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Rows for `unit_tests.csv`, unrounded."""
    return [
        {
            "model": each.model,
            "rule": each.rule,
            "n": len(each.row.values),
            LEARNT: each.learnt,
            METRIC: each.row.mean,
            "ci_low": each.row.interval and each.row.interval.low,
            "ci_high": each.row.interval and each.row.interval.high,
            "passes": each.passes,
        }
        for each in judged
    ]

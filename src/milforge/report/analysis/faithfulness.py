"""How faithful maps are: numbers that milforge-map measured, by the group of its checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

from milforge.report.analysis.of_checkpoint import group_of
from milforge.report.groups import Group
from milforge.report.runs import Run
from milforge.report.survey import FAITHFULNESS
from milforge.statistics import Interval, bootstrap_interval


@dataclass(frozen=True)
class FaithfulnessRow:
    """A number of the maps of a group.

    Attributes:
        metric: without the prefix.
        group: label of the group; the folder of the run where its checkpoint is in none.
        values: a value of each run of maps.
        interval: of their mean; None of one.
    """

    metric: str
    group: str
    values: list[float]
    interval: Interval | None


def faithfulness_rows(runs: Sequence[Run], groups: Sequence[Group]) -> list[FaithfulnessRow]:
    """A row for each number and group, number after number; none where no run measured any.

    Args:
        runs: the finished ones, those of milforge-map among them.
        groups: of the runs that trained the checkpoints.
    """
    trained = {run.folder: each.label for each in groups for run in each.runs.values()}
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        values = {name: v for name, v in run.metrics.items() if name.startswith(FAITHFULNESS)}
        if not values:
            continue
        group = group_of(run, groups)
        label = trained.get(run.folder) or (str(run.folder) if group is None else group.label)
        for name, value in values.items():
            metric = name.removeprefix(FAITHFULNESS)
            found.setdefault(metric, {}).setdefault(label, []).append(value)
    return [
        FaithfulnessRow(metric, label, values, bootstrap_interval(values))
        for metric, of_groups in found.items()
        for label, values in of_groups.items()
    ]

"""The ranges that a report knows are those that the classes of the metrics state."""

from milforge import tasks
from milforge.metrics import LocalisationAUROC, LocalisationAveragePrecision
from milforge.report.analysis.ranges import RANGES, range_of
from milforge.statistics.repeated_runs.ranges import Range

# Torchmetrics states for its figures what agreement beyond chance usually is, not what it can be.
FOR_FIGURES = {"kappa"}


def test_every_metric_of_every_task_is_known_by_what_its_class_states():
    classes = {"inst_auroc": LocalisationAUROC, "inst_ap": LocalisationAveragePrecision}
    for name in tasks.__all__:
        classes |= getattr(getattr(tasks, name), "metric_types", {})
    assert set(classes) == set(RANGES)
    for name, each in classes.items():
        stated = Range(each.plot_lower_bound, each.plot_upper_bound)
        if name not in FOR_FIGURES:
            assert RANGES[name] == stated, name


def test_the_longest_name_that_fits_counts():
    assert range_of("test/auc_12") == Range(0.0, 1.0)
    assert range_of("test/mae_age") == Range(0.0, None)
    assert range_of("test/loss") == Range(None, None)

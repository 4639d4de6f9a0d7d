"""The values that the metrics of runs can have: no interval leaves them."""

from collections.abc import Mapping
from functools import cache

from milforge.statistics.ranges import Range


def range_of(name: str) -> Range:
    """The range of a metric of a task, as its class states it; of others nothing is known.

    Args:
        name: as it is logged, such as `test/auroc`, or `test/auroc_<class>` of one class.

    Example:
        >>> range_of("test/auroc"), range_of("test/auroc_9"), range_of("val/loss")
        (Range(low=0.0, high=1.0), Range(low=0.0, high=1.0), Range(low=None, high=None))
    """
    bare = name.partition("/")[2] or name
    known = _ranges()
    fitting = [each for each in known if bare == each or bare.startswith(f"{each}_")]
    return known[max(fitting, key=len)] if fitting else Range()


@cache
def _ranges() -> Mapping[str, Range]:
    # Imported here, because they bring torch along.
    from milforge import tasks
    from milforge.metrics import LocalisationAUROC, LocalisationAveragePrecision

    kinds = [getattr(tasks, name) for name in tasks.__all__]
    classes = {"inst_auroc": LocalisationAUROC, "inst_ap": LocalisationAveragePrecision}
    for kind in kinds:
        classes |= getattr(kind, "metric_types", {})
    return {
        name: Range(each.plot_lower_bound, each.plot_upper_bound) for name, each in classes.items()
    }

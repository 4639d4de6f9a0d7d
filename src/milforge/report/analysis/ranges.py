"""The values that the metrics of runs can have: no interval leaves them."""

from milforge.statistics.repeated_runs.ranges import Range

SHARE = Range(0.0, 1.0)
# Written down, because their classes bring torch along; a test compares them.
RANGES = {
    **dict.fromkeys(("accuracy", "ap", "auroc", "ece", "f1", "inst_ap", "inst_auroc"), SHARE),
    **dict.fromkeys(("auc", "c_index", "c_uno"), SHARE),
    **dict.fromkeys(("kappa", "pearson", "spearman"), Range(-1.0, 1.0)),
    **dict.fromkeys(("ibs", "mae", "rmse"), Range(0.0, None)),
    "r2": Range(None, 1.0),
}


def range_of(name: str) -> Range:
    """The range of a metric of a task of ours; of others nothing is known.

    Args:
        name: as it is logged, such as `test/auroc`, or `test/auroc_<class>` of one class.

    Example:
        >>> range_of("test/auroc"), range_of("test/auroc_9"), range_of("val/loss")
        (Range(low=0.0, high=1.0), Range(low=0.0, high=1.0), Range(low=None, high=None))
    """
    bare = name.partition("/")[2] or name
    fitting = [each for each in RANGES if bare == each or bare.startswith(f"{each}_")]
    return RANGES[max(fitting, key=len)] if fitting else Range()

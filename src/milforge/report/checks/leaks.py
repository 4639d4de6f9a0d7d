"""What the label can be told from without looking at any instance."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from milforge.report.analysis.out_of_fold import Member, OutOfFold, by_target
from milforge.report.checks.finding import Finding
from milforge.report.predictions import Predictions
from milforge.statistics import holm

TITLE = "What bag size, order of files and columns alone predict"
DRAWS = 1999
MOST_VALUES = 20  # of a column that parts the bags into sites or the like


def label_leaks(pooled: Sequence[OutOfFold]) -> list[Finding]:
    """Whether size, order of files, or a column alone tell the label, of each target.

    Labels are shuffled among patients; p-values are corrected for the number of checks (Holm).
    """
    if not pooled:
        return [Finding("unknown", TITLE, "No run has predictions.")]
    found = []
    for target, groups in by_target(pooled).items():
        of = f" of {target}" if target else ""
        found += [each._replace(title=each.title + of) for each in _of_labels(groups[0])]
    return found


def _of_labels(first: OutOfFold) -> list[Finding]:
    predictions = first.predictions
    y = predictions.y
    if y.ndim != 1:
        return [Finding("unknown", TITLE, "Checked for one label per bag alone.")]
    order = _place_in_files(first.members)
    checks: list[tuple[str, float, float, str]] = []
    place = np.array([order.get(bag, np.nan) for bag in predictions.bag_id.tolist()])
    numbers = {"bag size": predictions.size.astype(float), "order of files": place}
    for name, values in numbers.items():
        known = np.isfinite(values)
        if known.sum() > 2 and np.ptp(values[known]) > 0 and np.ptp(y[known]) > 0:
            checks.append((name, *_by_number(values[known], predictions.take(known))))
    for name, texts in predictions.table.items():
        known = np.array([each is not None for each in texts], bool)
        values = np.unique(texts[known].astype(str))
        if 2 <= len(values) <= MOST_VALUES and np.ptp(y[known]) > 0:
            found = _by_column(texts[known].astype(str), predictions.take(known))
            checks.append((f"column {name}", *found))
    if not checks:
        return [Finding("unknown", TITLE, "Neither sizes nor columns differ among the bags.")]
    adjusted = holm([p for _, _, p, _ in checks])
    return [
        Finding(
            "warning" if p <= 0.05 else "fine",
            f"What {name} alone predicts",
            f"{what} {value:.2f}, p {p:.3g} (shuffled labels of patients, Holm over "
            f"{len(checks)} checks)."
            + (" A model may have learnt this instead of the disease." if p <= 0.05 else ""),
        )
        for (name, value, _, what), p in zip(checks, adjusted.tolist(), strict=True)
    ]


def _place_in_files(members: Sequence[Member]) -> dict[str, float]:
    """Where each test bag stands among those of its part, from 0 to 1."""
    found: dict[str, float] = {}
    for member in members:
        test = member.predictions.of_part("test")
        places = stats.rankdata(test.order) / max(1, len(test))
        found.update(zip(test.bag_id.tolist(), places.tolist(), strict=True))
    return found


def _by_number(values: NDArray[np.float64], predictions: Predictions) -> tuple[float, float, str]:
    """How well a number ranks the labels, and p."""
    y, ranks = predictions.y, stats.rankdata(values)
    if not predictions.class_names:
        apart = (ranks - ranks.mean()) / (len(ranks) * ranks.std())
        # Labels that change places keep their mean, their spread and their ranks.
        placed = stats.rankdata(y)

        def correlation(labels: NDArray[np.float64]) -> float:
            return abs(float(apart @ labels) / float(placed.std()))

        return (*_shuffled(correlation, placed, predictions), "Spearman's correlation")
    counts = {c: int((y == c).sum()) for c in np.unique(y).tolist()}

    def best(labels: NDArray[np.float64]) -> float:
        """From the sums of ranks, as many labels are always of each class."""
        areas = [
            (ranks @ (labels == c) - m * (m + 1) / 2) / (m * (len(y) - m))
            for c, m in counts.items()
        ]
        return float(max(max(area, 1 - area) for area in areas))

    return (*_shuffled(best, y, predictions), "AUROC, in either direction")


def _by_column(texts: NDArray[np.str_], predictions: Predictions) -> tuple[float, float, str]:
    """How much of the labels the groups of a column explain, and p."""
    _, group = np.unique(texts, return_inverse=True)
    y = predictions.y
    if not predictions.class_names:

        def explained(labels: NDArray[np.float64]) -> float:
            means = np.bincount(group, labels) / np.bincount(group)
            return float(means[group].var() / labels.var())

        return (*_shuffled(explained, y, predictions), "Share of the variance")
    classes = np.unique(y)

    def association(labels: NDArray[np.float64]) -> float:
        table = np.array([np.bincount(group, labels == c) for c in classes])
        expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
        chi2 = ((table - expected) ** 2 / np.maximum(expected, 1e-12)).sum()
        return float(np.sqrt(chi2 / table.sum() / (min(table.shape) - 1)))

    return (*_shuffled(association, y, predictions), "Cramér's V")


def _shuffled(
    statistic: Callable[[NDArray[np.float64]], float],
    y: NDArray[np.float64],
    predictions: Predictions,
) -> tuple[float, float]:
    """A statistic of the labels, and how often it is as large of labels shuffled among patients.

    Patients with as many bags change places, so that each keeps labels of its own.
    """
    clusters = predictions.clusters
    names = list(dict.fromkeys(clusters.tolist()))
    bags = {name: np.flatnonzero(clusters == name) for name in names}
    alike: dict[int, list[str]] = defaultdict(list)
    for name in names:
        alike[len(bags[name])].append(name)
    generator = np.random.default_rng(0)
    value, count = statistic(y), 0
    tables = [np.stack([bags[name] for name in same]) for same in alike.values()]
    for _ in range(DRAWS):
        labels = y.copy()
        for table in tables:
            labels[table] = y[table[generator.permutation(len(table))]]
        count += bool(statistic(labels) >= value - 1e-12)
    return value, (1 + count) / (1 + DRAWS)

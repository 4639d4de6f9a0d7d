"""What a tracker draws itself: points of curves, counts and metrics per class, as rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milforge.plots.curves import check_predictions

MOST_POINTS = 200  # of a curve; more are not seen, and each is a row on the server


@dataclass(frozen=True)
class Panel:
    """Rows that a tracker shows as a curve, a matrix or a table.

    Args:
        kind: `roc` and `pr` have the columns class, x and y; `confusion` actual, predicted and
            count; of a `table` they are free.
        columns: their names.
        rows: a value per column each.
    """

    kind: Literal["roc", "pr", "confusion", "table"]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def class_panels(
    probabilities: Tensor | NDArray[np.floating],
    y: Tensor | NDArray[np.integer],
    class_names: Sequence[str],
) -> dict[str, Panel]:
    """Panels of a task with classes: `roc`, `pr`, `confusion` and `per_class`.

    `roc` and `pr` are the curves of `plot_roc_pr`, thinned to 200 points each; `confusion` counts
    as `plot_confusion` does. `per_class` has for each class the number of its bags, AUROC and
    average precision against the rest, and precision, recall and F1 of what is predicted; None
    where one is not defined.

    Args:
        probabilities: `(n, C)` float; of two classes also `(n,)` or `(n, 1)`, of the second.
        y: `(n,)` class numbers; or `(n, C)` of 0 and 1, several labels.
        class_names: the C names.

    Raises:
        ValueError: where the parts do not fit each other.

    Example:
        >>> import torch
        >>> panels = class_panels(torch.tensor([0.1, 0.8, 0.4]), torch.tensor([0, 1, 1]), "ab")
        >>> panels["confusion"].rows
        [('a', 'a', 1), ('a', 'b', 0), ('b', 'a', 1), ('b', 'b', 1)]
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    scores, labels = check_predictions(probabilities, y, class_names)
    if scores.shape[1] < len(class_names):  # of two classes the second alone
        scores = np.concatenate([1 - scores, scores], axis=1)
    if labels.ndim == 2:
        truth, predicted = labels == 1, scores > 0.5
    else:
        numbers = np.arange(len(class_names))
        # The second of two classes where its probability exceeds one half.
        chosen = scores[:, 1] > 0.5 if len(class_names) == 2 else scores.argmax(axis=1)
        truth, predicted = labels[:, None] == numbers, chosen[:, None] == numbers
    roc, pr = [], []
    shown = [1] if labels.ndim == 1 and len(class_names) == 2 else range(len(class_names))
    for number in shown:
        name, positive = class_names[number], truth[:, number]
        if positive.all() or not positive.any():
            continue
        false, true, _ = roc_curve(positive, scores[:, number])
        precision, recall, _ = precision_recall_curve(positive, scores[:, number])
        roc += [(name, *point) for point in _thinned(false, true)]
        pr += [(name, *point) for point in _thinned(recall, precision)]
    return {
        "roc": Panel("roc", ("class", "fpr", "tpr"), roc),
        "pr": Panel("pr", ("class", "recall", "precision"), pr),
        "confusion": Panel(
            "confusion",
            ("Actual", "Predicted", "nPredictions"),
            _confusion(truth, predicted, class_names, several=labels.ndim == 2),
        ),
        "per_class": _per_class(truth, predicted, scores, class_names),
    }


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    """The points, or 200 of them, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    return list(zip(x[kept].tolist(), y[kept].tolist(), strict=True))


def _confusion(
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    names: Sequence[str],
    *,
    several: bool,
) -> list[tuple[str, str, int]]:
    if not several:
        counts = truth.T.astype(int) @ predicted.astype(int)
        return [(names[i], names[j], int(count)) for (i, j), count in np.ndenumerate(counts)]
    rows = []
    for number, name in enumerate(names):
        for is_true in (False, True):
            for is_predicted in (False, True):
                here = (truth[:, number] == is_true) & (predicted[:, number] == is_predicted)
                words = [f"{name}: {'yes' if each else 'no'}" for each in (is_true, is_predicted)]
                rows.append((words[0], words[1], int(here.sum())))
    return rows


def _per_class(
    truth: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    scores: NDArray[np.float64],
    names: Sequence[str],
) -> Panel:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows: list[tuple[Any, ...]] = []
    for number, name in enumerate(names):
        positive, said, score = truth[:, number], predicted[:, number], scores[:, number]
        hits, there, named = (int(each.sum()) for each in (positive & said, positive, said))
        both = 0 < there < len(positive)
        rows.append(
            (
                name,
                there,
                float(roc_auc_score(positive, score)) if both else None,
                float(average_precision_score(positive, score)) if both else None,
                hits / named if named else None,
                hits / there if there else None,
                2 * hits / (named + there) if named + there else None,
            )
        )
    columns = ("class", "bags", "auroc", "ap", "precision", "recall", "f1")
    return Panel("table", columns, rows)

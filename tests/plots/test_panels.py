"""What trackers draw themselves, against scikit-learn and counting by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    auc,
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from milforge.plots.panels import MOST_POINTS, class_panels


def problem(kind, n=60, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        return rng.random((n, 3)), rng.integers(2, size=(n, 3)), ["a", "b", "c"]
    classes = 2 if kind == "binary" else 3
    p = rng.dirichlet(np.ones(classes), n)
    return p, rng.permutation(np.arange(n) % classes), ["no", "yes", "maybe"][:classes]


def predicted(kind, p):
    if kind == "multilabel":
        return p > 0.5
    return (p[:, 1] > 0.5).astype(int) if kind == "binary" else p.argmax(1)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_counts_of_the_confusion(kind):
    p, y, names = problem(kind)
    rows = class_panels(torch.tensor(p), torch.tensor(y), names)["confusion"].rows
    counts = confusion_matrix(y, predicted(kind, p))
    assert rows == [(names[i], names[j], count) for (i, j), count in np.ndenumerate(counts)]


def test_the_confusion_of_several_labels():
    p, y, names = problem("multilabel")
    rows = class_panels(p, y, names)["confusion"].rows
    for number, name in enumerate(names):
        counts = confusion_matrix(y[:, number], p[:, number] > 0.5)
        words = [f"{name}: no", f"{name}: yes"]
        mine = [(words[i], words[j], count) for (i, j), count in np.ndenumerate(counts)]
        assert rows[4 * number : 4 * number + 4] == mine


def test_a_single_label_is_that_of_its_presence():
    """Not the second of two classes, of which `(n, 1)` probabilities are."""
    p, y, names = problem("multilabel")
    alone, among = class_panels(p[:, :1], y[:, :1], names[:1]), class_panels(p, y, names)
    assert alone["confusion"].rows == among["confusion"].rows[:4]
    assert alone["per_class"].rows == among["per_class"].rows[:1]
    for kind in ("roc", "pr"):
        assert alone[kind].rows == [row for row in among[kind].rows if row[0] == names[0]]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_metrics_of_each_class(kind):
    p, y, names = problem(kind)
    panel = class_panels(p, y, names)["per_class"]
    assert panel.columns == ("class", "bags", "auroc", "ap", "precision", "recall", "f1")
    said = predicted(kind, p)
    for number, row in enumerate(panel.rows):
        truth = y[:, number] if kind == "multilabel" else y == number
        here = said[:, number] if kind == "multilabel" else said == number
        score = p[:, number]
        metrics = precision_recall_fscore_support(truth, here, average="binary")[:3]
        ranks = roc_auc_score(truth, score), average_precision_score(truth, score)
        assert row[:2] == (names[number], truth.sum())
        assert row[2:] == pytest.approx([*ranks, *metrics])


def test_the_areas_under_the_curves_and_their_points():
    p, y, names = problem("multiclass", n=3000)
    panels = class_panels(p, y, names)
    for number, name in enumerate(names):
        for kind, area in (("roc", roc_auc_score), ("pr", average_precision_score)):
            points = np.array([row[1:] for row in panels[kind].rows if row[0] == name])
            assert len(points) == MOST_POINTS
            assert auc(*points.T) == pytest.approx(area(y == number, p[:, number]), abs=0.005)
    binary = class_panels(*problem("binary"))
    assert {row[0] for row in binary["roc"].rows} == {"yes"}


def test_a_class_that_no_bag_has():
    p = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    panels = class_panels(p, np.array([0, 1]), ["a", "b", "c"])
    assert {row[0] for row in panels["roc"].rows} == {"a", "b"}
    assert panels["per_class"].rows[2] == ("c", 0, None, None, None, None, None)

"""A task of every kind that has seen labels, and the labels of its bags."""

from functools import cache

import numpy as np
import torch

import stated
from milforge.data import Labels
from milforge.tasks import Cox, Multi, Multiclass, Ordinal, Regression, SurvivalDiscrete, Weibull

TIMES = {"cox": Cox, "survival_discrete": SurvivalDiscrete, "weibull": Weibull}
KINDS = (*stated.TASKS, "coral", "corn", *TIMES, "multi")
N = 23


def _columns(kind):
    rng = np.random.default_rng(0)
    time, event = rng.integers(1, 30, N) / 2, (rng.random(N) < 0.7).astype(int)
    grade = np.arange(N) % 4 + 1
    if kind in TIMES:
        return {"time": time, "event": event}
    if kind != "multi":
        return {"grade": grade}
    columns = {"time": time, "event": event, "grade": grade, "score": time - grade, "type": grade}
    texts = {name: values.astype(str).astype(object) for name, values in columns.items()}
    for place, names in enumerate((("time", "event"), ("grade",), ("score",), ("type",))):
        for name in names:
            texts[name][place::5] = ""  # the first bag lacks the first target, and so on
    return texts


def _unseen(kind):
    if kind in TIMES:
        return TIMES[kind]()
    if kind != "multi":
        return Ordinal(kind)
    return Multi(
        {
            "life": {"task": Cox(), "columns": ["time", "event"]},
            "grade": {"task": Ordinal(), "weight": 0.5},
            "score": {"task": Regression()},
            "type": {"task": Multiclass(("1", "2", "3", "4"))},
        }
    )


def make_task(kind):
    """A task for which all of its labels are of the training part, and `y` of `N` bags."""
    if kind in stated.TASKS:
        y = stated.make_labels(kind, N)
        return stated.make_task(kind, y), y
    task, labels = _unseen(kind), Labels(_columns(kind))
    task = task.resolve(labels)
    y = torch.as_tensor(task.encode(labels))
    task.fit(y)
    return task, y


@cache
def num_outputs(kind):
    """Number of logits of a bag."""
    return make_task(kind)[0].num_outputs

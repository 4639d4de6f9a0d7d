"""What is predicted of a bag, in words and in what tells the bags apart that are worth a map."""

from collections.abc import Sequence
from math import nan

import numpy as np
import torch

from milforge.callbacks.records import BagRecord
from milforge.maps.choose import Judged
from milforge.tasks import Multilabel, Task


def judged(records: Sequence[BagRecord], task: Task) -> Judged:
    """How right and how certain each prediction is."""
    error, wrong, certainty = (np.full(len(records), nan) for _ in range(3))
    for i, record in enumerate(records):
        known = record.y is not None and not bool(record.y.isnan().any())
        y = record.y if known else None
        p = record.columns.get("probability")
        if p is not None and p.ndim == 1 and len(p) == len(task.class_names):
            one_class = _is_one_class(task)
            certainty[i] = float(p.max() if one_class else torch.maximum(p, 1 - p).min())
            if y is not None and one_class:
                error[i] = 1 - float(p[int(y)])
                words = task.describe(record.columns, y)
                wrong[i] = float(words.prediction != words.truth)
            elif y is not None:
                error[i] = float((p - y).abs().mean())
                wrong[i] = float(bool(((p > 0.5) != (y == 1)).any()))
        number = record.columns.get("prediction")
        if y is not None and number is not None and number.numel() == y.numel():
            error[i] = float((number.double() - y.double()).abs().mean())
    return Judged([record.bag_id for record in records], error, wrong, certainty)


def outputs_of(task: Task, count: int) -> tuple[str, ...]:
    """The names of the outputs of a network."""
    names = task.class_names
    if len(names) == count:
        return names
    if count == 1:
        return (names[1],) if len(names) == 2 else ("output",)
    return tuple(f"output {number}" for number in range(count))


def shown_output(record: BagRecord, outputs: int) -> int:
    """The number of the output that is drawn: that of the predicted class."""
    p = record.columns.get("probability")
    return int(p.argmax()) if p is not None and p.ndim == 1 and len(p) == outputs else 0


def _is_one_class(task: Task) -> bool:
    """Whether a bag is of one of the classes, rather than of any number of them."""
    return not isinstance(task, Multilabel)


def label_of(record: BagRecord, task: Task) -> str | None:
    """The true label in words; None where unknown."""
    if record.y is None or bool(record.y.isnan().any()):
        return None
    return task.describe(record.columns, record.y).truth


def predicted_of(record: BagRecord, task: Task) -> str:
    """What is predicted, in words."""
    p = record.columns.get("probability")
    if p is not None and p.ndim == 1 and len(p) == len(task.class_names):
        if not _is_one_class(task):
            return _named(p, task)
        # Not the most probable class: a grade is one that half of the probability lies above.
        words = task.describe(record.columns, p.new_zeros(()) if record.y is None else record.y)
        sure = "" if words.probability is None else f" ({words.probability:.3f})"
        return f"{words.prediction}{sure}"
    shown = [(name, each) for name, each in record.columns.items() if name != "logits"][:3]
    return "; ".join(
        f"{name} {', '.join(f'{float(value):.4g}' for value in each.flatten()[:4])}"
        for name, each in shown
    )


def _named(values: torch.Tensor, task: Task) -> str:
    found = [n for n, v in zip(task.class_names, values.tolist(), strict=True) if v > 0.5]
    return ", ".join(found) or "none of them"

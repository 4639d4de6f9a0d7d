"""What is predicted of bags, and its averages over runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.predictions_file import NEEDED

Floats = NDArray[np.float64]
Texts = NDArray[np.object_]
MULTILABEL = "Multilabel"  # the task of labels that are there together


@dataclass(frozen=True)
class Predictions:
    """Bags with their labels and what is predicted of them.

    Attributes:
        task: the class of the task, `Binary`, `Regression`, ...
        class_names: of the task; none where it has no classes.
        bag_id: `(n,)` str.
        part: `(n,)` str, `val`, `calibration` or `test`.
        patient: `(n,)` str, None where unknown.
        size: `(n,)` instances of each bag.
        order: `(n,)` the number of each bag in its part.
        labels: label columns by name, `(n,)` float64, NaN where unknown.
        columns: what is predicted, by name, `(n,)` float64.
        table: the other columns of the label table, by name, `(n,)` str or None.
    """

    task: str
    class_names: tuple[str, ...]
    bag_id: Texts
    part: Texts
    patient: Texts
    size: NDArray[np.int64]
    order: NDArray[np.int64]
    labels: Mapping[str, Floats]
    columns: Mapping[str, Floats]
    table: Mapping[str, Texts]

    def __len__(self) -> int:
        return len(self.bag_id)

    def take(self, chosen: NDArray[Any]) -> "Predictions":
        """The chosen bags, by number or as bool `(n,)`."""
        return replace(
            self,
            bag_id=self.bag_id[chosen],
            part=self.part[chosen],
            patient=self.patient[chosen],
            size=self.size[chosen],
            order=self.order[chosen],
            labels={name: each[chosen] for name, each in self.labels.items()},
            columns={name: each[chosen] for name, each in self.columns.items()},
            table={name: each[chosen] for name, each in self.table.items()},
        )

    def of_part(self, part: str) -> "Predictions":
        """The bags of a part."""
        return self.take(self.part == part)

    @property
    def labelled(self) -> "Predictions":
        """The bags of which every label is known; where each stands by itself, any of them."""
        known = [np.isfinite(each) for each in self.labels.values()]
        if not known:
            return self
        enough = np.any if self.task == MULTILABEL else np.all
        return self.take(enough(known, axis=0))

    @property
    def clusters(self) -> Texts:
        """`(n,)` the patient of each bag; a bag without one is a patient of its own."""
        return np.array(
            [
                f"bag {bag}" if patient is None else f"patient {patient}"
                for bag, patient in zip(self.bag_id, self.patient, strict=True)
            ],
            object,
        )

    @property
    def y(self) -> Floats:
        """`(n,)`, or `(n, K)` where a bag has several labels."""
        return _stacked(self.labels)

    def predicted(self, name: str) -> Floats:
        """`(n,)` or `(n, K)`: the column, or the columns `name_0`, `name_1` and so on.

        Raises:
            KeyError: where there is none.
        """
        if name in self.columns:
            return self.columns[name]
        found: dict[str, Floats] = {}
        while f"{name}_{len(found)}" in self.columns:
            found[f"{name}_{len(found)}"] = self.columns[f"{name}_{len(found)}"]
        if not found:
            raise KeyError(name)
        return np.stack(list(found.values()), 1)

    def has(self, name: str) -> bool:
        """Whether there are such columns."""
        return name in self.columns or f"{name}_0" in self.columns


def joined(several: Sequence[Predictions]) -> Predictions:
    """Bags of several predictions, one after the other; columns that one lacks are left out."""
    first = several[0]

    def common(name: str) -> dict[str, Any]:
        parts = [getattr(each, name) for each in several]
        keys = [key for key in parts[0] if all(key in part for part in parts)]
        return {key: np.concatenate([part[key] for part in parts]) for key in keys}

    changed: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in several]) for name in NEEDED
    }
    changed |= {name: common(name) for name in ("labels", "columns", "table")}
    return replace(first, **changed)


def averaged(several: Sequence[Predictions]) -> tuple[Predictions, NDArray[np.int64]]:
    """Each bag once, with the mean of what the predictions that have it say, and their number.

    Probabilities and the like are averaged, never logits, which are left out where there are
    several.

    Args:
        several: of the same task, each with a bag at most once.
    """
    together = joined(several)
    _, first, inverse = np.unique(
        together.bag_id.astype(str), return_index=True, return_inverse=True
    )
    counts = np.bincount(inverse)
    means = {
        name: np.bincount(inverse, each) / counts
        for name, each in together.columns.items()
        if counts.max(initial=1) == 1 or not name.startswith("logit")
    }
    return replace(together.take(first), columns=means), counts


def _stacked(columns: Mapping[str, Floats]) -> Floats:
    values = list(columns.values())
    return values[0] if len(values) == 1 else np.stack(values, 1)

"""Whether the labels of a patient's bags agree."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from milforge.data import BagTable
from milforge.data.faults import Fault
from milforge.tasks import Task


def unlike_patients(
    data: BagTable[Any], task: Task, y: NDArray[Any], rows: NDArray[np.int64]
) -> list[Fault]:
    """The bags of patients of whom the table says different things, where the task forbids it.

    Args:
        data: knows the patient of each bag.
        task: says what is the same for all bags of a patient.
        y: `(n, ...)` labels.
        rows: `(n,)` the numbers of the bags that they are of.
    """
    of_patient = task.of_patient(y)
    if of_patient is None or data.groups is None:
        return []
    bags: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        bags.setdefault(data.groups[row], []).append(place)
    faults = []
    for patient, places in bags.items():
        first = of_patient[places[0]]
        others = [p for p in places if not np.array_equal(of_patient[p], first, equal_nan=True)]
        if others:
            names = [data.ids[rows[p]] for p in (places[0], others[0])]
            faults += [
                Fault(
                    data.ids[rows[p]],
                    data.source,
                    f"bag {data.ids[rows[p]]!r}: expected one label of patient {patient!r}, got "
                    f"others in the rows of {names[0]!r} and {names[1]!r}",
                    "mend them, or remove the rows",
                )
                for p in places
            ]
    return faults

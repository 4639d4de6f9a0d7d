"""All slides of a patient as one bag."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import ONE_STREAM, Bag, streams_of
from milforge.data.dataset import BagDataset, Tile, as_dataset, bag_outline
from milforge.data.faults import Fault
from milforge.data.parts import BagTable
from milforge.data.wrappers.wrapped_dataset import WrappedDataset

SLIDES = "slides"  # the column with the names of a patient's slides
BETWEEN = ";"


class PatientBags(WrappedDataset[Bag]):
    """The bags of another data set, several of which are one: the slides of a patient.

    `Bag.slide` says which of them an instance is of, from 0, in the order that is given.

    Args:
        bags: the slides.
        numbers: for each patient the numbers of the slides.
        ids: the names of the patients.

    Example:
        >>> from milforge.data import BagList
        >>> slides = BagList([Bag(torch.zeros(n, 2)) for n in (2, 1, 3)])
        >>> patient = PatientBags(slides, [[0, 2], [1]], ["p", "q"])[0]
        >>> len(patient), patient.slide, patient.bag_id
        (5, tensor([0, 0, 1, 1, 1]), 'p')
    """

    def __init__(
        self, bags: BagDataset, numbers: Sequence[Sequence[int]], ids: Sequence[str]
    ) -> None:
        super().__init__(bags)
        self.numbers = [list(each) for each in numbers]
        self.ids = tuple(ids)

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.numbers)

    def __getitem__(self, index: int) -> Bag:
        """The bag of that patient.

        Raises:
            ValueError: where the slides do not fit each other; names them.
        """
        slides = [self.bags[n] for n in self.numbers[index]]
        return join_slides(slides, self.ids[index])

    def read_into(
        self, index: int, out: Mapping[str, Tensor] | None = None, *, coords: bool = True
    ) -> Bag:
        """The same into memory that is given: see `OfferedByDataset.read_into`.

        Raises:
            ValueError: where the slides do not fit each other; names them.
        """
        bags: Any = self.bags
        numbers, sizes = self.numbers[index], super().sizes
        places: list[dict[str, Tensor] | None] = [None] * len(numbers)
        if out is not None and sizes is not None:
            bounds = accumulate((int(sizes[number]) for number in numbers), initial=0)
            places = [{n: x[i:j] for n, x in out.items()} for i, j in pairwise(bounds)]
        slides = [
            bags.read_into(number, place, coords=coords)
            for number, place in zip(numbers, places, strict=True)
        ]
        joined = None if out is None else _already_joined(slides, places, out)
        return join_slides(slides, self.ids[index], joined)

    @property
    def labels(self) -> None:
        """Those of the patients come from a table."""
        return None

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """`(n,)` number of instances of each patient."""
        sizes = super().sizes
        if sizes is None:
            return None
        return np.array([sizes[numbers].sum() for numbers in self.numbers], dtype=np.int64)

    def outline(self, index: int) -> Bag:
        """The bag of that patient without features."""
        slides = [bag_outline(self.bags, n) for n in self.numbers[index]]
        return join_slides(slides, self.ids[index])

    def faults(self, numbers: Sequence[int], progress: Callable[[], None]) -> list[Fault]:
        """What is wrong with the slides of those patients; see `OfferedByDataset.faults`."""
        slides = [self.numbers[number] for number in numbers]
        is_last = iter([n == each[-1] for each in slides for n in each])

        def slide_done() -> None:
            if next(is_last):
                progress()

        return super().faults([n for each in slides for n in each], slide_done)

    def state(self, index: int) -> str | None:
        """What stands for all that the slides hold; see `OfferedByDataset.state`."""
        states = [super(PatientBags, self).state(number) for number in self.numbers[index]]
        return None if None in states else " ".join(map(str, states))

    def tile(self, index: int) -> Tile:
        """What is known of the size of the tiles, where the patient has one slide."""
        numbers = self.numbers[index]
        return super().tile(numbers[0]) if len(numbers) == 1 else Tile()


def join_slides(
    slides: Sequence[Bag], bag_id: str, x: Tensor | dict[str, Tensor] | None = None
) -> Bag:
    """The slides of a patient as one bag, one below the other.

    Args:
        slides: at least one; coords must be present in all of them or in none.
        bag_id: the name of the patient.
        x: the instances of all slides, where they lie one below the other already.

    Raises:
        ValueError: where they do not fit each other.
    """
    first, *others = slides
    for other in others:
        for what, mine, its in (
            ("features", first.instance_shape, other.instance_shape),
            ("coords", _width(first.coords), _width(other.coords)),
        ):
            if mine != its:
                raise ValueError(
                    f"patient {bag_id!r}: expected {what} alike in all slides, got {mine} in "
                    f"{first.bag_id!r} and {its} in {other.bag_id!r}; coords are left out by "
                    "data.coords_key=null"
                )
    y_inst = None
    if any(slide.y_inst is not None for slide in slides):
        unknown = [torch.full((len(slide),), -1) for slide in slides]
        labels = zip(slides, unknown, strict=True)
        y_inst = torch.cat([u if s.y_inst is None else s.y_inst.long() for s, u in labels])
    sizes = torch.tensor([len(slide) for slide in slides])
    return Bag(
        _joined([slide.x for slide in slides]) if x is None else x,
        coords=None if first.coords is None else torch.cat([s.coords for s in slides]),  # type: ignore[misc]
        y_inst=y_inst,
        bag_id=bag_id,
        slide=torch.repeat_interleave(torch.arange(len(slides)), sizes),
    )


def patients_of(table: BagTable[Bag]) -> BagTable[Bag]:
    """The table with one bag per patient, whose name is that of the patient.

    Labels and covariates must be the same in all rows of a patient. Of the other columns that
    differ within a patient all values are kept, with `;` between them; the column `slides` has the
    names of the slides. Slides that are at fault are left out of their patients.

    Args:
        table: with one bag per slide.

    Raises:
        ValueError: where it does not say the patients.
    """
    if table.groups is None:
        raise ValueError(
            f"data.bag=patient: {table.source} has no column that says the patient of each slide: "
            "name it by data.group_column"
        )
    faulty = {fault.bag_id for fault in table.faults}
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(table.groups):
        if table.ids[row] not in faulty:
            rows.setdefault(patient, []).append(row)
    labels = {} if table.labels is None else table.labels.columns
    alike = {**labels, **{name: table.columns[name] for name in table.covariates}}
    faults = list(table.faults)
    for patient, numbers in rows.items():
        faults += _differing(table, patient, numbers, alike)
    ids = tuple(rows)
    numbers_of = list(rows.values())
    firsts = [numbers[0] for numbers in numbers_of]
    columns = {
        name: [BETWEEN.join(dict.fromkeys(texts[n] for n in numbers)) for numbers in numbers_of]
        for name, texts in table.columns.items()
    }
    columns[SLIDES] = [BETWEEN.join(table.ids[n] for n in numbers) for numbers in numbers_of]
    of_training = table.training_bags
    return replace(
        table,
        bags=PatientBags(as_dataset(table.bags), numbers_of, ids),
        training_bags=None
        if of_training is None
        else PatientBags(as_dataset(of_training), numbers_of, ids),
        ids=ids,
        labels=None if table.labels is None else table.labels.take(firsts),
        groups=ids,
        places=tuple(table.places[row] for row in firsts) if table.places else table.places,
        columns=columns,
        faults=tuple(faults),
    )


def _differing(
    table: BagTable[Bag], patient: str, rows: Sequence[int], columns: Mapping[str, Any]
) -> list[Fault]:
    """What the rows of a patient say differently."""
    faults = []
    for name, values in columns.items():
        other = next((row for row in rows if values[row] != values[rows[0]]), None)
        if other is not None:
            message = (
                f"patient {patient!r}: expected one value of {name!r}, got "
                f"{str(values[rows[0]])!r} in the row of {table.ids[rows[0]]!r} and "
                f"{str(values[other])!r} in that of {table.ids[other]!r}"
            )
            faults.append(Fault(patient, table.source, message, "mend them, or remove the rows"))
    return faults


def _already_joined(
    slides: Sequence[Bag], places: Sequence[Mapping[str, Tensor] | None], out: Mapping[str, Tensor]
) -> Tensor | dict[str, Tensor] | None:
    """The memory that was given, where it holds the instances of all slides and no others."""
    rows = sum(len(slide) for slide in slides)
    for slide, place in zip(slides, places, strict=True):
        x = streams_of(slide.x)
        if place is None or x.keys() != place.keys() or any(x[n] is not place[n] for n in x):
            return None
    if any(len(each) != rows for each in out.values()):
        return None
    return out[ONE_STREAM] if isinstance(slides[0].x, Tensor) else dict(out)


def _joined(parts: Sequence[Tensor | Mapping[str, Tensor]]) -> Tensor | dict[str, Tensor]:
    if isinstance(parts[0], Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # type: ignore[index]


def _width(coords: Tensor | None) -> int | None:
    return None if coords is None else coords.shape[1]

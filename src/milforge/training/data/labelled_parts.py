"""The parts of a data set, with labels of the task and what is known of their bags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from milforge.data import (
    CovariateEncoder,
    LabelledDataset,
    Split,
)
from milforge.data.dataset import bag_faults
from milforge.data.faults import BagError, Fault, list_faults
from milforge.data.features.folder import log_progress
from milforge.tasks import Task


class BagInfo(NamedTuple):
    """What is known of a bag besides what is in it.

    Attributes:
        group: its patient; None where that is not known.
        columns: the other columns of the label table, as text.
    """

    group: str | None = None
    columns: Mapping[str, str] = {}


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a data set.

    Args:
        parts: train, val and test; calibration where bags are held back for it.
        task: the task, which has seen the labels; None where there are none.
        split: the names of the bags of each part, None where they were not split by name.
        faults: why bags are left out.
        covariates: knows the covariates of the bags; None where there are none.
        check: whether bags are to be read once before they are used.
        source: where the data come from, for messages.
        known: what is known of each bag by its name, where there is a table.
        feature_names: of the features of an instance, where they have names.
    """

    parts: Mapping[str, LabelledDataset[Any]]
    task: Task | None
    split: Split | None = None
    faults: tuple[Fault, ...] = ()
    covariates: CovariateEncoder | None = None
    check: bool = False
    source: Path | str = "the data set"
    known: Mapping[str, BagInfo] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many bags the table has; 0 where there is none."""
        return len(self.known)

    @property
    def skipped(self) -> list[str]:
        """Names of the bags that are left out because of a fault."""
        return names_of(self.faults)

    def info(self, part: str, bag_id: str) -> BagInfo:
        """What is known of a bag."""
        return self.known.get(bag_id, BagInfo())

    def read(self, names: Sequence[str]) -> None:
        """Reads every bag of these parts, so that all that are faulty show at once.

        Raises:
            BagError: lists the faults.
        """
        total, done = sum(len(self.parts[name]) for name in names), count(1)
        faults: list[Fault] = []
        for name in names:
            part = self.parts[name]
            faults += bag_faults(part, range(len(part)), lambda: log_progress(next(done), total))
        if faults:
            raise BagError(list_faults(str(self.source), faults), faults)


def names_of(faults: Sequence[Fault]) -> list[str]:
    """The names of faulty bags, of files that have none."""
    return sorted({fault.bag_id or str(fault.file) for fault in faults})

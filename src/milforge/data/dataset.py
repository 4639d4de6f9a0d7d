"""What a data set of bags offers, and the three parts of one."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor

from milforge.data.bag import Bag

Task = Literal["binary", "multiclass", "multilabel"]
SPLITS = ("train", "val", "test")


class BagDataset(Protocol):
    """Bags by number, with their labels known without reading the instances."""

    def __len__(self) -> int:
        """Number of bags."""
        ...

    def __getitem__(self, index: int) -> Bag:
        """The bag of that number."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """`(n,)` or `(n, C)` int64 bag labels, None where they are not known."""
        ...


@dataclass(frozen=True)
class BagSplits:
    """The parts of a data set, and what a network must know to be built for it.

    Args:
        train: bags to fit on.
        val: bags to select and stop by.
        test: bags to report on.
        task: binary, multiclass or multilabel.
        class_names: one name a class; two for a binary task, negative first.

    Raises:
        ValueError: for a task that there is not, or class names that do not fit it.
    """

    train: BagDataset
    val: BagDataset
    test: BagDataset
    task: Task
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ValueError(f"expected task to be one of {get_args(Task)}, got {self.task!r}")
        if self.task == "binary" and len(self.class_names) != 2:
            raise ValueError(f"expected two class names for a binary task, got {self.class_names}")

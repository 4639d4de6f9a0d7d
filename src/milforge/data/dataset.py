"""What a data set of bags offers, and the three parts of one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.image import LargeImage

Task = Literal["binary", "multiclass", "multilabel"]
SPLITS = ("train", "val", "test")

Item_co = TypeVar("Item_co", covariant=True)


class LabelledDataset(Protocol[Item_co]):
    """Bags, or large images, by number, with their labels known without reading them."""

    def __len__(self) -> int:
        """Number of bags."""
        ...

    def __getitem__(self, index: int) -> Item_co:
        """The bag of that number."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """`(n,)` or `(n, C)` int64 bag labels, None where they are not known."""
        ...


@dataclass(frozen=True)
class Splits(Generic[Item_co]):
    """The parts of a data set, and what a network must know to be built for it.

    Args:
        train: bags to fit on.
        val: bags to select and stop by.
        test: bags to report on.
        task: binary, multiclass or multilabel; None where bags have no labels.
        class_names: one name a class; two for a binary task, negative first.

    Raises:
        ValueError: for a task that there is not, or class names that do not fit it.
    """

    train: LabelledDataset[Item_co]
    val: LabelledDataset[Item_co]
    test: LabelledDataset[Item_co]
    task: Task | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.task is not None and self.task not in get_args(Task):
            raise ValueError(f"expected task to be one of {get_args(Task)}, got {self.task!r}")
        if self.task == "binary" and len(self.class_names) != 2:
            raise ValueError(f"expected two class names for a binary task, got {self.class_names}")


BagDataset = LabelledDataset[Bag]
BagSplits = Splits[Bag]
ImageDataset = LabelledDataset[LargeImage]
ImageSplits = Splits[LargeImage]


def bag_sizes(bags: BagDataset) -> NDArray[np.int64] | None:
    """`(n,)` number of instances of each bag, where the data set knows it without reading them."""
    sizes: NDArray[np.int64] | None = getattr(bags, "sizes", None)
    return sizes


def bag_outline(bags: BagDataset, index: int) -> Bag:
    """The bag with its coords, for which the features need not be read.

    Where the data set can do without them (it has a method `outline`), `x` is `(N, 0)`.
    """
    outline: Callable[[int], Bag] = getattr(bags, "outline", bags.__getitem__)
    return outline(index)

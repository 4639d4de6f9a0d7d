"""A data set that is made of another."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.dataset import (
    Item,
    LabelledDataset,
    Tile,
    bag_faults,
    bag_outline,
    bag_sizes,
    bag_state,
    bag_tile,
    differs_by_epoch,
    image_source,
    set_epoch,
)
from milforge.data.faults import Fault
from milforge.sampling import ImageSource


class WrappedDataset(Generic[Item]):
    """The bags of another data set, and all that it offers (see `LabelledDataset`).

    A subclass changes what it is for; where its bags have other instances than those of the data
    set, `sizes` and `outline` too. What is known of the bags of the data set (`faults`, `state`) is
    not believed of those of a subclass with a `__getitem__` of its own, which are read.

    Args:
        bags: the data set.

    Example:
        >>> from dataclasses import replace
        >>> from milforge.data import digits_bags
        >>> class Halved(WrappedDataset):
        ...     def __getitem__(self, index):
        ...         bag = super().__getitem__(index)
        ...         return replace(bag, x=bag.x / 2)
        >>> bags = Halved(digits_bags(train=3).train)
        >>> len(bags), float(bags[0].x.max()), bags.labels.shape
        (3, 0.5, torch.Size([3]))
    """

    def __init__(self, bags: LabelledDataset[Item]) -> None:
        self.bags = bags
        if differs_by_epoch(bags):  # else it has no such method either
            self.set_epoch = partial(set_epoch, bags)

    def __len__(self) -> int:
        """Number of bags."""
        return len(self.bags)

    def __getitem__(self, index: int) -> Item:
        """The bag of that number."""
        return self.bags[index]

    @property
    def labels(self) -> Tensor | None:
        """`(n,)` or `(n, C)` int64 bag labels, None where they are not known."""
        return self.bags.labels

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """`(n,)` number of instances of each bag, where it is known without reading them."""
        return bag_sizes(self.bags)

    def outline(self, index: int) -> Item:
        """The bag of that number, without its features where the data set can do without them."""
        return bag_outline(self.bags, index)

    def faults(self, numbers: Sequence[int], progress: Callable[[], None]) -> list[Fault]:
        """What is wrong with the bags of those numbers; see `OfferedByDataset.faults`."""
        return bag_faults(self.bags, numbers, progress)

    def state(self, index: int) -> str | None:
        """What stands for all that the bag holds; see `OfferedByDataset.state`."""
        return bag_state(self.bags, index)

    def tile(self, index: int) -> Tile:
        """What is known of the size of the tiles of the bag of that number."""
        return bag_tile(self.bags, index)

    def source(self, index: int) -> ImageSource | None:
        """The large image of that number, without its view; see `OfferedByDataset.source`."""
        return image_source(self.bags, index)

"""Some bags of a data set, with the labels and covariates that are known of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.dataset import Item, LabelledDataset, Tile
from milforge.data.faults import Fault
from milforge.data.wrappers.wrapped_dataset import WrappedDataset
from milforge.sampling import ImageSource


class LabelledBags(WrappedDataset[Item]):
    """Bags of another data set by their numbers there, with labels and covariates.

    Sizes and outlines are those of the data set; there is a `set_epoch` where it has one.

    Args:
        bags: the data set.
        numbers: `(n,)` which of its bags, in order.
        labels: `(n,)` or `(n, C)`, one row per bag; None leaves the bags as they are.
        covariates: `(n, C)` float, one row per bag; None where there are none.

    Example:
        >>> import torch
        >>> from milforge.data import Bag, BagList
        >>> bags = BagList([Bag(torch.zeros(n, 2)) for n in (3, 1, 4)])
        >>> some = LabelledBags(bags, [2, 0], torch.tensor([1, 0]))
        >>> len(some[0]), some[0].y, some.sizes
        (4, 1, array([4, 3]))
    """

    def __init__(
        self,
        bags: LabelledDataset[Item],
        numbers: NDArray[np.int64] | list[int],
        labels: Tensor | None = None,
        covariates: Tensor | None = None,
    ) -> None:
        super().__init__(bags)
        self.numbers = np.asarray(numbers, dtype=np.int64)
        self.covariates = covariates
        self._labels = labels

    def __len__(self) -> int:
        """Number of bags."""
        return len(self.numbers)

    def __getitem__(self, index: int) -> Item:
        """The bag of that number, counted from the end where negative.

        Raises:
            IndexError: where there is no such bag.
            ValueError: for a large image with covariates.
        """
        return self._labelled(super().__getitem__(int(self.numbers[index])), index)

    def read_into(
        self, index: int, out: Mapping[str, Tensor] | None = None, *, coords: bool = True
    ) -> Item:
        """The same into memory that is given: see `OfferedByDataset.read_into`."""
        bags: Any = self.bags
        return self._labelled(bags.read_into(int(self.numbers[index]), out, coords=coords), index)

    def _labelled(self, bag: Item, index: int) -> Item:
        given: dict[str, Any] = {}
        if self._labels is not None:
            y = self._labels[index]
            given["y"] = y if y.ndim else y.item()
        if self.covariates is not None:
            if not isinstance(bag, Bag):
                raise ValueError(
                    "data.covariates: large images have no covariates, which are for the head of a "
                    "model of bags: leave them out"
                )
            given["covariates"] = self.covariates[index]
        return replace(bag, **given)

    @property
    def labels(self) -> Tensor | None:
        """`(n,)` or `(n, C)` labels, None where they are not known."""
        return self._labels

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """`(n,)` number of instances of each bag, where it is known without reading them."""
        sizes = super().sizes
        return None if sizes is None else sizes[self.numbers]

    def outline(self, index: int) -> Item:
        """The bag without features, where the data set can do without; see `bag_outline`."""
        return super().outline(int(self.numbers[index]))

    def faults(self, numbers: Sequence[int], progress: Callable[[], None]) -> list[Fault]:
        """What is wrong with the bags of those numbers; see `OfferedByDataset.faults`."""
        return super().faults([int(self.numbers[number]) for number in numbers], progress)

    def state(self, index: int) -> str | None:
        """What stands for all that the bag holds besides; see `OfferedByDataset.state`."""
        return super().state(int(self.numbers[index]))

    def tile(self, index: int) -> Tile:
        """What is known of the size of the tiles of that bag."""
        return super().tile(int(self.numbers[index]))

    def source(self, index: int) -> ImageSource | None:
        """The large image of that number, without its view."""
        return super().source(int(self.numbers[index]))

"""Bags whose instances lie in memory, one bag below the other."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor

from milforge.data.bag import Bag


class BagsInMemory(ABC):
    """A `BagDataset` of bags in memory.

    Args:
        sizes: the number of instances of each bag.
        labels: `(n,)` or `(n, C)` int64 bag labels.
        name: begins the bag ids, `name_0000` and so on.
    """

    def __init__(self, sizes: Sequence[int], labels: Tensor, name: str) -> None:
        self.name = name
        self._bounds = list(accumulate(sizes, initial=0))
        self._labels = labels

    def __len__(self) -> int:
        """Number of bags."""
        return len(self._labels)

    def __getitem__(self, index: int) -> Bag:
        """The bag of that number, counted from the end where negative.

        Raises:
            IndexError: where there is no such bag.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}: expected a bag number below {len(self)}, got {index}")
        index %= len(self)
        instances = slice(self._bounds[index], self._bounds[index + 1])
        return self._bag(index, instances, f"{self.name}_{index:04d}")

    @abstractmethod
    def _bag(self, index: int, instances: slice, bag_id: str) -> Bag:
        """The bag of that number, whose instances are these of all."""

    @property
    def labels(self) -> Tensor:
        """`(n,)` or `(n, C)` int64 bag labels."""
        return self._labels

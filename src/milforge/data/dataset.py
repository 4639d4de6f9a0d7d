"""What a data set of bags offers."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.faults import BagError, Fault
from milforge.data.images.large_image import LargeImage
from milforge.sampling import ImageSource

# Files are waited for more than computed on; so many bags are in memory at once.
_THREADS = 4

SPLITS = ("train", "val", "test")

_READS = ("__getitem__", "read_into")  # the methods that give what a bag holds

Item = TypeVar("Item", bound=Bag | LargeImage)
Item_co = TypeVar("Item_co", bound=Bag | LargeImage, covariant=True)


class LabelledDataset(Protocol[Item_co]):
    """Bags, or large images, by number, with their labels known without reading them.

    It may offer more: see `OfferedByDataset`.
    """

    def __len__(self) -> int:
        """Number of bags."""
        ...

    def __getitem__(self, index: int) -> Item_co:
        """The bag of that number."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """`(n,)` or `(n, C)` bag labels, None where they are not known."""
        ...


BagDataset = LabelledDataset[Bag]
ImageDataset = LabelledDataset[LargeImage]


class OfferedByDataset(Protocol[Item_co]):
    """What a `LabelledDataset` may offer beside, each by itself.

    Whoever needs one of these asks the function of this module that is named with it, which knows
    what to do without. What wraps a data set is a `milforge.data.WrappedDataset`, which hands all
    of them on.
    """

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """`(n,)` number of instances of each bag, known without reading them: `bag_sizes`."""
        ...

    def outline(self, index: int) -> Item_co:
        """The bag as `__getitem__` gives it, but `x` is `(N, 0)`: `bag_outline`."""
        ...

    def read_into(
        self, index: int, out: Mapping[str, Tensor] | None = None, *, coords: bool = True
    ) -> Item_co:
        """The bag as `__getitem__` gives it, by a thread, into memory that is given: `reads_into`.

        Args:
            index: number of the bag.
            out: `(N, ...)` memory for the instances of each stream, by its name; of a bag with one
                stream the name is `x`. Where they do not fit it, `x` of the bag is other memory.
            coords: whether the bag needs its coords.
        """
        ...

    def faults(self, numbers: Sequence[int], progress: Callable[[], None]) -> list[Fault]:
        """What is wrong with the bags of those numbers, in their order: `bag_faults`.

        Args:
            numbers: of the bags; those of which it is not known are read.
            progress: is called after each bag.
        """
        ...

    def state(self, index: int) -> str | None:
        """What stands for all that the bag holds: `bag_state`."""
        ...

    def tile(self, index: int) -> "Tile":
        """What is known of the size of the tiles of a bag: `bag_tile`."""
        ...

    def source(self, index: int) -> ImageSource | None:
        """A large image without its view, which need not be read: `image_source`."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, for bags that differ between epochs: `set_epoch`.

        Processes that read bags live on from epoch to epoch: the number must lie in memory that
        they share, as in `FeatureBags`.
        """
        ...


def bag_sizes(bags: LabelledDataset[Item]) -> NDArray[np.int64] | None:
    """`(n,)` number of instances of each bag, where the data set knows it without reading them."""
    sizes: NDArray[np.int64] | None = getattr(bags, "sizes", None)
    return sizes


def bag_outline(bags: LabelledDataset[Item], index: int) -> Item:
    """The bag with its coords, for which the features need not be read.

    Where the data set can do without them (it has a method `outline`), `x` is `(N, 0)`.
    """
    outline: Callable[[int], Item] = getattr(bags, "outline", bags.__getitem__)
    return outline(index)


def bag_faults(
    bags: LabelledDataset[Any], numbers: Sequence[int], progress: Callable[[], None]
) -> list[Fault]:
    """What is wrong with the bags of those numbers; all are read that are not known to be sound.

    Args:
        bags: a data set; where a class changes what `__getitem__` gives without saying what is
            known of it (`faults`), all are read.
        numbers: of its bags.
        progress: is called after each bag.
    """
    if declares(bags, "faults", _READS):
        found: list[Fault] = bags.faults(numbers, progress)  # type: ignore[attr-defined]
        return found

    def read(number: int) -> Sequence[Fault]:
        try:
            bags[number]
        except BagError as error:
            return error.faults
        return ()

    return faults_by_threads(read, numbers, progress)


def faults_by_threads(
    look: Callable[[int], Sequence[Fault]], numbers: Sequence[int], progress: Callable[[], None]
) -> list[Fault]:
    """The faults that are found in bags, which threads look at."""
    faults: list[Fault] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for found in pool.map(look, numbers):
            faults += found
            progress()
    return faults


def bag_state(bags: LabelledDataset[Any], index: int) -> str | None:
    """What stands for all that a bag holds, and is the same in later runs.

    As long as it is the same, so is the bag. None where that is not known, where bags differ
    between epochs, and where a class changes what a bag holds without saying its `state`.
    """
    if not declares(bags, "state", _READS):
        return None
    state: str | None = bags.state(index)  # type: ignore[attr-defined]
    return state


@dataclass(frozen=True)
class Tile:
    """What is known of the tiles of a bag.

    Attributes:
        unit: of the coords: `px`, of level 0 of the slide, or `um`; None where nothing says so.
        side: of a tile, in that unit; None where nothing says so.
    """

    unit: Literal["px", "um"] | None = None
    side: float | None = None


def bag_tile(bags: LabelledDataset[Item], index: int) -> Tile:
    """What the data set knows of the size of the tiles of a bag."""
    tile: Callable[[int], Tile] | None = getattr(bags, "tile", None)
    return Tile() if tile is None else tile(index)


def image_source(bags: LabelledDataset[Any], index: int) -> ImageSource | None:
    """A large image without its view, where the data set can do without; else None."""
    source: Callable[[int], ImageSource | None] | None = getattr(bags, "source", None)
    return None if source is None else source(index)


def set_epoch(bags: LabelledDataset[Item], epoch: int) -> None:
    """Gives the epoch to a data set whose bags differ from epoch to epoch."""
    listener: Callable[[int], None] | None = getattr(bags, "set_epoch", None)
    if listener is not None:
        listener(epoch)


def differs_by_epoch(bags: LabelledDataset[Item]) -> bool:
    """Whether the bags of a data set differ from epoch to epoch."""
    return hasattr(bags, "set_epoch")


def reads_into(bags: LabelledDataset[Any]) -> bool:
    """Whether the bags can be read into memory that is given, by any number of threads.

    Not so where a class changes what `__getitem__` gives without saying how it is read so.
    """
    if not declares(bags, "read_into", ("__getitem__",)):
        return False
    inner = getattr(bags, "bags", None)
    return inner is None or reads_into(inner)


def declares(thing: object, name: str, methods: Sequence[str]) -> bool:
    """Whether what a class says by an attribute holds for all of these methods.

    A subclass that overrides one of them without saying it again may do something else.

    Example:
        >>> class Plain:
        ...     quick = True
        ...     def run(self): ...
        >>> class Other(Plain):
        ...     def run(self): ...
        >>> declares(Plain(), "quick", ["run"]), declares(Other(), "quick", ["run"])
        (True, False)
    """
    for each in type(thing).__mro__:
        if name in vars(each):
            return True
        if any(method in vars(each) for method in methods):
            return False
    return False


class BagList(list[Item]):
    """Bags in a list as a data set.

    Example:
        >>> bags = BagList([Bag(torch.zeros(3, 2), y=1), Bag(torch.zeros(1, 2), y=0)])
        >>> bags.labels, bags.sizes
        (tensor([1, 0]), array([3, 1]))
    """

    @property
    def labels(self) -> Tensor | None:
        """`(n,)` or `(n, C)` labels; None where a bag has none."""
        labels = [torch.as_tensor(bag.y) for bag in self if bag.y is not None]
        return torch.stack(labels) if labels and len(labels) == len(self) else None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """`(n,)` number of instances of each bag."""
        return np.array([len(bag) if isinstance(bag, Bag) else 1 for bag in self], np.int64)


def as_dataset(bags: LabelledDataset[Item] | Sequence[Item]) -> LabelledDataset[Item]:
    """The bags as a data set: a list or tuple of them becomes a `BagList`.

    A list of your own that knows its labels is one already; one that takes the epoch (`set_epoch`)
    still does.
    """
    if not isinstance(bags, list | tuple) or hasattr(bags, "labels"):
        return bags  # type: ignore[return-value]
    listed: BagList[Item] = BagList(bags)
    if differs_by_epoch(bags):  # type: ignore[arg-type]
        listed.set_epoch = partial(_renew, listed, bags)  # type: ignore[attr-defined]
    return listed


def _renew(listed: BagList[Any], bags: Any, epoch: int) -> None:
    """Gives the epoch to a list of bags, and takes what they are then."""
    bags.set_epoch(epoch)
    listed[:] = bags

"""What every reader of bags offers."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag

Unit = Literal["px", "um"]
Rows = NDArray[np.int64]
Out = Mapping[str, Tensor]


def into(out: Out | None, name: str, x: Tensor) -> Tensor:
    """Features in the memory that is given for those of a stream; as they are, where none fits."""
    given = None if out is None else out.get(name)
    if given is None or given.shape != x.shape or given.dtype != x.dtype:
        return x
    return given.copy_(x)


@dataclass(frozen=True)
class BagHeader:
    """What is known of a bag without reading its features.

    Args:
        bag_id: name of the bag.
        instances: number of instances, `N`.
        widths: number of features of each stream, `D_s`.
        dtypes: how each stream is stored, `float16` for example.
        files: the file of each stream.
        coords_axes: 2 or 3; None where the bag has no coords.
        coords_unit: px (level 0 of the slide) or um; None where nothing says so.
        tile_size: side of a tile in the unit of the coords, where the file says so.
        has_instance_labels: whether the bag has `y_inst`.
    """

    bag_id: str
    instances: int
    widths: Mapping[str, int]
    dtypes: Mapping[str, str]
    files: Mapping[str, Path]
    coords_axes: int | None = None
    coords_unit: Unit | None = None
    tile_size: float | None = None
    has_instance_labels: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the features as they are read: float16 where they are stored so, else float32.

        Example:
            >>> BagHeader("a", 10, {"x": 4}, {"x": "float64"}, {}).nbytes
            160
        """
        return sum(
            self.instances * width * (2 if self.dtypes[name] == "float16" else 4)
            for name, width in self.widths.items()
        )


class BagReader(Protocol):
    """Bags of a folder or a table, read one at a time.

    A reader keeps no file open, so it can be handed to worker processes, forked or spawned.
    """

    @property
    def root(self) -> Path:
        """The folder or the table."""
        ...

    @property
    def layout(self) -> str:
        """Name of the layout."""
        ...

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the bags, sorted."""
        ...

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the feature sets; where there is one, a bag's `x` is a tensor."""
        ...

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features of an instance; empty where the layout has none."""
        ...

    @property
    def has_labels(self) -> bool:
        """Whether the layout stores bag labels."""
        ...

    def files(self, bag_id: str) -> Mapping[str, Path]:
        """The file of each stream of a bag that has one."""
        ...

    def state(self, bag_id: str) -> str | None:
        """What stands for the paths, sizes and times of the files of a bag, and for all options.

        As long as it is the same, so is all that is read. None where nothing can be said: a file is
        missing, or has just been written.
        """
        ...

    def header(self, bag_id: str, *, soon: int = 0) -> BagHeader:
        """What the files say of a bag before its features are read.

        Args:
            bag_id: name of the bag.
            soon: a bag whose features take at most so many bytes is read next, so that where its
                values lie is found as long as its files are open.

        Raises:
            BagError: where the bag is faulty; it holds all faults that can be seen so.
        """
        ...

    def read(
        self, bag_id: str, rows: Rows | None = None, *, out: Out | None = None, coords: bool = True
    ) -> Bag:
        """The bag, or the instances of those numbers, which must ascend; `y` is None.

        Features are float16 where they are stored so, else float32; coords are float32.

        Args:
            bag_id: name of the bag.
            rows: numbers of the instances; None reads all.
            out: `(n, D)` memory for the features of each stream, by its name. `x` of the bag is
                that memory where the features fit it, else memory of its own, and that is what
                the caller looks at. None: memory of its own.
            coords: whether coords are read.

        Raises:
            BagError: where the bag is faulty.
        """
        ...

    def content(self, bag_id: str) -> Hashable | None:
        """What stands for what a bag held when it was last read.

        No file is looked at for it. It is the same as long as all reads found the same files; None
        where that is not known.
        """
        ...

    def coords(self, bag_id: str) -> Tensor | None:
        """`(N, 2)` or `(N, 3)` float32 coords alone, None where the bag has none."""
        ...

    def label(self, bag_id: str) -> str | tuple[int, ...] | None:
        """The stored label: a class, or 0 and 1 for each class (multilabel); None without one."""
        ...

    def group(self, bag_id: str) -> str | None:
        """The patient, or whatever else keeps bags together, where the layout stores it."""
        ...

"""Bags on disk as a data set."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from milforge.data.bag import Bag
from milforge.data.dataset import Tile, faults_by_threads
from milforge.data.faults import BagError, Fault
from milforge.data.features.check_finite import check_finite
from milforge.data.features.known_bags import KnownBags
from milforge.data.features.readers import BagReader, Rows
from milforge.data.features.readers.bag_reader import Out

_THREADS = 8


class FeatureBags:
    """A `BagDataset` of the bags of a reader, each read when it is asked for.

    Each bag is checked for NaN and infinity when it is first read, and again when its files have
    changed. With `max_instances_per_bag`, larger bags give that many instances, drawn anew in each
    epoch; which ones depends on seed, epoch and name of the bag alone, and they keep their order.

    Args:
        reader: the bags.
        ids: which of them, in order; None takes all.
        sizes: `(n,)` number of instances of each; None reads them from the headers when they are
            asked for.
        max_instances_per_bag: largest number of instances that a bag gives; None gives all.
        seed: of the instances that are drawn.
        known: what is known of the files; None: nothing.

    Raises:
        ValueError: where sizes are not as many as bags, or that number is below 1.

    Example:
        >>> import tempfile, pathlib
        >>> from milforge.data.features.readers import open_reader
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> np.save(root / "a.npy", np.zeros((5, 2), np.float16))
        >>> bags = FeatureBags(open_reader(root), max_instances_per_bag=3)
        >>> bags[0].x.shape, bags[0].x.dtype, bags.sizes
        (torch.Size([3, 2]), torch.float16, array([3]))
    """

    def __init__(
        self,
        reader: BagReader,
        ids: Sequence[str] | None = None,
        *,
        sizes: NDArray[np.int64] | None = None,
        max_instances_per_bag: int | None = None,
        seed: int = 0,
        known: KnownBags | None = None,
    ) -> None:
        if max_instances_per_bag is not None and max_instances_per_bag < 1:
            raise ValueError(
                "expected data.max_instances_per_bag of at least 1 or null, got "
                f"{max_instances_per_bag}"
            )
        self.reader = reader
        self.ids = tuple(reader.ids if ids is None else ids)
        self.max_instances_per_bag = max_instances_per_bag
        self.seed = seed
        self.known = KnownBags(reader) if known is None else known
        self._stored_sizes = sizes
        # What the files held that were found to be finite: without coords, and with them.
        self._finite: dict[tuple[str, bool], Hashable] = {}
        # In memory that worker processes share: those that live on see the next epoch too.
        self._epoch = torch.zeros((), dtype=torch.int64)
        if max_instances_per_bag is not None:
            self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        if sizes is not None and len(sizes) != len(self.ids):
            raise ValueError(f"expected {len(self.ids)} sizes, one per bag, got {len(sizes)}")

    def __len__(self) -> int:
        """Number of bags."""
        return len(self.ids)

    @property
    def labels(self) -> None:
        """A reader knows no labels: they come from a table."""
        return None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """`(n,)` int64 number of instances that each bag gives; no features are read for it.

        Raises:
            BagError: where a bag is faulty.
        """
        sizes = self._all_sizes()
        return (
            sizes
            if self.max_instances_per_bag is None
            else sizes.clip(max=self.max_instances_per_bag)
        )

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, and with it the instances that are drawn, in worker processes too."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Bag:
        """The bag of that number, counted from the end where negative.

        Raises:
            IndexError: where there is no such bag.
            BagError: where it is faulty; it names the file.
        """
        return self.read_into(index)

    def read_into(self, index: int, out: Out | None = None, *, coords: bool = True) -> Bag:
        """The bag of that number, its instances in memory that is given: see `OfferedByDataset`.

        Raises:
            IndexError: where there is no such bag.
            BagError: where it is faulty; it names the file.
        """
        bag_id, rows = self._id(index), self._draw(index)
        before = self.reader.content(bag_id)
        bag = self.reader.read(bag_id, rows, out=out, coords=coords)
        content = self.reader.content(bag_id)
        known = (bag_id, coords and bag.coords is not None)
        if content is None or content != before or self._finite.get(known) != content:
            check_finite(bag, self.reader, rows)
            if rows is None and content is not None:
                self._finite[known] = content
        return bag

    def faults(self, numbers: Sequence[int], progress: Callable[[], None]) -> list[Fault]:
        """What is wrong with the bags of those numbers: see `OfferedByDataset.faults`.

        Those are read whose files are not known to be sound: whole, since what is drawn of a bag
        is others in the next epoch.
        """

        def look(index: int) -> Sequence[Fault]:
            bag_id = self._id(index)
            state = self.reader.state(bag_id)
            if self.known.of(state).get("sound"):
                return ()
            try:
                if self._draw(index) is None:
                    self[index]
                else:
                    check_finite(self.reader.read(bag_id), self.reader)
            except BagError as error:
                return error.faults
            self.known.learn(bag_id, state, {"sound": True})
            return ()

        faults = faults_by_threads(look, numbers, progress)
        self.known.save()
        return faults

    def state(self, index: int) -> str | None:
        """What stands for all that the bag holds: see `OfferedByDataset.state`."""
        if self.max_instances_per_bag is not None:
            return None
        return self.reader.state(self._id(index))

    def outline(self, index: int) -> Bag:
        """Name and coords of the bag; `x` is `(N, 0)`, and no features are read.

        Raises:
            IndexError: where there is no such bag.
            BagError: where it is faulty; it names the file.
        """
        bag_id, rows = self._id(index), self._draw(index)
        coords = self.reader.coords(bag_id)
        if coords is not None and rows is not None:
            coords = coords[torch.from_numpy(rows)]
        known = rows if coords is None else coords
        size = self.reader.header(bag_id).instances if known is None else len(known)
        bag = Bag(torch.empty(size, 0), coords=coords, bag_id=bag_id)
        check_finite(bag, self.reader, rows)
        return bag

    def tile(self, index: int) -> Tile:
        """What the files say of the size of the tiles of the bag of that number.

        Raises:
            IndexError: where there is no such bag.
            BagError: where it is faulty; it names the file.
        """
        header = self.reader.header(self._id(index))
        return Tile(header.coords_unit, header.tile_size)

    def _id(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected a bag number below {len(self)}, got {index}")
        return self.ids[index]

    def _draw(self, index: int) -> Rows | None:
        """The instances of a bag in this epoch, None for all."""
        most = self.max_instances_per_bag
        if most is None:
            return None
        bag_id, sizes = self.ids[index], self._stored_sizes
        size = self.reader.header(bag_id).instances if sizes is None else int(sizes[index])
        if size <= most:
            return None
        name = int.from_bytes(hashlib.sha256(bag_id.encode()).digest()[:8], "little")
        rng = np.random.default_rng((self.seed, int(self._epoch), name))
        return np.sort(rng.choice(size, most, replace=False))

    def _all_sizes(self) -> NDArray[np.int64]:
        if self._stored_sizes is None:
            with ThreadPoolExecutor(_THREADS) as pool:
                headers = pool.map(self.reader.header, self.ids)
                self._stored_sizes = np.array([each.instances for each in headers], dtype=np.int64)
        return self._stored_sizes

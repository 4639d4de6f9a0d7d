"""Bags with the graph of their instances, built once."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.dataset import BagDataset, bag_outline, bag_sizes
from milforge.data.files import atomic_path
from milforge.graph import AdjacencyBuilder, check_adjacency, count_isolated

_FORMAT = b"1"  # of the files and of what is built; part of every key
_SECONDS_A_LINE = 10.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphCounts:
    """What the graphs of some bags hold.

    Args:
        instances: number of instances.
        edges: number of links, each counted once.
        isolated: number of instances without a neighbour.
    """

    instances: int = 0
    edges: int = 0
    isolated: int = 0


class GraphBags:
    """The bags of another data set, each with its adjacency.

    Each adjacency is built once: `prepare` builds all of them, so that a bag over which no graph
    can be laid is told before training. They are kept in memory, or in files, in which case later
    runs find them too. A file is named by all that the adjacency depends on, the options and the
    coords (and the features where they count), so it can be wrong for no bag, and data sets and
    options may share a folder.

    Args:
        bags: the bags.
        build: builds the adjacency of a bag from its coords and features. None keeps those that
            the bags bring along, after checking them.
        cache: folder of the files; None keeps the adjacencies in memory.
        name: what the bags are called in progress lines.

    Raises:
        ValueError: where a cache is given and nothing is built.

    Example:
        >>> from milforge.data import Bag
        >>> class Bags(list):
        ...     labels = None
        >>> bag = Bag(torch.zeros(3, 2), coords=torch.tensor([[0, 0], [1, 0], [5, 5]]))
        >>> bags = GraphBags(Bags([bag]), AdjacencyBuilder("grid"))
        >>> bags.prepare()
        GraphCounts(instances=3, edges=1, isolated=1)
        >>> bags[0].adj.shape
        torch.Size([3, 3])
    """

    def __init__(
        self,
        bags: BagDataset,
        build: AdjacencyBuilder | None,
        cache: str | Path | None = None,
        name: str = "bags",
    ) -> None:
        if cache is not None and build is None:
            raise ValueError(
                f"expected no cache for adjacencies that the bags bring along, got {cache}"
            )
        self.bags = bags
        self.build = build
        self.cache = None if cache is None else Path(cache)
        self.name = name
        self._built: dict[int, Tensor] = {}
        self._counts: GraphCounts | None = None

    def __len__(self) -> int:
        """Number of bags."""
        return len(self.bags)

    @property
    def labels(self) -> Tensor | None:
        """`(n,)` or `(n, C)` int64 bag labels, None where they are not known."""
        return self.bags.labels

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """`(n,)` number of instances of each bag, where it is known without reading them."""
        return bag_sizes(self.bags)

    def __getitem__(self, index: int) -> Bag:
        """The bag of that number with its adjacency.

        Raises:
            ValueError: where no graph can be laid over the bag; the message names it.
        """
        bag = self.bags[index]
        return bag if self.build is None else replace(bag, adj=self._adjacency(index, bag))

    def prepare(self) -> GraphCounts:
        """Builds or checks all adjacencies, and counts; the second call costs nothing.

        Raises:
            ValueError: where no graph can be laid over a bag, or the one it brings along is none
                that can be smoothed over (see `milforge.graph.check_adjacency`).
        """
        if self._counts is None:
            counts = list(self._count_all())
            self._counts = GraphCounts(*map(sum, zip(*counts, strict=True)))
        return self._counts

    def _count_all(self) -> Iterable[tuple[int, int, int]]:
        spoke = monotonic()
        for index in range(len(self)):
            bag = self._read(index)
            adj = bag.adj if self.build is None else self._adjacency(index, bag)
            if adj is None:
                raise ValueError(
                    f"bag {bag.bag_id!r}: expected an adjacency as in other bags, got none: choose "
                    "data/adjacency to have them built"
                )
            if self.build is None:
                try:
                    check_adjacency(adj)
                except ValueError as error:
                    raise ValueError(f"bag {bag.bag_id!r}: {error}") from error
            yield len(bag), _count_edges(adj), count_isolated(adj)
            if monotonic() - spoke > _SECONDS_A_LINE:
                spoke = monotonic()
                logger.info("graphs of %s: %d of %d", self.name, index + 1, len(self))

    def _read(self, index: int) -> Bag:
        """What the adjacency of a bag depends on: without features, where they do not count."""
        if self.build is None or self.build.needs_features:
            return self.bags[index]
        return bag_outline(self.bags, index)

    def _adjacency(self, index: int, bag: Bag) -> Tensor:
        """From memory, from its file, or built."""
        index %= len(self)
        if index in self._built:
            return self._built[index]
        adj = self._stored_or_built(bag)
        if self.cache is None:
            self._built[index] = adj
        return adj

    def _stored_or_built(self, bag: Bag) -> Tensor:
        assert self.build is not None
        x = bag.x if isinstance(bag.x, Tensor) else next(iter(bag.x.values()))
        if self.build.needs_features and not isinstance(bag.x, Tensor):
            raise ValueError(
                f"bag {bag.bag_id!r}: expected one stream of features to build a graph from, got "
                f"{sorted(bag.x)}: build it from coords"
            )
        if self.build.needs_coords and bag.coords is None:
            raise ValueError(
                f"bag {bag.bag_id!r}: expected coords for an adjacency by {self.build.method}, got "
                "none: choose data/adjacency=feature_knn or chain"
            )
        path = None if self.cache is None else self.cache / f"{self._key(bag, x)}.npz"
        stored = None if path is None else _read(path, len(bag))
        if stored is not None:
            return stored
        try:
            adj = self.build(bag.coords, x)
        except ValueError as error:
            raise ValueError(f"bag {bag.bag_id!r}: {error}") from error
        if path is not None:
            _write(path, adj)
        return adj

    def _key(self, bag: Bag, x: Tensor) -> str:
        digest = hashlib.sha256(_FORMAT)
        digest.update(repr(sorted(asdict(self.build).items())).encode())  # type: ignore[arg-type]
        digest.update(str(len(bag)).encode())
        parts = [bag.coords, x if self.build is not None and self.build.needs_features else None]
        for part in parts:
            if part is not None:
                digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
                raw = part.detach().cpu().contiguous().view(torch.uint8)  # NumPy has no bfloat16
                digest.update(raw.numpy().tobytes())
        return digest.hexdigest()[:32]


def _count_edges(adj: Tensor) -> int:
    rows = torch.repeat_interleave(torch.arange(len(adj)), adj.crow_indices().diff())
    return int((adj.col_indices() > rows).sum())


def _read(path: Path, size: int) -> Tensor | None:
    """The adjacency of that size in a file; None where there is none that is whole."""
    try:
        # Opened here: where a file is cut off, np.load leaves open what it opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            crow, columns, values = (
                torch.from_numpy(arrays[key]) for key in ("crow", "columns", "values")
            )
    except Exception:  # a damaged file fails in many ways, and is built again whichever it is
        return None
    return torch.sparse_csr_tensor(
        crow.long(), columns.long(), values, (size, size), check_invariants=False
    )


def _write(path: Path, adj: Tensor) -> None:
    # Half the size of int64; an instance's number and that of an edge fit.
    crow, columns = adj.crow_indices().int(), adj.col_indices().int()
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, crow=crow.numpy(), columns=columns.numpy(), values=adj.values().numpy())

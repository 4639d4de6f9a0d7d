"""Bags with the graph of their instances, built once."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from milforge.data.bag import Bag
from milforge.data.content_cache import ContentCache, content_key
from milforge.data.dataset import BagDataset, bag_outline, bag_state, differs_by_epoch
from milforge.data.wrappers.wrapped_dataset import WrappedDataset
from milforge.graph import AdjacencyBuilder, check_adjacency, count_isolated

_FORMAT = 1  # of what is built and how it is packed
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


class GraphBags(WrappedDataset[Bag]):
    """The bags of another data set, each with its adjacency.

    Each adjacency is built once: `prepare` builds all of them, so that a bag over which no graph
    can be laid is known before training. They are kept in memory, or in files, in which case later
    runs find them too; see `milforge.data.content_cache`. An adjacency is known by all that it
    depends on, the options and the coords (and the features where they count). A bag that comes
    with other ones, as it may in another epoch, has its own built each time; kept is the first.

    Args:
        bags: the bags.
        build: builds the adjacency of a bag from its coords and features. None keeps those that
            the bags bring along, after checking them.
        cache: folder of the files; None keeps the adjacencies in memory.
        name: what the bags are called in progress lines.

    Raises:
        ValueError: where a cache is given and nothing is built.
        OSError: where the folder cannot be made.

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
        super().__init__(bags)
        if cache is not None and build is None:
            raise ValueError(
                f"expected no cache for adjacencies that the bags bring along, got {cache}"
            )
        self.build = build
        # Checksums: of a number of a neighbour that is damaged no operator would take notice.
        option = "graph.cache"
        self.files = None if cache is None else ContentCache(cache, option, checksums=True)
        self.name = name
        self._keys: dict[int, str] = {}
        self._built: dict[str, Tensor] = {}
        self._counts: GraphCounts | None = None

    def __getitem__(self, index: int) -> Bag:
        """The bag of that number with its adjacency.

        Raises:
            ValueError: where no graph can be laid over the bag; the message names it.
            OSError: where a file of the cache cannot be written.
        """
        bag = self.bags[index]
        return bag if self.build is None else replace(bag, adj=self._adjacency(index, bag))

    def read_into(
        self, index: int, out: Mapping[str, Tensor] | None = None, *, coords: bool = True
    ) -> Bag:
        """The same into memory that is given: see `OfferedByDataset.read_into`.

        Raises:
            ValueError: where no graph can be laid over the bag; the message names it.
            OSError: where a file of the cache cannot be written.
        """
        bags: Any = self.bags
        known = self._keys.get(index % len(self)) in self._built
        laid = self.build is None or (known and not differs_by_epoch(self.bags))
        bag: Bag = bags.read_into(index, out, coords=coords or not laid)
        if self.build is None:
            return bag
        return replace(bag, adj=self._adjacency(index, bag), coords=bag.coords if coords else None)

    def state(self, index: int) -> str | None:
        """What stands for all that the bag holds besides; see `OfferedByDataset.state`."""
        return bag_state(self.bags, index)

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
                    "graph=... to have them built"
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
        assert self.build is not None
        build = self.build
        index %= len(self)
        known = self._keys.get(index)
        if known in self._built and not differs_by_epoch(self.bags):
            return self._built[known]  # without hashing features, which may be large
        counted = _features(bag, build) if build.needs_features else None
        options = replace(build, cache=None)
        slides = () if bag.slide is None else (bag.slide,)
        key = content_key("graph", _FORMAT, options, len(bag), bag.coords, counted, *slides)
        # What is kept is the first of each bag: else those of every epoch would pile up.
        if self._keys.setdefault(index, key) != key:
            return lay_graph(bag, build)
        if self.files is not None:
            stored = self.files.get(key, lambda: _pack(lay_graph(bag, build)))
            adj = _unpack(stored, len(bag))
            if adj is None:  # somebody wrote other tensors by that name
                adj = lay_graph(bag, build)
                self.files.put(key, _pack(adj))
            return adj
        if key not in self._built:
            self._built[key] = lay_graph(bag, build)
        return self._built[key]


def lay_graph(bag: Bag, build: AdjacencyBuilder) -> Tensor:
    """The adjacency of a bag, `(N, N)` sparse CSR.

    Args:
        bag: the bag; an adjacency that it brings along is not looked at.
        build: builds it.

    Raises:
        ValueError: where no graph can be laid over the bag; the message names it.
    """
    x = _features(bag, build)
    try:
        return build(bag.coords, x, bag.slide)
    except ValueError as error:
        raise ValueError(f"bag {bag.bag_id!r}: {error}") from error


def _features(bag: Bag, build: AdjacencyBuilder) -> Tensor:
    """The instances of a bag over which a graph can be laid; of several streams, the first."""
    if build.needs_features and not isinstance(bag.x, Tensor):
        raise ValueError(
            f"bag {bag.bag_id!r}: expected one stream of features to build a graph from, got "
            f"{sorted(bag.x)}: build it from coords"
        )
    if build.needs_coords and bag.coords is None:
        raise ValueError(
            f"bag {bag.bag_id!r}: expected coords for an adjacency by {build.method}, got "
            "none: choose graph=feature_knn or chain"
        )
    return bag.x if isinstance(bag.x, Tensor) else next(iter(bag.x.values()))


def _count_edges(adj: Tensor) -> int:
    rows = torch.repeat_interleave(torch.arange(len(adj)), adj.crow_indices().diff())
    return int((adj.col_indices() > rows).sum())


def _pack(adj: Tensor) -> dict[str, Tensor]:
    # Half the size of int64; an instance's number and that of an edge fit.
    crow, columns = adj.crow_indices().int(), adj.col_indices().int()
    return {"crow": crow, "columns": columns, "values": adj.values()}


def _unpack(stored: Mapping[str, Tensor], size: int) -> Tensor | None:
    """The graph of so many instances that a file holds; None where it holds no such graph."""
    try:
        crow, columns = stored["crow"].long(), stored["columns"].long()
        shape = (size, size)
        return torch.sparse_csr_tensor(
            crow, columns, stored["values"].float(), shape, check_invariants=True
        )
    except (KeyError, RuntimeError):
        return None

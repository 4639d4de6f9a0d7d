"""Lays graphs over the bags of each part, once, and logs what they hold."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from milforge.data import (
    Bag,
    BagTable,
    GraphBags,
    GraphCounts,
    LabelledDataset,
    LargeImage,
    as_dataset,
    bag_sizes,
)
from milforge.graph import AdjacencyBuilder

logger = logging.getLogger(__name__)


def check_whole(data: BagTable[Any]) -> None:
    """Refuses to lay graphs over some of the instances of a bag, few of which are neighbours.

    Raises:
        ValueError: where training bags have other sizes than the same bags elsewhere.
    """
    if data.training_bags is None:
        return
    whole, given = (bag_sizes(as_dataset(bags)) for bags in (data.bags, data.training_bags))
    if not np.array_equal(np.asarray(whole), np.asarray(given)):
        raise ValueError(
            "graph: expected training bags with all their instances, got fewer, of which few are "
            "neighbours: leave data.max_instances_per_bag=null, or choose graph=none"
        )


def with_graphs(
    parts: Mapping[str, LabelledDataset[Any]],
    example: Bag | LargeImage,
    graph: AdjacencyBuilder | None,
) -> dict[str, LabelledDataset[Any]]:
    """The parts, whose bags have an adjacency where there is one.

    Args:
        parts: the bags of each part by its name.
        example: a bag of one of them.
        graph: builds the adjacency of each bag; None: bags have the one they bring along, or none.

    Raises:
        ValueError: where a graph is to be laid over large images.
    """
    if isinstance(example, LargeImage):
        if graph is not None:
            raise ValueError(
                "graph: large images have no instances before they are looked at, so there is "
                "nothing to lay a graph over; choose graph=none"
            )
        return dict(parts)
    if graph is None and example.adj is None:
        return dict(parts)
    cache = None if graph is None else graph.cache
    return {name: GraphBags(part, graph, cache, name) for name, part in parts.items()}


@rank_zero_only
def log_graphs(graphs: Sequence[GraphCounts]) -> None:
    """Logs the counts of all parts, added up."""
    instances, edges, isolated = (
        sum(getattr(counts, name) for counts in graphs)
        for name in ("instances", "edges", "isolated")
    )
    logger.info(
        "graphs: %s instances with %.1f neighbours in the mean, %s of them isolated",
        f"{instances:,}",
        2 * edges / max(1, instances),
        f"{isolated:,}",
    )

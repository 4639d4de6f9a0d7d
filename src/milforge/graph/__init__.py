"""Coords or features to a sparse adjacency of instances."""

from milforge.graph.build import build_adjacency
from milforge.graph.builder import AdjacencyBuilder
from milforge.graph.check import check_adjacency
from milforge.graph.normalise import count_isolated, normalize_adjacency
from milforge.graph.stride import grid_stride, radius_from_tiles

__all__ = [
    "AdjacencyBuilder",
    "build_adjacency",
    "check_adjacency",
    "count_isolated",
    "grid_stride",
    "normalize_adjacency",
    "radius_from_tiles",
]

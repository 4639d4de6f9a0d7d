import math

import pytest
import torch
from torch.testing import assert_close

from milforge.graph import AdjacencyBuilder, build_adjacency, radius_from_tiles

TILES = torch.tensor([[0, 0], [1, 0], [2, 0], [0, 1], [2, 1], [5, 5], [6, 5]])
FEATURES = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))


def same(one, other):
    assert_close(one.to_dense(), other.to_dense(), rtol=0, atol=0)


@pytest.mark.parametrize("stride", [1, 8, 448])
@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0])
def test_a_radius_in_tiles_is_scaled_by_the_stride(stride, radius):
    coords = TILES * stride
    built = AdjacencyBuilder("radius", radius=radius)(coords)
    same(built, build_adjacency(coords, radius=radius_from_tiles(coords, radius)))
    same(built, AdjacencyBuilder("radius", radius=radius)(TILES))
    in_coords = AdjacencyBuilder("radius", radius=radius * stride, radius_unit="coords")
    same(built, in_coords(coords))


def test_no_radius_reaches_the_eight_neighbours():
    same(AdjacencyBuilder()(TILES * 448), build_adjacency(TILES, radius=math.sqrt(2)))


@pytest.mark.parametrize("method", ["knn", "feature_knn"])
def test_a_bag_of_fewer_than_k_instances_links_all(method):
    built = AdjacencyBuilder(method, k=8)(TILES, FEATURES).to_dense()
    assert bool((built.fill_diagonal_(1) > 0).all())
    same(
        AdjacencyBuilder(method, k=2)(TILES, FEATURES),
        build_adjacency(TILES, FEATURES.flatten(1), method=method, k=2),
    )


@pytest.mark.parametrize("method", ["radius", "knn", "grid", "chain", "feature_knn"])
def test_a_single_instance(method):
    built = AdjacencyBuilder(method, radius=1.5)(TILES[:1], FEATURES[:1])
    assert built.to_dense().tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "grid", "neighbours": 4}, {"method": "grid", "neighbours": 4}),
        ({"weight": "cosine"}, {"weight": "cosine"}),
        ({"weight": "gaussian", "sigma": 0.5}, {"weight": "gaussian", "sigma": 0.5}),
        ({"self_loops": True}, {"self_loops": True}),
        ({"normalize": "rw"}, {"normalize": "rw"}),
    ],
)
def test_options_reach_the_function(options, expected):
    built = AdjacencyBuilder(**options)(TILES, FEATURES.abs())
    same(built, build_adjacency(TILES, FEATURES.abs().flatten(1), **expected))


def test_a_chain_needs_neither_coords_nor_vectors():
    built = AdjacencyBuilder("chain")(None, FEATURES)
    assert built.values().shape == (12,)


@pytest.mark.parametrize(
    ("method", "weight", "coords", "features"),
    [
        ("grid", "binary", True, False),
        ("knn", "cosine", True, True),
        ("chain", "binary", False, False),
        ("chain", "gaussian", True, False),
        ("feature_knn", "gaussian", False, True),
    ],
)
def test_what_a_graph_depends_on(method, weight, coords, features):
    build = AdjacencyBuilder(method, weight=weight)
    assert (build.needs_coords, build.needs_features) == (coords, features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "radus"}, "method to be one of .* 'radus'"),
        ({"weight": "gauss"}, "weight to be one of .* 'gauss'"),
        ({"radius_unit": "px"}, "radius_unit to be one of tiles, coords, got 'px'"),
        ({"normalize": None}, "normalize to be sym or rw, got None"),
        ({"k": 0}, "k of at least 1 neighbour, got 0"),
    ],
)
def test_wrong_options_are_refused_before_any_bag(options, message):
    with pytest.raises(ValueError, match=message):
        AdjacencyBuilder(**options)


def test_a_graph_without_an_edge_names_stride_and_radius():
    with pytest.raises(ValueError, match=r"radius 358\.4 .*stride .* 448"):
        AdjacencyBuilder("radius", radius=0.8)(TILES * 448)

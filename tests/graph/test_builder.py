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
        ({"k": 2.5}, "k as a whole number of at least 1 neighbour, got 2.5"),
        ({"neighbours": 5}, "neighbours of 4 or 8 in the plane, 6 or 26 in space, got 5"),
        ({"radius": 0.0}, "radius above 0, or None, got 0.0"),
        ({"sigma": -1.0}, "sigma above 0, or None, got -1.0"),
        ({"k": 0}, "k as a whole number of at least 1 neighbour, got 0"),
    ],
)
def test_wrong_options_are_refused_before_any_bag(options, message):
    with pytest.raises(ValueError, match=message):
        AdjacencyBuilder(**options)


def test_a_graph_without_an_edge_names_stride_and_radius():
    with pytest.raises(ValueError, match=r"radius 361\.984 .*stride .* 448"):
        AdjacencyBuilder("radius", radius=0.8)(TILES * 448)


@pytest.mark.parametrize("radius", [None, 1.0, math.sqrt(2), 2.0, 3.0])
@pytest.mark.parametrize(
    ("step", "offset", "dtype"),
    [
        (256 * 0.2516, 30_000.0, torch.float32),  # microns
        (224 * 0.5034, 30_000.0, torch.float32),
        (512 * 0.2516, 30_000.0, torch.float32),
        (224.4, 0.0, torch.int64),  # level-0 pixels of another level's tiles, rounded
        (512.5, 7.0, torch.int64),
    ],
)
def test_tiles_at_exactly_the_radius_are_reached_however_coords_are_rounded(
    radius, step, offset, dtype
):
    tiles = torch.cartesian_prod(torch.arange(40), torch.arange(40))
    coords = tiles.double() * step + offset
    coords = coords.round().to(dtype) if dtype == torch.int64 else coords.to(dtype)
    exact = AdjacencyBuilder("radius", radius=radius)(tiles)
    same(AdjacencyBuilder("radius", radius=radius)(coords), exact)


def test_a_radius_in_coords_reaches_large_float32_coords():
    coords = (torch.cartesian_prod(torch.arange(9), torch.arange(9)).double() * 0.7 + 9000).float()
    built = AdjacencyBuilder("radius", radius=0.7, radius_unit="coords")(coords)
    assert len(built.values()) == 2 * 2 * 9 * 8


@pytest.mark.parametrize("slices", [4, 6])
@pytest.mark.parametrize("radius", [None, 1.5])
def test_a_radius_in_tiles_means_nothing_in_a_volume_of_thin_slices(slices, radius):
    axes = [torch.arange(size) for size in (6, 6, slices)]
    coords = torch.cartesian_prod(*axes) * torch.tensor([256, 256, 40])
    with pytest.raises(ValueError, match=r"one stride on all axes .* got 256 x 256 x 40: give a"):
        AdjacencyBuilder("radius", radius=radius)(coords)
    # In the units of the coords it does, and so it does where the strides agree.
    AdjacencyBuilder("radius", radius=256.0, radius_unit="coords")(coords)
    cubes = torch.cartesian_prod(*axes)
    same(
        AdjacencyBuilder("radius", radius=1.0)(cubes * 256),
        build_adjacency(cubes, method="grid", neighbours=6),
    )


def test_where_graphs_are_kept_changes_nothing():
    """A run goes on with another folder of them, but not with other graphs."""
    assert AdjacencyBuilder.changes_nothing == ("cache",)
    one, other = AdjacencyBuilder("grid"), AdjacencyBuilder("grid", cache="elsewhere")
    same(one(TILES), other(TILES))

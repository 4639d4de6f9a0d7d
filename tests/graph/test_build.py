import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import block_diag
from sklearn.neighbors import kneighbors_graph, radius_neighbors_graph

from milforge.data import Bag, collate_bags
from milforge.graph import (
    build_adjacency,
    check_adjacency,
    count_isolated,
    normalize_adjacency,
)

STRIDE = 448
METHODS = {
    "radius": {"method": "radius", "radius": 0.4},
    "knn": {"method": "knn", "k": 3},
    "feature_knn": {"method": "feature_knn", "k": 3},
}
WEIGHTS = ["binary", "gaussian", "cosine"]

seeds = st.integers(0, 2**31)
sizes = st.integers(6, 25)


def cloud(size, dim=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((size, dim)))


def features_of(size, width=5, seed=0):
    # Around a common direction, so that cosines of both signs occur but most are positive.
    return torch.from_numpy(np.random.default_rng(seed + 1).normal(0.5, 1.0, (size, width)))


def holes(seed=0, side=12, stride=STRIDE, dim=2, keep=0.6):
    tiles = torch.cartesian_prod(*[torch.arange(side)] * dim)
    kept = np.random.default_rng(seed).random(len(tiles)) < keep
    return tiles[torch.from_numpy(kept)] * stride + 10_000


def dense(coords=None, features=None, **options):
    return build_adjacency(coords, features, **options).to_dense().double().numpy()


def raw(coords=None, features=None, **options):
    return dense(coords, features, normalize=None, **options)


def cosine_table(features):
    table = np.zeros((len(features), len(features)))
    for i, one in enumerate(features.double().numpy()):
        for j, other in enumerate(features.double().numpy()):
            lengths = np.linalg.norm(one) * np.linalg.norm(other)
            table[i, j] = one @ other / lengths if lengths > 0 else 0.0
    return table


def distance_table(points):
    points = points.double().numpy()
    return np.array([[math.dist(one, other) for other in points] for one in points])


def nearest(distances, k):
    """The union of everyone's k nearest, one by one."""
    links = np.zeros_like(distances)
    for i, row in enumerate(distances):
        others = sorted((d, j) for j, d in enumerate(row) if j != i)
        for _, j in others[:k]:
            links[i, j] = links[j, i] = 1.0
    return links


def adjoining(tiles, neighbours):
    """Tiles one step apart, from the set of all of them."""
    number = {tuple(tile): i for i, tile in enumerate(tiles.tolist())}
    dim = tiles.shape[1]
    links = np.zeros((len(tiles), len(tiles)))
    for tile, i in number.items():
        for step in np.ndindex(*[3] * dim):
            step = [s - 1 for s in step]
            moved = sum(map(abs, step))
            if moved == 0 or (neighbours in (4, 6) and moved > 1):
                continue
            j = number.get(tuple(t + s for t, s in zip(tile, step, strict=True)))
            if j is not None:
                links[i, j] = 1.0
    return links


def normalised(links, how):
    out = np.zeros_like(links)
    degree = links.sum(axis=1)
    for i in range(len(links)):
        for j in range(len(links)):
            if links[i, j]:
                scale = math.sqrt(degree[i] * degree[j]) if how == "sym" else degree[i]
                out[i, j] = links[i, j] / scale
        if degree[i] == 0:
            out[i, i] = 1.0
    return out


# Who is linked


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 30, 80])
def test_radius_agrees_with_scikit_learn(size, dim):
    coords = cloud(size, dim)
    radius = 2.0 if size == 2 else 0.3
    expected = radius_neighbors_graph(coords.numpy(), radius).toarray()
    assert expected.any()
    np.testing.assert_array_equal(raw(coords, radius=radius), expected)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(("size", "k"), [(2, 1), (30, 1), (30, 8), (30, 29)])
def test_knn_agrees_with_scikit_learn_and_is_symmetric(size, k, dim):
    coords = cloud(size, dim)
    one_way = kneighbors_graph(coords.numpy(), k).toarray()
    np.testing.assert_array_equal(raw(coords, method="knn", k=k), np.maximum(one_way, one_way.T))


def test_knn_finds_others_at_the_same_place_and_never_itself():
    coords = torch.tensor([[0.0, 0.0]] * 6 + [[1.0, 0.0]])
    adj = raw(coords, method="knn", k=2)
    assert not adj.diagonal().any()
    assert (adj.sum(axis=1) >= 2).all()
    assert adj[:6, :6].sum(axis=1).min() >= 2


@pytest.mark.parametrize("neighbours", [4, 8])
@pytest.mark.parametrize("keep", [0.4, 1.0])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float64])
def test_grid_with_holes_agrees_with_enumeration(neighbours, keep, dtype):
    coords = holes(keep=keep)
    expected = adjoining((coords - 10_000) // STRIDE, neighbours)
    adj = raw(coords.to(dtype), method="grid", neighbours=neighbours)
    np.testing.assert_array_equal(adj, expected)


@pytest.mark.parametrize("neighbours", [6, 26])
def test_grid_in_space_has_a_stride_for_each_axis(neighbours):
    coords = holes(side=5, dim=3, stride=1)
    expected = adjoining(coords, neighbours)
    spacing = torch.tensor([0.7, 448.0, 5.0], dtype=torch.float64)
    adj = raw(coords * spacing, method="grid", neighbours=neighbours)
    np.testing.assert_array_equal(adj, expected)


def test_grid_does_not_link_the_end_of_a_row_with_the_start_of_the_next():
    coords = torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [3, 0]])
    adj = raw(coords, method="grid")
    np.testing.assert_array_equal(adj, adjoining(coords, 8))
    assert adj[2, 3] == 0
    assert adj[5, 6] == 0


def test_grid_links_rows_of_tissue_only_where_tiles_adjoin():
    # Two strips, three rows apart: the stride of the plane is that within the strips.
    strip = torch.arange(5)[:, None] * torch.tensor([STRIDE, 0])
    coords = torch.cat([strip, strip + torch.tensor([0, 3 * STRIDE])])
    adj = raw(coords, method="grid")
    assert adj.sum() == 2 * 2 * 4
    assert not adj[:5, 5:].any()


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"radius": math.sqrt(2) * STRIDE}])
def test_the_default_radius_gives_the_8_neighbours_in_level_0_pixels(options, dtype):
    coords = holes().to(dtype)
    np.testing.assert_array_equal(raw(coords, **options), raw(coords, method="grid", neighbours=8))


def test_the_radius_includes_its_end_though_it_was_rounded():
    # 0.1 * 3 in float32 is not 0.3.
    coords = torch.arange(40, dtype=torch.float32)[:, None] * 0.1
    np.testing.assert_array_equal(raw(coords, radius=0.3).sum(axis=1)[3:-3], 6)


def test_chain_links_the_order_given():
    adj = raw(features=torch.zeros(4, 2), method="chain")
    np.testing.assert_array_equal(adj, np.eye(4, k=1) + np.eye(4, k=-1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_chain_links_along_the_axis_on_which_coords_vary(axis):
    coords = torch.ones(5, 3)
    coords[:, axis] = torch.tensor([7.0, 1.0, -3.0, 30.0, 2.0])
    order = [2, 1, 4, 0, 3]
    expected = np.zeros((5, 5))
    for one, other in pairwise(order):
        expected[one, other] = expected[other, one] = 1.0
    np.testing.assert_array_equal(raw(coords, method="chain"), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(("size", "k"), [(2, 1), (40, 1), (40, 6), (40, 39)])
def test_feature_knn_agrees_with_a_loop(size, k, dtype):
    features = features_of(size, 16).to(dtype)
    expected = nearest(-cosine_table(features), k)
    np.testing.assert_array_equal(raw(features=features, method="feature_knn", k=k), expected)


def test_feature_knn_in_many_chunks_is_the_same(monkeypatch):
    features = features_of(50, 8)
    expected = dense(features=features, method="feature_knn", weight="gaussian")
    monkeypatch.setattr("milforge.graph.features.CHUNK", 170)  # 3 rows of products at a time
    chunked = dense(features=features, method="feature_knn", weight="gaussian")
    np.testing.assert_allclose(chunked, expected, rtol=1e-6)  # where it is 0, exactly


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_feature_knn_does_not_depend_on_the_length_of_the_features(scale):
    features = features_of(30).float()
    expected = dense(features=features, method="feature_knn", k=3)
    scaled = features * torch.linspace(0.5, 2.0, 30)[:, None] * scale
    np.testing.assert_array_equal(dense(features=scaled, method="feature_knn", k=3), expected)


# How strongly


@pytest.mark.parametrize("sigma", [None, 0.2])
@pytest.mark.parametrize("method", ["radius", "knn"])
def test_gaussian_weights_agree_with_a_loop(method, sigma):
    coords = cloud(30)
    distances = distance_table(coords)
    links = nearest(distances, 3) if method == "knn" else (distances <= 0.4) & (distances > 0)
    width = np.median(distances[links > 0]) if sigma is None else sigma
    expected = np.where(links > 0, np.exp(-(distances**2) / (2 * width**2)), 0.0)
    adj = raw(coords, **METHODS[method], weight="gaussian", sigma=sigma)
    np.testing.assert_allclose(adj, expected, rtol=1e-6)


def test_gaussian_weights_of_features_use_the_distance_of_the_directions():
    features = features_of(30, 8)
    features[1] = 3 * features[0] + 1e-6  # so near that 2 - 2 cosine would be 0 or less
    cosines = cosine_table(features)
    unit = features / features.norm(dim=1, keepdim=True)
    distances = distance_table(unit)
    expected = np.where(nearest(-cosines, 3) > 0, np.exp(-(distances**2) / (2 * 0.5**2)), 0.0)
    adj = raw(features=features, **METHODS["feature_knn"], weight="gaussian", sigma=0.5)
    np.testing.assert_allclose(adj, expected, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_cosine_weights_agree_with_a_loop_and_are_clipped(method):
    coords, features = cloud(30), features_of(30, 3)
    links = raw(coords, features, **METHODS[method])
    cosines = cosine_table(features)
    assert (cosines[links > 0] < 0).any() or method == "feature_knn"
    expected = np.where(links > 0, np.maximum(cosines, 0.0), 0.0)
    adj = build_adjacency(coords, features, **METHODS[method], weight="cosine", normalize=None)
    np.testing.assert_allclose(adj.to_dense().numpy(), expected, rtol=1e-5)
    assert (adj.values() > 0).all()  # clipped ones are not stored


def test_features_of_zero_resemble_nothing():
    features = torch.cat([torch.zeros(1, 2), torch.ones(3, 2)])
    adj = build_adjacency(features=features, method="chain", weight="cosine")
    assert count_isolated(adj) == 1


def test_weights_too_small_to_be_normalised_are_no_edges():
    coords = torch.tensor([[0.0], [1.0], [14.0]])  # exp(-13^2 / 2) = 2e-37
    adj = build_adjacency(coords, method="chain", weight="gaussian", sigma=1.0)
    assert count_isolated(adj) == 1
    check_adjacency(adj)


# The form


@pytest.mark.parametrize("how", ["sym", "rw"])
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_normalisation_agrees_with_a_loop(weight, self_loops, how):
    coords, features = holes(keep=0.3), features_of(len(holes(keep=0.3)))
    options = {"weight": weight, "self_loops": self_loops}
    links = raw(coords, features, **options)
    assert count_isolated(build_adjacency(coords, features, **options)) > 0
    np.testing.assert_allclose(
        dense(coords, features, **options, normalize=how), normalised(links, how), rtol=1e-6
    )


def test_self_loops_add_the_identity():
    coords = holes()
    np.testing.assert_array_equal(raw(coords, self_loops=True), raw(coords) + np.eye(len(coords)))


@pytest.mark.parametrize("normalize", ["sym", "rw", None])
@pytest.mark.parametrize("method", ["radius", "knn", "grid", "chain", "feature_knn"])
def test_the_result_is_csr_float32_with_sorted_columns(method, normalize):
    coords, features = holes(seed=3), features_of(len(holes(seed=3)))
    coords = None if method == "chain" else coords
    adj = build_adjacency(coords, features, method=method, normalize=normalize)
    assert adj.layout == torch.sparse_csr
    assert adj.dtype == torch.float32
    assert adj.crow_indices().dtype == adj.col_indices().dtype == torch.int64
    # Raises where columns are not sorted, or stand twice.
    torch.sparse_csr_tensor(
        adj.crow_indices(), adj.col_indices(), adj.values(), adj.shape, check_invariants=True
    )
    assert (adj.values() > 0).all()
    if normalize is not None:
        check_adjacency(adj)


@pytest.mark.parametrize("method", ["radius", "knn", "grid", "chain", "feature_knn"])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_single_instance_keeps_its_value(method, weight):
    adj = build_adjacency(torch.zeros(1, 2), torch.ones(1, 3), method=method, weight=weight)
    assert adj.to_dense().tolist() == [[1.0]]
    assert build_adjacency(torch.zeros(1, 2), normalize=None).values().numel() == 0


def test_inputs_that_require_gradients_are_taken_as_numbers():
    coords, features = cloud(9).requires_grad_(), features_of(9).requires_grad_()
    adj = build_adjacency(coords, features, radius=0.5, weight="cosine")
    assert not adj.requires_grad


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["radius", "feature_knn"])
def test_inputs_on_a_gpu_give_the_same_graph_on_the_host(method):
    coords, features = cloud(40), features_of(40)
    options = {"method": method, "radius": 0.3, "weight": "cosine"}
    adj = build_adjacency(coords.cuda(), features.cuda(), **options)
    assert adj.device.type == "cpu"
    np.testing.assert_allclose(adj.to_dense().numpy(), dense(coords, features, **options), 1e-6)
    again = normalize_adjacency(adj.cuda())
    assert again.device.type == "cuda"
    check_adjacency(again)


# Laws


@given(seeds, sizes, st.sampled_from(sorted(METHODS)), st.sampled_from(WEIGHTS))
def test_symmetric_and_of_spectrum_within_1(seed, size, method, weight):
    coords, features = cloud(size, seed=seed), features_of(size, seed=seed)
    coords[1] = coords[0] + 0.01  # never without an edge
    features[1] = features[0]
    adj = build_adjacency(coords, features, **METHODS[method], weight=weight)
    check_adjacency(adj)
    table = adj.to_dense().double().numpy()
    np.testing.assert_array_equal(table, table.T)
    spectrum = np.linalg.eigvalsh(table)
    assert spectrum.min() >= -1 - 1e-6
    assert spectrum.max() == pytest.approx(1.0, abs=1e-6)


@given(seeds, sizes, st.sampled_from(sorted(METHODS)), st.sampled_from(WEIGHTS))
def test_permuting_the_instances_permutes_the_adjacency(seed, size, method, weight):
    coords, features = cloud(size, seed=seed), features_of(size, seed=seed)
    coords[1] = coords[0] + 0.01
    features[1] = features[0]
    features[1, 0] += 0.05  # not equal: ties go by the order of the instances
    order = torch.from_numpy(np.random.default_rng(seed).permutation(size))
    options = {**METHODS[method], "weight": weight}
    expected = dense(coords, features, **options)[order][:, order]
    np.testing.assert_allclose(dense(coords[order], features[order], **options), expected, 1e-5)


@given(seeds, st.sampled_from([4, 8]))
def test_permuting_the_tiles_permutes_the_grid(seed, neighbours):
    coords = holes(seed=seed, side=6)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(coords)))
    expected = raw(coords, method="grid", neighbours=neighbours)[order][:, order]
    np.testing.assert_array_equal(
        raw(coords[order], method="grid", neighbours=neighbours), expected
    )


@given(seeds, st.sampled_from(["radius", "knn", "grid"]), st.sampled_from(["binary", "gaussian"]))
def test_two_bags_far_apart_are_the_blocks_of_their_union(seed, method, weight):
    bags = [holes(seed=seed, side=8), holes(seed=seed + 1, side=9)]
    options = {"method": method, "weight": weight, "sigma": 500.0}
    if method == "knn":
        # Off the grid, where no two distances tie.
        bags = [bag + 50 * cloud(len(bag), seed=seed) for bag in bags]
        options["k"] = 3
    parts = [build_adjacency(bag, **options) for bag in bags]
    union = dense(torch.cat([bags[0], bags[1] + 1000 * STRIDE]), **options)
    np.testing.assert_allclose(union, block_diag(*[part.to_dense() for part in parts]), 1e-6)
    batch = collate_bags(
        [Bag(torch.zeros(len(bag), 1), adj=part) for bag, part in zip(bags, parts, strict=True)]
    )
    np.testing.assert_allclose(batch.adj.to_dense().numpy(), union, 1e-6)
    check_adjacency(batch.adj, batch.ptr)


@given(seeds, sizes, st.sampled_from(WEIGHTS))
def test_random_walk_and_symmetric_forms_are_similar(seed, size, weight):
    coords, features = cloud(size, seed=seed), features_of(size, seed=seed)
    coords[1] = coords[0] + 0.01
    features[1] = features[0]
    options = {"radius": 0.4, "weight": weight}
    degree = raw(coords, features, **options).sum(axis=1)
    root = np.sqrt(np.where(degree > 0, degree, 1.0))
    walk = dense(coords, features, **options, normalize="rw")
    np.testing.assert_allclose(walk.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        walk * root[:, None] / root, dense(coords, features, **options), rtol=1e-5
    )


# Bad input

GOOD = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
NAN = torch.tensor([[0.0, 0.0], [math.nan, 0.0], [0.0, math.inf]])
LINE = torch.arange(3.0)[:, None]
ONES = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((None, None), {}, "expected coords or features, got neither"),
        ((torch.zeros(0, 2), None), {}, "expected at least one instance, got none"),
        ((torch.zeros(3), None), {}, r"expected coords of shape \(N, d\).* got \(3,\)"),
        ((torch.zeros(3, 0), None), {}, r"expected coords of shape \(N, d\).* got \(3, 0\)"),
        ((GOOD > 0, None), {}, "real numbers.* got .* of torch.bool"),
        ((GOOD, torch.ones(2, 4)), {}, "got 3 coords and 2 features"),
        ((NAN, None), {}, "expected finite coords, got 2 of 3 instances"),
        ((ONES, None), {}, r"expected coords that differ, got 3 instances all at \(1.0, 1.0\)"),
        ((GOOD, None), {"method": "delaunay"}, "expected method.*radius.*got 'delaunay'"),
        ((GOOD, None), {"weight": "heat"}, "expected weight.*gaussian.*got 'heat'"),
        ((GOOD, None), {"normalize": "symm"}, "expected a normalisation.*got 'symm'"),
        ((None, ONES), {"method": "radius"}, "expected coords for method='radius', got None"),
        ((None, ONES), {"method": "knn"}, "expected coords for method='knn', got None"),
        ((None, ONES), {"method": "grid"}, "expected coords for method='grid', got None"),
        ((GOOD, None), {"method": "feature_knn"}, "expected features for method='feature_knn'"),
        ((GOOD, None), {"weight": "cosine"}, "expected features .*weight='cosine', got None"),
        ((None, ONES), {"method": "chain", "weight": "gaussian"}, "expected coords for weight"),
        ((GOOD, None), {"radius": 0.0}, "expected a radius above 0, got 0.0"),
        ((GOOD, None), {"radius": math.nan}, "expected a radius above 0, got nan"),
        ((GOOD, None), {"weight": "gaussian", "sigma": 0.0}, "expected sigma above 0.*got 0.0"),
        ((GOOD, None), {"method": "knn", "k": 3}, "k from 1 to N - 1 = 2 .* got 3"),
        ((GOOD, None), {"method": "knn", "k": 0}, "k from 1 to N - 1 = 2 .* got 0"),
        ((None, ONES), {"method": "feature_knn", "k": 3}, "k from 1 to N - 1 = 2 .* got 3"),
        ((None, ONES), {"method": "feature_knn", "k": 0}, "k from 1 to N - 1 = 2 .* got 0"),
        ((None, NAN), {"method": "feature_knn", "k": 1}, "expected finite features, got 2 of 3"),
        ((None, ONES.int()), {"method": "feature_knn", "k": 1}, "floating point, got .*int32"),
        ((GOOD, None), {"method": "grid", "neighbours": 6}, "neighbours=4 or 8 .* got 6"),
        ((torch.eye(3), None), {"method": "grid"}, "neighbours=6 or 26 .* got 8"),
        ((LINE, None), {"method": "grid"}, "expected coords of 2 or 3 axes .* got 1"),
        ((GOOD, None), {"method": "chain"}, r"vary along one axis .* along axes \[0, 1\]"),
        ((LINE // 2, None), {"method": "chain"}, "instances 0 and 1 both at 0"),
        ((GOOD[[0, 1, 1]], None), {"method": "grid"}, r"instances 1 and 2 both at \(1.0, 0.0\)"),
        (
            (GOOD[[0, 0, 1, 1]] * 9, None),
            {"method": "knn", "k": 1, "weight": "gaussian"},
            "median distance of 0 over 2 edges: give sigma",
        ),
        (
            (LINE, torch.tensor([[1.0], [-1.0], [1.0]])),
            {"weight": "cosine"},
            "got none: the cosine weights of all 2 edges are 0",
        ),
        (
            (LINE, None),
            {"weight": "gaussian", "sigma": 1e-3},
            "got none: the gaussian weights of all 2 edges are 0",
        ),
    ],
)
def test_bad_input_is_named(args, options, message):
    with pytest.raises(ValueError, match=message):
        build_adjacency(*args, **options)


def test_no_edge_names_the_radius_and_the_stride():
    message = "within radius 1.5 of each other, and the stride found in the coords is 448"
    with pytest.raises(ValueError, match=message):
        build_adjacency(holes(), radius=1.5)
    with pytest.raises(ValueError, match=r"no two of 2 tiles adjoin at the stride .* 448: use"):
        build_adjacency(torch.tensor([[0, 0], [448, 896]]), method="grid")


def test_pieces_tiled_from_corners_of_their_own_are_no_grid_but_have_a_radius():
    one = holes(side=5)
    other = holes(side=5, seed=1) + torch.tensor([10 * STRIDE + 100, 37])
    coords = torch.cat([one, other])
    with pytest.raises(ValueError, match="grid of the stride found in them, 448, got instance"):
        build_adjacency(coords, method="grid")
    expected = block_diag(raw(one, method="grid"), raw(other, method="grid"))
    np.testing.assert_array_equal(raw(coords), expected)


def test_a_radius_that_links_nearly_everything_names_count_and_bound():
    coords = holes(side=20, keep=1.0)
    message = (
        "at most 128 neighbours an instance, 51200 in all, got 159600 within radius 1e\\+06 of 400 "
        r"instances \(the stride found in the coords is 448\)"
    )
    with pytest.raises(ValueError, match=message):
        build_adjacency(coords, radius=1e6)


def test_the_bound_counts_neighbours_and_not_an_estimate_of_them():
    # 19 x 19 tiles, 360 neighbours each at most; within 5 strides there are 80.
    coords = holes(side=19, keep=1.0)
    adj = build_adjacency(coords, radius=5.0 * STRIDE, normalize=None)
    assert 50 < len(adj.values()) / len(coords) <= 80
    small = cloud(129)
    assert raw(small, radius=10.0).sum() == 129 * 128  # all linked, and few


def test_coords_without_structure_do_not_fill_memory():
    coords = cloud(60_000)
    with pytest.raises(ValueError, match=f"got {60_000 * 59_999} within radius 5"):
        build_adjacency(coords, radius=5.0)

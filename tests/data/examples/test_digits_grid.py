import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from milforge.data import SPLITS, collate_bags, digits_bags, digits_grid
from milforge.data.examples.digits_grid import draw_tiles

SMALL = {"train": 12, "val": 6, "test": 6}
layout_of = pytest.mark.parametrize("layout", ["grid", "chain"])


def parts(splits):
    return [getattr(splits, name) for name in SPLITS]


def draw(seed=0, **options):
    defaults = {"positive": True, "layout": "grid", "mean_side": 10, "sd_side": 1, "holes": 0.2}
    defaults |= {"mean_blob": 8, "sd_blob": 2}
    return draw_tiles(np.random.default_rng(seed), **{**defaults, **options})


def components(tiles):
    """Number of the component of each tile, from the distances of all pairs."""
    return connected_components(cdist(tiles, tiles, "chebyshev") <= 1, directed=False)[1]


def canvas(tiles):
    shown = np.zeros(tiles.max(axis=0) + 1, dtype=bool)
    shown[tuple(tiles.T)] = True
    return shown


def same(first, second):
    return all(
        torch.equal(getattr(a, part), getattr(b, part))
        for a, b in zip(first, second, strict=False)
        for part in ("x", "coords", "y_inst")
    )


@given(
    seed=st.integers(0, 2**40),
    layout=st.sampled_from(["grid", "chain"]),
    mean_side=st.floats(2, 14),
    sd_side=st.floats(0, 4),
    holes=st.floats(0, 0.9),
    mean_blob=st.floats(1, 30),
    sd_blob=st.floats(0, 5),
)
def test_laws_of_the_tiles(seed, **options):
    tiles, blob = draw(seed, **options)
    assert len(tiles) == len(blob) >= 2
    assert tiles.min() >= 0
    assert list(map(tuple, tiles)) == sorted(set(map(tuple, tiles)))  # row by row, none twice
    assert 1 <= blob.sum() <= len(tiles) // 2
    if options["layout"] == "chain":
        assert not tiles[:, 0].any()
        assert np.ptp(np.flatnonzero(blob)) == blob.sum() - 1
    else:
        assert ndimage.label(canvas(tiles[blob]), structure=np.ones((3, 3)))[1] == 1
    negative, nothing = draw(seed, positive=False, **options)
    np.testing.assert_array_equal(negative, tiles)
    assert not nothing.any()


@given(
    seed=st.integers(0, 2**40),
    holes=st.floats(0, 0.9),
    mean_side=st.integers(2, 12),
    size=st.integers(1, 40),
)
def test_a_blob_is_as_large_as_told_and_as_fits(seed, holes, mean_side, size):
    options = {"holes": holes, "mean_side": mean_side, "mean_blob": size, "sd_blob": 0}
    tiles, blob = draw(seed, **options)
    numbers = components(tiles)
    sizes = np.bincount(numbers)
    assert len(set(numbers[blob])) == 1
    assert blob.sum() == min(size, len(tiles) // 2, sizes.max())
    assert sizes[numbers[blob][0]] >= blob.sum()
    chain, blob = draw(seed, layout="chain", **options)
    assert blob.sum() == min(size, len(chain) // 2)


def test_scattered_tiles_leave_a_blob_no_room():
    found = False
    for seed in range(200):
        tiles, blob = draw(seed, holes=0.85, mean_side=8, sd_side=0, mean_blob=20)
        largest = np.bincount(components(tiles)).max()
        found |= largest < len(tiles) // 2
        assert blob.sum() == min(largest, len(tiles) // 2)
    assert found  # or the bound would not have been tried


def test_a_hole_breaks_no_chain():
    options = {"layout": "chain", "mean_side": 40, "holes": 0.5, "mean_blob": 8, "sd_blob": 0}
    for seed in range(50):
        tiles, blob = draw(seed, **options)
        assert blob.sum() == min(8, len(tiles) // 2)
        assert (np.diff(np.flatnonzero(blob)) == 1).all()


def test_a_blob_starts_anywhere_and_grows_at_random():
    options = {"mean_side": 4, "sd_side": 0, "holes": 0, "sd_blob": 0}
    starts = np.sum([draw(seed, mean_blob=1, **options)[1] for seed in range(3200)], axis=0)
    assert stats.chisquare(starts).pvalue > 1e-3
    # From a corner of the square each of 3 neighbours is as likely, from within each of 8.
    pairs = [tuple(np.flatnonzero(draw(seed, mean_blob=2, **options)[1])) for seed in range(8000)]
    degree = np.array([3, 5, 5, 3, 5, 8, 8, 5, 5, 8, 8, 5, 3, 5, 5, 3])
    tiles = np.indices((4, 4)).reshape(2, -1).T
    adjoining = [(i, j) for i in range(16) for j in range(i) if abs(tiles[i] - tiles[j]).max() == 1]
    expected = [(1 / degree[i] + 1 / degree[j]) / 16 for i, j in adjoining]
    observed = [pairs.count((j, i)) for i, j in adjoining]
    assert stats.chisquare(observed, np.array(expected) * 8000).pvalue > 1e-3


@layout_of
def test_sides_and_holes_are_as_told(layout):
    bags = [draw(seed, layout=layout, holes=0, sd_side=0, mean_side=7)[0] for seed in range(3)]
    assert {len(tiles) for tiles in bags} == {7 if layout == "chain" else 49}
    full = [draw(seed, layout=layout, holes=0, mean_side=20, sd_side=3)[0] for seed in range(1000)]
    sides = np.array([tiles.max(axis=0) + 1 for tiles in full])
    for axis in (1,) if layout == "chain" else (0, 1):
        assert sides[:, axis].mean() == pytest.approx(20, abs=4 * 3 / 1000**0.5)
        assert sides[:, axis].std() == pytest.approx(3, rel=0.1)
    if layout == "grid":
        assert abs(stats.pearsonr(*sides.T).statistic) < 4 / 1000**0.5
    for holes in (0.2, 0.7):
        options = {"layout": layout, "sd_side": 0, "mean_side": 20, "holes": holes}
        left = np.array([len(draw(seed, **options)[0]) for seed in range(1000)])
        total = 20 if layout == "chain" else 400
        error = (holes * (1 - holes) / (total * 1000)) ** 0.5
        assert left.mean() / total == pytest.approx(1 - holes, abs=4 * error)


@layout_of
def test_two_tiles_are_left(layout):
    sizes = [len(draw(seed, layout=layout, mean_side=2, holes=0.9)[0]) for seed in range(200)]
    assert min(sizes) == 2


@layout_of
def test_place_and_size_tell_nothing_about_the_label(layout):
    bags = digits_grid(layout=layout, train=2000, val=1, test=1, mean_side=4, target=3).train
    for count in (len, lambda bag: int(bag.coords.amax()), lambda bag: int(bag.coords.sum())):
        numbers = np.array([count(bag) for bag in bags])
        assert stats.ks_2samp(numbers[::2], numbers[1::2]).pvalue > 1e-3


def test_counts_and_names():
    splits = digits_grid(train=21, val=10, test=5)
    assert [len(part) for part in parts(splits)] == [21, 10, 5]
    assert [part.labels.tolist() for part in parts(splits)] == [
        [0, 1] * 10 + [0],
        [0, 1] * 5,
        [0, 1, 0, 1, 0],
    ]
    assert splits.class_names == ("no 9", "9")
    assert digits_grid(target=3, **SMALL).class_names == ("no 3", "3")
    assert [part[0].bag_id for part in parts(splits)] == ["train_0000", "val_0000", "test_0000"]


@layout_of
def test_bags(layout):
    splits = digits_grid(layout=layout, mean_side=9, **SMALL)
    for part, name in zip(parts(splits), SPLITS, strict=True):
        assert part.labels.dtype == torch.int64
        for i, bag in enumerate(part):
            assert bag.x.shape == (len(bag), 1, 8, 8)
            assert bag.x.dtype == torch.float32
            assert bag.coords.dtype == bag.y_inst.dtype == torch.int64
            assert bag.adj is None
            assert type(bag.y) is int
            assert bag.y == int(bag.y_inst.max()) == int(part.labels[i])
            assert set(bag.y_inst.tolist()) == ({0, 1} if bag.y else {0})
            assert bag.bag_id == f"{name}_{i:04d}"
            columns, rows = bag.coords.T.numpy()
            assert (bag.coords % 8 == 0).all()
            assert (np.diff(rows * 1000 + columns) > 0).all()  # row by row, none twice
            if layout == "chain":
                assert not rows.any()
            elif bag.y:
                blob = bag.coords[bag.y_inst == 1].numpy() // 8
                assert components(blob).max() == 0


def test_a_wide_canvas_is_wide_in_x():
    splits = digits_grid(layout="chain", mean_side=30, sd_side=0, holes=0, **SMALL)
    assert splits.train[1].coords.tolist() == [[8 * column, 0] for column in range(30)]


@pytest.mark.parametrize("target", [0, 4, 9])
def test_images_are_of_their_pool_and_their_class(target):
    digits = load_digits()
    number_of = {
        (image / 16).astype(np.float32).tobytes(): number
        for number, image in enumerate(digits.images)
    }
    assert len(number_of) == 1797  # no two alike, so an image names itself
    grid = digits_grid(noise=0, target=target, train=60, val=60, test=60)
    plain = {"mean_size": 300, "sd_size": 0, "sampling": "plain"}
    pools = digits_bags(train=20, val=20, test=20, **plain)
    numbers = []
    for part in parts(grid):
        numbers.append(set())
        for bag in part:
            shown = [number_of[image.numpy().tobytes()] for image in bag.x]
            assert bag.y_inst.tolist() == (digits.target[shown] == target).astype(int).tolist()
            numbers[-1] |= set(shown)
    # All the images are drawn, and they are those that the plain bags of the same part draw.
    for found, part, size in zip(numbers, parts(pools), (1077, 360, 360), strict=True):
        assert len(found) > 0.8 * size
        pool = {number_of[image.numpy().tobytes()] for bag in part for image in bag.x}
        assert len(pool) > 0.99 * size
        assert len(found - pool) <= size - len(pool)
    assert all(not a & b for a, b in pairwise([*numbers, numbers[0]]))


def test_noise_is_added_and_fixed():
    clean, noisy = (digits_grid(noise=noise, seed=1, **SMALL) for noise in (0, 0.7))
    for part, other in zip(parts(clean), parts(noisy), strict=True):
        noise = torch.cat([b.x - a.x for a, b in zip(part, other, strict=True)]).double()
        assert stats.kstest(noise.flatten() / 0.7, "norm").pvalue > 1e-3
        assert noise.std() == pytest.approx(0.7, rel=0.02)
        # Each tile has noise of its own.
        assert len(np.unique(noise[:, 0, 0, 0])) == len(noise)
        assert other[0].x.min() < 0
        assert other[0].x.max() > 1
        assert all(torch.equal(other[i].x, other[i].x) for i in range(len(other)))
        assert all(torch.equal(a.coords, b.coords) for a, b in zip(part, other, strict=True))


@given(
    seed=st.integers(0, 2**30),
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=2, unique=True),
    layout=st.sampled_from(["grid", "chain"]),
)
def test_a_longer_part_begins_with_the_shorter_one(seed, counts, layout):
    short, long = (
        digits_grid(layout=layout, train=n, val=n, test=n, mean_side=4, seed=seed)
        for n in sorted(counts)
    )
    for first, second in zip(parts(short), parts(long), strict=True):
        assert same(first, second)
        assert first.labels.tolist() == second.labels[: len(first)].tolist()


@layout_of
def test_seed_decides_and_parts_differ(layout):
    first, again, other = (digits_grid(layout=layout, seed=seed, **SMALL) for seed in (5, 5, 6))
    for part, copy, different in zip(*map(parts, (first, again, other)), strict=True):
        assert same(part, copy)
        assert not same(part, different)
    sizes = [
        [len(bag) for bag in part]
        for seed in (0, 1, 2)
        for part in parts(digits_grid(train=30, val=30, test=30, seed=seed))
    ]
    assert all(a != b for a, b in pairwise(sorted(sizes)))


def test_bags_of_one_batch():
    bags = digits_grid(**SMALL).train
    batch = collate_bags([bags[1], bags[2]])
    assert batch.y.tolist() == [1, 0]
    assert batch.coords.shape == (batch.num_instances, 2)
    assert batch.y_inst.sum() == bags[1].y_inst.sum()


def test_numbers_of_bags():
    bags = digits_grid(**SMALL).val
    assert bags[-1].bag_id == "val_0005"
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"val: .*below 6, got {index}"):
            bags[index]


def test_a_copy_in_a_worker_gives_the_same_bags():
    bags = digits_grid(**SMALL).train
    assert same(bags, pickle.loads(pickle.dumps(bags)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "ring"}, r"layout to be one of \('grid', 'chain'\), got 'ring'"),
        ({"train": 0}, "train of at least 1, got 0"),
        ({"val": -1}, "val of at least 1, got -1"),
        ({"test": 0}, "test of at least 1, got 0"),
        ({"test": 10**9}, "test as a whole number of at most 1,000,000, got 1000000000"),
        ({"mean_side": 1.9}, "mean_side of at least 2, got 1.9"),
        ({"mean_side": float("inf")}, "mean_side of at least 2, got inf"),
        ({"sd_side": -1}, "sd_side of at least 0, got -1"),
        ({"holes": -0.1}, "holes to be a share from 0 to 0.9, got -0.1"),
        ({"holes": 0.91}, "holes to be a share from 0 to 0.9, got 0.91"),
        ({"holes": float("nan")}, "holes .*got nan"),
        ({"mean_blob": 0.5}, "mean_blob of at least 1, got 0.5"),
        ({"sd_blob": -2}, "sd_blob of at least 0, got -2"),
        ({"noise": -0.5}, "noise of at least 0, got -0.5"),
        ({"noise": float("nan")}, "noise of at least 0, got nan"),
        ({"target": 10}, "target to be a digit from 0 to 9, got 10"),
        ({"target": [3, 9]}, r"target to be a digit from 0 to 9, got \[3, 9\]"),
        ({"seed": -1}, "seed of at least 0, got -1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        digits_grid(**options)

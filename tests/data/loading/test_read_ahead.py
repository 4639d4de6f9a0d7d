"""Batches that threads read in place are those that are collated of the bags."""

import gc
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from milforge.data import (
    Bag,
    BagError,
    BagList,
    FeatureBags,
    GraphBags,
    LabelledBags,
    TrainBatches,
    WrappedDataset,
    collate_bags,
    differs_by_epoch,
    open_reader,
)
from milforge.data.dataset import reads_into
from milforge.data.features.readers.arrays import places
from milforge.data.loading.read_ahead import ReadAhead
from milforge.data.loading.tables import Tables
from milforge.graph import AdjacencyBuilder

SIZES = (40, 3, 900, 17, 250, 1, 64, 300)


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr(places, "_SETTLED_AFTER", -1.0)


@pytest.fixture
def folder(tmp_path):
    """Bags written in several ways: chunks of rows, in one piece, compressed."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        x = rng.standard_normal((size, 12)).astype(np.float16)
        ways = ({"chunks": (1, 12), "maxshape": (None, 12)}, {}, {"compression": "gzip"})
        with h5py.File(tmp_path / f"bag_{number}.h5", "w") as file:
            file.create_dataset("features", data=x, **ways[number % 3])
            file["coords"] = np.stack(np.divmod(np.arange(size), 20), axis=1) * 256
            file["inst_label"] = rng.integers(-1, 2, size)
    return tmp_path


def bags_of(folder, **options):
    bags = FeatureBags(open_reader(folder), **options)
    return LabelledBags(bags, np.arange(len(bags)), torch.arange(len(bags)))


def read(bags, batches, threads=2, tables=None, **options):
    empty = collate_bags([bags[0]]).without_bags()
    return ReadAhead(bags, empty, tables or Tables(), threads=threads, **options)(batches)


def assert_same(one, other):
    assert one.bag_id == other.bag_id
    parts = [(b.x, b.ptr, b.y, b.y_inst, b.coords) for b in (one, other)]
    for part, same in zip(*parts, strict=True):
        assert (part is None) == (same is None)
        assert part is None or (part.dtype == same.dtype and torch.equal(part, same))
    assert (one.adj is None) == (other.adj is None)
    if one.adj is not None:
        assert torch.equal(one.adj.to_dense(), other.adj.to_dense())


GRAPHS = [None, AdjacencyBuilder("grid"), AdjacencyBuilder("feature_knn", k=1)]
BATCHES = [[0, 1, 2], [], [3], [4, 5, 6, 7], [2, 2], [7, 0], [5]]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(
    "graph", [None, AdjacencyBuilder("grid"), AdjacencyBuilder("feature_knn", k=1)]
)
def test_batches_are_those_that_are_collated(folder, threads, graph):
    bags = bags_of(folder)
    if graph is not None:
        bags = GraphBags(bags, graph)
        bags.prepare()
    assert reads_into(bags)
    for coords in (True, False):
        for _ in range(2):
            found = list(read(bags, BATCHES, threads, coords=coords))
            for batch, numbers in zip(found, BATCHES, strict=True):
                if not numbers:
                    assert (len(batch), batch.x.shape, batch.x.dtype) == (
                        0,
                        (0, 12),
                        torch.float16,
                    )
                    continue
                wanted = collate_bags([bags[number] for number in numbers])
                assert_same(batch, wanted if coords else replace(wanted, coords=None))


def test_batches_of_an_evaluation(folder):
    bags = bags_of(folder)
    with torch.inference_mode():
        for _ in range(2):
            for batch, numbers in zip(read(bags, BATCHES), BATCHES, strict=True):
                if numbers:
                    assert_same(batch, collate_bags([bags[number] for number in numbers]))


def test_several_streams_of_a_bag(tmp_path):
    rng = np.random.default_rng(0)
    for stream, width in (("a", 3), ("b", 5)):
        (tmp_path / stream).mkdir()
        for number in range(4):
            x = rng.standard_normal((10 + number, width)).astype(np.float32)
            np.save(tmp_path / stream / f"{number}.npy", x)
    bags = LabelledBags(FeatureBags(open_reader(tmp_path, streams=["b", "a"])), [0, 1, 2, 3])
    for batch, numbers in zip(read(bags, [[2, 0], [1, 3]]), [[2, 0], [1, 3]], strict=True):
        wanted = collate_bags([bags[number] for number in numbers])
        assert list(batch.x) == list(wanted.x)
        for name in wanted.x:
            assert torch.equal(batch.x[name], wanted.x[name])


def test_instances_are_drawn_by_epoch(folder):
    bags = bags_of(folder, max_instances_per_bag=30)
    assert differs_by_epoch(bags)
    for epoch in (0, 1):
        bags.set_epoch(epoch)
        for batch, numbers in zip(read(bags, BATCHES), BATCHES, strict=True):
            if numbers:
                assert_same(batch, collate_bags([bags[number] for number in numbers]))


def test_a_bag_that_does_not_fit_any_longer_is_read_as_it_is(folder):
    bags = bags_of(folder)
    assert bags.sizes.tolist() == list(SIZES)
    np.save(folder / "more.npy", np.ones((55, 12), np.float16))
    with h5py.File(folder / "bag_1.h5", "w") as file:
        file["features"] = np.ones((55, 12), np.float16)
        file["coords"] = np.zeros((55, 2))
        file["inst_label"] = np.zeros(55, np.int64)
    (batch,) = read(bags, [[0, 1, 2]])
    assert batch.ptr.tolist() == [0, 40, 95, 995]
    assert_same(batch, collate_bags([bags[number] for number in (0, 1, 2)]))


def test_an_error_is_raised_for_its_batch_and_names_the_file(folder):
    bags = bags_of(folder)
    assert len(bags.sizes)
    for number in (4, 6):
        with h5py.File(folder / f"bag_{number}.h5", "r+") as file:
            x = file["features"][()]
            x[5, 1] = np.nan
            file["features"][...] = x
    batches = read(bags, [[0], [1], [3, 6, 4], [2]])
    assert next(batches).bag_id == ["bag_0"]
    assert next(batches).bag_id == ["bag_1"]
    with pytest.raises(BagError, match=r"bag_6\.h5: expected finite features, got nan in row 5"):
        next(batches)


def test_a_bag_is_checked_again_when_its_file_has_changed(folder):
    bags = bags_of(folder)
    for _ in range(2):
        assert next(read(bags, [[1]])).bag_id == ["bag_1"]
    with h5py.File(folder / "bag_1.h5", "r+") as file:
        file["features"][2, 0] = np.inf
    for _ in range(2):
        with pytest.raises(BagError, match=r"bag_1\.h5: expected finite features, got inf in row"):
            next(read(bags, [[1]]))


def test_memory_is_that_of_a_few_batches(tmp_path):
    for number in range(30):
        np.save(tmp_path / f"{number}.npy", np.full((3000 + 20 * number, 200), number, np.float32))
    bags = bags_of(tmp_path)
    tables = Tables()
    gc.disable()  # what is given back must not wait for it
    try:
        for _ in range(3):
            for batch in read(bags, [[number] for number in range(30)], 3, tables):
                assert (batch.x == int(batch.bag_id[0])).all()
    finally:
        gc.enable()
    assert tables.nbytes <= 5 * 3000 * 800 * 1.4
    kept = list(read(bags, [[number] for number in range(10)], 3, tables))
    for batch in kept:  # nothing is written over
        assert (batch.x == int(batch.bag_id[0])).all()


def test_nothing_is_read_before_it_is_asked_for_nor_after_the_end(folder):
    asked = []

    def batches():
        for number in range(8):
            asked.append(number)
            yield [number]

    found = read(bags_of(folder), batches())
    assert asked == []
    next(found)
    assert asked == [0, 1, 2]
    found.close()
    assert asked == [0, 1, 2]


def test_the_batches_of_a_sampler(folder):
    bags = bags_of(folder)
    batches = TrainBatches(len(bags), 3, 0, sizes=bags.sizes, max_instances=1000)
    for epoch in range(2):
        batches.set_epoch(epoch)
        named = [[f"bag_{number}" for number in numbers] for numbers in batches]
        assert [batch.bag_id for batch in read(bags, batches)] == named


def test_bags_that_change_by_a_class_of_ones_own_are_left_to_it(folder):
    class Doubled(WrappedDataset[Bag]):
        def __getitem__(self, index):
            bag = super().__getitem__(index)
            return replace(bag, x=bag.x * 2)

    class Drawn(FeatureBags):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), coords=None)

    plain = bags_of(folder)
    assert reads_into(plain)
    assert reads_into(GraphBags(plain, AdjacencyBuilder("grid")))
    drawn = Drawn(open_reader(folder))
    for bags in (Doubled(plain), GraphBags(Doubled(plain), None), drawn, LabelledBags(drawn, [0])):
        assert not reads_into(bags)
    assert not reads_into(BagList([Bag(torch.zeros(2, 1))]))


def test_threads_are_at_least_one(folder):
    with pytest.raises(ValueError, match=r"^expected loader\.threads of at least 1, got 0$"):
        read(bags_of(folder), [], threads=0)

import os
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bag_folders import features, grid, plain_folder, truncate, write_h5, write_npy
from milforge.data import LabelledBags, collate_bags
from milforge.data.faults import BagError
from milforge.data.features.check_finite import check_finite
from milforge.data.features.feature_bags import FeatureBags
from milforge.data.features.readers import open_reader

SIZES = [30, 12, 25, 7]


@pytest.fixture
def folder(tmp_path):
    return plain_folder(tmp_path, SIZES)


def test_bags_of_a_reader(folder):
    """Labels are not its business: they come from a table."""
    assert len(FeatureBags(open_reader(folder))) == 4
    bags = FeatureBags(open_reader(folder), ["b2", "b0"])
    assert len(bags) == 2
    assert bags.sizes.tolist() == [25, 30]
    assert bags.sizes.dtype == np.int64
    assert bags.labels is None
    assert [(bag.bag_id, bag.y, len(bag)) for bag in bags] == [("b2", None, 25), ("b0", None, 30)]
    np.testing.assert_array_equal(bags[0].x.numpy(), features(25, seed=2), strict=True)
    assert bags[-1].bag_id == "b0"
    with pytest.raises(IndexError, match="below 2, got 2"):
        bags[2]


def test_wrong_numbers_of_things(folder):
    reader = open_reader(folder)
    with pytest.raises(ValueError, match="expected 1 sizes, one per bag, got 2"):
        FeatureBags(reader, ["b0"], sizes=np.array([3, 4]))
    with pytest.raises(ValueError, match=r"data\.max_instances_per_bag of at least 1 .*got 0"):
        FeatureBags(reader, max_instances_per_bag=0)


def test_drawn_instances(folder):
    reader = open_reader(folder)
    bags = FeatureBags(reader, max_instances_per_bag=10, seed=1)
    assert bags.sizes.tolist() == [10, 10, 10, 7]
    full, first = reader.read("b0"), bags[0]
    # Each drawn row is found in the bag, coords alongside, in ascending order.
    matches = (full.x[None] == first.x[:, None]).all(dim=2)
    assert matches.sum(dim=1).tolist() == [1] * 10
    rows = matches.int().argmax(dim=1)
    assert rows.diff().min() > 0
    assert torch.equal(full.coords[rows], first.coords)
    assert len(bags[3]) == 7
    # By seed, epoch and name alone: not by the order, the number of bags or who asks.
    again = FeatureBags(reader, ["b3", "b0"], sizes=np.array([7, 30]), max_instances_per_bag=10)
    again.seed = 1
    assert torch.equal(again[1].x, first.x)
    others = [FeatureBags(reader, max_instances_per_bag=10, seed=2)[0]]
    bags.set_epoch(1)
    others += [bags[0]]
    for other in others:
        assert not torch.equal(other.x, first.x)
    bags.set_epoch(0)
    assert torch.equal(bags[0].x, first.x)


def test_all_instances_are_drawn_alike(tmp_path):
    """Over the epochs each instance has the same chance; 5 standard deviations are allowed."""
    write_npy(tmp_path / "a.npy", np.arange(20.0, dtype=np.float32)[:, None])
    bags = FeatureBags(open_reader(tmp_path), max_instances_per_bag=5)
    counts, epochs = np.zeros(20), 400
    for epoch in range(epochs):
        bags.set_epoch(epoch)
        counts[bags[0].x[:, 0].numpy().astype(int)] += 1
    assert abs(counts - epochs / 4).max() < 5 * np.sqrt(epochs * 0.25 * 0.75)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_and_infinity_are_named_by_file_and_row(tmp_path, value, dtype):
    x = features(40, dtype=dtype)
    x[17, 3] = value
    path = write_h5(tmp_path / "a.h5", {"features": x, "coords": grid(40)})
    reader = open_reader(tmp_path)
    expected = rf"^{path}: expected finite features, got {value} in row 17 .*1 of 40 instances"
    with pytest.raises(BagError, match=expected):
        FeatureBags(reader)[0]
    bags = FeatureBags(reader, max_instances_per_bag=39)
    bags.set_epoch(2)  # of 40 rows another one is left out: the row of the file is told
    with pytest.raises(BagError, match=r"in row 17 .*1 of 39 instances"):
        bags[0]


def test_a_sum_that_overflows_is_no_infinity(tmp_path):
    """65,504 is the largest number of float16."""
    write_npy(tmp_path / "a.npy", np.full((3, 100), 60_000, np.float16))
    assert torch.isfinite(FeatureBags(open_reader(tmp_path))[0].x).all()


def test_the_stream_that_is_not_finite_is_named(tmp_path):
    for name in ("one", "two"):
        write_npy(tmp_path / name / "a.npy", features(3))
    x = features(3)
    x[[0, 2], 1] = np.nan
    write_npy(tmp_path / "two/a.npy", x)
    bags = FeatureBags(open_reader(tmp_path, streams=["one", "two"]))
    with pytest.raises(BagError, match=r"^\S*/two/a\.npy: .*nan in row 0 .*2 of 3"):
        bags[0]


def test_whole_numbers_are_finite(tmp_path):
    write_npy(tmp_path / "a.npy", np.full((2, 2), 255, np.uint8))
    reader = open_reader(tmp_path)
    check_finite(reader.read("a"), reader)


def test_a_damaged_file_is_named(folder):
    bags = FeatureBags(open_reader(folder))
    truncate(folder / "b1.h5")
    with pytest.raises(BagError, match=r"^\S*b1\.h5: .*truncated"):
        bags[1]
    with pytest.raises(BagError, match=r"^\S*b1\.h5: .*truncated"):
        _ = bags.sizes


def open_files(folder):
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return [link for link in links if os.path.exists(link) and str(folder) in os.readlink(link)]


def mapped_files(folder):
    with open("/proc/self/maps") as file:
        return [line for line in file if str(folder) in line]


def test_no_file_is_left_open(folder):
    write_npy(folder / "c.npy", features(9))
    torch.save(torch.from_numpy(features(9)), folder / "d.pt")
    torch.save(torch.zeros(2, 2), folder / "e.pt", _use_new_zipfile_serialization=False)
    (folder / "f.h5").write_bytes(b"damaged")
    bags = FeatureBags(open_reader(folder), max_instances_per_bag=5)
    kept = []
    for index in range(len(bags)):
        try:
            kept.append(bags[index])
        except BagError:
            assert bags.ids[index] == "f"
        kept.append(bags.reader.read("b0"))
    assert len(kept) == 2 * len(bags) - 1
    assert open_files(folder) == []
    assert mapped_files(folder) == []


def loader(bags, how, workers):
    return DataLoader(
        bags,
        num_workers=workers,
        multiprocessing_context=how,
        persistent_workers=True,
        batch_size=2,
        collate_fn=collate_bags,
    )


@pytest.mark.parametrize("how", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_see_what_one_process_sees(folder, how):
    bags = FeatureBags(open_reader(folder), max_instances_per_bag=10)
    bags = LabelledBags(bags, range(4), torch.tensor([0, 1, 1, 0]))
    _ = bags.sizes  # HDF5 was used in this process before it forks
    batches = loader(bags, how, workers=2 if how == "fork" else 1)
    for epoch in range(2):  # the workers live on, and hear of the next epoch
        bags.set_epoch(epoch)
        expected = [collate_bags([bags[i], bags[i + 1]]) for i in (0, 2)]
        for got, alone in zip(batches, expected, strict=True):
            assert got.x.dtype == torch.float16
            assert torch.equal(got.x, alone.x)
            assert torch.equal(got.coords, alone.coords)
            assert (got.bag_id, got.y.tolist()) == (alone.bag_id, alone.y.tolist())


def test_an_error_in_a_worker_names_the_file(folder):
    bags = FeatureBags(open_reader(folder))
    truncate(folder / "b3.h5")
    with pytest.raises(BagError, match=r"b3\.h5: .*truncated"):
        list(loader(bags, "fork", workers=1))


def test_pickled(folder):
    bags = FeatureBags(open_reader(folder), max_instances_per_bag=3)
    again = pickle.loads(pickle.dumps(bags))
    assert torch.equal(again[0].x, bags[0].x)


def test_an_outline_reads_no_features(folder, monkeypatch):
    bags = FeatureBags(open_reader(folder))
    monkeypatch.setattr(type(bags.reader), "read", None)
    outline = bags.outline(-1)
    assert outline.bag_id == "b3"
    assert outline.x.shape == (7, 0)
    np.testing.assert_array_equal(outline.coords.numpy(), grid(7))
    write_npy(folder / "c.npy", features(9))
    outline = FeatureBags(open_reader(folder), ["c"]).outline(0)
    assert (len(outline), outline.coords) == (9, None)
    outline = FeatureBags(open_reader(folder), ["c"], max_instances_per_bag=4).outline(0)
    assert (len(outline), outline.coords) == (4, None)
    coords = grid(5).astype(np.float32)
    coords[4, 1] = np.nan
    write_h5(folder / "d.h5", {"features": features(5), "coords": coords})
    with pytest.raises(BagError, match=r"d\.h5: expected finite coords, got nan in row 4"):
        FeatureBags(open_reader(folder), ["d"]).outline(0)
    with pytest.raises(IndexError, match="below 4, got 4"):
        bags.outline(4)

"""One slide under several names."""

import logging

import numpy as np
import pytest
import torch

from bag_folders import features, grid, truncate, write_h5, write_labels, write_npy, write_pt
from milforge.data import feature_bags, open_reader
from milforge.data.features.inspection import inspect_folder
from milforge.data.features.same_bags import describe_same


def same(root):
    return inspect_folder(open_reader(root)).same


def test_bags_of_the_same_features_whatever_the_file(tmp_path):
    x = features(9)
    write_npy(tmp_path / "a.npy", x)
    write_pt(tmp_path / "b.pt", torch.from_numpy(x))
    write_h5(tmp_path / "c.h5", {"features": x}, compression="gzip")
    write_npy(tmp_path / "d.npy", features(9, seed=1))
    write_npy(tmp_path / "e.npy", x[:8])
    write_npy(tmp_path / "f.npy", features(1))
    write_npy(tmp_path / "g.npy", features(1))
    assert same(tmp_path) == (("a", "b", "c"), ("f", "g"))


@pytest.mark.parametrize("row", [0, 4, 8])
def test_one_value_makes_another_bag(tmp_path, row):
    x = features(9)
    write_npy(tmp_path / "a.npy", x)
    x[row, 2] += 1
    write_npy(tmp_path / "b.npy", x)
    assert same(tmp_path) == ()


def test_streams_must_all_be_the_same(tmp_path):
    for slide, seed in (("a", 0), ("b", 1), ("c", 0)):
        write_h5(tmp_path / f"features_u/{slide}.h5", {"features": features(5)})
        write_h5(tmp_path / f"features_v/{slide}.h5", {"features": features(5, 3, seed)})
    assert same(tmp_path) == (("a", "c"),)


def test_damaged_bags_are_passed_over(tmp_path):
    for name in "abc":
        write_h5(tmp_path / f"{name}.h5", {"features": features(5), "coords": grid(5)})
    truncate(tmp_path / "b.h5")
    assert same(tmp_path) == (("a", "c"),)


def test_they_are_named_before_training_and_not_copied_to_a_cache(tmp_path, caplog):
    for name in ("a", "b"):
        write_npy(tmp_path / f"bags/{name}.npy", features(5))
    write_npy(tmp_path / "bags/c.npy", features(6))
    labels = write_labels(tmp_path / "l.csv", {"a": 0, "b": 1, "c": 1})
    cache = tmp_path / "cache"
    with caplog.at_level(logging.WARNING):
        feature_bags(str(tmp_path / "bags"), str(labels), cache=str(cache))
    assert caplog.text.count("bags of the same features: a = b; of one slide keep one") == 1
    assert list(cache.iterdir()) == []


def test_the_first_groups_are_named():
    groups = tuple((f"a{n}", f"b{n}") for n in range(7))
    assert describe_same(groups).endswith("a4 = b4; and 2 more")


def test_a_table_too(tmp_path):
    rows = [(bag, *x) for bag in "ab" for x in np.arange(6).reshape(3, 2) ** 2]
    path = write_labels(tmp_path / "t.csv", [*rows, ("c", 0, 1)], "bag_id,f0,f1")
    assert same(path) == (("a", "b"),)

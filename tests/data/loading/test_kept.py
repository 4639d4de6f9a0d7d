"""Bags that are kept give the batches that are read, and are read once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from milforge.data import (
    BagError,
    FeatureBags,
    LabelledBags,
    PatientBags,
    collate_bags,
    open_reader,
)
from milforge.data.loading import kept as module
from milforge.data.loading.kept import KeptBags, check_room
from milforge.data.loading.tables import Tables

SIZES = (5, 1, 700, 12, 90)
BATCHES = [[2, 0], [], [1], [4, 3, 2], [4, 4]]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        np.save(tmp_path / f"{number}.npy", rng.standard_normal((size, 6)).astype(np.float16))
    return tmp_path


def bags_of(folder, **options):
    bags = FeatureBags(open_reader(folder), **options)
    return LabelledBags(bags, np.arange(len(bags)), torch.arange(len(bags)))


def kept(bags, device="cpu", **options):
    empty = collate_bags([bags[0]]).without_bags()
    return KeptBags(bags, empty, Tables(), device=torch.device(device), threads=2, **options)


def test_batches_are_those_that_are_collated_in_every_epoch(folder, monkeypatch):
    bags = bags_of(folder)
    wanted = [collate_bags([bags[number] for number in numbers or [0]]) for numbers in BATCHES]
    keep, read = kept(bags), []
    read_into = FeatureBags.read_into
    monkeypatch.setattr(
        FeatureBags, "read_into", lambda *a, **k: read.append(a[1]) or read_into(*a, **k)
    )
    for mode in (True, False):  # what an evaluation has read can be trained on
        with torch.inference_mode(mode):
            for batch, other, numbers in zip(keep(BATCHES), wanted, BATCHES, strict=True):
                if not numbers:
                    assert (len(batch), batch.x.shape) == (0, (0, 6))
                    continue
                assert batch.bag_id == other.bag_id
                assert batch.x.dtype == torch.float16
                for part in ("x", "ptr", "y"):
                    assert torch.equal(getattr(batch, part), getattr(other, part))
    assert sorted(read) == [0, 1, 2, 3, 4]


def test_several_streams(tmp_path):
    for stream, width in (("a", 3), ("b", 5)):
        (tmp_path / stream).mkdir()
        for number in range(3):
            x = np.full((2 + number, width), number, np.float32)
            np.save(tmp_path / stream / f"{number}.npy", x)
    bags = FeatureBags(open_reader(tmp_path, streams=["b", "a"]))
    (batch,) = kept(bags)([[2, 0]])
    wanted = collate_bags([bags[2], bags[0]])
    assert list(batch.x) == ["b", "a"]
    assert all(torch.equal(batch.x[name], wanted.x[name]) for name in batch.x)


def test_patients_are_kept_as_they_are_read(folder):
    patients = PatientBags(bags_of(folder).bags, [[3, 0], [2, 1, 4]], ["p", "q"])
    for batch, number in zip(kept(patients)([[1], [0]]), (1, 0), strict=True):
        assert torch.equal(batch.x, patients[number].x)
        assert torch.equal(batch.slide, patients[number].slide)


def test_instances_are_on_the_device(folder):
    (batch,) = kept(bags_of(folder), "meta")([[2, 0]])
    assert (batch.x.device.type, batch.x.shape) == ("meta", (705, 6))
    assert batch.y.tolist() == [2, 0]


def test_what_does_not_fit_is_refused_with_the_numbers(folder, monkeypatch):
    empty = collate_bags([bags_of(folder)[0]]).without_bags()
    monkeypatch.setattr(module, "free_memory", lambda device: 3_000_000_000)
    check_room(250_000_000, empty, torch.device("cpu"))
    with pytest.raises(
        ValueError, match=r"loader\.keep: expected room for 3\.6 GB, the 300,000,000 .* got 3\.0 GB"
    ):
        check_room(300_000_000, empty, torch.device("cpu"))
    both = replace(empty, x={"a": empty.x, "b": empty.x})
    with pytest.raises(ValueError, match=r"expected room for 6\.0 GB"):
        check_room(250_000_000, both, torch.device("cpu"))


def test_the_memory_that_is_free():
    assert module.free_memory(torch.device("cpu")) > 1_000_000


def test_bags_that_differ_between_epochs_are_not_kept(folder):
    with pytest.raises(ValueError, match=r"loader\.keep: .*data\.max_instances_per_bag"):
        kept(bags_of(folder, max_instances_per_bag=3))


def test_bags_that_cannot_be_kept_are_named(folder):
    bags = bags_of(folder)
    assert bags.sizes.tolist() == list(SIZES)
    np.save(folder / "3.npy", np.ones((13, 6), np.float16))
    with pytest.raises(ValueError, match="bag '3': expected as many instances as before"):
        next(kept(bags)([[0]]))
    np.save(folder / "3.npy", np.ones((12, 5), np.float16))
    with pytest.raises(ValueError, match="bag '3': expected x of shape"):
        next(kept(bags)([[0]]))
    np.save(folder / "3.npy", np.full((12, 6), np.nan, np.float16))
    with pytest.raises(BagError, match=r"3\.npy: expected finite"):
        next(kept(bags)([[0]]))

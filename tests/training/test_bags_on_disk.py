"""Bags on disk through the DataModule and the real Trainer."""

import logging
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from bag_folders import features, labelled_bags, write_h5, write_labels
from milforge.data import (
    BagError,
    KFold,
    Loader,
    SplitFiles,
    feature_bags,
    read_splits,
    write_split,
)
from milforge.data.loading.kept import KeptBags
from milforge.data.loading.read_ahead import ReadAhead
from milforge.graph import AdjacencyBuilder
from milforge.training import MILDataModule


def make(folder, *, fold=0, val_share=0.2, split=None, graph=None, seed=0, loader=None, **options):
    options = {"labels": str(folder / "labels.csv"), **options}
    return MILDataModule(
        partial(feature_bags, str(folder / "bags"), seed=seed, **options),
        split=split or KFold(fold, folds=3, val_share=val_share),
        graph=graph,
        loader=Loader(**(loader or {})),
        seed=seed,
    )


def ids(part):
    return [part[i].bag_id for i in range(len(part))]


def reader(part):
    return part.bags.reader


def lightning_warns(test):
    """Of what the commands pass over too."""
    for message in ("many workers", "requested to overfit", "treespec, LeafSpec"):
        test = pytest.mark.filterwarnings(f"ignore:.*{message}")(test)
    return test


class Listener(L.LightningModule):
    """Keeps what it is given to train on: by epoch and bag the rows, as hashes."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen = []

    def training_step(self, batch, batch_idx):
        x = batch.x if isinstance(batch.x, torch.Tensor) else next(iter(batch.x.values()))
        for bag_id, rows in zip(batch.bag_id, x.split(batch.ptr.diff().tolist()), strict=True):
            key = (self.current_epoch, bag_id)
            self.seen.append((key, tuple(rows[:, 1].tolist())))
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch, batch_idx):
        """Lightning warns where there are bags and nothing is done with them."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def listen(data, epochs=3, save=None, resume=None, **options):
    module = Listener()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        **options,
    )
    trainer.fit(module, data, ckpt_path=resume)
    if save is not None:
        trainer.save_checkpoint(save)
    assert len(dict(module.seen)) == len(module.seen)
    return dict(module.seen)


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


@lightning_warns
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_each_epoch_draws_other_instances_and_workers_hear_of_it(tmp_path):
    labelled_bags(tmp_path / "bags")
    options = {"max_instances_per_bag": 3, "seed": 4, "loader": {"batch_size": 2}}
    seen = listen(make(tmp_path, **options))
    train = {bag_id for _, bag_id in seen}
    assert len(seen) == 3 * len(train)
    assert {len(rows) for rows in seen.values()} == {3}
    for epoch in (1, 2):  # of 5 to 8 instances three alike may be drawn twice, not by all bags
        assert any(seen[epoch, bag] != seen[0, bag] for bag in train)
    assert any(seen[1, bag] != seen[2, bag] for bag in train)
    # Seed, epoch and bag decide: not the worker, the batch, nor what else is trained on.
    for loader in ({"batch_size": 2, "num_workers": 2}, {"batch_size": 3}):
        assert listen(make(tmp_path, **{**options, "loader": loader})) == seen
    other = listen(make(tmp_path, fold=1, val_share=0, **options))
    shared = seen.keys() & other.keys()
    assert shared
    assert all(seen[key] == other[key] for key in shared)
    assert listen(make(tmp_path, **{**options, "seed": 5})) != seen


@pytest.mark.nightly
def test_spawned_workers_read_the_same(tmp_path):
    labelled_bags(tmp_path / "bags")
    options = {"max_instances_per_bag": 3, "cache": str(tmp_path / "cache")}
    loaders = [
        make(tmp_path, **options, loader={"batch_size": 2, "num_workers": n}).train_dataloader()
        for n in (0, 1)
    ]
    loaders[1].multiprocessing_context = "spawn"
    for epoch in (1, 2):  # the worker lives on
        for loader in loaders:
            loader.batch_sampler.set_epoch(epoch)
        for one, other in zip(*loaders, strict=True):
            assert one.bag_id == other.bag_id
            assert torch.equal(one.x, other.x)


@lightning_warns
def test_a_run_that_goes_on_draws_what_it_would_have_drawn(tmp_path):
    labelled_bags(tmp_path / "bags")
    options = {"max_instances_per_bag": 3, "loader": {"batch_size": 2}}
    whole = listen(make(tmp_path, **options))
    first = listen(make(tmp_path, **options), epochs=2, save=tmp_path / "last.ckpt")
    rest = listen(make(tmp_path, **options), resume=tmp_path / "last.ckpt")
    assert {epoch for epoch, _ in rest} == {2}
    assert first | rest == whole


@lightning_warns
def test_bags_learnt_by_heart_are_the_same_in_every_epoch(tmp_path):
    labelled_bags(tmp_path / "bags")
    seen = listen(make(tmp_path, max_instances_per_bag=3), overfit_batches=2)
    for (epoch, bag), rows in seen.items():
        assert rows == seen[0, bag], epoch


def test_only_training_bags_give_fewer_instances(tmp_path):
    labelled_bags(tmp_path / "bags")
    data = make(tmp_path, max_instances_per_bag=3)
    assert set(data.parts["train"].sizes) == {3}
    assert min(data.parts["val"].sizes) >= 5
    assert min(data.parts["test"].sizes) >= 5
    graph = AdjacencyBuilder("grid")
    with pytest.raises(ValueError, match=r"max_instances_per_bag=null, or choose graph=none"):
        _ = make(tmp_path, max_instances_per_bag=3, graph=graph).parts
    data = make(tmp_path, graph=graph)
    data.setup("fit")
    assert data.graphs["train"].edges > 0


def test_statistics_are_of_the_training_part_or_of_all(tmp_path):
    labels = labelled_bags(tmp_path / "bags")
    measured = {}
    for how in ("train", "all"):
        data = make(tmp_path)
        part = data.parts["train"]
        chosen = ids(part) if how == "train" else sorted(labels)
        measured[how] = torch.cat([reader(part).read(bag).x for bag in chosen]).double()
        module = data.standardiser(how)
        np.testing.assert_allclose(module.mean, measured[how].mean(0), rtol=1e-6)
        std = measured[how].std(0, correction=0)
        np.testing.assert_allclose(module.std[:-1], std[:-1], rtol=1e-6)
        constant = module(measured[how].half())[:, -1]
        assert constant.unique().tolist() == [0]
    assert len(measured["all"]) > len(measured["train"])
    assert make(tmp_path).standardiser(None) is None


def test_streams_have_statistics_of_their_own(tmp_path):
    labelled_bags(tmp_path / "bags", layout="trident")
    for path in (tmp_path / "bags/features_uni").iterdir():
        size = 5 + int(path.stem[1:]) % 4
        write_h5(tmp_path / f"bags/features_ctp/{path.name}", {"features": features(size, 7) + 3})
    data = make(tmp_path)
    assert data.instance_shape == {"ctp": (7,), "uni": (4,)}
    module = data.standardiser("auto")
    assert (module["ctp"].mean.shape, module["uni"].mean.shape) == ((7,), (4,))
    assert abs(module["ctp"].mean.mean() - 3) < 0.5


def test_the_splits_of_a_run_can_be_given_to_another(tmp_path):
    labelled_bags(tmp_path / "bags")
    data = make(tmp_path, fold=2)
    write_split(data.split, tmp_path / "splits.csv")
    assert read_splits(tmp_path / "splits.csv") == data.split
    again = make(tmp_path, split=SplitFiles(str(tmp_path / "splits.csv")))
    assert again.split == data.split


def test_what_the_table_tells_of_a_bag_is_known(tmp_path):
    labels = labelled_bags(tmp_path / "bags")
    rows = [(f"p{i // 2}", slide, label, 40 + i) for i, (slide, label) in enumerate(labels.items())]
    write_labels(tmp_path / "labels.csv", rows, "case_id,slide_id,label,age")
    data = make(tmp_path, covariates=["age"])
    assert data.info("test", "s03") == ("p1", {"age": "43"})
    assert data.num_covariates == 1
    assert [column["name"] for column in data.covariates] == ["age"]
    assert data.task.class_names == ("no", "yes")


def test_a_table_without_patients_is_warned_of(tmp_path, caplog):
    labels = labelled_bags(tmp_path / "bags")
    _ = make(tmp_path).parts
    assert "same patient" not in caplog.text
    write_labels(tmp_path / "labels.csv", labels)
    with caplog.at_level(logging.WARNING):
        _ = make(tmp_path).parts
    assert "no column says which bags are of the same patient" in caplog.text


def spoil(folder, bag):
    """Writes infinity into a bag."""
    x = features(9)
    x[2, 2] = np.inf
    write_h5(folder / f"bags/{bag}.h5", {"features": x, "coords": np.zeros((9, 2))})


def test_a_bag_that_cannot_be_used_is_told_when_read_or_skipped(tmp_path):
    labelled_bags(tmp_path / "bags", layout="root")
    data = make(tmp_path)
    test = ids(data.parts["test"])
    bag = test[1]
    spoil(tmp_path, bag)
    loader = iter(data.test_dataloader())
    assert next(loader).bag_id == [test[0]]
    with pytest.raises(BagError, match=rf"{bag}\.h5: expected finite features, got inf in row 2"):
        next(loader)
    skipping = make(tmp_path, on_error="skip")
    assert bag not in ids(skipping.parts["test"])
    assert skipping.skipped == [bag]
    assert skipping.description()["skipped"] == [bag]
    assert ids(skipping.parts["train"]) == ids(data.parts["train"])


@pytest.mark.parametrize("graph", [None, AdjacencyBuilder("chain")])
def test_every_bag_that_a_stage_needs_is_read_once_before_it(tmp_path, graph):
    labelled_bags(tmp_path / "bags", layout="root")
    split = make(tmp_path).split
    for bag in (split.train[0], split.val[0], split.test[1]):
        spoil(tmp_path, bag)
    data = make(tmp_path, graph=graph)
    with pytest.raises(BagError, match=r"labels\.csv: 2 faults") as caught:
        data.setup("fit")
    assert {fault.bag_id for fault in caught.value.faults} == {split.train[0], split.val[0]}
    with pytest.raises(BagError, match="1 fault\n"):
        make(tmp_path).setup("test")
    make(tmp_path, check="headers").setup("test")


def test_faults_of_files_and_of_labels_are_told_together(tmp_path, caplog):
    labels = labelled_bags(tmp_path / "bags")
    bags = list(labels)
    rows = [(f"p{i // 2}", bag, "" if i == 2 else labels[bag]) for i, bag in enumerate(bags)]
    write_labels(tmp_path / "labels.csv", rows, "case_id,slide_id,label")
    (tmp_path / f"bags/pt_files/{bags[5]}.pt").write_bytes(b"")
    with pytest.raises(BagError, match=r"labels\.csv: 2 faults") as caught:
        _ = make(tmp_path).parts
    assert {fault.bag_id for fault in caught.value.faults} == {bags[2], bags[5]}
    with caplog.at_level(logging.WARNING):
        data = make(tmp_path, on_error="skip")
        assert data.skipped == [bags[2], bags[5]]
    assert "data.on_error=skip: 2 faults" in caplog.text
    assert "going on without them" in caplog.text


def test_a_folder_without_labels_is_to_be_predicted(tmp_path):
    labels = labelled_bags(tmp_path / "bags")
    data = make(tmp_path, labels=None)
    data.setup("predict")
    assert ids(data.parts["test"]) == sorted(labels)
    assert data.parts["test"].labels is None
    with pytest.raises(ValueError, match="at least one bag in the train part, got none"):
        data.setup("fit")


def test_a_part_that_is_wholly_skipped_is_told(tmp_path):
    labelled_bags(tmp_path / "bags")
    for bag in make(tmp_path).split.test:
        (tmp_path / f"bags/pt_files/{bag}.pt").write_bytes(b"")
    data = make(tmp_path, on_error="skip")
    data.setup("fit")
    with pytest.raises(ValueError, match="at least one bag in the test part, got none"):
        data.setup("test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, r"data\.on_error to be raise or skip, got 'ignore'"),
        ({"check": "some"}, r"data\.check to be full or headers, got 'some'"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    labelled_bags(tmp_path / "bags")
    with pytest.raises(ValueError, match=message):
        _ = make(tmp_path, **options).parts


def test_threads_read_the_bags_of_files_unless_processes_do(tmp_path):
    labelled_bags(tmp_path / "bags")
    for loader, reader in (
        ({}, ReadAhead),
        ({"keep": "memory"}, KeptBags),
        ({"num_workers": 1}, None),
    ):
        data = make(tmp_path, loader={"batch_size": 2, **loader})
        for made in (data.train_dataloader(), data.val_dataloader()):
            assert (None if made.reader is None else type(made.reader)) is reader
    assert type(make(tmp_path, loader={"keep": "memory"}).test_dataloader().reader) is ReadAhead

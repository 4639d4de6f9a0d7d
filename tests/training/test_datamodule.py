"""What every DataModule of bags does."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from milforge.data import Bag, BagBatch, BagSplits, GraphCounts
from milforge.graph import AdjacencyBuilder
from milforge.training import BagDataModule, DigitsGridDataModule, ImageBagsDataModule


class Bags:
    """A `BagDataset` of given labels; bag i holds i % 3 + 1 instances of the value i."""

    def __init__(self, labels, task="binary", width=2):
        self.labels = None if labels is None else torch.tensor(labels)
        self.width = width
        self.task = task

    def __len__(self):
        return 4 if self.labels is None else len(self.labels)

    def __getitem__(self, index):
        y = None if self.labels is None else self.labels[index]
        return Bag(torch.full((index % 3 + 1, self.width), float(index)), y=y, bag_id=str(index))


class Data(BagDataModule):
    """Bags with these training labels."""

    def __init__(self, labels, task="binary", names=("no", "yes"), **options):
        super().__init__(**options)
        self.labels, self.kind, self.names = labels, task, names
        self.opened = 0

    def make_splits(self):
        self.opened += 1
        parts = {name: Bags(self.labels) for name in ("train", "val", "test")}
        return BagSplits(**parts, task=self.kind, class_names=self.names)


def on_process(data, rank, world_size, overfit_batches=0):
    """As Lightning attaches its trainer."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    progress = SimpleNamespace(batch_progress=SimpleNamespace(current=None))
    data.trainer = SimpleNamespace(
        fit_loop=SimpleNamespace(
            epoch_loop=progress,
            epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=0)),
        ),
        global_rank=rank,
        world_size=world_size,
        strategy=strategy,
        overfit_batches=overfit_batches,
    )
    return data


def ids(loader):
    return [batch.bag_id for batch in loader]


def test_bags_are_read_once_and_told_of():
    data = Data([0, 1, 1, 0], batch_size=3)
    data.setup()
    data.setup("fit")
    assert data.opened == 1
    assert data.instance_shape == (2,)
    assert data.task == "binary"
    assert data.class_names == ("no", "yes")


def test_training_batches_hold_every_bag_in_another_order_each_epoch():
    loader = Data([0, 1] * 10, batch_size=8, seed=4).train_dataloader()
    first = ids(loader)
    assert [len(batch) for batch in first] == [8, 8, 4]
    assert sorted(map(int, chain(*first))) == list(range(20))
    loader.batch_sampler.set_epoch(1)
    assert ids(loader) != first
    assert isinstance(next(iter(loader)), BagBatch)


@pytest.mark.parametrize("part", ["val", "test", "predict"])
def test_evaluation_batches_are_in_order(part):
    loader = getattr(Data([0, 1] * 3, batch_size=2, eval_batch_size=4), f"{part}_dataloader")()
    assert ids(loader) == [["0", "1", "2", "3"], ["4", "5"]]


def test_the_batch_size_of_evaluation_is_that_of_training_where_none_is_given():
    assert ids(Data([0, 1, 0], batch_size=2).val_dataloader()) == [["0", "1"], ["2"]]


def test_processes_share_the_bags():
    loaders = [on_process(Data([0, 1] * 4, batch_size=4), rank, 2) for rank in (0, 1)]
    shares = [ids(data.test_dataloader()) for data in loaders]
    assert shares == [[["0", "2"], ["4", "6"]], [["1", "3"], ["5", "7"]]]
    batches = [ids(data.train_dataloader()) for data in loaders]
    assert [[len(batch) for batch in each] for each in batches] == [[2, 2], [2, 2]]
    assert sorted(chain(*chain(*batches))) == [str(i) for i in range(8)]


def test_more_processes_than_bags_to_evaluate_are_refused():
    data = on_process(Data([0, 1, 0], batch_size=4), 0, 4)
    with pytest.raises(ValueError, match="3 bags for 4 processes; use fewer devices"):
        data.val_dataloader()


def test_the_bags_to_overfit_are_the_same_ones_every_epoch():
    data = on_process(Data([0, 1] * 10, batch_size=4), 0, 1, overfit_batches=3)
    loader = data.train_dataloader()
    assert ids(loader) == ids(loader)
    assert not hasattr(loader.batch_sampler, "set_epoch")


def test_class_weights_are_those_of_scikit_learn():
    labels = [0, 0, 0, 1, 2, 2]
    weights = Data(labels, "multiclass", ("a", "b", "c")).class_weights()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(labels))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_class_weights_of_a_multilabel_task_balance_each_label():
    labels = [[0, 1], [0, 1], [1, 1], [0, 0]]
    weights = Data(labels, "multilabel", ("a", "b")).class_weights()
    assert weights.shape == (2, 2)
    for c in range(2):
        y = np.array(labels)[:, c]
        expected = compute_class_weight("balanced", classes=np.arange(2), y=y)
        np.testing.assert_allclose(weights[c], expected, rtol=1e-6)


def test_class_weights_need_every_class():
    with pytest.raises(ValueError, match=r"\[3, 0\].*leave class_weights=null"):
        Data([0, 0, 0]).class_weights()
    with pytest.raises(ValueError, match="labelled training bags"):
        Data(None).class_weights()


def test_the_fingerprint_tells_data_apart():
    prints = [
        ImageBagsDataModule("digits", train=6, val=2, test=2, seed=seed, mean_size=size)
        for seed, size in ((0, 5), (1, 5), (0, 6))
    ]
    prints = [data.fingerprint() for data in prints]
    assert len(set(prints)) == 3
    again = ImageBagsDataModule("digits", train=6, val=2, test=2, seed=0, mean_size=5, batch_size=3)
    assert again.fingerprint() == prints[0]


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"eval_batch_size": 0}, {"num_workers": -1}]
)
def test_sizes_that_cannot_be_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=rf"data\.{name} of at least"):
        Data([0, 1], **options)


def test_an_empty_part_is_refused():
    with pytest.raises(ValueError, match="at least one bag in the train part"):
        Data([]).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "letters"}, "source to be digits or mnist"),
        ({"source": "digits", "root": "x"}, r"no data\.root for the digits"),
    ],
)
def test_sources_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImageBagsDataModule(**options)


def test_image_bags_know_their_task():
    data = ImageBagsDataModule("digits", train=4, val=2, test=2, target=[3, 9], sampling="plain")
    assert (data.task, data.class_names) == ("multilabel", ("3", "9"))
    assert data.instance_shape == (1, 8, 8)
    data = ImageBagsDataModule("digits", train=4, val=2, test=2, target=3)
    assert (data.task, data.class_names) == ("binary", ("no 3", "3"))


def test_streams_have_a_shape_each():
    data = Data([0, 1])
    bag = Bag({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3, 4)}, y=0)
    data.__dict__["splits"] = SimpleNamespace(train=[bag])
    assert data.instance_shape == {"a": (2,), "b": (3, 4)}


GRID = {"train": 6, "val": 3, "test": 4, "mean_side": 4, "batch_size": 3}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_hold_the_graphs_of_their_bags(num_workers, tmp_path):
    options = {"adjacency": AdjacencyBuilder("grid"), "num_workers": num_workers}
    data = DigitsGridDataModule(**GRID, **options, adjacency_cache=str(tmp_path))
    data.setup()
    bags = {bag.bag_id: bag for bag in (data.splits.train[i] for i in range(6))}
    seen = []
    for batch in data.train_dataloader():
        dense, bounds = batch.adj.to_dense(), batch.ptr.tolist()
        for name, start, stop in zip(batch.bag_id, bounds, bounds[1:], strict=False):
            assert torch.equal(dense[start:stop, start:stop], bags[name].adj.to_dense())
            dense[start:stop, start:stop] = 0
        assert not dense.any()
        seen += batch.bag_id
    assert sorted(seen) == sorted(bags)


def test_graphs_are_counted_and_told_of_once(caplog):
    data = DigitsGridDataModule(**GRID, holes=0.5, adjacency=AdjacencyBuilder("grid"))
    with caplog.at_level("INFO"):
        data.setup()
        data.setup("fit")
    total = {"instances": 0, "edges": 0, "isolated": 0}
    for name in ("train", "val", "test"):
        bags = getattr(data.splits, name)
        for bag in (bags[i] for i in range(len(bags))):
            links = bag.adj.to_dense().fill_diagonal_(0) > 0
            total["instances"] += len(bag)
            total["edges"] += int(links.sum()) // 2
            total["isolated"] += int((~links.any(1)).sum())
    graphs = data.graphs
    assert set(graphs) == {"train", "val", "test"}
    for key, value in total.items():
        assert sum(getattr(counts, key) for counts in graphs.values()) == value
    (message,) = caplog.messages
    mean = 2 * total["edges"] / total["instances"]
    assert message == (
        f"graphs: {total['instances']} instances with {mean:.1f} neighbours in the mean, "
        f"{total['isolated']} of them isolated"
    )


@pytest.mark.parametrize(
    ("stage", "parts"), [("fit", {"train", "val"}), ("test", {"test"}), ("predict", {"test"})]
)
def test_a_stage_builds_the_graphs_that_it_needs(stage, parts):
    data = DigitsGridDataModule(**GRID, adjacency=AdjacencyBuilder("grid"))
    data.setup(stage)
    assert set(data.graphs) == parts
    assert data.has_graphs
    data.setup()
    assert set(data.graphs) == {"train", "val", "test"}


def test_without_graphs_bags_are_left_alone(caplog):
    data = DigitsGridDataModule(**GRID)
    with caplog.at_level("INFO"):
        data.setup()
    assert data.graphs == {}
    assert not data.has_graphs
    assert data.splits.train[0].adj is None
    assert not caplog.messages


class OwnGraphs(Data):
    """Bags that bring their adjacency along."""

    def make_splits(self):
        adj = (torch.ones(2, 2) / 2).to_sparse_csr()

        class Linked(Bags):
            def __getitem__(self, index):
                return Bag(torch.zeros(2, 2), y=self.labels[index], adj=adj, bag_id=str(index))

        parts = {name: Linked(self.labels) for name in ("train", "val", "test")}
        return BagSplits(**parts, task=self.kind, class_names=self.names)


def test_graphs_that_bags_bring_along_are_taken():
    data = OwnGraphs([0, 1, 0])
    data.setup()
    assert data.graphs["val"] == GraphCounts(instances=6, edges=3, isolated=0)
    assert next(iter(data.val_dataloader())).adj.shape == (2, 2)


def test_a_cache_for_no_graph_is_refused():
    with pytest.raises(
        ValueError, match=r"data/adjacency=\.\.\. with data.adjacency_cache, got 'x'"
    ):
        Data([0, 1], adjacency_cache="x")


def test_images_without_coords_take_a_graph_of_their_features():
    build = AdjacencyBuilder("feature_knn", k=2)
    data = ImageBagsDataModule("digits", train=4, val=2, test=2, adjacency=build)
    data.setup()
    assert data.graphs["train"].edges > 0
    wrong = ImageBagsDataModule("digits", train=4, val=2, test=2, adjacency=AdjacencyBuilder())
    with pytest.raises(ValueError, match=r"bag 'train_0000': expected coords .* by radius"):
        wrong.setup()


@pytest.mark.parametrize("layout", ["grid", "chain"])
def test_the_options_of_the_digits_grid_reach_its_generator(layout):
    options = {"target": 3, "sd_side": 0, "holes": 0.0, "mean_blob": 2, "sd_blob": 0, "noise": 0}
    data = DigitsGridDataModule(layout=layout, **GRID, **options, seed=5)
    bag = data.splits.train[1]
    assert len(bag) == (16 if layout == "grid" else 4)
    assert int(bag.y_inst.sum()) == 2
    assert 0 <= float(bag.x.min()) <= float(bag.x.max()) <= 1
    assert data.class_names == ("no 3", "3")
    other = DigitsGridDataModule(layout=layout, **GRID, **options, seed=6)
    assert data.fingerprint() != other.fingerprint()

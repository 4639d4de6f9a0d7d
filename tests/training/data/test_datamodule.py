"""What the DataModule does with bags of any kind."""

from functools import partial
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from milforge.data import (
    Bag,
    BagBatch,
    BagSplits,
    BagTable,
    GraphBags,
    GraphCounts,
    KFold,
    Labels,
    LargeImage,
    Loader,
    TensorSource,
    digits_bags,
    digits_grid,
)
from milforge.graph import AdjacencyBuilder
from milforge.nn import EachStream, Standardise
from milforge.tasks import Auto, Binary, Multiclass, Regression
from milforge.training import MILDataModule


class Bags:
    """A data set of given labels; bag i holds i % 3 + 1 instances of the value i."""

    def __init__(self, labels, width=2, shape=None):
        self.labels = None if labels is None else torch.tensor(labels)
        self.shape = (width,) if shape is None else shape

    def __len__(self):
        return 4 if self.labels is None else len(self.labels)

    def __getitem__(self, index):
        y = None if self.labels is None else self.labels[index]
        x = torch.full((index % 3 + 1, *self.shape), float(index))
        return Bag(x, y=y, bag_id=str(index))


NOTHING = ()


def make(labels, *, names=("no", "yes"), opened=None, task=None, graph=None, seed=0, **loader):
    """Bags with these labels in every part; counts how often they are opened."""

    def bags():
        if opened is not None:
            opened.append(1)
        parts = {name: Bags(labels) for name in ("train", "val", "test")}
        return BagSplits(**parts, class_names=names)

    return MILDataModule(bags, task=task, graph=graph, seed=seed, loader=Loader(**loader))


def of_parts(train=NOTHING, val=NOTHING, test=NOTHING, **options):
    return MILDataModule(lambda: BagSplits(train, val, test, ("no", "yes")), **options)


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
    opened = []
    data = make([0, 1, 1, 0], opened=opened, batch_size=3)
    data.setup()
    data.setup("fit")
    assert len(opened) == 1
    assert data.instance_shape == (2,)
    assert isinstance(data.task, Binary)
    assert data.task.class_names == ("no", "yes")
    assert data.batch_type is BagBatch
    assert data.split is None
    assert data.skipped == []


def test_training_batches_hold_every_bag_in_another_order_each_epoch():
    loader = make([0, 1] * 10, batch_size=8, seed=4).train_dataloader()
    first = ids(loader)
    assert [len(batch) for batch in first] == [8, 8, 4]
    assert sorted(map(int, chain(*first))) == list(range(20))
    loader.batch_sampler.set_epoch(1)
    assert ids(loader) != first
    assert isinstance(next(iter(loader)), BagBatch)
    assert ids(make([0, 1] * 10, batch_size=8, seed=5).train_dataloader()) != first


def test_the_epoch_is_told_to_bags_that_differ_by_it():
    told = []

    class Differing(Bags):
        def set_epoch(self, epoch):
            told.append(epoch)

    part = Differing([0, 1, 0, 1])
    data = of_parts(part, part, part)
    loader = data.train_dataloader()
    told.clear()
    for epoch in (1, 2):
        loader.batch_sampler.set_epoch(epoch)
    assert told == [1, 2]


@pytest.mark.parametrize("part", ["val", "test", "predict"])
def test_evaluation_batches_are_in_order(part):
    loader = getattr(make([0, 1] * 3, batch_size=2, eval_batch_size=4), f"{part}_dataloader")()
    assert ids(loader) == [["0", "1", "2", "3"], ["4", "5"]]


def test_the_part_that_is_predicted_can_be_another():
    bags = {name: [Bag(torch.zeros(1, 1), 1, bag_id=name)] for name in ("train", "val", "test")}
    data = of_parts(**bags)
    assert ids(data.predict_dataloader()) == [["test"]]
    data.predicted = "val"
    assert ids(data.predict_dataloader()) == [["val"]]


def test_the_batch_size_of_evaluation_is_that_of_training_where_none_is_given():
    assert ids(make([0, 1, 0], batch_size=2).val_dataloader()) == [["0", "1"], ["2"]]


def test_processes_share_the_bags():
    loaders = [on_process(make([0, 1] * 4, batch_size=4), rank, 2) for rank in (0, 1)]
    shares = [ids(data.test_dataloader()) for data in loaders]
    assert shares == [[["0", "2"], ["4", "6"]], [["1", "3"], ["5", "7"]]]
    batches = [ids(data.train_dataloader()) for data in loaders]
    assert [[len(batch) for batch in each] for each in batches] == [[2, 2], [2, 2]]
    assert sorted(chain(*chain(*batches))) == [str(i) for i in range(8)]


def test_more_processes_than_bags_to_evaluate_are_refused():
    data = on_process(make([0, 1, 0], batch_size=4), 0, 4)
    with pytest.raises(ValueError, match="3 bags for 4 processes; use fewer devices"):
        data.val_dataloader()


def test_the_bags_to_overfit_are_the_same_ones_every_epoch():
    data = on_process(make([0, 1] * 10, batch_size=4), 0, 1, overfit_batches=3)
    loader = data.train_dataloader()
    assert ids(loader) == ids(loader)
    assert not hasattr(loader.batch_sampler, "set_epoch")


def test_classes_are_drawn_equally_often_where_that_is_asked_for():
    labels = [0] * 18 + [1, 1]
    drawn = list(chain(*ids(make(labels, batch_size=5, balanced=True).train_dataloader())))
    assert len(drawn) == 20
    assert 5 <= sum(int(name) >= 18 for name in drawn) <= 15
    numbers = make([0.5, 1.5, 2.5, 9.0], task=Regression(), balanced=True, names=())
    with pytest.raises(ValueError, match=r"balanced=true: the task Regression has no classes"):
        numbers.train_dataloader()


def test_the_fingerprint_tells_data_apart():
    def fingerprint(seed, size, **loader):
        sizes = {"train": 6, "val": 2, "test": 2}
        bags = partial(digits_bags, **sizes, seed=seed, mean_size=size)
        return MILDataModule(bags, loader=Loader(**loader)).fingerprint()

    first = fingerprint(0, 5)
    assert len({first, fingerprint(1, 5), fingerprint(0, 6)}) == 3
    assert fingerprint(0, 5, batch_size=3) == first


def test_the_fingerprint_is_that_of_the_first_epoch_however_long_a_run_was():
    class Differing(Bags):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __getitem__(self, index):
            return Bag(torch.full((1, 2), float(self.epoch)), y=self.labels[index])

    part = Differing([0, 1])
    data = of_parts(part, part, part)
    first = data.fingerprint()
    part.set_epoch(3)
    assert data.fingerprint() == first


def test_labels_count_in_the_fingerprint():
    assert make([0, 1, 0, 1]).fingerprint() != make([0, 1, 1, 1]).fingerprint()


BAGS = [Bag(torch.full((2, 3), float(i)), i, bag_id=str(i)) for i in (0, 1)]


class TestEmptyParts:
    @pytest.mark.parametrize(
        ("given", "stages"),
        [
            ({"train", "test"}, ["fit", "test", "predict", None]),  # nothing to validate on
            ({"test"}, ["validate", "test", "predict"]),
            ({"train", "val"}, ["fit", "validate"]),
            ({"train"}, ["fit"]),
        ],
    )
    def test_a_part_that_a_stage_does_not_need_may_be_empty(self, given, stages):
        data = of_parts(**dict.fromkeys(given, BAGS))
        for stage in stages:
            data.setup(stage)
        assert data.instance_shape == (3,)
        if "test" in given:
            assert ids(data.test_dataloader()) == [["0"], ["1"]]
        if "val" not in given:
            assert data.val_dataloader() == []
        sizes = {name: 2 if name in given else 0 for name in ("train", "val", "test")}
        assert data.description()["bags"] == sizes

    @pytest.mark.parametrize(("given", "stage"), [("test", "fit"), ("train", "test")])
    def test_one_that_it_needs_may_not(self, given, stage):
        data = of_parts(**{given: BAGS})
        lacking = "train" if stage == "fit" else "test"
        with pytest.raises(ValueError, match=f"at least one bag in the {lacking} part, got none"):
            data.setup(stage)


TRAIN = [Bag(torch.tensor([[0.0, 5], [2, 5]]), 0), Bag(torch.tensor([[4.0, 5]]), 1)]
TEST = [Bag(torch.full((1, 2), 100.0), 1)]


class TestStandardiser:
    def data(self, **options):
        return of_parts(TRAIN, NOTHING, TEST, **options)

    @pytest.mark.parametrize("how", ["auto", "train"])
    def test_it_is_of_the_training_part(self, how):
        module = self.data().standardiser(how)
        assert isinstance(module, Standardise)
        assert module.mean.tolist() == [2, 5]
        torch.testing.assert_close(module(TRAIN[1].x), torch.tensor([[1.5**0.5, 0]]))

    def test_of_all_bags_it_leaks_as_it_says(self):
        module = self.data().standardiser("all")
        assert module.mean.tolist() == pytest.approx([106 / 4, 115 / 4])

    def test_null_leaves_the_features_alone(self):
        assert self.data().standardiser(None) is None

    def test_instances_that_are_images_are_standardised_only_where_that_is_asked_for(self):
        data = of_parts(Bags([0, 1], shape=(1, 4, 4)))
        assert data.standardiser("auto") is None
        assert data.standardiser("train").mean.shape == (1, 4, 4)

    def test_of_many_instances_some_are_measured(self, monkeypatch):
        monkeypatch.setattr("milforge.training.data.standardising._MOST_MEASURED", 10)
        read = []

        class Watched(Bags):
            def __getitem__(self, index):
                read.append(index)
                return super().__getitem__(index)

        data = of_parts(Watched([0, 1] * 30))
        module = data.standardiser("train")
        measured = set(read[1:])  # the first is the example
        assert 4 <= len(measured) <= 10
        assert 0 < float(module.mean[0]) < 59
        again = of_parts(Watched([0, 1] * 30), seed=1).standardiser("train")
        assert float(again.mean[0]) != float(module.mean[0])

    def test_another_word_is_refused(self):
        with pytest.raises(ValueError, match="auto, train, all or null, got 'test'"):
            self.data().standardiser("test")

    def test_the_log_names_features_that_hardly_vary(self, caplog):
        x = torch.randn(60, 9, generator=torch.Generator().manual_seed(0))
        x[:, :7] = 5 + 1e-4 * x[:, :7]
        bags = [Bag(x[i : i + 3], y=i % 2, bag_id=str(i)) for i in range(0, 60, 3)]
        data = MILDataModule(lambda: BagSplits(bags[:10], bags[10:15], bags[15:]))
        with caplog.at_level("INFO"):
            data.standardiser("train", clip=0.5)
        assert "7 of 9 features hardly vary (0, 1, 2, 3, 4, ...)" in caplog.text

    def test_large_images_are_not_standardised(self):
        data = of_parts(images(2))
        assert data.standardiser("auto") is None
        with pytest.raises(ValueError, match="standardise=train: large images are not"):
            data.standardiser("train")


def images(count):
    return [
        LargeImage(torch.zeros(1, 4, 4), TensorSource(torch.zeros(1, 40, 40)), i % 2, str(i))
        for i in range(count)
    ]


def test_streams_have_a_shape_each():
    bag = Bag({"a": torch.zeros(1, 2), "b": torch.zeros(1, 3, 4)}, y=0)
    data = of_parts([bag])
    assert data.instance_shape == {"a": (2,), "b": (3, 4)}
    assert isinstance(data.standardiser("train"), EachStream)
    assert data.standardiser("auto") is None  # one of them is of images


def test_image_bags_know_their_task():
    def make(**options):
        return MILDataModule(partial(digits_bags, train=4, val=2, test=2, **options))

    data = make(target=[3, 9], sampling="plain")
    assert (data.task.kind, data.task.class_names) == ("multilabel", ("3", "9"))
    assert data.instance_shape == (1, 8, 8)
    data = make(target=3)
    assert (data.task.kind, data.task.class_names) == ("binary", ("no 3", "3"))


class TestTask:
    def test_labels_decide_where_none_is_named(self):
        data = make([0, 1, 2, 0], names=("a", "b", "c"))
        assert isinstance(data.wanted_task, Auto)
        assert isinstance(data.task, Multiclass)
        assert data.task.num_outputs == 3

    def test_bags_without_labels_have_none(self):
        data = make(None)
        data.setup("predict")
        with pytest.raises(ValueError, match=r"expected labelled bags .* got data\.labels=null"):
            _ = data.task
        (batch,) = make(None, eval_batch_size=9).predict_dataloader()
        assert batch.y is None

    def test_that_of_a_checkpoint_is_known_without_labels(self):
        task = Binary().from_state({"kind": "binary", "class_names": ["a", "b"], "weights": None})
        assert make(None, task=task).task is task

    def test_it_is_fitted_to_the_training_part(self):
        data = MILDataModule(
            lambda: BagSplits(Bags([1.0, 3.0]), Bags([50.0]), Bags([70.0])), task=Regression()
        )
        assert data.task.mean.tolist() == [2]
        assert data.task.std.tolist() == [1]


GRID = {"train": 6, "val": 3, "test": 4, "mean_side": 4}


def grid(method="grid", cache=None, num_workers=0, **options):
    return MILDataModule(
        partial(digits_grid, **GRID, **options),
        graph=None if method is None else AdjacencyBuilder(method, cache=cache),
        loader=Loader(batch_size=3, num_workers=num_workers),
    )


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_hold_the_graphs_of_their_bags(num_workers, tmp_path):
    data = grid(num_workers=num_workers, cache=str(tmp_path))
    data.setup()
    bags = {bag.bag_id: bag for bag in (data.parts["train"][i] for i in range(6))}
    seen = []
    for batch in data.train_dataloader():
        dense, bounds = batch.adj.to_dense(), batch.ptr.tolist()
        for name, start, stop in zip(batch.bag_id, bounds, bounds[1:], strict=False):
            assert torch.equal(dense[start:stop, start:stop], bags[name].adj.to_dense())
            dense[start:stop, start:stop] = 0
        assert not dense.any()
        seen += batch.bag_id
    assert sorted(seen) == sorted(bags)
    assert list(tmp_path.rglob("*"))


def test_graphs_are_counted_and_told_of_once(caplog):
    data = grid(holes=0.5)
    with caplog.at_level("INFO"):
        data.setup()
        data.setup("fit")
    total = {"instances": 0, "edges": 0, "isolated": 0}
    for bags in data.parts.values():
        for bag in (bags[i] for i in range(len(bags))):
            links = bag.adj.to_dense().fill_diagonal_(0) > 0
            total["instances"] += len(bag)
            total["edges"] += int(links.sum()) // 2
            total["isolated"] += int((~links.any(1)).sum())
    graphs = data.graphs
    assert set(graphs) == {"train", "val", "test"}
    for key, value in total.items():
        assert sum(getattr(counts, key) for counts in graphs.values()) == value
    (message,) = [each for each in caplog.messages if each.startswith("graphs")]
    mean = 2 * total["edges"] / total["instances"]
    assert message == (
        f"graphs: {total['instances']} instances with {mean:.1f} neighbours in the mean, "
        f"{total['isolated']} of them isolated"
    )
    assert data.description()["graphs"]["train"]["edges"] == graphs["train"].edges


@pytest.mark.parametrize(
    ("stage", "parts"), [("fit", {"train", "val"}), ("test", {"test"}), ("predict", {"test"})]
)
def test_a_stage_builds_the_graphs_that_it_needs(stage, parts):
    data = grid()
    data.setup(stage)
    assert set(data.graphs) == parts
    assert data.has_graphs
    data.setup()
    assert set(data.graphs) == {"train", "val", "test"}


def test_without_graphs_bags_are_left_alone(caplog):
    data = grid(None)
    with caplog.at_level("INFO"):
        data.setup()
    assert data.graphs == {}
    assert not data.has_graphs
    assert data.parts["train"][0].adj is None
    assert not [each for each in caplog.messages if each.startswith("graphs")]


def test_graphs_that_bags_bring_along_are_taken():
    adj = (torch.ones(2, 2) / 2).to_sparse_csr()
    bags = [Bag(torch.zeros(2, 2), i % 2, adj, bag_id=str(i)) for i in range(3)]
    data = of_parts(bags, bags, bags)
    data.setup()
    assert data.has_graphs
    assert data.graphs["val"] == GraphCounts(instances=6, edges=3, isolated=0)
    assert next(iter(data.val_dataloader())).adj.shape == (2, 2)


def test_graphs_of_which_one_bag_brings_none_are_told():
    adj = (torch.ones(2, 2) / 2).to_sparse_csr()
    bags = [Bag(torch.zeros(2, 2), i, adj if i == 0 else None, bag_id=str(i)) for i in range(2)]
    with pytest.raises(ValueError, match="bag '1': expected an adjacency as in other bags"):
        of_parts(bags, bags, bags).setup("fit")


def test_images_without_coords_take_a_graph_of_their_features():
    bags = partial(digits_bags, train=4, val=2, test=2)
    data = MILDataModule(bags, graph=AdjacencyBuilder("feature_knn", k=2))
    data.setup()
    assert data.graphs["train"].edges > 0
    wrong = MILDataModule(bags, graph=AdjacencyBuilder())
    with pytest.raises(ValueError, match=r"bag 'train_0000': expected coords .* by radius"):
        wrong.setup()


def test_a_graph_over_large_images_is_refused():
    data = of_parts(images(2), graph=AdjacencyBuilder("grid"))
    with pytest.raises(ValueError, match=r"graph: large images .*; choose graph=none"):
        data.setup("fit")


def test_the_share_of_a_process_may_be_a_batch_without_bags():
    data = grid()
    batch = data.collate_fn([])
    assert (len(batch), batch.num_instances, batch.adj.shape) == (0, 0, (0, 0))
    assert batch.x.shape[1:] == (1, 8, 8)
    assert batch.y.shape == (0,)


@pytest.mark.parametrize("layout", ["grid", "chain"])
def test_the_options_of_the_digits_grid_reach_its_generator(layout):
    options = {"target": 3, "sd_side": 0, "holes": 0.0, "mean_blob": 2, "sd_blob": 0, "noise": 0}
    data = grid(None, layout=layout, **options, seed=5)
    bag = data.parts["train"][1]
    assert len(bag) == (16 if layout == "grid" else 4)
    assert int(bag.y_inst.sum()) == 2
    assert 0 <= float(bag.x.min()) <= float(bag.x.max()) <= 1
    assert data.task.class_names == ("no 3", "3")
    assert data.fingerprint() != grid(None, layout=layout, **options, seed=6).fingerprint()


class TestTable:
    """A table of bags that are to be split, with what else it knows of them."""

    def table(self, **options):
        bags = [Bag(torch.full((2, 1), float(i)), bag_id=f"b{i}") for i in range(12)]
        columns = {"age": [str(40 + i) for i in range(12)], "site": ["x", "y", ""] * 4}
        return BagTable(
            bags,
            tuple(bag.bag_id for bag in bags),
            Labels({"label": np.array(["no", "yes"] * 6)}),
            tuple(f"p{i // 2}" for i in range(12)),
            columns,
            **options,
        )

    def data(self, split=None, graph=None, covariates=None, **options):
        return MILDataModule(
            lambda: self.table(**options),
            split=KFold(folds=3, val_share=0.2) if split is None else split,
            graph=graph,
            covariates=covariates,
        )

    def test_it_tells_what_else_is_known_of_a_bag(self):
        data = self.data()
        told = data.info("test", "b3")
        assert told.group == "p1"
        assert told.columns == {"age": "43", "site": "x"}
        assert data.info("test", "nowhere") == (None, {})
        assert make([0, 1]).info("test", "0") == (None, {})

    def test_covariates_are_in_the_bags_and_their_statistics_are_kept(self):
        data = self.data(covariates=None)
        assert data.num_covariates == 0
        assert data.covariates is None
        build = MILDataModule(
            lambda: self.table(covariates=("age", "site")), split=KFold(folds=3, val_share=0)
        )
        assert build.num_covariates == 3
        train = build.parts["train"]
        ages = torch.stack([train[i].covariates[0] for i in range(len(train))])
        torch.testing.assert_close(ages.mean(), torch.tensor(0.0))
        torch.testing.assert_close(ages.std(correction=0), torch.tensor(1.0))
        batch = next(iter(build.test_dataloader()))
        assert batch.covariates.shape == (1, 3)
        again = MILDataModule(
            lambda: self.table(covariates=("age", "site")),
            split=KFold(fold=1, folds=3, val_share=0),
            covariates=build.covariates,
        )
        assert again.covariates == build.covariates

    def test_a_split_is_ignored_where_it_may_be(self):
        bags = [Bag(torch.zeros(1, 1), i % 2) for i in range(4)]
        given = of_parts(bags, bags, bags, split=KFold(), optional_split=True)
        assert len(given.parts["train"]) == 4
        with pytest.raises(ValueError, match="makes its parts itself, so no split is used"):
            _ = of_parts(bags, bags, bags, split=KFold()).parts

    def test_graphs_are_laid_over_whole_bags_alone(self):
        def bags(size):
            return [
                Bag(torch.zeros(size, 1), coords=torch.arange(2 * size).reshape(size, 2))
                for _ in range(12)
            ]

        def data(size):
            table = self.table(training_bags=bags(size))
            return MILDataModule(
                lambda: BagTable(
                    bags(5), table.ids, table.labels, table.groups, training_bags=bags(size)
                ),
                split=KFold(folds=3),
                graph=AdjacencyBuilder("chain"),
            )

        assert isinstance(data(5).parts["train"], GraphBags)
        with pytest.raises(ValueError, match=r"data\.max_instances_per_bag=null, or choose graph"):
            _ = data(3).parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_features_of_every_kind_have_a_fingerprint(dtype):
    def found(value):
        x = torch.full((2, 3), value).to(dtype)
        bags = [Bag(x, y=i % 2, bag_id=str(i)) for i in range(4)]
        return MILDataModule(lambda: BagSplits(bags, bags[:1], bags)).fingerprint()

    assert found(1) == found(1) != found(2)

"""From what a data set function returns to three labelled parts."""

import logging
from itertools import combinations

import numpy as np
import pytest
import torch

from milforge.data import (
    AllBags,
    Bag,
    BagError,
    BagSplits,
    BagTable,
    Fault,
    KFold,
    Labels,
    RandomSplit,
    SplitFiles,
)
from milforge.tasks import Auto, Binary, Multiclass, Multilabel, Regression
from milforge.training.data.parts import make_parts

SPLIT = RandomSplit(test_share=0.25, val_share=0.25)


def make_bags(n, first=0, y=None):
    return [
        Bag(
            torch.full((1 + i % 2, 1), float(first + i)),
            None if y is None else y[i],
            bag_id=f"b{i}",
        )
        for i in range(n)
    ]


def make_table(labels, *, groups=None, **options):
    """A table of bags `b0`, `b1` and so on; a mapping of labels has several columns."""
    columns = labels if isinstance(labels, dict) else {"label": labels}
    arrays = {name: np.array(values) for name, values in columns.items()}
    n = len(next(iter(arrays.values())))
    ids = tuple(f"b{i}" for i in range(n))
    known = None if groups is None else tuple(groups)
    return BagTable(make_bags(n), ids, Labels(arrays), known, **{"source": "labels.csv", **options})


def names(part):
    return [part[i].bag_id for i in range(len(part))]


class TestGeneratedData:
    def test_a_split_of_parts_that_there_are_is_refused(self):
        data = BagSplits(*(make_bags(4, y=[0, 1, 0, 1]) for _ in range(3)))
        with pytest.raises(ValueError, match=r"makes its parts itself.*choose split=none"):
            make_parts(data, Auto(), KFold())

    def test_what_is_neither_parts_nor_a_table_is_told(self):
        with pytest.raises(ValueError, match=r"BagSplits or BagTable, got list"):
            make_parts(make_bags(3), Auto(), None)

    @pytest.mark.parametrize(
        ("y", "class_names", "kind", "names"),
        [
            ([0, 1, 1, 0], (), Binary, ("0", "1")),
            ([0, 1, 1, 0], ("no", "yes"), Binary, ("no", "yes")),
            ([0, 2, 1, 0], ("a", "b", "c"), Multiclass, ("a", "b", "c")),
            ([torch.tensor([0, 1])] * 2 + [torch.tensor([1, 1])] * 2, (), Multilabel, ("0", "1")),
        ],
    )
    def test_the_labels_of_bags_are_those_of_the_parts(self, y, class_names, kind, names):
        bags = make_bags(4, y=y)
        parts = make_parts(BagSplits(bags, bags[:2], bags[1:], class_names), Auto(), None)
        assert isinstance(parts.task, kind)
        assert parts.task.class_names == names
        for name, chosen in (("train", bags), ("val", bags[:2]), ("test", bags[1:])):
            part = parts.parts[name]
            for i, bag in enumerate(chosen):
                assert torch.equal(torch.as_tensor(part[i].y), torch.as_tensor(bag.y))
                assert torch.equal(part[i].x, bag.x)
            assert torch.equal(part.labels, torch.stack([torch.as_tensor(b.y) for b in chosen]))
        assert parts.split is None

    def test_classes_that_one_part_lacks_are_found_in_the_others(self):
        data = BagSplits(*(make_bags(1, y=[label]) for label in (0, 1, 2)))
        assert make_parts(data, Multiclass(), None).task.num_outputs == 3

    def test_parts_without_labels_have_no_task(self):
        unlabelled, labelled = make_bags(2), make_bags(2, y=[0, 1])
        parts = make_parts(BagSplits(labelled, [], unlabelled), Auto(), None)
        assert parts.task is None
        assert parts.parts["test"].labels is None

    def test_the_task_is_fitted_to_the_training_part_alone(self):
        parts = [make_bags(2, y=y) for y in ([1.0, 3.0], [100.0, 200.0], [-100.0, 0.0])]
        task = make_parts(BagSplits(*parts), Regression(), None).task
        assert (task.mean.tolist(), task.std.tolist()) == ([2], [1])
        alone = make_parts(BagSplits([], [], parts[0]), Regression(), None).task
        assert (alone.mean.tolist(), alone.std.tolist()) == ([0], [1])

    @pytest.mark.parametrize("labelled", [True, False])
    def test_covariates_are_scaled_by_the_training_part(self, labelled):
        bags = make_bags(2, y=[0, 1]) if labelled else make_bags(2)
        ages = {"age": ["40", "60", "70", "50", "30", "90"]}
        parts = make_parts(BagSplits(bags, bags, bags, covariates=ages), Auto(), None)
        found = [[part[i].covariates.item() for i in range(2)] for part in parts.parts.values()]
        assert found == [[-1, 1], [2, 0], [-2, 4]]
        known = parts.covariates.state()
        again = make_parts(
            BagSplits([], [], bags, covariates={"age": ["50", "70"]}), Auto(), None, known
        )
        assert [again.parts["test"][i].covariates.item() for i in range(2)] == [0, 2]
        with pytest.raises(ValueError, match="the column 'age', which the model was trained with"):
            make_parts(BagSplits([], [], bags), Auto(), None, known)


class TestTable:
    def test_one_without_a_split_is_refused(self):
        with pytest.raises(ValueError, match=r"split: labels\.csv has bags .*choose split=kfold"):
            make_parts(make_table(["no", "yes"] * 4), Auto(), None)

    def test_bags_are_split_with_their_labels(self):
        labels = ["no", "yes", "no", "yes"] * 4
        parts = make_parts(make_table(labels), Auto(), SPLIT)
        assert parts.task.class_names == ("no", "yes")
        everything = [name for part in parts.parts.values() for name in names(part)]
        assert sorted(everything) == sorted(f"b{i}" for i in range(16))
        for key, part in parts.parts.items():
            assert tuple(names(part)) == getattr(parts.split, key)
            for i, name in enumerate(names(part)):
                number = int(name[1:])
                assert part[i].y == int(labels[number] == "yes") == int(part.labels[i])
                assert float(part[i].x[0]) == number
            assert part.labels.float().mean() == 0.5  # stratified

    def test_patients_stay_together_and_a_table_without_any_is_warned_of(self, caplog):
        labels, groups = ["no", "no", "yes", "yes"] * 4, [f"p{i // 2}" for i in range(16)]
        with caplog.at_level(logging.WARNING):
            parts = make_parts(make_table(labels, groups=groups), Auto(), SPLIT)
        assert not caplog.messages
        sides = [{groups[int(n[1:])] for n in names(part)} for part in parts.parts.values()]
        assert not any(one & other for one, other in combinations(sides, 2))
        assert parts.info("test", "b5") == ("p2", {})
        with caplog.at_level(logging.WARNING):
            make_parts(make_table(labels), Auto(), SPLIT)
        assert "labels.csv: no column says which bags are of the same patient" in caplog.text

    def test_the_task_is_fitted_to_the_training_part_alone(self):
        ages = [str(20 + 3 * i) for i in range(16)]
        parts = make_parts(make_table(ages), Regression(), SPLIT)
        train = parts.parts["train"].labels
        torch.testing.assert_close(parts.task.mean, train.mean()[None])
        torch.testing.assert_close(parts.task.std, train.std(correction=0)[None])
        assert train.mean() != parts.parts["test"].labels.mean()

    def test_weights_of_classes_are_those_of_the_training_part(self):
        labels = ["no"] * 12 + ["yes"] * 4
        parts = make_parts(make_table(labels), Binary(class_weights="balanced"), SPLIT)
        y = parts.parts["train"].labels
        counts = y.bincount()
        torch.testing.assert_close(parts.task.weights, len(y) / (2 * counts))

    @pytest.mark.parametrize("task", [Multilabel(), Auto()])
    def test_several_label_columns(self, task):
        table = make_table({"er": ["1", "0"] * 8, "pr": ["0", "0", "1", "1"] * 4})
        parts = make_parts(table, task, SPLIT)
        assert parts.task.class_names == ("er", "pr")
        for part in parts.parts.values():
            for i, name in enumerate(names(part)):
                n = int(name[1:])
                assert part[i].y.tolist() == [int(n % 2 == 0), int(n % 4 > 1)]

    def test_training_bags_are_others_where_the_data_set_says_so(self):
        table = make_table(["no", "yes"] * 8, training_bags=make_bags(16, first=100))
        parts = make_parts(table, Auto(), SPLIT).parts
        assert min(float(parts["train"][i].x[0]) for i in range(len(parts["train"]))) >= 100
        assert max(float(parts["test"][i].x[0]) for i in range(len(parts["test"]))) < 16

    def test_bags_that_differ_by_epoch_do_so_in_training(self):
        told = []

        class Differing:
            labels = None

            def __len__(self):
                return 16

            def set_epoch(self, epoch):
                told.append(epoch)

        table = make_table(["no", "yes"] * 8, training_bags=Differing())
        parts = make_parts(table, Auto(), SPLIT).parts
        parts["train"].set_epoch(3)
        assert told == [3]
        assert not hasattr(parts["test"], "set_epoch")


class TestAllBags:
    def test_every_bag_is_a_test_bag_and_the_task_keeps_what_it_knows(self):
        task = Regression().from_state({"kind": "regression", "columns": ["label"]})
        task.mean.fill_(7)
        parts = make_parts(make_table(["1.5", "2.5", "9"]), task, AllBags())
        assert [len(parts.parts[name]) for name in ("train", "val", "test")] == [0, 0, 3]
        assert parts.parts["test"].labels.tolist() == [1.5, 2.5, 9]
        assert parts.parts["train"].labels.shape == (0,)
        assert parts.task.mean.tolist() == [7]

    def test_weights_of_a_checkpoint_are_kept(self):
        state = {"kind": "binary", "class_names": ["no", "yes"], "weights": [0.5, 1.5]}
        task = Binary(class_weights="balanced").from_state(state)
        parts = make_parts(make_table(["yes", "yes", "no"]), task, AllBags())
        assert parts.task.weights.tolist() == [0.5, 1.5]

    def test_a_cohort_may_lack_a_class_but_has_no_other_one(self):
        state = {"kind": "binary", "class_names": ["no", "yes"], "weights": None}
        parts = make_parts(make_table(["yes", "yes"]), Binary().from_state(state), AllBags())
        assert parts.parts["test"].labels.tolist() == [1, 1]
        with pytest.raises(BagError, match="among the classes no, yes, got 'maybe'"):
            make_parts(make_table(["yes", "maybe"]), Binary().from_state(state), AllBags())


class TestFaults:
    LABELS = ("no", "yes", "", "yes") * 4
    FAULT = Fault("b1", "b1.h5", "expected features, got none", "remove the file")

    def test_all_are_told_in_one_error(self):
        table = make_table(self.LABELS, faults=(self.FAULT,))
        with pytest.raises(BagError) as caught:
            make_parts(table, Auto(), SPLIT)
        message = str(caught.value)
        assert message.startswith("labels.csv: 5 faults")
        assert "b1.h5: expected features, got none: remove the file" in message
        for i in (2, 6, 10, 14):
            assert f"labels.csv: bag 'b{i}': expected the label, got nothing: fill it in" in message
        assert [fault.bag_id for fault in caught.value.faults] == ["b1", "b2", "b6", "b10", "b14"]

    def test_skipping_goes_on_without_them(self):
        table = make_table(self.LABELS, faults=(self.FAULT,), on_error="skip")
        parts = make_parts(table, Auto(), SPLIT)
        assert parts.skipped == ["b1", "b10", "b14", "b2", "b6"]
        assert len(parts.faults) == 5
        left = sorted(name for part in parts.parts.values() for name in names(part))
        assert left == sorted({f"b{i}" for i in range(16)} - set(parts.skipped))
        assert parts.task.class_names == ("no", "yes")
        for part in parts.parts.values():
            for i, name in enumerate(names(part)):
                assert part[i].y == int(self.LABELS[int(name[1:])] == "yes")

    def test_the_others_stay_where_they_are(self):
        """A bag with a faulty file is left out of its part after the split is drawn."""
        labels = ["no", "yes"] * 8
        whole = make_parts(make_table(labels), Auto(), SPLIT).split
        table = make_table(labels, faults=(self.FAULT,), on_error="skip")
        without = make_parts(table, Auto(), SPLIT).split
        for name in ("train", "val", "test"):
            expected = [bag for bag in getattr(whole, name) if bag != "b1"]
            assert list(getattr(without, name)) == expected

    def test_bags_whose_label_is_spelt_otherwise_are_told_or_skipped(self):
        labels = ["no", "yes"] * 7 + ["No", ""]
        with pytest.raises(
            BagError, match="bag 'b14': expected one spelling of each label, got 'N"
        ):
            make_parts(make_table(labels), Auto(), KFold())
        parts = make_parts(make_table(labels, on_error="skip"), Auto(), KFold())
        assert parts.skipped == ["b14", "b15"]
        assert parts.task.class_names == ("no", "yes")

    def test_a_split_file_may_name_bags_that_are_skipped(self, tmp_path):
        path = tmp_path / "splits.csv"
        path.write_text("train,val,test\nb0,b3,b4\nb1,b2,b5\n")
        table = make_table(["no", "yes", "", "yes", "no", "yes"], on_error="skip")
        parts = make_parts(table, Auto(), SplitFiles(str(path)))
        assert parts.split.train == ("b0", "b1")
        assert parts.split.val == ("b3",)
        assert parts.split.test == ("b4", "b5")

    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    @pytest.mark.parametrize(
        ("labels", "task", "message"),
        [
            (["a", "b", "c", "a"], Binary(), "expected two classes for task=binary, got 3"),
            (["a"] * 4, Auto(), "at least two classes .* got one: 'a'"),
            ([str(i / 7) for i in range(9)], Auto(), "task=regression predicts numbers"),
            ({"er": ["x", "y"], "pr": ["0", "1"]}, Auto(), "expected 0 and 1 in each"),
            (["a", "b"], Regression(), "expected numbers in the label column"),
            ([""] * 4, Auto(), "got none"),
        ],
    )
    def test_what_is_wrong_with_all_labels_names_the_table(self, labels, task, message, on_error):
        table = make_table(labels, on_error=on_error)
        with pytest.raises(ValueError, match=rf"^labels\.csv: .*{message}"):
            make_parts(table, task, SPLIT)


class TestUnlabelled:
    def table(self, **options):
        bags = make_bags(4)
        columns = {"age": ["40", "50", "60", "x"]}
        ids = tuple(bag.bag_id for bag in bags)
        return BagTable(bags, ids, None, ("p", "p", "q", "q"), columns, **options)

    def test_every_bag_is_to_be_predicted_with_any_split(self):
        for splitter in (None, SPLIT):
            parts = make_parts(self.table(), Auto(), splitter)
            assert parts.task is None
            assert parts.split is None
            assert names(parts.parts["test"]) == ["b0", "b1", "b2", "b3"]
            assert len(parts.parts["train"]) == len(parts.parts["val"]) == 0
            assert parts.parts["test"].labels is None
            assert parts.parts["test"][2].y is None
        assert parts.info("test", "b2") == ("q", {"age": "60"})

    def test_faulty_ones_are_told_or_skipped(self):
        fault = Fault("b2", "b2.h5", "expected features, got none", "remove the file")
        with pytest.raises(BagError, match=r"b2\.h5: expected features"):
            make_parts(self.table(faults=(fault,)), Auto(), None)
        parts = make_parts(self.table(faults=(fault,), on_error="skip"), Auto(), None)
        assert names(parts.parts["test"]) == ["b0", "b1", "b3"]
        assert parts.skipped == ["b2"]

    def test_covariates_are_those_that_the_model_was_trained_with(self):
        stored = [{"name": "age", "mean": 50.0, "std": 10.0}]
        fault = Fault("b3", "labels.csv", "expected a number, got 'x'", "mend it")
        table = self.table(faults=(fault,), on_error="skip")
        part = make_parts(table, Auto(), None, stored).parts["test"]
        assert [float(part[i].covariates) for i in range(3)] == [-1, 0, 1]


class TestCovariates:
    AGES = tuple(str(30 + 2 * i) for i in range(16))

    def table(self, **options):
        columns = {"age": self.AGES, "site": ("north", "south") * 8}
        return make_table(["no", "yes"] * 8, columns=columns, **options)

    def test_they_are_scaled_by_the_training_part(self):
        parts = make_parts(self.table(covariates=("age",)), Auto(), SPLIT)
        age = {f"b{i}": float(each) for i, each in enumerate(self.AGES)}
        train = np.array([age[name] for name in parts.split.train])
        for part in parts.parts.values():
            for i, name in enumerate(names(part)):
                expected = (age[name] - train.mean()) / train.std()
                assert part[i].covariates.tolist() == pytest.approx([expected], rel=1e-5)

    def test_a_checkpoint_knows_them_and_the_options_do_not_count(self):
        stored = [
            {"name": "age", "mean": 0.0, "std": 2.0},
            {"name": "site", "values": ["south", "west"]},
        ]
        for splitter in (SPLIT, AllBags()):
            parts = make_parts(self.table(), Auto(), splitter, stored)
            bag = parts.parts["test"][0]
            number = int(bag.bag_id[1:])
            expected = [(30 + 2 * number) / 2, float(number % 2 == 1), 0]
            assert bag.covariates.tolist() == expected
            assert parts.covariates.state() == stored
        lacking = [{"name": "bmi", "mean": 0.0, "std": 2.0}]
        with pytest.raises(ValueError, match=r"data\.covariates: expected the column 'bmi'"):
            make_parts(self.table(), Auto(), SPLIT, lacking)

    def test_their_scale_cannot_be_learnt_from_no_training_bag(self):
        with pytest.raises(ValueError, match=r"covariates: expected training bags to learn"):
            make_parts(self.table(covariates=("age",)), Auto(), AllBags())

    def test_other_columns_are_known_of_each_bag(self):
        parts = make_parts(self.table(), Auto(), SPLIT)
        assert parts.covariates is None
        assert parts.parts["test"][0].covariates is None
        assert parts.info("test", "b3").columns == {"age": "36", "site": "south"}

"""Numbers: their unit, their scale, and what is no number."""

import json

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error

from milforge.data.labels import LabelError, Labels
from milforge.functional import huber_loss
from milforge.metrics import build_metrics
from milforge.tasks import Regression


def labels(**columns):
    return Labels({name: np.array(column) for name, column in columns.items()})


def make_task(outputs=1, bags=20, seed=0, offset=2000.0, scale=True):
    """A task that has been trained, and the labels of its bags."""
    rng = np.random.default_rng(seed)
    table = (offset + 10 * rng.normal(size=(bags, outputs))).round(2)
    task = Regression(scale)
    columns = {f"c{number}": table[:, number].astype(str) for number in range(outputs)}
    y = torch.as_tensor(task.encode(labels(**columns)))
    task.fit(y)
    return task, y


@pytest.mark.parametrize(
    ("column", "expected"),
    [(["1.5", "-2", " 3e2 "], [1.5, -2, 300]), ([1, 2], [1, 2]), ([0.25, 1e6], [0.25, 1e6])],
)
def test_numbers_are_read(column, expected):
    task = Regression()
    y = task.encode(labels(age=column))
    np.testing.assert_array_equal(y, np.array(expected, np.float32), strict=True)
    assert (task.num_outputs, task.class_names) == (1, ())
    assert task.classes(torch.as_tensor(y)) is None
    assert task.strata(y) is None


def test_each_column_is_an_output():
    task = Regression()
    y = task.encode(labels(age=["40", "60"], score=["1", "2"]))
    assert (y.tolist(), task.num_outputs) == ([[40, 1], [60, 2]], 2)
    assert {name: each.tolist() for name, each in task.label_columns(torch.tensor(y)).items()} == {
        "label_0": [40, 60],
        "label_1": [1, 2],
    }


@pytest.mark.parametrize("outputs", [1, 3])
def test_targets_are_standardised_by_the_training_part(outputs):
    task, y = make_task(outputs)
    table = y.double().reshape(20, outputs).numpy()
    expected = (table - table.mean(0)) / table.std(0)
    target = task.target(y)
    assert (target.dtype, target.shape) == (torch.float32, (20, outputs))
    np.testing.assert_allclose(target, expected, atol=1e-3)
    plain, y = make_task(outputs, scale=False)
    np.testing.assert_allclose(plain.target(y), table)


@pytest.mark.parametrize("outputs", [1, 3])
def test_predictions_are_in_the_unit_of_the_labels(outputs):
    task, y = make_task(outputs)
    logits = torch.randn(20, outputs, requires_grad=True)
    (name, told), *others = task.predict(logits).items()
    assert (name, others, told.requires_grad, told.dtype) == (
        "prediction",
        [],
        False,
        torch.float32,
    )
    assert told.shape == ((20,) if outputs == 1 else (20, outputs))
    table = y.double().reshape(20, outputs).numpy()
    expected = logits.detach().double().numpy() * table.std(0) + table.mean(0)
    np.testing.assert_allclose(told, expected.squeeze(), rtol=1e-6)
    # what is predicted without error is the label
    torch.testing.assert_close(task.predict(task.target(y))["prediction"], y, rtol=1e-6, atol=0)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_loss_is_on_the_standardised_scale(outputs):
    task, y = make_task(outputs)
    logits = torch.randn(20, outputs)
    target = task.target(y)
    expected = (logits - target).square().mean(1)
    torch.testing.assert_close(task.loss(logits, target), expected)
    assert task.loss(torch.zeros(20, outputs), target).mean().item() == pytest.approx(1, rel=1e-4)
    assert task.weight(target) is None
    assert huber_loss(logits, target).shape == (20,)  # another loss sees the same scale


@pytest.mark.parametrize("outputs", [1, 2])
def test_metrics_are_in_the_unit_of_the_labels(outputs):
    task, y = make_task(outputs)
    columns = task.predict(torch.randn(20, outputs))
    fed = task.inputs(columns, task.target(y))
    metrics = build_metrics(task.metrics(), {}, fed)
    metrics.update(**fed)
    computed = metrics.compute()
    assert set(computed) == {"mae", "rmse", "r2", "pearson", "spearman"}
    assert computed["mae"].shape == (() if outputs == 1 else (outputs,))
    pairs = zip(columns["prediction"].reshape(20, -1).T, y.reshape(20, -1).T, strict=True)
    for number, (p, truth) in enumerate(pairs):
        mae = computed["mae"].reshape(-1)[number].item()
        assert mae == pytest.approx(mean_absolute_error(truth, p), rel=1e-4)
        pearson = computed["pearson"].reshape(-1)[number].item()
        assert pearson == pytest.approx(pearsonr(truth, p).statistic, abs=1e-4)
    assert task.metric_options() == {"num_outputs": outputs}
    own = {name: type(metric) for name, metric in task.metrics().items()}
    assert own == dict(Regression.metric_types)


def test_members_are_averaged_in_the_unit_of_the_labels():
    """Each has a scale of its own, so the mean of logits would mean nothing."""
    first, y = make_task(2, seed=0)
    second, _ = make_task(2, seed=1, offset=-50)
    members = []
    for task in (first, second):
        logits = torch.randn(20, 2)
        members.append({"logits": logits, **task.predict(logits)})
    logits, columns = first.average(members)
    expected = (members[0]["prediction"].double() + members[1]["prediction"].double()) / 2
    torch.testing.assert_close(columns["prediction"].double(), expected, rtol=1e-6, atol=0)
    again = first.predict(logits)["prediction"]
    torch.testing.assert_close(again, columns["prediction"], rtol=1e-5, atol=0)
    assert first.loss(logits, first.target(y)).shape == (20,)


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=20),
    outputs=st.sampled_from([1, 2]),
)
def test_one_member_averaged_is_itself(values, outputs):
    task, _ = make_task(outputs)
    logits = torch.tensor(values[: len(values) // 2 * 2]).reshape(-1, outputs)
    told = task.predict(logits)
    _, columns = task.average([{"logits": logits, **told}])
    assert torch.equal(columns["prediction"], told["prediction"])


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=12))
def test_labels_come_back_as_a_column(values):
    assume(len(values) == 1 or len(set(values)) > 1)
    task = Regression()
    y = torch.as_tensor(task.encode(Labels({"age": np.array([repr(v) for v in values])})))
    (column,) = task.label_columns(y).values()
    assert column.tolist() == values
    task.fit(y)
    back = task.inputs(task.predict(task.target(y)), task.target(y))
    span = max(values) - min(values) + abs(max(values, key=abs))
    torch.testing.assert_close(back["target"], y, rtol=0, atol=1e-6 * span + 1e-30)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_labels_all_alike_are_not_scaled(value):
    task = Regression()
    y = torch.as_tensor(task.encode(labels(age=[value] * 3 + [value + 1])))[:3]
    task.fit(y)
    assert task.std.tolist() == [1.0]
    assert task.target(y).tolist() == [[0.0]] * 3


def test_no_training_bags():
    task, y = make_task()
    with pytest.raises(ValueError, match="labelled training bags to scale the labels by, got none"):
        task.fit(y[:0])


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_checkpoint_tells_all(outputs):
    task, y = make_task(outputs)
    state = json.loads(json.dumps(task.state()))
    again = Regression().from_state(state)
    assert again.num_outputs == outputs
    again.load_state_dict(task.state_dict())
    assert torch.equal(again.target(y), task.target(y))
    assert again.state() == state
    with pytest.raises(ValueError, match="of a regression task, got one of kind 'binary'"):
        Regression().from_state({"kind": "binary"})


def test_columns_go_by_name_once_they_are_known():
    task = Regression()
    task.encode(labels(age=[40.0], score=[1.0]))
    task.fit(torch.tensor([[40.0, 1.0], [60.0, 3.0]]))
    again = Regression().from_state(task.state())
    assert again.encode(labels(score=[2.0], age=[50.0])).tolist() == [[50, 2]]
    mean = task.mean.clone()
    task.encode(labels(age=[1.0], score=[1.0]))  # does not forget the scale
    assert torch.equal(task.mean, mean)
    with pytest.raises(LabelError, match="columns age, score, as in training, got age: score is"):
        again.encode(labels(age=[40.0]))


def test_all_bags_at_fault_are_named():
    with pytest.raises(LabelError) as caught:
        Regression().encode(labels(age=["40", "3,5", "old", "", "inf", "1"]))
    assert caught.value.problems == {
        1: ("expected a number in the column 'age', got '3,5'", "write 3.5, with a decimal point"),
        2: ("expected a number in the column 'age', got 'old'", "mend it, or remove the row"),
        3: ("expected a number in the column 'age', got nothing", "fill it in, or remove the row"),
        4: ("expected a number in the column 'age', got 'inf'", "mend it, or remove the row"),
    }
    # All with a comma are reported too, one by one.
    with pytest.raises(LabelError, match=r"got '1,5': write 1\.5"):
        Regression().encode(labels(age=["1,5", "2,5"]))


def test_words_are_classes():
    message = r"column 'grade' for task=regression, got 'low', 'high', 'mid' \.\.\.: task=auto"
    with pytest.raises(LabelError, match=message) as caught:
        Regression().encode(labels(grade=["low", "high", "low", "mid", "x", ""]))
    assert caught.value.problems == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [(2019.4, "2019"), (0.12345, "0.123"), (99.96, "100"), (-12.34, "-12.3"), (3e7, "3e+07")],
)
def test_a_bag_in_words(value, words):
    task, _ = make_task()
    told = task.describe({"prediction": torch.tensor(1.0)}, torch.tensor(value))
    assert told == (words, "1", None)
    several, _ = make_task(2)
    told = several.describe({"prediction": torch.tensor([1.0, 2.0])}, torch.tensor([value, 3.0]))
    assert told == (f"{words}, 3", "1, 2", None)


def test_all_bags_are_of_one_kind():
    task, y = make_task()
    assert {name: bags.all().item() for name, bags in task.kinds(y).items()} == {"": True}
    assert task.is_positive(y).all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_figure_is_drawn(outputs):
    task, y = make_task(outputs)
    (draw,) = task.figures().values()
    figure = draw(task.predict(torch.randn(20, outputs)), y)
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes]
    assert titles == ["c0", "c1"][:outputs]


def test_a_target_that_is_constant_is_refused_before_training():
    told = "different numbers in the label column 'b', got 7 for all 2 bags: there is nothing to"
    with pytest.raises(LabelError, match=told):
        Regression().encode(labels(a=["1", "2"], b=["7", "7.0"]))
    task, _ = make_task()
    assert task.encode(labels(c0=["7", "7"])).tolist() == [7, 7]  # of a cohort that is evaluated
    assert Regression().encode(labels(a=["1"])).tolist() == [1]

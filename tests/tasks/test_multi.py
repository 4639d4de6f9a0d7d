"""Several targets at once, of which bags lack some."""

import numpy as np
import pytest
import torch

from milforge.data.labels import LabelError, Labels
from milforge.metrics import MAE, ConcordanceIndex, build_metrics
from milforge.tasks import Auto, Binary, Cox, Multi, Multiclass, Ordinal, Regression

N = 40


def make_columns(seed=0):
    """Four targets, each of which every bag but some has."""
    rng = np.random.default_rng(seed)
    columns = {
        "time": rng.integers(1, 30, N).astype(str),
        "event": rng.integers(2, size=N).astype(str),
        "age": (50 + 10 * rng.normal(size=N)).round(1).astype(str),
        "grade": (np.arange(N) % 3).astype(str),
        "kind": np.array(["x", "y", "z", "w"])[np.arange(N) % 4],
    }
    columns["time"][:10] = columns["event"][:10] = ""
    columns["age"][5:20] = "NA"
    columns["grade"][::4] = ""
    return {name: column.astype("<U8") for name, column in columns.items()}


def targets(**options):
    return {
        "life": {"task": Cox(), "columns": ["time", "event"], "weight": 0.5},
        "age": {"task": Regression()},
        "grade": {"task": Ordinal("corn")},
        "kind": {"task": Multiclass()},
        **options,
    }


def make_task(seed=0):
    task = Multi(targets())
    labels = Labels(make_columns(seed))
    y = torch.as_tensor(task.resolve(labels).encode(labels))
    task.fit(y)
    generator = torch.Generator().manual_seed(seed)
    return task, y, torch.randn(N, task.num_outputs, generator=generator)


def alone(name, task, y, logits):
    """The task of a target, the bags that have a label of it, their labels and logits."""
    places = {"life": (slice(0, 2), slice(0, 1)), "age": (2, slice(1, 2))}
    places |= {"grade": (3, slice(2, 4)), "kind": (4, slice(4, 8))}
    of_y, of_logits = places[name]
    part = y[:, of_y]
    known = ~(part if part.ndim == 1 else part[:, 0]).isnan()
    return task.targets[name].task, known, part[known], logits[known][:, of_logits]


def test_labels_stand_side_by_side_with_gaps():
    task, y, _ = make_task()
    assert (y.shape, task.num_outputs) == ((N, 5), 1 + 1 + 2 + 4)
    columns = make_columns()
    for place, name in enumerate(("time", "event", "age", "grade")):
        expected = [float("nan") if text in ("", "NA") else float(text) for text in columns[name]]
        np.testing.assert_allclose(y[:, place], expected, rtol=1e-6)
    assert task.whole_batch
    assert task.learns_from_outputs


@pytest.mark.parametrize("name", ["life", "age", "grade", "kind"])
def test_each_target_learns_what_it_would_alone_from_its_bags(name):
    """Its mean loss over all bags is that over the labelled ones."""
    task, y, logits = make_task()
    others = {key: each.weight for key, each in task.targets.items() if key != name}
    for key in others:
        task.targets[key].weight = 0.0
    own, known, labels, mine = alone(name, task, y, logits)
    leaf = logits.requires_grad_()
    losses = task.loss(leaf, task.target(y))
    assert (losses[~known] == 0).all()
    expected = own.loss(mine.detach(), own.target(labels)).mean() * task.targets[name].weight
    assert losses.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(losses.mean(), leaf)
    assert gradient.isfinite().all()
    assert (gradient[~known] == 0).all()
    assert gradient[known].abs().sum() > 0


def test_losses_of_all_targets_add_up():
    task, y, logits = make_task()
    expected = 0.0
    for name, target in task.targets.items():
        own, _, labels, mine = alone(name, task, y, logits)
        expected += target.weight * own.loss(mine, own.target(labels)).mean().item()
    assert task.loss(logits, task.target(y)).mean().item() == pytest.approx(expected, rel=1e-5)
    weights = {name: each.weight for name, each in task.targets.items()}
    assert weights == {"life": 0.5, "age": 1, "grade": 1, "kind": 1}


def test_metrics_are_those_of_the_bags_with_a_label():
    task, y, logits = make_task()
    task.fit_outputs(logits, task.target(y))
    columns = task.predict(logits)
    fed = task.inputs(columns, task.target(y))
    assert set(fed) == set(task.input_names)
    metrics = build_metrics(task.metrics(), {}, task.input_names)
    for rows in (slice(0, 5), slice(5, 5), slice(5, N)):  # none has a time in the first
        metrics.update(**{key: values[rows] for key, values in fed.items()})
    found = metrics.compute()
    for name, key, metric in (("life", "c_index", ConcordanceIndex()), ("age", "mae", MAE())):
        own, _, labels, mine = alone(name, task, y, logits)
        given = own.inputs(own.predict(mine), own.target(labels))
        metric.update(
            *([given["risk"], given["time"], given["event"]] if name == "life" else given.values())
        )
        assert found[f"{name}_{key}"].item() == pytest.approx(metric.compute().item(), rel=1e-6)
    assert {"grade_kappa", "kind_auroc", "life_ibs"} <= set(found)
    metrics.reset()
    metrics.update(**fed)
    again = metrics.compute()
    torch.testing.assert_close(again["age_mae"], found["age_mae"])
    assert metrics["life_c_index"].higher_is_better is True


def test_columns_have_the_name_of_their_target():
    task, y, logits = make_task()
    columns = task.predict(logits)
    assert {"life_risk", "life_median_time", "age_prediction", "grade_grade"} <= set(columns)
    assert columns["kind_probability"].shape == (N, 4)
    told = task.label_columns(y)
    assert list(told) == ["life_time", "life_event", "age_label", "grade_label", "kind_label"]
    assert told["age_label"].isnan().sum() == 15
    words = task.describe({name: each[0] for name, each in columns.items()}, y[0])
    assert words.truth.startswith("life ?, age ")
    figures = task.figures()
    assert {"age_predicted", "grade_confusion", "kind_roc_pr"} <= set(figures)
    assert figures["age_predicted"](columns, y)


def test_a_checkpoint_and_an_ensemble():
    task, y, logits = make_task()
    again = Multi(targets()).from_state(task.state())
    again.load_state_dict(task.state_dict())
    same = {"rtol": 0, "atol": 0, "equal_nan": True}
    torch.testing.assert_close(again.predict(logits), task.predict(logits), **same)
    torch.testing.assert_close(
        again.loss(logits, again.target(y)), task.loss(logits, task.target(y))
    )
    member = {**task.predict(logits), "logits": logits}
    found, columns = task.average([member, member])
    torch.testing.assert_close(found.float()[:, :4], logits[:, :4], rtol=1e-5, atol=1e-5)
    for name in ("life_risk", "age_prediction", "kind_probability"):
        torch.testing.assert_close(columns[name], member[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="checkpoint, life, age, grade, kind, got age"):
        Multi({"age": {"task": Regression()}}).from_state(task.state())


def test_strata_and_patients_know_what_is_missing():
    task, y, _ = make_task()
    strata = task.strata(y.numpy())
    assert strata.shape == (N, 2 + 1 + 1 + 1)
    assert (strata[:10, :2] == -1).all()
    assert task.of_patient(y.numpy()).shape == (N, 2)
    assert not task.teaches(y[:0])


def test_tasks_are_found_where_they_are_to_be():
    task = Multi({"kind": {"task": Auto()}, "event": {"task": Auto()}})
    labels = Labels(make_columns())
    y = task.resolve(labels).encode(labels)
    assert [type(each.task) for each in task.targets.values()] == [Multiclass, Binary]
    again = Multi({"kind": {"task": Auto()}, "event": {"task": Auto()}}).from_state(task.state())
    assert again.targets["event"].task.num_outputs == 1
    assert y.shape == (N, 2)


def test_faults_of_all_targets_are_told_together():
    columns = make_columns()
    columns["age"][0], columns["time"][20], columns["event"][20] = "old", "-1", "1"
    columns["grade"][20] = "many"
    task = Multi({k: v for k, v in targets().items() if k != "grade"})
    with pytest.raises(LabelError) as told:
        task.encode(Labels(columns))
    assert set(told.value.problems) == {0, 20}
    assert told.value.problems[0][0] == "expected a number in the column 'age', got 'old'"
    with pytest.raises(LabelError, match=r"target 'grade': expected whole numbers as grades"):
        Multi(targets()).encode(Labels(columns))
    with pytest.raises(LabelError, match=r"target 'weight': expected the label columns weight"):
        Multi({"weight": {"task": Regression()}}).encode(Labels(columns))
    columns["age"][:] = ""
    with pytest.raises(LabelError, match="target 'age': expected labels in age, got none in 40"):
        task.encode(Labels(columns))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": {"columns": ["x"]}}, r"expected task.targets.a to have task, .* got columns"),
        ({"a": {"task": Cox(), "wieght": 1}}, r"to have task, .* got task, wieght"),
        ({"a": {"task": "cox"}}, r"expected task.targets.a.task to be a task .* got str"),
        ({"a": {"task": Cox(), "weight": 0}}, r"expected task.targets.a.weight above 0, got 0"),
    ],
)
def test_targets_of_a_config_are_checked(given, message):
    with pytest.raises(ValueError, match=message):
        Multi(given)


def test_targets_are_needed_and_a_training_part_needs_labels():
    with pytest.raises(LabelError, match=r"expected task.targets with a task for each"):
        Multi().resolve(Labels(make_columns()))
    task, y, _ = make_task()
    with pytest.raises(ValueError, match="a label of the target 'life', got none of 10"):
        task.fit(y[:10])

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from milforge.metrics import CalibrationError, MacroAUROC, MacroAveragePrecision, build_metrics
from milforge.tasks import Binary, Multiclass, Multilabel

KEYS = {"auroc", "accuracy", "f1", "ap", "ece"}
TASKS = ["binary", "multiclass", "multilabel"]
CLASSES = {"binary": 2, "multiclass": 4, "multilabel": 3}


def bag_metrics(task):
    """The metrics of a task, as a run has them."""
    names = [f"class {number}" for number in range(CLASSES[task])]
    known = {"kind": task, "class_names": names, "weights": None, "columns": names}
    kinds = {"binary": Binary, "multiclass": Multiclass, "multilabel": Multilabel}
    own = kinds[task]().from_state(known).metrics()
    return build_metrics(own, {}, ["preds", "target"])


def make_predictions(task, size=60, seed=0, levels=None):
    """Probabilities (rounded to `levels` steps: ties) and labels, every class with both kinds."""
    generator = torch.Generator().manual_seed(seed)
    classes = CLASSES[task]
    if task == "multiclass":
        preds = torch.randn(size, classes, generator=generator).softmax(1)
        target = (torch.arange(size) % 7).clamp(max=classes - 1)  # the last one prevails
    else:
        shape = (size,) if task == "binary" else (size, classes)
        preds = torch.rand(shape, generator=generator)
        target = (preds + torch.randn(shape, generator=generator) > 0.5).long()
    if levels is not None:
        preds = (preds * levels).round() / levels
    return preds, target


def one_hot(task, target, classes):
    target = target.numpy()
    return np.eye(classes, dtype=int)[target] if task == "multiclass" else target


def ece_by_loop(confidence, right):
    """Bins [k/15, (k+1)/15); a probability of exactly 1 has a bin of its own, as upstream."""
    error = 0.0
    bins = np.searchsorted(np.linspace(0, 1, 16, dtype=np.float32), confidence, side="right")
    for number in np.unique(bins):
        inside = bins == number
        error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return error


def oracle(task, preds, target):
    table = one_hot(task, target, CLASSES[task])
    probabilities = preds.numpy()
    if task == "multiclass":
        hard = probabilities.argmax(1)
        accuracy = accuracy_score(target, hard)
        f1 = f1_score(target, hard, average="macro")
        ece = ece_by_loop(probabilities.max(1), hard == target.numpy())
    elif task == "multilabel":
        hard = probabilities > 0.5
        accuracy = np.mean([accuracy_score(t, h) for t, h in zip(table.T, hard.T, strict=True)])
        f1 = f1_score(table, hard, average="macro")
        ece = ece_by_loop(probabilities.ravel(), table.ravel())
    else:
        hard = probabilities > 0.5
        accuracy, f1 = accuracy_score(table, hard), f1_score(table, hard)
        ece = ece_by_loop(probabilities, table)
    return {
        "auroc": roc_auc_score(table, probabilities, average="macro"),
        "ap": average_precision_score(table, probabilities, average="macro"),
        "accuracy": accuracy,
        "f1": f1,
        "ece": ece,
    }


@pytest.mark.parametrize("levels", [None, 10])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("task", TASKS)
def test_agrees_with_scikit_learn_over_several_batches(task, seed, levels):
    preds, target = make_predictions(task, seed=seed, levels=levels)
    metrics = bag_metrics(task)
    for batch in (slice(0, 1), slice(1, 20), slice(20, 60)):
        metrics.update(preds[batch], target[batch])
    computed = {key: value.item() for key, value in metrics.compute().items()}
    assert computed == pytest.approx(oracle(task, preds, target), rel=1e-5, abs=1e-6)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 1)), min_size=2, max_size=30),
    seed=st.integers(0, 2**31 - 1),
)
def test_ties_and_order_of_the_bags(pairs, seed):
    preds = torch.tensor([p for p, _ in pairs]) / 10
    target = torch.tensor([y for _, y in pairs])
    metrics = bag_metrics("binary")
    metrics.update(preds, target)
    computed = metrics.compute()
    if len(target.unique()) == 2:
        assert computed["auroc"].item() == pytest.approx(roc_auc_score(target, preds), rel=1e-6)
        expected = average_precision_score(target, preds)
        assert computed["ap"].item() == pytest.approx(expected, rel=1e-6)
    else:
        assert computed["auroc"].isnan()
        assert computed["ap"].isnan()
    order = torch.randperm(len(preds), generator=torch.Generator().manual_seed(seed))
    metrics.reset()
    metrics.update(preds[order], target[order])
    for key, value in metrics.compute().items():
        torch.testing.assert_close(value, computed[key], rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_of_label_gives_nan_without_a_warning(task, label):
    preds, target = make_predictions(task, 10)
    metrics = bag_metrics(task)
    # A multiclass epoch of one class: each class against the rest lacks one kind.
    metrics.update(preds, torch.full_like(target, label))
    computed = metrics.compute()
    assert {key for key, value in computed.items() if value.isnan()} == {"auroc", "ap"}


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_an_absent_class_is_left_out_of_the_mean(task):
    preds, target = make_predictions(task)
    if task == "multiclass":
        preds, target = preds[target != 1], target[target != 1]
    else:
        target[:, 1] = 0
    table = one_hot(task, target, CLASSES[task])
    kept = [number for number in range(CLASSES[task]) if number != 1]
    metrics = bag_metrics(task)
    metrics.update(preds, target)
    computed = metrics.compute()
    expected = roc_auc_score(table[:, kept], preds[:, kept], average="macro")
    assert computed["auroc"].item() == pytest.approx(expected, rel=1e-6)
    expected = average_precision_score(table[:, kept], preds[:, kept], average="macro")
    assert computed["ap"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_a_nan_probability_shows(task):
    preds, target = make_predictions(task)
    preds.view(-1)[7] = torch.nan
    metrics = bag_metrics(task)
    metrics.update(preds, target)
    computed = metrics.compute()
    assert all(computed[key].isnan() for key in ("auroc", "ap", "ece"))


@pytest.mark.parametrize("task", TASKS)
def test_logits_are_refused(task):
    preds, target = make_predictions(task)
    metrics = bag_metrics(task)
    metrics.update(preds, target)
    metrics.update(preds * 4 - 2, target)
    with pytest.raises(ValueError, match=r"expected probabilities, got values from -.*sigmoid"):
        metrics.compute()


@pytest.mark.parametrize(("task", "largest"), [("binary", 1), ("multilabel", 1)])
def test_foreign_labels_are_refused(task, largest):
    preds, target = make_predictions(task)
    target.view(-1)[3] = 2
    metrics = bag_metrics(task)
    metrics.update(preds, target)
    with pytest.raises(ValueError, match=f"labels from 0 to {largest} for a {task} task"):
        metrics.compute()


@pytest.mark.parametrize("task", TASKS)
def test_clones_with_a_prefix_keep_their_own_state(task):
    template = bag_metrics(task)
    val, test = template.clone(prefix="val/"), template.clone(prefix="test/")
    first, second = make_predictions(task, seed=1), make_predictions(task, seed=2)
    val.update(*first)
    test.update(*second)
    assert set(template) == KEYS
    for prefix, metrics, data in (("val/", val, first), ("test/", test, second)):
        expected = {prefix + key: value for key, value in oracle(task, *data).items()}
        computed = {key: value.item() for key, value in metrics.compute().items()}
        assert computed == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_epochs_do_not_mix(task):
    metrics = bag_metrics(task)
    for seed in range(2):
        data = make_predictions(task, seed=seed)
        metrics.update(*data)
        computed = {key: value.item() for key, value in metrics.compute().items()}
        assert computed == pytest.approx(oracle(task, *data), rel=1e-5, abs=1e-6)
        metrics.reset()


@pytest.mark.parametrize("task", TASKS)
def test_metrics_logged_one_by_one_agree_with_the_collection(task):
    """Lightning computes and resets the members, not the collection."""
    metrics = bag_metrics(task).clone(prefix="val/")
    for seed in range(2):
        data = make_predictions(task, seed=seed)
        metrics.update(data[0][:25], data[1][:25])
        metrics.update(data[0][25:], data[1][25:])
        members = dict(metrics.items(keep_base=False, copy_state=False))
        computed = {key.removeprefix("val/"): m.compute().item() for key, m in members.items()}
        assert computed == pytest.approx(oracle(task, *data), rel=1e-5, abs=1e-6)
        for member in members.values():
            member.reset()


@pytest.mark.parametrize("task", TASKS)
def test_an_epoch_without_bags_warns_and_is_nan_where_all_predictions_count(task):
    metrics = bag_metrics(task)
    with pytest.warns(UserWarning, match="was called before the ``update`` method"):
        computed = metrics.compute()
    assert {key for key, value in computed.items() if value.isnan()} == {"auroc", "ap", "ece"}


def test_predictions_are_stored_once_and_without_their_graph():
    metrics = bag_metrics("binary")
    preds, target = make_predictions("binary")
    metrics.update(preds.requires_grad_(), target)
    metrics.update(preds, target)
    members = dict(metrics.items(copy_state=False))
    assert members["auroc"].preds is members["ap"].preds is members["ece"].preds
    assert not any(part.requires_grad for part in members["auroc"].preds)


def test_half_precision_probabilities():
    preds, target = make_predictions("binary")
    metrics = bag_metrics("binary")
    metrics.update(preds.bfloat16(), target)
    computed = metrics.compute()
    assert all(value.dtype == torch.float32 for value in computed.values())
    expected = roc_auc_score(target, preds.bfloat16().float())
    assert computed["auroc"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_bags_of_which_a_network_is_sure_are_ranked(task):
    """In float32 all of these probabilities are 1. Also where metrics are moved to a device."""
    logits = torch.tensor([20.0, 22.0, 25.0, 30.0])[:, None].expand(4, CLASSES[task])
    y, table = torch.tensor([0, 0, 1, 1]), logits
    if task == "binary":
        preds = Binary().predict(logits[:, :1])["probability"][:, 1]
    elif task == "multilabel":
        preds, y = Multilabel().predict(table)["probability"], y[:, None].expand(4, 3)
    else:  # the first class against one that is far below, and two that are never there
        table = torch.stack([logits[:, 0], *torch.full((3, 4), -9.0)], dim=1)
        preds, y = Multiclass().predict(table)["probability"], 1 - y
    assert (preds.float() == 1).any()
    metrics = bag_metrics(task).to("cpu")
    metrics.update(preds=preds, target=y)
    computed = metrics.compute()
    assert computed["auroc"] == computed["ap"] == 1


def test_direction_of_each_metric():
    metrics = bag_metrics("multiclass")
    directions = {key: metric.higher_is_better for key, metric in metrics.items()}
    assert directions == {key: key != "ece" for key in KEYS}


def test_pickle():
    data = make_predictions("multilabel")
    metrics = bag_metrics("multilabel")
    metrics.update(*data)
    restored = pickle.loads(pickle.dumps(metrics))
    assert restored.compute() == metrics.compute()


@pytest.mark.parametrize(
    ("task", "preds", "target", "message"),
    [
        ("binary", (4, 1), (4,), r"probabilities of shape \('B',\) .*got \(4, 1\) and \(4,\)"),
        ("multiclass", (4, 3), (4,), r"of shape \('B', 4\) and labels of shape \('B',\)"),
        ("multilabel", (4, 3), (4,), r"labels of shape \('B', 3\) for a multilabel task"),
        ("binary", (4,), (3,), r"got \(4,\) and \(3,\)"),
    ],
)
def test_shapes_are_checked(task, preds, target, message):
    metrics = bag_metrics(task)
    with pytest.raises(ValueError, match=message):
        metrics.update(torch.zeros(preds), torch.zeros(target, dtype=torch.int64))


@pytest.mark.parametrize("metric_class", [MacroAUROC, MacroAveragePrecision, CalibrationError])
def test_arguments_are_checked(metric_class):
    with pytest.raises(ValueError, match=r"expected task to be one of .* got 'ordinal'"):
        metric_class("ordinal", 3)
    with pytest.raises(ValueError, match="num_classes >= 2 for a multiclass task, got 1"):
        metric_class("multiclass", 1)
    with pytest.raises(ValueError, match="num_classes >= 1 for a multilabel task, got 0"):
        metric_class("multilabel", 0)


PER_CLASS = [(MacroAUROC, roc_auc_score), (MacroAveragePrecision, average_precision_score)]


@pytest.mark.parametrize(("metric_class", "of_class"), PER_CLASS)
@pytest.mark.parametrize("task", TASKS)
def test_values_of_each_class(task, metric_class, of_class):
    preds, target = make_predictions(task)
    if task == "multilabel":
        target[:, 1] = 0
    metric = metric_class(task, CLASSES[task], average=None)
    metric.update(preds, target)
    table = one_hot(task, target, CLASSES[task]).reshape(len(preds), -1)
    columns = zip(table.T, preds.reshape(table.shape).T, strict=True)
    expected = [of_class(t, p) if 0 < t.sum() < len(t) else np.nan for t, p in columns]
    np.testing.assert_allclose(metric.compute(), expected, rtol=1e-6)
    assert np.isnan(expected).sum() == (task == "multilabel")


@pytest.mark.parametrize("task", TASKS)
def test_values_of_each_class_of_nothing_are_nan(task):
    metric = MacroAUROC(task, CLASSES[task], average=None)
    expected = True if task == "binary" else [True] * CLASSES[task]
    with pytest.warns(UserWarning, match="was called before the ``update`` method"):
        assert metric.compute().isnan().tolist() == expected
    preds, target = make_predictions(task)
    preds.view(-1)[0] = torch.nan
    metric.update(preds, target)
    assert metric.compute().isnan().tolist() == expected


def test_another_average_is_refused():
    with pytest.raises(ValueError, match="average to be macro or null, got 'micro'"):
        MacroAUROC("multiclass", 3, average="micro")

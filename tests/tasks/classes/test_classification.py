"""What the tasks with classes share: from labels to metrics."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from milforge.data.labels import Labels
from milforge.metrics import build_metrics
from milforge.tasks import Binary, Multiclass, Multilabel
from milforge.tasks.classes.mean import logits_of_mean

TASKS = {"binary": Binary, "multiclass": Multiclass, "multilabel": Multilabel}
NAMES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "multilabel": ("er", "her2", "pr")}
KINDS = pytest.mark.parametrize("kind", TASKS)


def make_labels(kind, bags=24, seed=0):
    """As a table has them, text; every class is there."""
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        table = rng.integers(2, size=(bags, 3))
        table[0], table[1] = 0, 1
        return Labels({name: table[:, c].astype(str) for c, name in enumerate(NAMES[kind])})
    names = np.array(NAMES[kind])
    numbers = rng.integers(len(names), size=bags)
    numbers[: len(names)] = np.arange(len(names))
    return Labels({"label": names[numbers]})


def make_task(kind, bags=24, seed=0, **options):
    """A task that has been trained, and the labels of its bags."""
    task, labels = TASKS[kind](**options), make_labels(kind, bags, seed)
    y = torch.as_tensor(task.encode(labels))
    task.fit(y)
    return task, y


def make_logits(task, y, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(len(y), task.num_outputs, generator=generator)


def probabilities(task, logits):
    """By SciPy, `(B, C)`."""
    logits = logits.double().numpy()
    if task.kind == "multiclass":
        return softmax(logits, axis=1)
    p = expit(logits)
    return np.concatenate([1 - p, p], 1) if task.kind == "binary" else p


def losses(task, logits, y):
    """`(B,)`, or `(B, 3)` of several labels, by scikit-learn, one bag and label at a time."""
    p = probabilities(task, logits)
    if task.kind == "multilabel":
        flat = zip(y.flatten().tolist(), p.flatten(), strict=True)
        return np.reshape([log_loss([a], [b], labels=[0, 1]) for a, b in flat], y.shape)
    return np.array([-np.log(row[label]) for row, label in zip(p, y.tolist(), strict=True)])


@KINDS
def test_what_is_known_after_the_labels(kind):
    task, y = make_task(kind)
    assert task.class_names == NAMES[kind]
    assert task.num_outputs == {"binary": 1, "multiclass": 3, "multilabel": 3}[kind]
    assert y.dtype == torch.int64
    assert y.shape == ((24, 3) if kind == "multilabel" else (24,))
    assert task.monitor == "val/loss"
    target = task.target(y)
    wanted = (
        (torch.int64, (24,)) if kind == "multiclass" else (torch.float32, (24, task.num_outputs))
    )
    assert (target.dtype, target.shape) == wanted


@KINDS
def test_strata_are_the_classes(kind):
    task, y = make_task(kind)
    strata = task.strata(y.numpy())
    assert strata.dtype == np.int64
    np.testing.assert_array_equal(strata, y)
    torch.testing.assert_close(task.classes(y), y)


@KINDS
def test_probabilities_and_loss(kind):
    task, y = make_task(kind)
    logits = make_logits(task, y).requires_grad_()
    columns = task.predict(logits)
    assert list(columns) == ["probability"]
    assert columns["probability"].dtype == torch.float64
    assert not columns["probability"].requires_grad
    expected = probabilities(task, logits.detach())
    np.testing.assert_allclose(columns["probability"], expected, rtol=1e-5)
    loss = task.loss(logits, task.target(y))
    wanted = losses(task, logits.detach(), y)
    wanted = wanted.mean(1) if kind == "multilabel" else wanted
    np.testing.assert_allclose(loss.detach(), wanted, rtol=1e-4, atol=1e-6)
    loss.sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("given", ["balanced", "list"])
def test_weights_of_the_bags(kind, given):
    names = NAMES[kind]
    weights = given if given == "balanced" else [1.0, 4.0, 2.0][: len(names)]
    task, y = make_task(kind, class_weights=weights)
    weight = task.weight(task.target(y))
    expected = compute_class_weight("balanced", classes=np.arange(len(names)), y=y.numpy())
    if given == "list":
        expected = np.array(weights)
        expected = expected / expected[y].mean()
    np.testing.assert_allclose(weight, expected[y], rtol=1e-6)
    assert weight.mean().item() == pytest.approx(1)
    # They are the module's to apply: the loss of a bag is what it is.
    plain, _ = make_task(kind)
    logits = make_logits(task, y)
    torch.testing.assert_close(
        task.loss(logits, task.target(y)), plain.loss(logits, plain.target(y))
    )


def test_weights_of_labels_are_in_the_loss():
    task, y = make_task("multilabel", class_weights="balanced")
    logits = make_logits(task, y)
    target = task.target(y)
    assert task.weight(target) is None
    expected = losses(task, logits, y)
    for column, labels in enumerate(y.numpy().T):
        weights = compute_class_weight("balanced", classes=np.arange(2), y=labels)
        expected[:, column] *= weights[labels]
    np.testing.assert_allclose(task.loss(logits, target), expected.mean(1), rtol=1e-4)
    # Of logits of an ensemble, which are float64.
    np.testing.assert_allclose(task.loss(logits.double(), target), expected.mean(1), rtol=1e-5)


@KINDS
def test_bags_that_count_alike_have_no_weight(kind):
    task, y = make_task(kind)
    assert task.weight(task.target(y)) is None
    assert task.weights is None


@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=30),
    weights=st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
)
def test_weights_have_mean_one_over_the_training_part(labels, weights):
    task = Multiclass(class_names=["a", "b", "c"], class_weights=weights)
    y = torch.as_tensor(task.encode(Labels({"label": np.array(list("abc"))[labels]})))
    task.fit(y)
    assert task.weight(y).mean().item() == pytest.approx(1, rel=1e-5)
    # ... and keep their proportions
    each = task.weights / task.weights[0]
    np.testing.assert_allclose(each, np.array(weights) / weights[0], rtol=1e-5)


@KINDS
def test_a_class_without_training_bags_cannot_be_balanced(kind):
    task, y = make_task(kind)
    task.class_weights = "balanced"
    with pytest.raises(ValueError, match=r"every class for class_weights=balanced, got counts"):
        task.fit(torch.zeros_like(y))


def test_a_weight_of_each_class():
    task, y = make_task("multiclass")
    task = Multiclass(class_weights=[1, 2])
    task.encode(make_labels("multiclass"))
    with pytest.raises(ValueError, match=r"weight of each of the classes a, b, c, got 2"):
        task.fit(y)


@KINDS
def test_metrics_are_those_of_scikit_learn(kind):
    task, y = make_task(kind)
    logits = make_logits(task, y)
    fed = task.inputs(task.predict(logits), task.target(y))
    assert fed["target"].dtype == torch.int64
    metrics = build_metrics(task.metrics(), {}, fed)
    metrics.update(**fed)
    computed = metrics.compute()
    assert set(computed) == {"auroc", "accuracy", "f1", "ap", "ece"}
    p = probabilities(task, logits)
    hard = p.argmax(1) if kind == "multiclass" else p > 0.5
    p, hard = (p[:, 1], hard[:, 1]) if kind == "binary" else (p, hard)
    right = (hard == y.numpy()).mean() if kind == "multilabel" else accuracy_score(y, hard)
    assert computed["accuracy"].item() == pytest.approx(right)
    f1 = f1_score(y, hard, average="binary" if kind == "binary" else "macro")
    assert computed["f1"].item() == pytest.approx(f1)
    auroc = roc_auc_score(y, p, multi_class="ovr")
    assert computed["auroc"].item() == pytest.approx(auroc, rel=1e-5)


@KINDS
def test_the_classes_of_metrics_are_known_before_the_labels(kind):
    task, _ = make_task(kind)
    own = {name: type(metric) for name, metric in task.metrics().items()}
    assert own == dict(TASKS[kind].metric_types)


@KINDS
def test_options_of_metrics(kind):
    task, _ = make_task(kind)
    classes = len(NAMES[kind])
    expected = {"task": kind, "num_classes": classes}
    if kind == "multilabel":
        expected["num_labels"] = classes
    assert task.metric_options() == expected


@KINDS
def test_several_members_are_averaged(kind):
    task, y = make_task(kind)
    members = []
    for seed in range(3):
        logits = make_logits(task, y, seed)
        members.append({"logits": logits, **task.predict(logits)})
    logits, columns = task.average(members)
    expected = np.mean([member["probability"].double().numpy() for member in members], axis=0)
    np.testing.assert_allclose(columns["probability"], expected, rtol=0, atol=1e-7)
    assert logits.dtype == torch.float64
    assert logits.shape == (len(y), task.num_outputs)
    for name, column in task.predict(logits).items():
        torch.testing.assert_close(column, columns[name])


@KINDS
@given(data=st.data())
def test_one_member_averaged_is_itself(kind, data):
    task, y = make_task(kind)
    size = len(y) * task.num_outputs
    values = data.draw(st.lists(st.floats(-30, 30, width=32), min_size=size, max_size=size))
    logits = torch.tensor(values).reshape(len(y), -1)
    told = task.predict(logits)
    averaged, columns = task.average([{"logits": logits, **told}])
    torch.testing.assert_close(columns["probability"], told["probability"])
    target = task.target(y)
    torch.testing.assert_close(
        task.loss(averaged, target), task.loss(logits.double(), target), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("one_class", [False, True])
@given(data=st.data())
def test_the_logits_are_those_of_the_mean(one_class, data):
    shape = (data.draw(st.integers(1, 4)), 3, 3)
    size = int(np.prod(shape))
    values = data.draw(st.lists(st.floats(-30, 30, width=32), min_size=size, max_size=size))
    logits = np.array(values).reshape(shape)
    told = logits_of_mean(torch.tensor(logits, dtype=torch.float32).unbind(), one_class=one_class)
    sigma = (lambda x: softmax(x, axis=-1)) if one_class else expit
    np.testing.assert_allclose(sigma(told.numpy()), sigma(logits).mean(0), rtol=1e-9)


def test_certain_members_lose_no_digits():
    """In float32 the probabilities, and in float64 one minus them, are rounded away."""
    members = [torch.tensor([[-200.0], [90.0]]), torch.tensor([[-900.0], [80.0]])]
    told = logits_of_mean(members, one_class=False)[:, 0]
    # log((e^-200 + 0) / 2), and -log of the mean of e^-90 and e^-80
    expected = [-200 - np.log(2), 80 - np.log((1 + np.exp(-10)) / 2)]
    np.testing.assert_allclose(told, expected, rtol=1e-12)
    one_hot = [torch.tensor([[500.0, 0.0]]), torch.tensor([[0.0, 700.0]])]
    half = logits_of_mean(one_hot, one_class=True).softmax(1)
    torch.testing.assert_close(half, torch.full((1, 2), 0.5).double())


@pytest.mark.parametrize("weighted", [False, True])
@KINDS
def test_a_checkpoint_tells_all(kind, weighted):
    task, y = make_task(kind, class_weights="balanced" if weighted else None)
    state = json.loads(json.dumps(task.state()))  # plain data
    assert state["kind"] == kind
    again = TASKS[kind]().from_state(state)
    assert (again.class_names, again.num_outputs) == (task.class_names, task.num_outputs)
    logits, target = make_logits(task, y), task.target(y)
    assert torch.equal(again.loss(logits, target), task.loss(logits, target))
    if task.weight(target) is not None:
        assert torch.equal(again.weight(target), task.weight(target))
    assert again.state() == state
    assert not task.state_dict()  # the state has it all


@KINDS
def test_a_task_with_weights_moves_and_is_pickled(kind):
    task, _ = make_task(kind, class_weights="balanced")
    again = pickle.loads(pickle.dumps(task))
    assert torch.equal(again.weights, task.weights)
    assert "weights" in dict(task.named_buffers())


@KINDS
def test_figures_are_drawn(kind):
    task, y = make_task(kind)
    columns = task.predict(make_logits(task, y))
    figures = {name: draw(columns, y) for name, draw in task.figures().items()}
    assert set(figures) == {"roc_pr", "confusion"}
    curves = figures["roc_pr"].axes[0].get_legend().get_texts()
    shown = NAMES[kind][1:] if kind == "binary" else NAMES[kind]
    assert [text.get_text().split(":")[0] for text in curves] == [*shown, "chance"]


@KINDS
@given(data=st.data())
def test_labels_come_back_as_columns(kind, data):
    width = 3 if kind == "multilabel" else 1
    top = len(NAMES[kind]) - 1 if kind == "multiclass" else 1
    cells = st.lists(st.integers(0, top), min_size=width, max_size=width)
    rows = np.array(data.draw(st.lists(cells, min_size=1, max_size=12)))
    if kind == "multilabel":
        labels = Labels({name: rows[:, c].astype(str) for c, name in enumerate(NAMES[kind])})
        task = Multilabel()
    else:
        labels = Labels({"label": np.array(NAMES[kind])[rows[:, 0]]})
        task = TASKS[kind](class_names=NAMES[kind])
    columns = task.label_columns(torch.as_tensor(task.encode(labels)))
    names = ["label"] if width == 1 else ["label_0", "label_1", "label_2"]
    assert list(columns) == names
    for place, name in enumerate(names):
        assert columns[name].dtype == torch.int64
        np.testing.assert_array_equal(columns[name], rows[:, place])

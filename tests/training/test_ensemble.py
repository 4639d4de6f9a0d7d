"""Averages of members, against NumPy in float64 and scikit-learn."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import entropy
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn
from torchmetrics.classification import BinaryRecall

from milforge.data import Bag, LargeImage, TensorSource, collate_bags, collate_images
from milforge.models import CLAM, BagNetwork, SamplingNetwork
from milforge.nn import (
    AttentionCNN,
    AttentionPool,
    IdentityEncoder,
    MeanPool,
    MLPEncoder,
    PatchCNN,
    Standardise,
)
from milforge.tasks import Multiclass
from milforge.tasks.classes.mean import logits_of_mean
from milforge.training import Ensemble, MILModule
from milforge.training.ensemble import scores_of_mean
from stated import CLASSES, OUTPUTS, TASKS, Stated, class_weights, make_task

NAMES = CLASSES
# Of probabilities: a softmax in float32 rounds its exponentials, their sum and the quotient, and an
# ensemble the logits of the mean before its own.
ROUNDED = 4 * float(np.finfo(np.float32).eps)
WEIGHTS = {"binary": [0.5, 3.0], "multiclass": [0.2, 1.0, 4.0], "multilabel": "balanced"}
POOLS = (
    partial(AttentionPool, att_dim=8),
    partial(AttentionPool, att_dim=8, gated=True),
    partial(AttentionPool, att_dim=5, act="relu"),
)


def labels_of(kind, n=24):
    """`(n,)`, or `(n, C)`."""
    i = torch.arange(n)
    return {
        "binary": i % 2,
        "multiclass": i % 3,
        "multilabel": torch.stack([i % 2, i // 2 % 2, i // 4 % 2], 1),
        "regression": torch.stack([40.0 + i, (i - 3.0).square()], 1),
    }[kind]


def make_member(kind, number, pool=None, weights=None, standardise=True, y=None):
    """A member with weights and statistics of its own, sure enough of itself to be wrong."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        network = BagNetwork(
            (4,),
            OUTPUTS[kind],
            encoder=partial(MLPEncoder, hidden=(16,)),
            pool=pool or POOLS[number],
        )
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.8)
        statistics = torch.randn(4), torch.rand(4) + 0.5
    own = Standardise(*statistics) if standardise else None
    options = {} if weights is None else {"class_weights": weights}
    task = make_task(kind, labels_of(kind) if y is None else y, **options)
    return MILModule(network, task, standardise=own).eval()


def make_bags(kind, n=24, dtype=torch.float32):
    rng = np.random.default_rng(0)
    bags = []
    for i, label in enumerate(labels_of(kind, n)):
        size = int(rng.integers(1, 9))
        x = torch.tensor(rng.normal(size=(size, 4))).to(dtype)
        y_inst = torch.tensor(rng.integers(2, size=size))
        bags.append(Bag(x, label if label.ndim else label.item(), y_inst=y_inst, bag_id=str(i)))
    return bags


def ensemble(*members):
    return Ensemble(members).eval()


@torch.no_grad()
def told_by(module, batch):
    """What a module returns for a batch, columns and details among the rest."""
    told = module.predict_step(batch, 0)
    columns, details = told.pop("columns"), told.pop("details")
    return {**details, **columns, **told}


def mean(members, batch, name):
    """From what the members return alone."""
    return np.mean([told_by(member, batch)[name].double().numpy() for member in members], axis=0)


def sums_to_one(p):
    """Scikit-learn warns of what float32 leaves of that."""
    return p / p.sum(1, keepdims=True)


@torch.no_grad()
def evaluated(module, batch):
    module.test_step(batch, 0)
    return {name: float(value) for name, value in module.test_metrics.compute().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("task", TASKS)
def test_columns_and_weights_are_the_mean_of_the_members(task, dtype):
    members = [make_member(task, number) for number in range(3)]
    batch = collate_bags(make_bags(task, dtype=dtype))
    told = told_by(ensemble(*members), batch)
    column = "prediction" if task == "regression" else "probability"
    for name, atol in ((column, 1e-5 if task == "regression" else ROUNDED), ("weights", ROUNDED)):
        alone = [told_by(member, batch)[name] for member in members]
        assert float((alone[0] - alone[1]).abs().max()) > 0.1  # or the mean would prove nothing
        np.testing.assert_allclose(told[name], mean(members, batch, name), rtol=1e-6, atol=atol)
    np.testing.assert_allclose(told["scores"], np.log(mean(members, batch, "weights")), atol=1e-6)
    torch.testing.assert_close(told["y_inst"], batch.y_inst)
    for name in (column, "logits", "weights", "scores"):
        assert told[name].dtype == (torch.float64 if name == "probability" else torch.float32)


def test_members_of_other_folds_have_other_scales():
    """What a logit of 1 means is for each member to say; the mean is in the unit of the labels."""
    y = [torch.stack([100.0 * k + torch.arange(24.0), torch.arange(24.0) ** k], 1) for k in (1, 2)]
    members = [make_member("regression", number, y=each) for number, each in enumerate(y)]
    batch = collate_bags(make_bags("regression"))
    told = told_by(ensemble(*members), batch)
    logits = [told_by(member, batch)["logits"].double() for member in members]
    each = [
        z * t.double().std(0, correction=0) + t.double().mean(0)
        for z, t in zip(logits, y, strict=True)
    ]
    expected = torch.stack(each).mean(0)
    np.testing.assert_allclose(told["prediction"], expected, rtol=1e-5)
    # Those of the ensemble say the same on the scale of its first member.
    scaled = (expected - y[0].double().mean(0)) / y[0].double().std(0, correction=0)
    np.testing.assert_allclose(told["logits"], scaled, rtol=1e-4, atol=1e-4)
    error = (expected - labels_of("regression").double()).abs().mean(0)
    metrics = evaluated(ensemble(*members), batch)
    assert [metrics["test/mae_0"], metrics["test/mae_1"]] == pytest.approx(error.tolist(), rel=1e-5)
    squares = (scaled - (labels_of("regression") - y[0].mean(0)) / y[0].std(0, correction=0)) ** 2
    assert metrics["test/loss"] == pytest.approx(float(squares.mean()), rel=1e-4)


def losses_of(task, y, p):
    """`(B,)`, or `(B, 3)` for a multilabel task, by scikit-learn, one bag and class at a time."""
    if task == "multiclass":
        each = [log_loss([a], [b], labels=[0, 1, 2]) for a, b in zip(y, p, strict=True)]
        return np.array(each)
    flat = [
        log_loss([a], [b], labels=[0, 1]) for a, b in zip(y.flatten(), p.flatten(), strict=True)
    ]
    return np.reshape(flat, y.shape)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", NAMES)
def test_loss_and_metrics_are_those_of_the_mean(task, weighted):
    """The class weights are those of the first member."""
    weights = WEIGHTS[task] if weighted else None
    members = [make_member(task, number, weights=weights) for number in range(2)]
    members.append(make_member(task, 2))
    batch = collate_bags(make_bags(task))
    p, y = mean(members, batch, "probability"), batch.y.numpy()
    p = sums_to_one(p) if task == "multiclass" else p[:, 1] if task == "binary" else p
    losses = losses_of(task, y, p)
    if weighted:
        losses = losses * class_weights(task, batch.y, weights).numpy()
    metrics = evaluated(ensemble(*members), batch)
    assert metrics["test/loss"] == pytest.approx(losses.mean(), rel=1e-6)
    if task != "multilabel" and not weighted:
        assert metrics["test/loss"] == pytest.approx(log_loss(y, p), rel=1e-6)
    assert metrics["test/auroc"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
    right = p.argmax(1) == y if task == "multiclass" else (p > 0.5) == y
    assert metrics["test/accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    bags = np.split(mean(members, batch, "weights"), batch.ptr[1:-1])
    kinds = np.split(batch.y_inst.numpy(), batch.ptr[1:-1])
    localised = [
        roc_auc_score(kind, weight)
        for weight, kind, label in zip(bags, kinds, y, strict=True)
        if 0 < kind.sum() < len(kind) and (task != "binary" or label == 1)
    ]
    assert metrics["test/inst_auroc"] == pytest.approx(np.mean(localised), abs=1e-6)


def test_loss_and_metrics_of_a_config_are_those_of_the_first_member():
    members = [make_member("binary", number) for number in range(2)]
    options = {"loss": lambda z, y: 3 * z[:, 0], "metrics": {"ap": None, "hits": BinaryRecall()}}
    first = MILModule(members[0].network, members[0].task, **options).eval()
    batch = collate_bags(make_bags("binary"))
    module = ensemble(first, members[1])
    metrics = evaluated(module, batch)
    assert "test/ap" not in metrics
    assert metrics["test/loss"] == pytest.approx(
        3 * float(told_by(module, batch)["logits"].mean()), abs=1e-5
    )
    p = mean([first, members[1]], batch, "probability")[:, 1]
    assert metrics["test/hits"] == pytest.approx((p > 0.5)[batch.y == 1].mean())


@pytest.mark.parametrize("task", TASKS)
def test_one_member_is_plain_evaluation(task):
    weights = None if task == "regression" else WEIGHTS[task]
    member, batch = make_member(task, 0, weights=weights), collate_bags(make_bags(task))
    plain, alone = told_by(member, batch), told_by(ensemble(member), batch)
    assert plain.keys() == alone.keys()
    column = "prediction" if task == "regression" else "probability"
    for told in (plain, alone):  # of a softmax they are known but for a constant
        told["logits"] -= told["logits"].mean(1, keepdim=True) * (task == "multiclass")
    for name in (column, "logits", "weights"):
        np.testing.assert_allclose(alone[name], plain[name], rtol=1e-5, atol=1e-6)
    assert evaluated(ensemble(member), batch) == pytest.approx(evaluated(member, batch), rel=1e-5)


def test_what_all_members_log_is_averaged():
    y, zeros = labels_of("binary", 4), torch.zeros(4, 1)
    details = [
        {"weight_a": torch.arange(4.0), "weight_b": torch.ones(4)},
        {"weight_a": torch.ones(4)},
    ]
    members = [
        MILModule(Stated(zeros, details=each), make_task("binary", y)).eval() for each in details
    ]
    module = ensemble(*members)
    assert module.logged == ("weight_a",)
    batch = collate_bags(make_bags("binary", 4))
    metrics = evaluated(module, batch)
    assert metrics["test/weight_a"] == pytest.approx((1.5 + 1) / 2)
    assert "test/weight_b" not in metrics
    assert told_by(module, batch)["weight_a"].tolist() == [0.5, 1, 1.5, 2]


@torch.no_grad()
def test_members_may_differ_in_whether_they_standardise():
    members = [make_member("binary", 0), make_member("binary", 1, standardise=False)]
    batch = collate_bags(make_bags("binary", dtype=torch.float16))
    told = told_by(ensemble(*members), batch)
    expected = mean(members, batch, "probability")
    np.testing.assert_allclose(told["probability"], expected, rtol=0, atol=1e-7)


def test_of_several_heads_the_weights_are_averaged_too():
    y, bags = labels_of("binary", 4), make_bags("binary", 4)

    class Heads(Stated):
        def forward(self, batch):
            return super().forward(batch)._replace(scores=self.sign * batch.x)

    members = []
    for sign in (1, -1):
        network = Heads(torch.zeros(4, 1))
        network.sign = sign
        members.append(MILModule(network, make_task("binary", y)).eval())
    batch = collate_bags(bags)
    told = told_by(ensemble(*members), batch)
    for b, bag in enumerate(bags):
        heads = [(sign * bag.x.double()).softmax(0).mean(1) for sign in (1, -1)]
        part = slice(batch.ptr[b], batch.ptr[b + 1])
        np.testing.assert_allclose(told["weights"][part], sum(heads) / 2, rtol=1e-5)
    assert told["scores"].shape == (batch.num_instances,)


@torch.no_grad()
def test_of_attention_per_class_that_of_the_common_class_is_shown():
    """Also of a member that predicts another one by itself."""
    members = [make_member("multiclass", number, standardise=False) for number in range(2)]
    for member, bias in zip(members, (40.0, 20.0), strict=True):
        number = members.index(member)
        with torch.random.fork_rng():
            torch.manual_seed(number)
            network = CLAM((4,), 3, encoder=IdentityEncoder, multi_branch=True, att_dim=8)
        nn.init.normal_(network.attention.fc2.weight, std=5.0)
        network.head.bias.data[number] += bias
        member.network = network.eval()
    both, batch = ensemble(*members), collate_bags(make_bags("multiclass", 1))
    with torch.no_grad():
        told = [each.predict_step(batch, 0)["columns"]["probability"] for each in (*members, both)]
        assert [each.argmax().item() for each in told] == [0, 1, 0]
        scores = [member(member.prepared(batch)).scores[:, 0] for member in members]
        weights = both.predict_step(batch, 0)["weights"]
        said = both.explained(batch)
    expected = [each.softmax(0) for each in scores]
    torch.testing.assert_close(weights, torch.stack(expected).mean(0))
    torch.testing.assert_close(said.weights, weights)
    for member, its in zip(said.members, expected, strict=True):
        torch.testing.assert_close(member.weights, its)


def test_a_member_without_attention_leaves_none():
    members = [make_member("binary", 0), make_member("binary", 1, pool=MeanPool())]
    batch = collate_bags(make_bags("binary"))
    told = told_by(ensemble(*members), batch)
    assert "weights" not in told
    expected = mean(members, batch, "probability")
    np.testing.assert_allclose(told["probability"], expected, rtol=0, atol=1e-7)
    assert "test/inst_auroc" not in evaluated(ensemble(*members), batch)


@pytest.mark.parametrize("task", NAMES)
@given(data=st.data())
def test_the_logits_are_those_of_the_mean(task, data):
    shape = (data.draw(st.integers(1, 4)), 3, OUTPUTS[task])
    size = int(np.prod(shape))
    values = data.draw(st.lists(st.floats(-30, 30, width=32), min_size=size, max_size=size))
    logits = np.array(values).reshape(shape)
    one_class = task == "multiclass"
    told = logits_of_mean(torch.tensor(logits, dtype=torch.float32).unbind(), one_class=one_class)
    sigma = partial(softmax, axis=-1) if one_class else expit
    np.testing.assert_allclose(sigma(told.numpy()), sigma(logits).mean(0), rtol=1e-9)


def test_certain_members_lose_no_digits():
    """In float32 the probabilities, and in float64 one minus them, are rounded away."""
    each = [torch.tensor([-200.0, 90.0]), torch.tensor([-900.0, 80.0])]
    told = logits_of_mean(each, one_class=False)
    # log((e^-200 + 0) / 2), and -log of the mean of e^-90 and e^-80
    expected = [-200 - np.log(2), 80 - np.log((1 + np.exp(-10)) / 2)]
    np.testing.assert_allclose(told, expected, rtol=1e-12)
    one_hot = [torch.tensor([[500.0, 0.0]]), torch.tensor([[0.0, 700.0]])]
    torch.testing.assert_close(
        logits_of_mean(one_hot, one_class=True).softmax(1), torch.full((1, 2), 0.5).double()
    )


def test_small_weights_keep_their_order_and_masked_ones_stay():
    scores = torch.tensor([0.0, -200.0, -300.0, -torch.inf, 5.0])
    told = scores_of_mean([scores, scores], torch.tensor([0, 4, 5]))
    np.testing.assert_allclose(told, [0, -200, -300, -np.inf, 0], rtol=1e-12)


def make_image_member(number, shrink=1):
    def attention(channels):
        return nn.Sequential(nn.AvgPool2d(shrink), AttentionCNN(channels, hidden=(4,)))

    with torch.random.fork_rng():
        torch.manual_seed(number)
        network = SamplingNetwork(
            (1,),
            3,
            attention=attention,
            feature=partial(PatchCNN, width=8, length=5.0),
            patch_size=(20, 20),
            n_patches=3,
        )
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5)
    state = {"kind": "multiclass", "class_names": ["a", "b", "c"], "weights": None}
    return MILModule(network, Multiclass().from_state(state)).eval()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    tables = torch.tensor(rng.random((12, 1, 60, 60)), dtype=torch.float32)
    return collate_images(
        [
            LargeImage(nn.functional.avg_pool2d(x, 5), TensorSource(x), i % 3, f"image {i}")
            for i, x in enumerate(tables)
        ]
    )


def test_of_images_the_maps_are_averaged_and_the_patches_the_first_members(images):
    members = [make_image_member(number) for number in range(3)]
    module = ensemble(*members)
    told, first = told_by(module, images), told_by(members[0], images)
    assert told.keys() == first.keys()
    for name in ("probability", "attention"):
        assert float((told[name] - first[name]).abs().max()) > 1e-3
        np.testing.assert_allclose(told[name], mean(members, images, name), rtol=0, atol=1e-7)
    for name in ("patches", "offsets", "coords", "scores", "weights", "sizes"):
        assert torch.equal(told[name], first[name])
    metrics = evaluated(module, images)
    p, maps = (mean(members, images, name) for name in ("probability", "attention"))
    assert metrics["test/loss"] == pytest.approx(log_loss(images.y, sums_to_one(p)), rel=1e-6)
    nats = entropy(maps.reshape(len(maps), -1), axis=1)
    assert metrics["test/attention_entropy"] == pytest.approx(nats.mean(), rel=1e-5)
    np.testing.assert_allclose(told["attention_entropy"], nats, rtol=1e-5)


def test_maps_of_different_sizes_cannot_be_averaged(images):
    module = ensemble(make_image_member(0), make_image_member(1, shrink=2))
    with pytest.raises(
        ValueError, match=r"maps of one size to average, got \[\(6, 6\), \(12, 12\)"
    ):
        module.predict_step(images, 0)

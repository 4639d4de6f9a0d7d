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

from milforge.data import Bag, LargeImage, TensorSource, collate_bags, collate_images
from milforge.models import BagNetwork, SamplingNetwork
from milforge.nn import (
    AttentionCNN,
    AttentionPool,
    MeanPool,
    MLPEncoder,
    PatchCNN,
    Standardise,
)
from milforge.training import (
    BagClassification,
    BagEnsemble,
    ImageClassification,
    ImageEnsemble,
)
from milforge.training.ensemble import logits_of_mean, scores_of_mean

NAMES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "multilabel": ("a", "b", "c")}
WEIGHTS = {
    "binary": torch.tensor([0.5, 3.0]),
    "multiclass": torch.tensor([0.2, 1.0, 4.0]),
    "multilabel": torch.tensor([[0.5, 3.0], [1.0, 2.0], [0.1, 7.0]]),
}
POOLS = (
    partial(AttentionPool, att_dim=8),
    partial(AttentionPool, att_dim=8, gated=True),
    partial(AttentionPool, att_dim=5, act="relu"),
)


def make_member(task, number, pool=None, weights=None, standardise=True):
    """A member with weights and statistics of its own, sure enough of itself to be wrong."""
    with torch.random.fork_rng():
        torch.manual_seed(number)
        network = BagNetwork(
            (4,),
            1 if task == "binary" else 3,
            encoder=partial(MLPEncoder, hidden=(16,)),
            pool=pool or POOLS[number],
        )
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.8)
        statistics = torch.randn(4), torch.rand(4) + 0.5
    own = Standardise(*statistics) if standardise else None
    return BagClassification(
        network, task, NAMES[task], class_weights=weights, standardise=own
    ).eval()


def make_bags(task, n=24, dtype=torch.float32):
    rng = np.random.default_rng(0)
    bags = []
    for i in range(n):
        size = int(rng.integers(1, 9))
        label = {
            "binary": i % 2,
            "multiclass": i % 3,
            "multilabel": torch.tensor([i % 2, i // 2 % 2, i // 4 % 2]),
        }[task]
        x = torch.tensor(rng.normal(size=(size, 4))).to(dtype)
        bags.append(Bag(x, y=label, y_inst=torch.tensor(rng.integers(2, size=size)), bag_id=str(i)))
    return bags


def ensemble(*members):
    return BagEnsemble(members).eval()


def mean(members, batch, name):
    """Of what the members tell alone."""
    with torch.no_grad():
        return np.mean([m.predict_step(batch, 0)[name].double().numpy() for m in members], axis=0)


def sums_to_one(p):
    """Scikit-learn warns of what float32 leaves of that."""
    return p / p.sum(1, keepdims=True)


@torch.no_grad()
def evaluated(module, batch):
    module.test_step(batch, 0)
    return {name: float(value) for name, value in module.test_metrics.compute().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("task", NAMES)
@torch.no_grad()
def test_probabilities_and_weights_are_the_mean_of_the_members(task, dtype):
    members = [make_member(task, number) for number in range(3)]
    batch = collate_bags(make_bags(task, dtype=dtype))
    told = ensemble(*members).predict_step(batch, 0)
    for name in ("probabilities", "weights"):
        alone = [member.predict_step(batch, 0)[name] for member in members]
        assert float((alone[0] - alone[1]).abs().max()) > 0.1  # or the mean would tell nothing
        np.testing.assert_allclose(told[name], mean(members, batch, name), rtol=0, atol=1e-7)
    np.testing.assert_allclose(told["scores"], np.log(mean(members, batch, "weights")), atol=1e-6)
    torch.testing.assert_close(told["y_inst"], batch.y_inst)
    for name in ("probabilities", "weights", "scores"):
        assert told[name].dtype == torch.float32


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
    members.append(make_member(task, 2, weights=10 * WEIGHTS[task]))
    batch = collate_bags(make_bags(task))
    p, y = mean(members, batch, "probabilities"), batch.y.numpy()
    p = sums_to_one(p) if task == "multiclass" else p
    losses = losses_of(task, y, p)
    if weighted and task == "multilabel":
        losses = losses * np.where(y == 1, weights[:, 1], weights[:, 0])
    elif weighted:
        losses = losses * weights.numpy()[y]
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


@pytest.mark.parametrize("task", NAMES)
@torch.no_grad()
def test_one_member_is_plain_evaluation(task):
    member, batch = make_member(task, 0, weights=WEIGHTS[task]), collate_bags(make_bags(task))
    plain, alone = member.predict_step(batch, 0), ensemble(member).predict_step(batch, 0)
    assert plain.keys() == alone.keys()
    for name in ("probabilities", "weights"):
        np.testing.assert_allclose(alone[name], plain[name], rtol=0, atol=1e-7)
    assert evaluated(ensemble(member), batch) == pytest.approx(evaluated(member, batch), rel=1e-6)


@torch.no_grad()
def test_members_may_differ_in_whether_they_standardise():
    members = [make_member("binary", 0), make_member("binary", 1, standardise=False)]
    batch = collate_bags(make_bags("binary", dtype=torch.float16))
    told = ensemble(*members).predict_step(batch, 0)
    np.testing.assert_allclose(
        told["probabilities"], mean(members, batch, "probabilities"), rtol=0, atol=1e-7
    )


@torch.no_grad()
def test_a_member_without_attention_leaves_none():
    members = [make_member("binary", 0), make_member("binary", 1, pool=MeanPool())]
    batch = collate_bags(make_bags("binary"))
    told = ensemble(*members).predict_step(batch, 0)
    assert "weights" not in told
    np.testing.assert_allclose(
        told["probabilities"], mean(members, batch, "probabilities"), rtol=0, atol=1e-7
    )
    assert "test/inst_auroc" not in evaluated(ensemble(*members), batch)


@pytest.mark.parametrize("task", NAMES)
@given(data=st.data())
def test_the_logits_are_those_of_the_mean(task, data):
    shape = (data.draw(st.integers(1, 4)), 3, *(() if task == "binary" else (3,)))
    size = int(np.prod(shape))
    values = data.draw(st.lists(st.floats(-30, 30, width=32), min_size=size, max_size=size))
    logits = np.array(values).reshape(shape)
    told = logits_of_mean(torch.tensor(logits, dtype=torch.float32).unbind(), task)
    sigma = partial(softmax, axis=-1) if task == "multiclass" else expit
    np.testing.assert_allclose(sigma(told.numpy()), sigma(logits).mean(0), rtol=1e-9)


def test_certain_members_lose_no_digits():
    """In float32 the probabilities, and in float64 one minus them, are rounded away."""
    told = logits_of_mean([torch.tensor([-200.0, 90.0]), torch.tensor([-900.0, 80.0])], "binary")
    # log((e^-200 + 0) / 2), and -log of the mean of e^-90 and e^-80
    expected = [-200 - np.log(2), 80 - np.log((1 + np.exp(-10)) / 2)]
    np.testing.assert_allclose(told, expected, rtol=1e-12)
    one_hot = [torch.tensor([[500.0, 0.0]]), torch.tensor([[0.0, 700.0]])]
    torch.testing.assert_close(
        logits_of_mean(one_hot, "multiclass").softmax(1), torch.full((1, 2), 0.5).double()
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
    return ImageClassification(network, "multiclass", NAMES["multiclass"]).eval()


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


@torch.no_grad()
def test_of_images_the_maps_are_averaged_and_the_patches_the_first_members(images):
    members = [make_image_member(number) for number in range(3)]
    module = ImageEnsemble(members).eval()
    told, first = module.predict_step(images, 0), members[0].predict_step(images, 0)
    assert told.keys() == first.keys()
    for name in ("probabilities", "attention"):
        assert float((told[name] - first[name]).abs().max()) > 1e-3
        np.testing.assert_allclose(told[name], mean(members, images, name), rtol=0, atol=1e-7)
    for name in ("patches", "offsets", "coords", "scores", "weights", "sizes"):
        assert torch.equal(told[name], first[name])
    metrics = evaluated(module, images)
    p, maps = (mean(members, images, name) for name in ("probabilities", "attention"))
    assert metrics["test/loss"] == pytest.approx(log_loss(images.y, sums_to_one(p)), rel=1e-6)
    nats = entropy(maps.reshape(len(maps), -1), axis=1).mean()
    assert metrics["test/attention_entropy"] == pytest.approx(nats, rel=1e-5)


@torch.no_grad()
def test_maps_of_different_sizes_cannot_be_averaged(images):
    module = ImageEnsemble([make_image_member(0), make_image_member(1, shrink=2)]).eval()
    with pytest.raises(
        ValueError, match=r"maps of one size to average, got \[\(6, 6\), \(12, 12\)"
    ):
        module.predict_step(images, 0)

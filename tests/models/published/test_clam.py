import itertools

import pytest
import torch
from torch.testing import assert_close

import published
from milforge.models import CLAM
from milforge.models.published.clam import smooth_svm


def logits_by_hand(network, batch, outputs):
    rows = []
    for x in published.bags_of(batch):
        logits = []
        for c in range(network.head.out_features):
            head = c if network.multi_branch else 0
            z = published.pooled(x, published.softmax(published.gated(network.attention, x, head)))
            logits.append(z @ network.head.weight[c] + network.head.bias[c])
        if network.multi_branch and outputs == 1:
            logits = [logits[1] - logits[0]]
        rows.append(torch.stack(logits))
    return torch.stack(rows)


@pytest.mark.parametrize("multi_branch", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_logits(multi_branch, outputs):
    network = published.build(CLAM, outputs, multi_branch=multi_branch, att_dim=4)
    batch = published.batch_of()
    expected = logits_by_hand(network, batch, outputs)
    assert_close(network(batch).logits, expected, rtol=1e-5, atol=1e-9)


def svm_by_hand(logits, target):
    """With the margin of every class but the right one, over all of them."""
    scores = [logits[j] + (j != target) - logits[target] for j in range(len(logits))]
    return torch.stack(scores).exp().sum().log()


def ce_by_hand(logits, target):
    return -(logits[target].exp() / logits.exp().sum()).log()


def instance_loss_by_hand(network, x, present, loss):
    """Of one bag; `present` says of each class whether the bag has it."""
    k = min(network.k, len(x) // 2)
    if k == 0:
        return torch.zeros(()).double()
    total = torch.zeros(()).double()
    for c, there in enumerate(present):
        scores = published.gated(network.attention, x, c if network.multi_branch else 0)
        order = sorted(range(len(x)), key=lambda i: -scores[i].item())
        pairs = [(i, 1) for i in order[:k]] + [(i, 0) for i in order[-k:]]
        if not there:
            pairs = [(i, 0) for i in order[:k]] if network.subtyping else []
        rows = slice(2 * c, 2 * c + 2)
        weight, bias = network.instance_heads.weight[rows], network.instance_heads.bias[rows]
        losses = [loss(weight @ x[i] + bias, target) for i, target in pairs]
        total = total + (sum(losses) / len(losses) if losses else 0.0)
    return total / (len(present) if network.subtyping else 1)


KINDS = {  # outputs, classes of six bags, which of them each has
    "binary": (1, torch.tensor([0, 1, 1, 0, 1, 0])),
    "multiclass": (3, torch.tensor([0, 1, 2, 1, 1, 0])),
    "multilabel": (3, torch.tensor([[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]] + [[1, 0, 0]] * 2)),
    "one label": (1, torch.tensor([[0], [1], [1], [0], [1], [0]])),
}


@pytest.mark.parametrize(
    ("multi_branch", "subtyping", "loss"), list(itertools.product([0, 1], [0, 1], ["svm", "ce"]))
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_the_instances(kind, multi_branch, subtyping, loss):
    outputs, classes = KINDS[kind]
    options = {"multi_branch": bool(multi_branch), "subtyping": bool(subtyping)}
    network = published.build(CLAM, outputs, att_dim=4, k=3, instance_loss=loss, **options).train()
    batch = published.batch_of()
    found = network.auxiliary_loss(batch, network(batch), classes)
    by_hand = svm_by_hand if loss == "svm" else ce_by_hand
    expected = []
    for x, label in zip(published.bags_of(batch), classes, strict=True):
        present = label.tolist() if label.ndim and len(label) > 1 else [0] * max(2, outputs)
        if not (label.ndim and len(label) > 1):
            present[int(label)] = 1
        expected.append(0.3 * instance_loss_by_hand(network, x, present, by_hand))
    assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-9)
    assert network.loss_weight == 0.7


def test_the_smooth_svm_loss_nears_the_hinge_as_logits_grow():
    logits = torch.tensor([[3.0, -2.0], [-40.0, 40.0], [40.0, -40.0]])
    found = smooth_svm(logits, torch.tensor([0, 0, 0]))
    assert_close(found[1:], torch.tensor([81.0, 0.0]))
    assert_close(found[0], svm_by_hand(logits[0], 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"expected model\.k of at least 1, got 0"),
        ({"bag_weight": 1.5}, r"expected model\.bag_weight from 0 to 1, got 1\.5"),
        ({"instance_loss": "hinge"}, r"model\.instance_loss to be one of .* got 'hinge'"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        published.build(CLAM, **options)

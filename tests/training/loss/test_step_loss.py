"""The loss of a step, bag by bag, and what a network adds to it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from milforge.data import collate_bags
from milforge.functional import attention_supervision
from milforge.models.output import Auxiliary, BagOutput
from milforge.tasks import Ordinal
from milforge.training.loss.step_loss import (
    auxiliary_loss,
    bag_losses,
    check_loss,
    instance_losses,
    warn_without_classes,
)
from stated import (
    CLASSES,
    TASKS,
    Stated,
    attached,
    losses_by_hand,
    make_labels,
    make_module,
    make_problem,
    make_task,
)

EACH_TASK = pytest.mark.parametrize("kind", TASKS)


@EACH_TASK
def test_the_losses_of_a_task_are_those_by_hand(kind):
    logits, y, _ = make_problem(kind)
    task = make_task(kind, y)
    target = task.target(y)
    found = bag_losses(task.loss, task, logits.double(), target)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, losses_by_hand(kind, logits, y), rtol=1e-6, atol=1e-7)
    half = bag_losses(task.loss, task, logits.bfloat16(), target)
    assert half.dtype == torch.float32


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda z, t: F.mse_loss(z, t[:, 0], reduction="none"), r"\(5, 5\)"),  # broadcasts
        (lambda z, t: F.binary_cross_entropy_with_logits(z, t), r"\(\)"),
        (lambda z, t: F.mse_loss(z, t, reduction="none"), r"\(5, 1\)"),
        (lambda z, t: 0.0, "float"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_of_another_shape_is_refused(loss, got):
    y = torch.tensor([0, 1, 0, 1, 1])
    task = make_task("binary", y)
    with pytest.raises(ValueError, match=rf"of shape \(5,\), got {got}; .*reduction='none'"):
        bag_losses(loss, task, torch.zeros(5, 1), task.target(y))


@EACH_TASK
def test_a_loss_is_tried_before_any_bag_is_read(kind):
    y = make_labels(kind)
    task = make_task(kind, y)
    check_loss(task.loss, task, y)
    with pytest.raises(ValueError, match="expected a loss for each bag"):
        check_loss(lambda z, t: task.loss(z, t).mean(), task, y)


def never(logits, target):
    raise TypeError("no such labels\nand more")


@pytest.mark.parametrize(
    ("kind", "loss", "message"),
    [
        ("binary", never, r"float32 and shape \('B', 1\), .* Binary gives \(no such labels\)"),
        ("multiclass", F.binary_cross_entropy_with_logits, r"int64 and shape \('B',\), .*Multi"),
        ("multilabel", F.nll_loss, r"shape \('B', 3\), which the task Multilabel gives"),
        ("regression", lambda z: z, r"shape \('B', 2\), which the task Regression gives"),
    ],
)
def test_a_loss_that_cannot_take_such_labels_is_told(kind, loss, message):
    y = make_labels(kind)
    with pytest.raises(ValueError, match=rf"it cannot take .*{message}.*choose loss=task"):
        check_loss(loss, make_task(kind, y), y)


class Assistant(Stated):
    """A network that holds further logits to the labels: `parts` a bag of each, the first two."""

    def __init__(self, logits, further, bag, weight=0.5, loss_weight=1.0):
        super().__init__(logits)
        self.further = nn.Parameter(further)
        self.bag, self.weight, self.loss_weight = bag, weight, loss_weight

    def forward(self, batch):
        further = Auxiliary(self.further, self.bag, self.weight)
        return super().forward(batch)._replace(auxiliary=(further,))


def further_by_hand(kind, further, bag, y, weight, weights=None):
    """Averaged within a bag, then over the bags, in float64."""
    total = 0.0
    for b in range(len(y)):
        rows = [m for m in range(len(bag)) if bag[m] == b]
        for m in rows:
            # All labels are given, so that weights and scales are those of the part.
            alone = further[m].expand(len(y), -1)
            total = total + losses_by_hand(kind, alone, y, weights)[b] / len(rows)
    return weight * total / len(y)


@pytest.mark.parametrize("loss_weight", [1.0, 0.25, 0.0])
@pytest.mark.parametrize(
    ("kind", "weights"), [*((kind, None) for kind in TASKS), *((k, "balanced") for k in CLASSES)]
)
def test_further_logits_are_averaged_within_a_bag_then_over_bags(kind, weights, loss_weight):
    logits, y, bags = make_problem(kind, n=7)
    generator = torch.Generator().manual_seed(1)
    bag = torch.tensor([0, 0, 0, 1, 2, 2, 4, 5, 6, 3, 3, 3, 3])  # not in order
    further = torch.randn(len(bag), logits.shape[1], generator=generator)
    network = Assistant(logits.clone(), further.clone(), bag, loss_weight=loss_weight)
    module = make_module(kind, y, logits, weights, network=network)
    loss = module.training_step(collate_bags(bags), 0)
    loss.backward()
    leaves = [each.double().requires_grad_() for each in (logits, further)]
    own = losses_by_hand(kind, leaves[0], y, weights).mean()
    expected = loss_weight * own + further_by_hand(kind, leaves[1], bag, y, 0.5, weights)
    expected.backward()
    torch.testing.assert_close(loss.detach().double(), expected.detach())
    for parameter, leaf in zip((network.logits, network.further), leaves, strict=True):
        torch.testing.assert_close(parameter.grad.double(), leaf.grad, rtol=1e-5, atol=1e-7)
    # What is logged is the loss of the bags themselves, so that models compare.
    logged = module.train_metrics.compute()["train/loss"]
    torch.testing.assert_close(logged.double(), own.detach())


def test_a_bag_without_further_logits_adds_nothing():
    y = torch.tensor([0, 1, 1])
    task = make_task("binary", y)
    further = Auxiliary(torch.zeros(2, 1), torch.tensor([0, 0]), 3.0)
    output = BagOutput(torch.zeros(3, 1), auxiliary=(further, further))
    batch = SimpleNamespace(y=y)
    added = auxiliary_loss(nn.Identity(), task, task.loss, batch, output, task.target(y))
    torch.testing.assert_close(added, torch.tensor([6.0, 0, 0]) * torch.tensor(2.0).log())
    plain = BagOutput(torch.zeros(3, 1))
    assert auxiliary_loss(nn.Identity(), task, task.loss, batch, plain, task.target(y)) is None


class Clusters(Stated):
    """A network with a loss of its own that needs the classes."""

    def __init__(self, logits, losses=None):
        super().__init__(logits)
        self.asked = []
        self.losses = losses

    def auxiliary_loss(self, batch, output, classes):
        self.asked.append(classes)
        if self.losses is not None:
            return self.losses
        return output.logits[:, 0] * classes.reshape(len(classes), -1)[:, 0]


@EACH_TASK
def test_the_method_of_a_network_is_asked_where_there_are_classes(kind):
    logits, y, bags = make_problem(kind)
    network = Clusters(logits.clone())
    module = make_module(kind, y, logits, network=network)
    loss = module.training_step(collate_bags(bags), 0).detach().double()
    expected = losses_by_hand(kind, logits, y).mean()
    if kind == "regression":
        assert not network.asked
    else:
        (classes,) = network.asked
        assert torch.equal(classes, y)
        first = y.reshape(len(y), -1)[:, 0]
        expected = expected + (logits[:, 0] * first).double().mean()
    torch.testing.assert_close(loss, expected)
    # Training alone asks it.
    module.validation_step(collate_bags(bags), 0)
    assert len(network.asked) == int(kind != "regression")


@pytest.mark.parametrize("losses", [torch.zeros(()), torch.zeros(23, 1), 0.0])
def test_a_method_that_gives_no_loss_for_each_bag_is_told(losses):
    logits, y, bags = make_problem("binary")
    module = make_module("binary", y, logits, network=Clusters(logits, losses))
    with pytest.raises(ValueError, match=r"auxiliary_loss .* for each bag, of shape \(23,\)"):
        module.training_step(collate_bags(bags), 0)


def test_what_a_network_adds_is_to_be_finite_too():
    """The bags whose own loss is finite are named all the same."""
    logits, y, bags = make_problem("binary")
    losses = torch.zeros(23)
    losses[4] = torch.nan
    module = attached(make_module("binary", y, logits, network=Clusters(logits, losses)))
    with pytest.raises(ValueError, match="not finite in epoch 0, step 0, of '4'"):
        module.training_step(collate_bags(bags), 0)


def instance_problem(scores_of="heads"):
    """Three bags with labels of instances; the second of three classes is predicted."""
    _, _, bags = make_problem("binary", 3)
    batch = collate_bags(bags)
    scores = torch.randn((len(batch.x), 3), generator=torch.Generator().manual_seed(0))
    logits = torch.tensor([[0.0, 1.0, 0.5]]).expand(3, 3)
    return batch, BagOutput(logits, scores, scores_of=scores_of)


def test_attention_is_held_to_the_labels_of_instances():
    batch, output = instance_problem()
    expected = attention_supervision(output.scores, batch.y_inst, batch.ptr)
    assert expected.any()
    assert torch.equal(instance_losses(batch, output), expected)
    batch, output = instance_problem("classes")
    of_shown = attention_supervision(output.scores[:, 1], batch.y_inst, batch.ptr)
    assert torch.equal(instance_losses(batch, output), of_shown)


def test_without_labels_or_attention_there_is_nothing_to_hold():
    batch, output = instance_problem()
    assert instance_losses(replace(batch, y_inst=None), output) is None
    with pytest.raises(ValueError, match=r"loss\.instances: expected a model that attends"):
        instance_losses(batch, output._replace(scores=None))


def test_the_loss_of_instances_is_weighed_and_added():
    logits, y, bags = make_problem("binary")
    batch = collate_bags(bags)
    losses = []
    for weight in (0.0, 2.0):
        module = make_module("binary", y, logits, options={"instances": weight})
        losses.append(float(module.training_step(batch, 0).detach()))
    own = attention_supervision(batch.x[:, 0], batch.y_inst, batch.ptr).mean()
    assert losses[1] - losses[0] == pytest.approx(2 * float(own), rel=1e-4)


def test_a_loss_that_needs_classes_is_missed_once_in_words():
    network = nn.Module()
    network.auxiliary_loss = lambda batch, output, classes: None
    regression = make_task("regression", make_labels("regression"))
    grades = Ordinal().from_state({"kind": "ordinal", "method": "corn", "class_names": [*"abc"]})
    for task in (regression, grades):
        name = type(task).__name__
        with pytest.warns(UserWarning, match=f"Module has a loss of its own .* {name} has none"):
            warn_without_classes(network, task)
    warn_without_classes(network, make_task("binary", make_labels("binary")))
    warn_without_classes(nn.Module(), regression)

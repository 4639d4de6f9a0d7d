"""The metrics of a stage, over batches that say little by themselves."""

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from milforge.metrics import build_metrics
from milforge.tasks import Binary
from milforge.training.stage_metrics import StageMetrics

SCORES = torch.tensor([0.9, 0.2, 0.95, 0.1, 0.4])
Y_INST = torch.tensor([0, 1, 1, 0, 0])


def make(stage="val", means=()):
    task = Binary().from_state({"kind": "binary", "class_names": ["no", "yes"], "weights": None})
    bags = build_metrics(task.metrics(), {}, task.input_names)
    return StageMetrics(stage, bags, task.class_names, means)


def update(metrics, y, y_inst=None, loss=0.5, p=0.5, **means):
    instances = None
    if y_inst is not None:
        positive = torch.tensor([y == 1])
        instances = SCORES, y_inst, torch.tensor([len(SCORES)]), positive
    metrics.update(
        {name: torch.tensor([value]) for name, value in {"loss": loss, **means}.items()},
        {"preds": torch.tensor([p]), "target": torch.tensor([y])},
        instances,
    )


@pytest.mark.parametrize("first", ["negative", "positive"])
def test_localisation_does_not_depend_on_what_was_measured_first(first):
    """A negative bag leaves the states of all metrics equal, but they are not the same metric."""
    metrics = make()
    negative = first == "negative"
    update(metrics, 0 if negative else 1, torch.zeros_like(Y_INST) if negative else Y_INST)
    metrics.compute()
    update(metrics, 1, Y_INST)
    values = metrics.compute()
    auroc, precision = roc_auc_score(Y_INST, SCORES), average_precision_score(Y_INST, SCORES)
    assert auroc != pytest.approx(precision)
    assert values["val/inst_auroc"].item() == pytest.approx(auroc)
    assert values["val/inst_ap"].item() == pytest.approx(precision)


def test_a_step_without_bags_counts_nothing():
    metrics = make("train")
    nothing = torch.zeros(0)
    instances = nothing, nothing.long(), nothing.long(), nothing.bool()
    for _ in range(2):
        metrics.update({"loss": nothing}, {"preds": nothing, "target": nothing.long()}, instances)
    update(metrics, 1, Y_INST)
    assert metrics.compute()["train/loss"].item() == 0.5


def test_means_are_over_the_bags_and_have_names_of_their_own():
    metrics = make("train", ["weight_uni"])
    assert metrics.names[:2] == ["train/loss", "train/weight_uni"]
    for y, loss, weight in ((1, 1.0, 0.25), (0, 2.0, 0.5), (1, 6.0, 0.75)):
        update(metrics, y, loss=loss, weight_uni=weight)
    values = metrics.compute()
    assert float(values["train/loss"]) == 3
    assert float(values["train/weight_uni"]) == 0.5
    assert not any("inst" in name for name in values)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_what_was_seen_is_taken_up_by_another_number_of_processes(processes):
    """As a run that is interrupted inside an epoch on two processes, and goes on on others."""
    bags = [(i % 2, Y_INST if i % 3 else None, 0.5 * i, (3 * i % 7) / 7) for i in range(7)]
    whole = make("train", ["weight_a"])
    shards = [make("train", ["weight_a"]) for _ in range(2)]
    for number, (y, y_inst, loss, p) in enumerate(bags):
        for metrics in (whole, shards[number % 2]):
            update(metrics, y, y_inst, loss, p, weight_a=0.1 * number)
    seen = [{name: each.clone() for name, each in shard.seen().items()} for shard in shards]
    expected = whole.compute()
    if processes == 1:
        again = make("train", ["weight_a"])
        again.see_again(seen, 0, 1)
        torch.testing.assert_close(again.compute(), expected)
        return
    parts = [make("train", ["weight_a"]) for _ in range(processes)]
    for rank, part in enumerate(parts):
        part.see_again(seen, rank, processes)
    told = [part.seen() for part in parts]
    assert sum(len(each["loss"]) for each in told if each) == len(bags)
    joined = make("train", ["weight_a"])
    joined.see_again(told, 0, 1)
    torch.testing.assert_close(joined.compute(), expected)


def test_which_way_is_up():
    metrics = make("val", ["weight_uni"])
    assert metrics.higher_is_better("val/auroc")
    assert metrics.higher_is_better("val/inst_ap")
    assert not metrics.higher_is_better("val/ece")
    assert not metrics.higher_is_better("val/loss")
    with pytest.raises(KeyError):
        metrics.higher_is_better("val/mae")
    with pytest.raises(ValueError, match="set monitor_mode=min or monitor_mode=max"):
        metrics.higher_is_better("val/weight_uni")

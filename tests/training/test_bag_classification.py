"""Losses, metrics and checkpoints of the LightningModule."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from milforge.data import Bag, collate_bags
from milforge.models import BagOutput
from milforge.training import BagClassification, ImageBagsDataModule

NAMES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "multilabel": ("a", "b", "c")}
WEIGHTS = {
    "binary": torch.tensor([0.5, 3.0]),
    "multiclass": torch.tensor([0.2, 1.0, 4.0]),
    "multilabel": torch.tensor([[0.5, 3.0], [1.0, 2.0], [0.1, 7.0]]),
}


class Told(nn.Module):
    """Logits and scores that are told; the bag id is the number of the row."""

    def __init__(self, logits, penalty=None, scores=True):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.penalty = penalty
        self.scores = scores

    def forward(self, batch):
        rows = torch.tensor([int(name) for name in batch.bag_id])
        penalty = None if self.penalty is None else self.penalty * self.logits.square().sum()
        scores = batch.x[:, 0] if self.scores else None
        return BagOutput(self.logits[rows], scores, penalty)


def make_problem(task, n=23, seed=0):
    """Logits, labels and bags."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n,) if task == "binary" else (n, 3)
    logits = 2 * torch.randn(shape, generator=generator)
    top = 3 if task == "multiclass" else 2
    y = torch.randint(top, (n,) if task != "multilabel" else shape, generator=generator)
    bags = []
    for i in range(n):
        size = int(torch.randint(2, 7, (1,), generator=generator))
        x = torch.randn(size, 2, generator=generator)
        y_inst = torch.randint(2, (size,), generator=generator)
        bags.append(
            Bag(x, y=y[i] if task == "multilabel" else int(y[i]), y_inst=y_inst, bag_id=str(i))
        )
    return logits, y, bags


def make_module(task, logits, weights=None, **options):
    module = BagClassification(
        Told(logits.clone(), **options), task, NAMES[task], class_weights=weights
    )
    # What the steps ask of a trainer in a single process.
    module._trainer = SimpleNamespace(world_size=1, sanity_checking=False)
    return module


def loss_by_hand(task, logits, y, weights=None):
    """Bag by bag, in float64."""
    total = 0.0
    for z, label in zip(logits.double(), y, strict=True):
        if task == "multiclass":
            loss = -(z[label] - z.exp().sum().log())
            total += loss * (1 if weights is None else weights[label].double())
            continue
        terms = []
        for c, (value, is_there) in enumerate(zip(z.reshape(-1), label.reshape(-1), strict=True)):
            p = 1 / (1 + torch.exp(-value))
            loss = -torch.log(p if is_there else 1 - p)
            if weights is not None:
                row = weights if task == "binary" else weights[c]
                loss = loss * row[int(is_there)].double()
            terms.append(loss)
        total += sum(terms) / len(terms)
    return total / len(y)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("task", NAMES)
def test_the_loss_is_that_by_hand(task, weighted):
    logits, y, bags = make_problem(task)
    weights = WEIGHTS[task] if weighted else None
    module = make_module(task, logits, weights)
    loss = module.training_step(collate_bags(bags), 0)
    torch.testing.assert_close(loss.double(), loss_by_hand(task, logits, y, weights))


@pytest.mark.parametrize("task", NAMES)
def test_the_penalty_is_added_to_the_loss_and_not_to_the_metric(task):
    logits, y, bags = make_problem(task)
    module = make_module(task, logits, penalty=0.3)
    expected = loss_by_hand(task, logits, y)
    loss = module.training_step(collate_bags(bags), 0)
    torch.testing.assert_close(loss.double(), expected + 0.3 * logits.double().square().sum())
    logged = module.train_metrics.compute()["train/loss"]
    torch.testing.assert_close(logged.double(), expected)


@pytest.mark.parametrize("step", ["training_step", "validation_step", "test_step"])
@pytest.mark.parametrize("task", NAMES)
def test_metrics_over_uneven_batches_are_those_of_scikit_learn(task, step):
    logits, y, bags = make_problem(task)
    module = make_module(task, logits)
    for number, part in enumerate(np.split(np.arange(len(bags)), [1, 10, 12])):
        getattr(module, step)(collate_bags([bags[i] for i in part]), number)
    stage = {"training_step": "train", "validation_step": "val", "test_step": "test"}[step]
    values = getattr(module, f"{stage}_metrics").compute()
    assert all(name.startswith(f"{stage}/") for name in values)
    values = {name.removeprefix(f"{stage}/"): float(value) for name, value in values.items()}
    p = (logits.softmax(1) if task == "multiclass" else logits.sigmoid()).numpy()
    auroc = roc_auc_score(y, p, multi_class="ovr", average="macro")
    one_hot = nn.functional.one_hot(y, 3) if task == "multiclass" else y
    assert values["auroc"] == pytest.approx(auroc, abs=1e-6)
    assert values["ap"] == pytest.approx(average_precision_score(one_hot, p), abs=1e-6)
    right = (p.argmax(1) == y.numpy()) if task == "multiclass" else ((p > 0.5) == y.numpy())
    assert values["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert values["loss"] == pytest.approx(float(loss_by_hand(task, logits, y)), rel=1e-5)
    localised = [
        roc_auc_score(bag.y_inst, bag.x[:, 0])
        for bag, label in zip(bags, y, strict=True)
        if (task != "binary" or label == 1) and 0 < bag.y_inst.sum() < len(bag)
    ]
    assert values["inst_auroc"] == pytest.approx(np.mean(localised), abs=1e-6)


def test_metrics_begin_anew_after_each_epoch():
    logits, _, bags = make_problem("binary")
    module = make_module("binary", logits)
    module.validation_step(collate_bags(bags), 0)
    first = module.val_metrics.compute()
    module.validation_step(collate_bags(bags), 0)
    assert module.val_metrics.compute() == first


def test_a_loss_that_is_not_a_number_shows():
    logits, _, bags = make_problem("binary")
    logits[3] = torch.nan
    module = make_module("binary", logits)
    module.validation_step(collate_bags(bags[:3]), 0)
    module.validation_step(collate_bags(bags[3:]), 1)
    assert module.val_metrics.compute()["val/loss"].isnan()


@pytest.mark.filterwarnings("error")
def test_a_network_without_attention_has_no_localisation_and_no_warning():
    logits, _, bags = make_problem("binary")
    module = make_module("binary", logits, scores=False)
    predictions = module.validation_step(collate_bags(bags), 0)
    assert set(predictions) == {"probabilities", "sizes", "y_inst"}
    names = set(module.val_metrics.compute())
    assert names == {f"val/{name}" for name in ("loss", "auroc", "accuracy", "f1", "ap", "ece")}
    assert names < set(module.val_metrics.names)


@pytest.mark.parametrize("task", NAMES)
def test_predictions_are_probabilities_and_weights_of_each_bag(task):
    logits, _, bags = make_problem(task)
    unlabelled = collate_bags([Bag(bag.x, bag_id=bag.bag_id) for bag in bags])
    module = make_module(task, logits)
    predictions = module.predict_step(unlabelled, 0)
    assert set(predictions) == {"probabilities", "sizes", "scores", "weights"}
    assert torch.equal(predictions["sizes"], unlabelled.ptr.diff())
    expected = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
    torch.testing.assert_close(predictions["probabilities"], expected)
    for b, bag in enumerate(bags):
        part = slice(unlabelled.ptr[b], unlabelled.ptr[b + 1])
        torch.testing.assert_close(predictions["weights"][part], bag.x[:, 0].softmax(0))
        torch.testing.assert_close(predictions["scores"][part], bag.x[:, 0])
    assert not any(value.requires_grad for value in predictions.values())


def test_predictions_repeat_what_is_known_of_the_instances():
    logits, _, bags = make_problem("binary")
    placed = [replace(bag, coords=torch.rand(len(bag), 2)) for bag in bags]
    predictions = make_module("binary", logits).test_step(collate_bags(placed), 0)
    assert torch.equal(predictions["coords"], torch.cat([bag.coords for bag in placed]))
    assert torch.equal(predictions["y_inst"], torch.cat([bag.y_inst for bag in placed]))


def test_bags_without_labels_cannot_be_trained_on():
    logits, _, bags = make_problem("binary")
    batch = collate_bags([Bag(bag.x, bag_id=bag.bag_id) for bag in bags])
    for step in ("training_step", "validation_step", "test_step"):
        with pytest.raises(ValueError, match="labelled bags"):
            getattr(make_module("binary", logits), step)(batch, 0)


def test_an_optimiser_is_needed_to_train():
    with pytest.raises(ValueError, match="expected an optimizer"):
        make_module("binary", torch.zeros(1)).configure_optimizers()


def test_a_scheduler_looks_at_the_monitor():
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=1)
    module = BagClassification(
        Told(torch.zeros(1)),
        "binary",
        NAMES["binary"],
        optimizer=torch.optim.SGD,
        scheduler=plateau,
        monitor="val/auroc",
    )
    chosen = module.configure_optimizers()["lr_scheduler"]
    assert chosen["monitor"] == "val/auroc"
    assert isinstance(chosen["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*treespec, LeafSpec")
def test_a_checkpoint_holds_no_modules(tmp_path):
    """What `weights_only=True` reads, and all of it plain."""
    from milforge.models import BagNetwork
    from milforge.nn import AttentionPool, MLPEncoder

    def module():
        network = BagNetwork((1, 8, 8), 1, encoder=MLPEncoder, pool=partial(AttentionPool))
        return BagClassification(
            network,
            "binary",
            NAMES["binary"],
            optimizer=partial(torch.optim.Adam, lr=1e-2),
            scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1),
            class_weights=WEIGHTS["binary"],
            stored={"config": {"seed": 1}},
        )

    data = ImageBagsDataModule("digits", train=4, val=2, test=2, batch_size=2)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=1,
        log_every_n_steps=1,
    )
    trained = module()
    trainer.fit(trained, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert checkpoint["milforge"]["config"] == {"seed": 1}
    assert not checkpoint.get("hyper_parameters")
    history = checkpoint["milforge"]["history"]
    # The sanity check is no epoch.
    assert [epoch for epoch, _ in history["val/loss"]] == [0, 1]
    assert [epoch for epoch, _ in history["train/loss"]] == [0, 1]
    assert not any("class_weights" in name for name in checkpoint["state_dict"])
    other = module()
    other.load_state_dict(checkpoint["state_dict"])
    other.on_load_checkpoint(checkpoint)
    assert other.history == trained.history


def test_weights_that_are_not_finite_are_not_saved():
    module = make_module("binary", torch.tensor([0.0, float("inf")]))
    module._trainer = None
    with pytest.raises(ValueError, match="the weights are not finite in epoch 0"):
        module.on_save_checkpoint({})


@pytest.mark.parametrize("steps", [[5, 5], [5, 0]])
def test_processes_that_begin_at_different_steps_are_told(monkeypatch, steps):
    """The folder of the run is not the same one on all machines."""
    module = make_module("binary", torch.zeros(2))
    module._trainer = SimpleNamespace(world_size=2, ckpt_path=None, callbacks=[])
    module.on_load_checkpoint({"global_step": steps[0]})
    told = []
    monkeypatch.setattr(
        "milforge.training.processes.gathered", lambda own, _: told.append(own) or steps
    )
    if steps[0] == steps[1]:
        module.on_fit_start()
    else:
        with pytest.raises(ValueError, match=r"same step, got \[5, 0\].*all machines share"):
            module.on_fit_start()
    assert told == steps[:1]

"""Losses, metrics and checkpoints of the LightningModule, of every task."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    average_precision_score,
    mean_absolute_error,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)
from torch import nn
from torchmetrics.classification import MulticlassRecall
from torchmetrics.regression import MeanAbsolutePercentageError
from torchmetrics.retrieval import RetrievalMAP

from milforge.data import Bag, Loader, collate_bags, digits_bags
from milforge.functional import focal_loss
from milforge.metrics import MacroAUROC
from milforge.models import BagNetwork, BagOutput
from milforge.nn import AttentionPool, MLPEncoder, Standardise
from milforge.tasks import Binary
from milforge.training import MILDataModule, MILModule
from milforge.training.loss import finite
from milforge.training.module import freeze_parts
from milforge.training.seeds import draw_seed
from stated import CLASSES, TASKS, Stated, attached, losses_by_hand, make_module, make_problem

# Of float32 sums held to float64: several roundings of 1.2e-7.
ROUNDED = {"rtol": 1e-6, "atol": 1e-6}
WEIGHTS = {"binary": [0.5, 3.0], "multiclass": [0.2, 1.0, 4.0]}
EACH_TASK = pytest.mark.parametrize("kind", TASKS)
STEPS = {"train": "training_step", "val": "validation_step", "test": "test_step"}


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        *((kind, None) for kind in TASKS),
        *((kind, "balanced") for kind in CLASSES),
        *WEIGHTS.items(),
    ],
)
def test_a_step_and_its_gradient_are_those_by_hand(kind, weights):
    logits, y, bags = make_problem(kind)
    module = make_module(kind, y, logits, weights)
    loss = module.training_step(collate_bags(bags), 0)
    loss.backward()
    leaf = logits.double().requires_grad_()
    expected = losses_by_hand(kind, leaf, y, weights).sum() / len(bags)
    expected.backward()
    torch.testing.assert_close(loss.detach().double(), expected.detach(), **ROUNDED)
    gradient = module.network.logits.grad.double()
    torch.testing.assert_close(gradient, leaf.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_count_at_batches_of_one_bag(kind):
    """A division by their sum in the batch would undo them."""
    logits, y, bags = make_problem(kind)
    module = make_module(kind, y, logits, WEIGHTS[kind])
    each = [module.training_step(collate_bags([bag]), 0).item() for bag in bags]
    expected = losses_by_hand(kind, logits, y, WEIGHTS[kind])
    np.testing.assert_allclose(each, expected, rtol=1e-5)
    assert not np.allclose(each, losses_by_hand(kind, logits, y), rtol=0.1)


@EACH_TASK
def test_the_penalty_is_added_to_the_loss_and_not_to_the_metric(kind):
    logits, y, bags = make_problem(kind)
    module = make_module(kind, y, logits, penalty=0.3)
    expected = losses_by_hand(kind, logits, y).mean()
    loss = module.training_step(collate_bags(bags), 0)
    torch.testing.assert_close(
        loss.double(), expected + 0.3 * logits.double().square().sum(), **ROUNDED
    )
    logged = module.train_metrics.compute()["train/loss"]
    torch.testing.assert_close(logged.double(), expected, **ROUNDED)


@pytest.mark.parametrize("stage", STEPS)
@EACH_TASK
def test_metrics_over_uneven_batches_are_those_of_scikit_learn(kind, stage):
    logits, y, bags = make_problem(kind)
    module = make_module(kind, y, logits)
    for number, part in enumerate(np.split(np.arange(len(bags)), [1, 10, 12])):
        getattr(module, STEPS[stage])(collate_bags([bags[i] for i in part]), number)
    values = getattr(module, f"{stage}_metrics").compute()
    assert all(name.startswith(f"{stage}/") for name in values)
    values = {name.removeprefix(f"{stage}/"): float(value) for name, value in values.items()}
    expected = {"loss": float(losses_by_hand(kind, logits, y).mean()), **figures(kind, logits, y)}
    localised = [
        (roc_auc_score(bag.y_inst, bag.x[:, 0]), average_precision_score(bag.y_inst, bag.x[:, 0]))
        for bag, label in zip(bags, y, strict=True)
        if (kind != "binary" or label == 1) and 0 < bag.y_inst.sum() < len(bag)
    ]
    expected["inst_auroc"], expected["inst_ap"] = np.mean(localised, axis=0)
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def figures(kind, logits, y):
    """By scikit-learn and SciPy."""
    z = logits.double().numpy()
    if kind == "regression":
        table = y.double().numpy()
        p = z * table.std(0) + table.mean(0)
        found = {
            "mae": mean_absolute_error(table, p, multioutput="raw_values"),
            "rmse": root_mean_squared_error(table, p, multioutput="raw_values"),
            "r2": r2_score(table, p, multioutput="raw_values"),
            "pearson": [pearsonr(table[:, o], p[:, o]).statistic for o in range(2)],
            "spearman": [spearmanr(table[:, o], p[:, o]).statistic for o in range(2)],
        }
        return {f"{name}_{o}": each[o] for name, each in found.items() for o in range(2)}
    many = kind == "multiclass"
    p = (logits.softmax(1) if many else logits.sigmoid()).numpy()
    p = p[:, 0] if kind == "binary" else p
    one_hot = nn.functional.one_hot(y, 3) if many else y
    right = (p.argmax(1) == y.numpy()) if many else ((p > 0.5) == y.numpy())
    return {
        "auroc": roc_auc_score(y, p, multi_class="ovr", average="macro"),
        "ap": average_precision_score(one_hot, p),
        "accuracy": right.mean(),
    }


def test_metrics_begin_anew_after_each_epoch():
    logits, y, bags = make_problem("binary")
    module = make_module("binary", y, logits)
    module.validation_step(collate_bags(bags), 0)
    first = module.val_metrics.compute()
    module.validation_step(collate_bags(bags), 0)
    assert module.val_metrics.compute() == first


def test_a_loss_that_is_not_a_number_shows():
    logits, y, bags = make_problem("binary")
    logits[3] = torch.nan
    module = make_module("binary", y, logits)
    module.validation_step(collate_bags(bags[:3]), 0)
    module.validation_step(collate_bags(bags[3:]), 1)
    assert module.val_metrics.compute()["val/loss"].isnan()


def test_a_step_whose_loss_is_not_finite_names_its_bags():
    logits, y, bags = make_problem("binary")
    logits[3], logits[5] = torch.nan, torch.inf
    module = make_module("binary", y, logits)
    with pytest.raises(ValueError, match=r"not finite in epoch 0, step 7, of '3', '5'; .*lower"):
        module.training_step(collate_bags(bags[2:7]), 7)


def test_on_a_device_losses_are_looked_at_later_and_never_saved(monkeypatch):
    """A CPU stands in for the device: what is waited for there is known here all the same."""
    monkeypatch.setattr(finite, "waits_for_values", lambda device: True)
    logits, y, bags = make_problem("binary")
    logits[3], logits[5] = torch.nan, torch.inf
    found = r"not finite in epoch 0, step 1, of '3'; "
    looks = [
        lambda module: module.on_save_checkpoint({}),
        lambda module: module.on_validation_start(),
        lambda module: module.on_train_epoch_end(),
        lambda module: [module.training_step(collate_bags(bags[:3]), n) for n in range(3, 40)],
    ]
    for look in looks:
        module = make_module("binary", y, logits)
        for step, some in enumerate((bags[:3], bags[2:5], bags[4:7])):
            module.training_step(collate_bags(some), step)
        with pytest.raises(ValueError, match=found):
            look(module)
    # Of losses that are finite nothing is left to say.
    module = make_module("binary", y, logits)
    for step in range(40):
        module.training_step(collate_bags(bags[:3]), step)
    module.on_validation_start()


@pytest.mark.filterwarnings("error")
def test_a_network_without_attention_has_no_localisation_and_no_warning():
    logits, y, bags = make_problem("binary")
    module = make_module("binary", y, logits, scores=False)
    predictions = module.validation_step(collate_bags(bags), 0)
    assert set(predictions) == {"columns", "sizes", "details", "y_inst"}
    names = set(module.val_metrics.compute())
    assert names == {f"val/{name}" for name in ("loss", "auroc", "accuracy", "f1", "ap", "ece")}
    assert names < set(module.val_metrics.names)


@EACH_TASK
def test_predictions_are_the_columns_of_the_task_and_weights_of_each_bag(kind):
    logits, y, bags = make_problem(kind)
    unlabelled = collate_bags([Bag(bag.x, bag_id=bag.bag_id) for bag in bags])
    module = make_module(kind, y, logits)
    told = module.predict_step(unlabelled, 0)
    assert set(told) == {"columns", "details", "sizes", "scores", "weights"}
    assert torch.equal(told["sizes"], unlabelled.ptr.diff())
    assert torch.equal(told["columns"].pop("logits"), logits)
    ((name, column),) = told["columns"].items()
    if kind == "binary":
        assert name == "probability"
        torch.testing.assert_close(column, torch.cat([-logits, logits], 1).double().sigmoid())
    elif kind == "regression":
        assert name == "prediction"
        torch.testing.assert_close(column, logits * y.std(0, correction=0) + y.mean(0))
    else:
        assert name == "probability"
        exact = logits.double()
        expected = exact.softmax(1) if kind == "multiclass" else exact.sigmoid()
        torch.testing.assert_close(column, expected)
    for b, bag in enumerate(bags):
        part = slice(unlabelled.ptr[b], unlabelled.ptr[b + 1])
        torch.testing.assert_close(told["weights"][part], bag.x[:, 0].softmax(0))
        torch.testing.assert_close(told["scores"][part], bag.x[:, 0])
    assert not any(told[key].requires_grad for key in ("sizes", "scores", "weights"))
    assert not column.requires_grad


def test_of_several_heads_the_weights_are_averaged():
    logits, y, bags = make_problem("binary", n=3)

    class Heads(Stated):
        def forward(self, batch):
            return super().forward(batch)._replace(scores=batch.x)

    module = make_module("binary", y, logits, network=Heads(logits))
    batch = collate_bags(bags)
    told = module.validation_step(batch, 0)
    for b, bag in enumerate(bags):
        part = slice(batch.ptr[b], batch.ptr[b + 1])
        mean = bag.x.softmax(0).mean(1)
        torch.testing.assert_close(told["weights"][part], mean)
        torch.testing.assert_close(told["scores"][part], mean.log())


def test_predictions_repeat_what_is_known_of_the_instances():
    logits, y, bags = make_problem("binary")
    placed = [replace(bag, coords=torch.rand(len(bag), 2)) for bag in bags]
    predictions = make_module("binary", y, logits).test_step(collate_bags(placed), 0)
    assert torch.equal(predictions["coords"], torch.cat([bag.coords for bag in placed]))
    assert torch.equal(predictions["y_inst"], torch.cat([bag.y_inst for bag in placed]))


@pytest.mark.parametrize("step", STEPS.values())
def test_bags_without_labels_cannot_be_trained_on(step):
    logits, y, bags = make_problem("binary")
    batch = collate_bags([Bag(bag.x, bag_id=bag.bag_id) for bag in bags])
    with pytest.raises(ValueError, match="labelled bags"):
        getattr(make_module("binary", y, logits), step)(batch, 0)


class TestLossAndMetricsOfYourOwn:
    """What a config puts in place of the task's."""

    @pytest.mark.parametrize("stage", STEPS)
    def test_the_loss_is_used_in_every_stage_and_weighted(self, stage):
        logits, y, bags = make_problem("multiclass")
        module = make_module("multiclass", y, logits, "balanced", {"loss": focal_loss})
        weight = losses_by_hand("multiclass", logits, y, "balanced")
        plain = losses_by_hand("multiclass", logits, y)
        expected = ((1 - (-plain).exp()) ** 2 * weight).mean()  # gamma is 2
        getattr(module, STEPS[stage])(collate_bags(bags), 0)
        value = getattr(module, f"{stage}_metrics").compute()[f"{stage}/loss"]
        assert float(value) == pytest.approx(float(expected), rel=1e-5)

    def test_a_loss_of_another_shape_is_refused(self):
        logits, y, bags = make_problem("binary")
        module = make_module("binary", y, logits, options={"loss": lambda z, t: z - t[:, 0]})
        with pytest.raises(ValueError, match=r"shape \(23,\), got \(23, 23\)"):
            module.training_step(collate_bags(bags), 0)

    def test_metrics_are_added_replaced_and_taken_away(self):
        logits, y, bags = make_problem("multiclass")
        metrics = {
            "recall": MulticlassRecall(3, average=None),
            "auroc": MacroAUROC("multiclass", 3, average=None),
            "f1": None,
        }
        module = make_module("multiclass", y, logits, options={"metrics": metrics})
        module.validation_step(collate_bags(bags), 0)
        values = module.val_metrics.compute()
        names = {name.removeprefix("val/") for name in values}
        own = {"loss", "accuracy", "ap", "ece", "inst_auroc", "inst_ap"}
        each = {f"{name}_{label}" for name in ("recall", "auroc") for label in "abc"}
        assert names == own | each
        recall = recall_score(y, logits.argmax(1), average=None)
        found = [float(values[f"val/recall_{label}"]) for label in "abc"]
        np.testing.assert_allclose(found, recall, rtol=1e-6)
        assert module.higher_is_better("val/recall_b")
        with pytest.raises(KeyError):
            module.higher_is_better("val/f1")

    def test_which_way_is_up_is_what_the_metric_says(self):
        _, y, _ = make_problem("regression")
        metrics = {"mape": MeanAbsolutePercentageError()}
        module = make_module("regression", y, torch.zeros(1), options={"metrics": metrics})
        assert not module.higher_is_better("val/mape")
        assert not module.higher_is_better("train/loss")
        assert module.higher_is_better("val/inst_auroc")
        assert module.higher_is_better("val/r2_0")

    @pytest.mark.parametrize(
        ("metrics", "message"),
        [
            ({"recall": None}, "a metric of the task to take away .* got 'recall'"),
            ({"map": RetrievalMAP()}, r"metrics\.map .* RetrievalMAP, which needs indexes too"),
        ],
    )
    def test_metrics_that_cannot_be_are_refused(self, metrics, message):
        _, y, _ = make_problem("binary")
        with pytest.raises(ValueError, match=message):
            make_module("binary", y, torch.zeros(1, 1), options={"metrics": metrics})


def network(**options):
    return BagNetwork(
        (1, 8, 8), 1, encoder=partial(MLPEncoder, hidden=[8], dropout=0.5), pool=AttentionPool
    )


def digits_task():
    return Binary(("no 9", "9"))


def digits(**options):
    sizes = {"train": 8, "val": 4, "test": 4, **options}
    return MILDataModule(partial(digits_bags, **sizes), loader=Loader(batch_size=4))


def make_trainer(max_epochs=1, **options):
    return L.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": max_epochs,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 1,
            "log_every_n_steps": 1,
            **options,
        }
    )


quiet = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*treespec, LeafSpec"
)


class Modes(L.Callback):
    """Whether each part of the network is in training, at every step."""

    def __init__(self):
        self.seen = {"train": [], "val": []}

    def on_train_batch_start(self, trainer, module, *_):
        self._note("train", module)

    def on_validation_batch_start(self, trainer, module, *_):
        self._note("val", module)

    def _note(self, stage, module):
        parts = module.network.named_children()
        self.seen[stage].append({name: part.training for name, part in parts})


class TestFreeze:
    @quiet
    @pytest.mark.parametrize("sanity", [0, 1])
    def test_frozen_parts_are_not_trained_and_stay_in_evaluation(self, sanity):
        data, modes = digits(), Modes()
        module = MILModule(
            network(), data.task, optimizer=partial(torch.optim.SGD, lr=1.0), freeze="encoder"
        )
        before = {name: each.clone() for name, each in module.network.state_dict().items()}
        make_trainer(2, callbacks=[modes], num_sanity_val_steps=sanity).fit(module, data)
        after = module.network.state_dict()
        for name, value in before.items():
            assert torch.equal(after[name], value) == name.startswith("encoder."), name
        assert len(modes.seen["train"]) == 4
        for seen in modes.seen["train"]:
            assert seen == {"encoder": False, "pool": True, "dropout": True, "head": True}
        assert not any(any(seen.values()) for seen in modes.seen["val"])

    def test_frozen_parts_have_no_gradient_and_the_optimiser_does_not_know_them(self):
        module = MILModule(
            network(), known_task(), optimizer=torch.optim.SGD, freeze=["encoder", "pool"]
        )
        (group,) = module.configure_optimizers().param_groups
        assert group["params"] == list(module.network.head.parameters())
        assert module.train().network.head.training
        assert not any(part.training for part in module.network.encoder.modules())

    def test_a_part_of_a_part_can_be_frozen(self):
        built = network()
        name = next(name for name, _ in built.named_modules() if name.startswith("encoder."))
        assert freeze_parts(built, name) == [built.get_submodule(name)]
        for each, parameter in built.named_parameters():
            assert parameter.requires_grad != each.startswith(f"{name}.")

    def test_an_unknown_part_is_told(self):
        with pytest.raises(
            ValueError, match=r"no part 'backbone' \(it has encoder, pool, dropout, head\)"
        ):
            MILModule(network(), known_task(), freeze=["backbone"])

    def test_something_must_be_left_to_train(self):
        parts = ["encoder", "pool", "head"]
        with pytest.raises(ValueError, match="encoder, pool, head frozen, nothing is left"):
            MILModule(network(), known_task(), freeze=parts)


def known_task():
    task = digits_task()
    task.from_state({"kind": "binary", "class_names": ["no 9", "9"], "weights": None})
    return task


class TestSeeds:
    """What a network draws for a bag depends on seed, epoch and name alone."""

    def prepared(self, bags, seed=0, epoch=0, training=True, **trainer):
        module = MILModule(nn.Identity(), known_task(), seed=seed)
        attached(module, current_epoch=epoch, **trainer).train(training)
        batch = module.prepared(collate_bags(bags))
        return dict(zip(batch.bag_id, batch.seeds.tolist(), strict=True))

    def test_they_do_not_depend_on_the_batch_nor_the_process(self):
        _, _, bags = make_problem("binary")
        whole = self.prepared(bags)
        assert len(set(whole.values())) == len(bags)
        for part in (bags[:1], bags[5:9], bags[::-2]):
            for rank in (0, 1):
                some = self.prepared(part, global_rank=rank, world_size=2)
                assert some == {name: whole[name] for name in some}

    def test_they_change_with_seed_and_epoch_in_training_alone(self):
        _, _, bags = make_problem("binary")
        first = self.prepared(bags)
        assert first == {bag.bag_id: draw_seed(f"0 0 {bag.bag_id}") for bag in bags}
        for changed in ({"seed": 1}, {"epoch": 1}):
            other = self.prepared(bags, **changed)
            assert all(other[name] != seed for name, seed in first.items())
            evaluated = self.prepared(bags, **changed, training=False)
            assert evaluated == self.prepared(bags, training=False)
        assert self.prepared(bags, training=False)["3"] != first["3"]


FEATURES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8]


@pytest.mark.parametrize("dtype", FEATURES)
def test_features_of_any_number_become_single_and_are_standardised(dtype):
    bag = Bag(torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=dtype))
    for standardise, expected in (
        (None, [[1.0, 2.0], [3.0, 6.0]]),
        (Standardise(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])), [[0.0, 0.0], [1.0, 1.0]]),
    ):
        module = attached(MILModule(nn.Identity(), known_task(), standardise=standardise))
        x = module.prepared(collate_bags([bag])).x
        assert x.dtype == torch.float32
        assert x.tolist() == expected


def test_an_optimiser_is_needed_to_train():
    with pytest.raises(ValueError, match="expected an optimizer"):
        MILModule(network(), known_task()).configure_optimizers()


def test_a_scheduler_looks_at_the_monitor():
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=1)
    module = MILModule(
        network(),
        known_task(),
        optimizer=torch.optim.SGD,
        scheduler=plateau,
        monitor="val/auroc",
    )
    chosen = module.configure_optimizers()["lr_scheduler"]
    assert chosen["monitor"] == "val/auroc"
    assert isinstance(chosen["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)


@quiet
def test_a_checkpoint_holds_no_modules(tmp_path):
    """What `weights_only=True` reads, and all of it plain."""
    data = MILDataModule(
        partial(digits_bags, train=4, val=2, test=2),
        task=Binary(class_weights="balanced"),
        loader=Loader(batch_size=2),
    )

    def module():
        return MILModule(
            network(),
            data.task,
            metrics={"recall": MulticlassRecall(2, average=None), "ap": None},
            loss=focal_loss,
            optimizer=partial(torch.optim.Adam, lr=1e-2),
            scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1),
            stored={"config": {"seed": 1}, "task": data.task.state()},
        )

    trainer = make_trainer(2)
    trained = module()
    assert trained.task.weights is not None
    trainer.fit(trained, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert checkpoint["milforge"]["config"] == {"seed": 1}
    assert checkpoint["milforge"]["task"] == {
        "kind": "binary",
        "class_names": ["no 9", "9"],
        "weights": [1.0, 1.0],
    }
    assert not checkpoint.get("hyper_parameters")
    history = checkpoint["milforge"]["history"]
    # The sanity check is no epoch.
    assert [epoch for epoch, _ in history["val/loss"]] == [0, 1]
    assert [epoch for epoch, _ in history["train/loss"]] == [0, 1]
    assert not any("weights" in name for name in checkpoint["state_dict"])
    other = module()
    other.load_state_dict(checkpoint["state_dict"])
    other.on_load_checkpoint(checkpoint)
    assert other.history == trained.history


def test_the_scale_of_a_regression_is_in_the_checkpoint():
    logits, y, bags = make_problem("regression")
    trained = make_module("regression", y, logits)
    state = trained.state_dict()
    other = make_module("regression", 3 * y + 1, torch.zeros_like(logits))
    other.load_state_dict(state)
    batch = collate_bags(bags)
    found, expected = (
        module.predict_step(batch, 0)["columns"]["prediction"] for module in (other, trained)
    )
    assert torch.equal(found, expected)


def test_weights_that_are_not_finite_are_not_saved():
    _, y, _ = make_problem("binary")
    module = make_module("binary", y, torch.tensor([[0.0], [float("inf")]]))
    module._trainer = None
    with pytest.raises(ValueError, match="the weights are not finite in epoch 0"):
        module.on_save_checkpoint({})


@pytest.mark.parametrize("steps", [[5, 5], [5, 0]])
def test_processes_that_begin_at_different_steps_are_told(monkeypatch, steps):
    """The folder of the run is not the same one on all machines."""
    _, y, _ = make_problem("binary")
    module = make_module("binary", y, torch.zeros(2, 1))
    module._trainer = SimpleNamespace(world_size=2, ckpt_path=None, callbacks=[])
    module.on_load_checkpoint({"global_step": steps[0]})
    told = []
    monkeypatch.setattr(
        "milforge.processes.collectives.gathered", lambda own, _: told.append(own) or steps
    )
    if steps[0] == steps[1]:
        module.on_fit_start()
    else:
        with pytest.raises(ValueError, match=r"same step, got \[5, 0\].*all machines share"):
            module.on_fit_start()
    assert told == steps[:1]


class Own(MILModule):
    """What a fork may write: another step."""

    def forward(self, batch):
        return super().forward(batch)._replace(penalty=torch.tensor(7.0))


def test_a_subclass_changes_what_it_overrides():
    logits, y, bags = make_problem("binary")
    plain = make_module("binary", y, logits)
    own = attached(Own(Stated(logits.clone()), plain.task))
    batch = collate_bags(bags)
    difference = own.training_step(batch, 0) - plain.training_step(batch, 0)
    assert float(difference.detach()) == pytest.approx(7, abs=1e-5)
    assert isinstance(own(own.prepared(batch)), BagOutput)

"""Losses, metrics, tasks and modules of one's own, chosen by the config of the real commands."""

import shutil
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from bag_folders import labelled_bags, write_labels
from milforge.data import FeatureBags, ImageBags
from predicted import bags
from thinned import thinned

QUIET = ("logger=none", "callbacks.figures=null")
OWN = '''
import torch
from torch import nn
from torchmetrics import Metric

from milforge.training import MILModule


def brier(logits, y):
    return (logits.sigmoid() - y).square().mean(1)


class Scaled(nn.Module):
    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, logits, y):
        return self.factor * brier(logits, y)


def mean(logits, y):
    return brier(logits, y).mean()


def table(logits, y):
    return (logits - y[:, 0]).square()


def of_three(logits, y, classes):
    return brier(logits, y)


class Share(Metric):
    """Share of the bags that are called positive; it does not say which way is up."""

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, preds, target):
        self.total += (preds > 0.5).sum()
        self.count += len(preds)

    def compute(self):
        return self.total / self.count


class OfSizes(Share):
    def update(self, preds, sizes):
        pass


class Needy(Share):
    def __init__(self, threshold):
        super().__init__()


class Louder(MILModule):
    def on_train_start(self):
        super().on_train_start()
        print("louder")
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module beside the run, which can be imported."""
    (tmp_path / "beside").mkdir()
    path = tmp_path / "beside" / "own_learning.py"
    path.write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "beside")
    yield path
    sys.modules.pop("own_learning", None)


@pytest.fixture
def no_bag_is_read(monkeypatch):
    """Nor one that is generated."""

    def too_late(*_):
        raise AssertionError("a bag was read")

    for kind in (FeatureBags, ImageBags):
        monkeypatch.setattr(kind, "__getitem__", too_late)


@pytest.fixture
def numbered(tmp_path):
    """Bags with an age each, as options."""
    labelled_bags(tmp_path / "bags", layout="root")
    rows = [
        (f"s{n:02d}", f"p{n // 2}", f"{40.3 + 2.2 * n:.1f}", "grade " + "ABC"[n % 3])
        for n in range(12)
    ]
    write_labels(tmp_path / "labels.csv", rows, "slide_id,patient,age,grade")
    return (
        *("data=feature_bags", "data.root=bags", "data.labels=labels.csv"),
        *("split.folds=3", "split.val_share=0.2", "loader.num_workers=0"),
    )


def of_test(run, read_summary):
    metrics = read_summary(run)["metrics"]
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


def ours(name, *more):
    """A loss of the module beside the run."""
    return (f"+loss={{_target_: own_learning.{name}, _partial_: true}}", *more)


LOSSES = [
    ("loss=focal", "loss.gamma=1.5"),
    ("loss=label_smoothing",),
    ours("brier"),
    ("+loss={_target_: own_learning.Scaled, factor: 3.0}",),
    ours("brier", "task.class_weights=[1,3]"),
]


@pytest.mark.parametrize(
    "arguments", thinned(map(pytest.param, LOSSES), every=3), ids=lambda value: " ".join(value)[:40]
)
def test_evaluation_and_ensembles_measure_what_training_measured(
    train, here, own, tmp_path, read_summary, arguments
):
    outcome = train(*arguments)
    assert outcome.returncode == 0, outcome.stderr
    run = outcome.run()
    expected = of_test(run, read_summary)
    best = run / "checkpoints" / "best.ckpt"
    alone = here("evaluate", f"ckpt_path={best}", *QUIET, "trust=own_learning")
    assert alone.returncode == 0, alone.stderr
    assert of_test(alone.run("evaluate"), read_summary) == expected
    # Twice the same model is that model.
    shutil.copy(best, tmp_path / "twin.ckpt")
    both = f"ckpt_path=[{best},{tmp_path / 'twin.ckpt'}]"
    twins = here("evaluate", both, *QUIET, "run=twins", "trust=own_learning")
    assert twins.returncode == 0, twins.stderr
    found = of_test(tmp_path / "logs" / "evaluate" / "runs" / "twins", read_summary)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_loss_is_what_is_learnt_and_reported(train, own, read_summary):
    run = train(*ours("brier")).run()
    table = bags(run)
    y, p = np.array(table["label"]), np.array(table["probability_1"])
    loss = read_summary(run)["metrics"]["test/loss"]
    assert loss == pytest.approx(np.mean((p - y) ** 2), rel=1e-5)
    plain = train("run=plain").folder / "logs" / "train" / "runs" / "plain"
    one, other = (
        torch.load(each / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for each in (run, plain)
    )
    assert not torch.equal(one["network.head.weight"], other["network.head.weight"])


def test_a_metric_and_a_module_of_ones_own(train, here, own, read_summary):
    metric = "+metrics.share._target_=own_learning.Share"
    module = "module._target_=own_learning.Louder"
    outcome = train(metric, module, "+metrics.f1=null")
    assert outcome.returncode == 0, outcome.stderr
    assert "louder" in outcome.stdout
    run = outcome.run()
    metrics = read_summary(run)["metrics"]
    assert "test/f1" not in metrics
    p = np.array(bags(run)["probability_1"])
    assert metrics["test/share"] == pytest.approx(np.mean(p > 0.5))
    again = here("evaluate", f"ckpt_path={run}/checkpoints/best.ckpt", *QUIET, "trust=own_learning")
    assert of_test(again.run("evaluate"), read_summary) == of_test(run, read_summary)


WRONG = [
    (ours("mean"), "expected a loss for each bag, of shape (2,), got (); reduce it over the"),
    (ours("table"), "expected a loss for each bag, of shape (2,), got (2, 2); reduce it over"),
    (ours("of_three"), "loss: it cannot take logits of shape (B, 1) and labels of dtype"),
    (
        ("+loss={_target_: own_learning.brier}",),
        "loss: own_learning.brier needs 'logits'; it is called with the logits and labels of a "
        "batch, so leave it partial: +loss._partial_=true",
    ),
    (
        (
            "+loss={_target_: torch.nn.functional.multi_margin_loss, _partial_: true, "
            "reduction: none}",
        ),
        "labels of dtype torch.float32 and shape ('B', 1), which the task Binary gives",
    ),
    (("+loss={_target_: builtins.dict}",), "loss._target_: expected a function of logits"),
    (("+loss={_target_: own_learning.bier, _partial_: true}",), "loss._target_: 'own_learning.bie"),
    (
        ("+metrics.x._target_=own_learning.OfSizes",),
        "expected metrics.x to need of preds, target what its task feeds it, got OfSizes, which "
        "needs sizes too",
    ),
    (("+metrics.x._target_=own_learning.Needy",), "Needy needs 'threshold'; give metrics.x.thr"),
    (
        ("+metrics.x._target_=own_learning.Share", "monitor=val/x"),
        "expected Share to say whether higher is better, got nothing: set monitor_mode=min or "
        "monitor_mode=max",
    ),
    (("+metrics.x.average=macro",), "metrics.x: there is no such member of metrics (a new one"),
    (("+metrics.x=3",), "metrics.x: there is no such member of metrics (a new one needs a"),
    (("+metrics.5=3",), "metrics.5: there is no such member of metrics (a new one needs a"),
    (
        ("+metrics.x._target_=own_learning.brier", "+metrics.x._partial_=true"),
        "metrics.x._target_:",
    ),
    (("+metrics.acuracy=null",), "expected a metric of the task to take away by metrics.acuracy"),
    (("module._target_=torch.nn.Linear",), "a subclass of milforge.training.MILModule"),
    (("module._target_=lightning.LightningModule",), "a subclass of milforge.training.MILModule"),
    (
        ("task=regression", "task._target_=torch.nn.Identity"),
        "task._target_: expected a subclass of milforge.tasks.Task, got torch.nn.Identity",
    ),
    (("task=multiclass", "loss=huber"), "which the task Multiclass gives (expected"),
    (("task=binary", "task.class_names=[a,b,c]"), "expected two names in task.class_names"),
    (("task.positive=7",), "expected task.positive among the classes no 9, 9, got '7'"),
    (("task.class_weights=[1,2,3]",), "a weight of each of the classes no 9, 9, got 3"),
    (("init_from=nowhere.ckpt",), "init_from: there is no file nowhere.ckpt"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), thinned(WRONG, every=3), ids=lambda value: str(value)[:50]
)
def test_what_does_not_fit_the_task_is_told_before_a_bag_is_read(
    train, own, no_bag_is_read, arguments, message
):
    assert message in train(*arguments).error()


LABELS = [
    (
        ("task=regression", "data.label_column=grade"),
        "labels.csv: expected numbers in the label column 'grade' for task=regression, got 'grade "
        "A', 'grade B', 'grade C': task=auto finds the classes of words",
    ),
    (
        ("data.label_column=age",),
        "such as 40.3, 42.5, 44.7: task=regression predicts numbers; task.cl",
    ),
    (("task=binary", "data.label_column=grade"), "got 3: grade A, grade B, grade C; task=multicla"),
    (
        ("data.label_column=stage",),
        "labels.csv: expected a column stage, got the columns slide_id, patient, age, grade: name "
        "the right one by data.label_column",
    ),
    (
        (),
        "labels.csv: expected a column label, got the columns slide_id, patient, age, grade: name "
        "the right one by data.label_column",
    ),
    (("data.label_column=[age,grade]",), "expected 0 and 1 in each of the label columns age, gra"),
    (("data.label_column=grade", "data.covariates=[stage]"), "among the columns age, got stage"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    thinned(LABELS, every=3),
    ids=lambda value: str(value)[:50],
)
def test_labels_that_do_not_fit_the_task_are_told_before_a_bag_is_read(
    here, numbered, no_bag_is_read, arguments, message
):
    assert message in here("train", *numbered, *QUIET, *arguments).error()


def test_labels_at_fault_are_told_together(here, numbered, tmp_path, no_bag_is_read):
    text = (tmp_path / "labels.csv").read_text()
    text = text.replace("s03,p1,46.9", 's03,p1,"46,9"').replace("s05,p2,51.3", "s05,p2,")
    (tmp_path / "labels.csv").write_text(text)
    outcome = here("train", *numbered, *QUIET, "task=regression", "data.label_column=age")
    assert outcome.returncode == 1
    for line in (
        "labels.csv: 2 faults",
        "bag 's03': expected a number in the column 'age', got '46,9': write 46.9, with a decimal",
        "bag 's05': expected a number in the column 'age', got nothing: fill it in, or remove the",
    ):
        assert line in outcome.stderr


@pytest.mark.parametrize(
    ("name", "node", "key", "instead"),
    [
        (
            "loss",
            {"_target_": "own_learning.brier", "_partial_": True},
            "loss._target_: 'own_learning.brier'",
            "loss=task",
        ),
        (
            "metrics",
            {"share": {"_target_": "own_learning.Share"}},
            "metrics.share._target_",
            "metrics=task",
        ),
        ("module", {"_target_": "own_learning.Louder"}, "module._target_", "module=default"),
        ("task", {"_target_": "own_learning.Own"}, "task._target_", "task=binary"),
    ],
    ids=["loss", "metric", "module", "task"],
)
def test_what_is_gone_from_the_fork_is_named_with_the_remedy(
    trained, checkpoint, here, tmp_path, read_summary, name, node, key, instead
):
    """The checkpoint of a plain run, which is said to be one of a fork."""
    content = torch.load(checkpoint, weights_only=True)
    config = content["milforge"]["config"]
    config[name] = {**(config[name] or {}), **node}
    torch.save(content, tmp_path / "forked.ckpt")
    evaluation = ("evaluate", "ckpt_path=forked.ckpt", *QUIET, "trust=own_learning")
    told = here(*evaluation).failure()
    assert told.startswith(key)
    assert "cannot be imported" in told
    assert f"; {instead}" in told or "choose the task that takes its place, task=..." in told
    outcome = here(*evaluation, instead)
    assert outcome.returncode == 0, outcome.stderr
    found = of_test(outcome.run("evaluate"), read_summary)
    assert found["test/auroc"] == read_summary(trained.run())["metrics"]["test/auroc"]


def history(run):
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["milforge"]["history"], checkpoint["lr_schedulers"]


@pytest.mark.parametrize(("name", "mode"), [("auroc", "max"), ("ece", "min"), ("ap", "max")])
def test_the_metric_that_chooses_the_epoch_says_which_way_is_up(train, read_summary, name, mode):
    options = (f"monitor=val/{name}", "scheduler=plateau", "trainer.max_epochs=4")
    outcome = train(*options, "data.val=20", "test=false")
    assert outcome.returncode == 0, outcome.stderr
    summary = read_summary(outcome.run())
    points, (scheduler,) = history(outcome.run())
    values = [value for _, value in points[f"val/{name}"]]
    assert len(set(values)) > 1
    assert summary["monitor"] == f"val/{name}"
    assert summary["best_epoch"] == values.index(max(values) if mode == "max" else min(values))
    assert scheduler["mode"] == mode
    config = OmegaConf.load(outcome.run() / "config.yaml")
    assert config.monitor_mode is None  # as it was said


def test_a_monitor_that_no_bag_gives_a_value_ends_the_run_in_a_sentence(train):
    """Mean pooling has no attention."""
    told = train("model=mean_pool", "monitor=val/inst_auroc", "trainer.max_epochs=1").failure()
    assert told.startswith("monitor=val/inst_auroc is not defined (no positive val bag has labels")


def test_what_the_config_says_of_the_way_up_holds(train, own, read_summary):
    share = ("+metrics.share._target_=own_learning.Share", "monitor=val/share", "monitor_mode=max")
    outcome = train(*share, "test=false")
    assert outcome.returncode == 0, outcome.stderr
    points, _ = history(outcome.run())
    values = [value for _, value in points["val/share"]]
    assert read_summary(outcome.run())["best_epoch"] == values.index(max(values))


TINY_NET = ("model.encoder.hidden=[8]", "model.pool.att_dim=8", "trainer.max_epochs=1")


def weights_of(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_weights_to_begin_with_and_parts_that_are_not_trained(train):
    first = train(*TINY_NET).run()
    given = f"init_from={first}/checkpoints/last.ckpt"
    kept = ("freeze=encoder", "run=same", "test=false")
    outcome = train(*TINY_NET, given, *kept)
    assert outcome.returncode == 0, outcome.stderr
    before, after = weights_of(first), weights_of(first.with_name("same"))
    number = sum(name.startswith("network.") for name in before)
    assert f"init_from: {number} of {number} weights taken from {first}" in outcome.stdout
    assert "begun anew" not in outcome.stdout
    for name, value in before.items():
        if name.startswith("network."):
            assert torch.equal(value, after[name]) == name.startswith("network.encoder."), name


def test_weights_that_do_not_fit_are_begun_anew_and_told(train):
    first = train(*TINY_NET).run()
    given = f"init_from={first}/checkpoints/last.ckpt"
    labels = ("data.target=[3,9]", "data.sampling=plain", "test=false", "run=other")
    frozen = ("freeze=[encoder,pool]", "monitor=val/auroc")
    outcome = train(*TINY_NET, given, *labels, *frozen)
    assert outcome.returncode == 0, outcome.stderr
    assert "init_from: not taken, so begun anew: head.weight, head.bias" in outcome.stdout
    before, after = weights_of(first), weights_of(first.with_name("other"))
    for name in (name for name in before if name.startswith(("network.encoder", "network.pool"))):
        assert torch.equal(before[name], after[name]), name
    nothing = ("model.encoder.hidden=[9]", "model.pool.att_dim=9", "run=nothing")
    told = train(*TINY_NET, given, *labels[:-1], *nothing).failure()
    assert told.startswith(
        f"init_from: no weight of {first}/checkpoints/last.ckpt fits the network"
    )
    assert "it has encoder." in told


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "encodr",
            "freeze: the network has no part 'encodr' (it has encoder, pool, dropout, head)",
        ),
        ("[encoder,pool,head]", "encoder, pool, head frozen, nothing is left to be trained"),
    ],
)
def test_what_cannot_be_frozen(train, value, message):
    assert message in train(f"freeze={value}").error()

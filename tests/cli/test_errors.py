"""What bad input gets: one sentence that names the key and the remedy."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from thinned import thinned

MISSPELT = [
    (["data.mean_sise=3"], "there is no key 'data.mean_sise'; did you mean 'data.mean_size'?"),
    (["++model.pool={1:{2:3}}"], "model.pool.1: milforge.nn.AttentionPool takes no 1 (it takes"),
    (["sed=1"], "there is no key 'sed'; did you mean 'seed'?"),
    (["+sed=1"], "there is no key 'sed'; did you mean 'seed'?"),
    (["modle=abmil"], "there is no key 'modle'; did you mean 'module'?"),
    (["moddel=abmil"], "there is no key 'moddel'; did you mean 'model'?"),
    (["loader.batchsize=3"], "'loader.batchsize'; did you mean 'loader.batch_size'?"),
    (["+graph=gird"], "there is no graph=gird; did you mean 'grid'?"),
    (["split=kfold", "split.fols=3"], "'split.fols'; did you mean 'split.folds'?"),
    (["task.class_weight=balanced"], "'task.class_weight'; did you mean 'task.class_weights'?"),
    (["loss=focal", "loss.gama=1"], "'loss.gama'; did you mean 'loss.gamma'?"),
    (["+metrics.per_class.average=null"], "metrics.per_class: there is no such member of metrics"),
    (["model=abmli"], "there is no model=abmli; did you mean 'abmil'? (there are abmil,"),
    (["model/encoder=lennet"], "there is no model/encoder=lennet; did you mean 'lenet'?"),
    (["trainer=gpus"], "there is no trainer=gpus; did you mean 'gpu'?"),
    (["experiment=keras"], "there is no experiment=keras; did you mean 'keras_mil'?"),
    (["scheduler=plateau", "scheduler.patients=3"], "did you mean 'scheduler.patience'?"),
    (["model.pool.att_dmi=3"], "'model.pool.att_dmi'; did you mean 'model.pool.att_dim'?"),
    (["+model.pool.att_dmi=3"], "AttentionPool takes no 'att_dmi'; did you mean 'att_dim'?"),
    (["+optimizer.weight_deca=1"], "torch.optim.Adam takes no 'weight_deca'; did you mean"),
    (["+trainer.max_epoch=3"], "trainer.max_epoch: lightning.Trainer takes no 'max_epoch'; did"),
    (["+callbacks.early_stoping.patience=3"], "did you mean 'early_stopping'?"),
    (["logger=wandb", "+logger.wandb.entiti=me"], "WandbLogger takes no 'entiti'; did you mean"),
    (["+paths.log_dri=x"], "there is no key 'paths.log_dri'; did you mean 'paths.log_dir'?"),
    (["data._target_=milforge.data.digits_bag"], "data._target_: "),
]


@pytest.mark.parametrize(
    ("arguments", "message"), thinned(MISSPELT, every=3), ids=lambda value: str(value)[:40]
)
def test_a_misspelt_key_is_refused_with_the_nearest_one(here, monkeypatch, arguments, message):
    def too_late(config):
        raise AssertionError("data or device was touched")

    monkeypatch.setattr("milforge.api.training.fit", too_late)
    outcome = here("train", "logger=csv", *arguments)
    assert message in outcome.error()
    assert not list(outcome.folder.glob("logs/*/runs/*"))


@pytest.mark.parametrize("flags", [["run="], ["-m", "sweep=../x"], ["run=../../x"]])
def test_a_folder_that_is_none_or_lies_elsewhere_is_refused(here, tmp_path, flags):
    told = here("train", *flags, "logger=csv").error()
    assert told.startswith(f"{flags[-1]} is empty" if flags == ["run="] else f"{flags[-1]} is no ")
    assert not list(tmp_path.iterdir())


def test_a_misspelt_key_in_an_experiment_of_the_user_is_refused(here, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    experiment = tmp_path / "conf" / "experiment" / "mine.yaml"
    for text, message in (
        ("monitr: val/loss", "did you mean 'monitor'?"),
        ("data: {mean_sise: 3}", "data.mean_sise: milforge.data.digits_bags takes no"),
        ("loader: {batchsize: 3}", "loader.batchsize: milforge.data.Loader takes no"),
        ("callbacks: {figure: {bags: 3}}", "callbacks.figure: there is no such member"),
    ):
        experiment.write_text(f"# @package _global_\n{text}\n")
        error = here("train", "--config-dir=conf", "experiment=mine").error()
        assert message in error


VALUES = [
    (["loader.batch_size=0"], "loader.batch_size of at least 1, got 0"),
    (["loader.eval_batch_size=0"], "loader.eval_batch_size of at least 1, got 0"),
    (["loader.num_workers=-1"], "loader.num_workers of at least 0, got -1"),
    (["loader.batch_size=many"], "loader.batch_size: expected a whole number, got 'many'"),
    (["data.target=12"], "target among the labels of the images"),
    (["data.target=[3,9]"], "sampling=plain"),
    (["data.mean_size=10000"], "lower mean_size"),
    (["data.mean_size=0"], "mean_size of at least 1, got 0"),
    (["data.train=0"], "train: expected a count of at least 1 bag, got 0"),
    (["data.sampling=fair"], "data.sampling: expected balanced or plain, got 'fair'"),
    (
        ["+data.root=here"],
        "data.root: milforge.data.digits_bags takes no 'root' (it takes train, val,",
    ),
    (
        ["task.class_weights=equal"],
        "task.class_weights to be null, balanced or a list, got 'equal'",
    ),
    (["monitor=val/auroccc"], "did you mean 'val/auroc'?"),
    (["monitor_mode=most"], "monitor_mode to be min, max or null, got 'most'"),
    (["model/encoder=lenet"], "choose model/encoder=mlp"),
    (["model/encoder=identity"], "choose model/encoder=mlp or model/encoder=lenet"),
    (["model.encoder.hidden=[]"], "hidden widths of at least 1"),
    (["trainer.accelerator=abacus"], "invalid accelerator name: `accelerator='abacus'`"),
    (["trainer.devices=0"], "devices"),
    (["+trainer.max_steps=5"], "no trainer.max_steps, got 5"),
    (["trainer.precision=64-true"], "16-mixed or bf16-mixed, got 64-true"),
    (["trainer.precision=bf16-true"], "16-mixed or bf16-mixed, got bf16-true"),
    (["seed=-1"], "seed from 0 to 4294967295, got -1"),
    (["seed=one"], "'one' of type 'str' could not be converted to Integer"),
    (["optimizer.lr=-1"], "learning rate"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), thinned(VALUES, every=3), ids=lambda value: str(value)[:40]
)
def test_a_value_that_cannot_be_gets_a_sentence(here, arguments, message):
    error = here("train", "logger=csv", "data.train=4", "data.val=2", "data.test=2", *arguments)
    assert message in error.error()


def test_missing_and_damaged_files_are_named(here, tmp_path):
    root = tmp_path / "mnist"
    root.mkdir()
    data = ("data=mnist_bags", f"data.root={root}")
    first = root / "train-images-idx3-ubyte"
    error = here("train", *data).error()
    assert error.startswith(f"{first}: expected this file or ")
    assert "data.root=FOLDER" in error
    first.write_bytes(bytes([0, 0, 8, 3]) + np.array([5, 28, 28], ">u4").tobytes() + bytes(100))
    for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (root / name).write_bytes(b"")
    error = here("train", *data).error()
    assert error.startswith(f"{first}: expected {5 * 28 * 28} values")
    assert "truncated, download it again" in error
    values = np.zeros((5, 8, 8), np.uint8).tobytes()
    first.write_bytes(bytes([0, 0, 8, 3]) + np.array([5, 8, 8], ">u4").tobytes() + values)
    labels = bytes([0, 0, 8, 1]) + np.array([5], ">u4").tobytes() + bytes(5)
    (root / "train-labels-idx1-ubyte").write_bytes(labels)
    error = here("train", *data).error()
    assert "expected images of shape (M, 28, 28), got (5, 8, 8)" in error


def test_processes_that_repeat_a_sweep_are_refused(here, monkeypatch):
    """Each would run the whole multirun again."""

    def too_late(*_, **__):
        raise AssertionError("the sweep was started again")

    monkeypatch.setattr("lightning.Trainer.fit", too_late)
    options = ("trainer=ddp_cpu", "seed=0,1", "data.train=4", "data.val=2", "data.test=2")
    error = here("train", "-m", *options, "logger=csv").error()
    assert "one process per job in a multirun" in error
    for remedy in ("trainer=cpu", "launcher=submitit_slurm"):
        assert remedy in error


def test_fewer_bags_than_a_process_each_are_refused():
    from milforge.data import EvaluationBags, TrainBatches

    with pytest.raises(ValueError, match="1 bags for 2 processes; use fewer devices"):
        EvaluationBags(1, 0, 2)
    with pytest.raises(ValueError, match=r"loader\.batch_size of at least 2"):
        TrainBatches(5, 1, 0, 0, 2)


def run_module(folder, *arguments):
    """Exit code, output, error, and the modules that a command imported."""
    code = "import runpy, sys; sys.argv = sys.argv[1:]\n"
    code += "try:\n runpy.run_module(sys.argv[0], run_name='__main__')\n"
    code += "except SystemExit as end:\n code = end.code\n"
    code += "else:\n code = 0\n"
    code += "print('MODULES', *sys.modules)\nsys.exit(code)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    output, _, modules = done.stdout.partition("MODULES ")
    return done.returncode, output, done.stderr, set(modules.split())


HEAVY = {"torch", "lightning", "torchmetrics", "wandb", "sklearn", "matplotlib"}


def test_help_on_a_key_is_fast(tmp_path):
    arguments = ("milforge.cli.train", "model=sm_abmil", "--help", "model.pool.sm_steps")
    code, output, error, modules = run_module(tmp_path, *arguments)
    assert (code, error) == (0, "")
    assert not HEAVY & modules
    assert output.startswith("model.pool.sm_steps\n  ")
    assert "\n  default  10\n  type     int\n  in       configs/model/sm_abmil.yaml\n" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_help_is_fast(tmp_path, command):
    code, output, error, modules = run_module(tmp_path, f"milforge.cli.{command}", "--help")
    assert code == 0
    assert not HEAVY & modules
    assert error == ""
    assert output.startswith(f"milforge-{command}\n")
    groups = {"data": "digits_bags digits_chain", "trainer": "cpu", "logger": "csv mlflow none"}
    for group, names in groups.items():  # a fork has others between them
        assert re.search(rf"^{group}: .*{', .*'.join(names.split())}", output, re.M | re.S)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argument",
    [
        "data.mean_sise=3",
        "model=abmli",
        "sed=1",
        # New keys of classes, which their source shows.
        "+data.mean_sise=3",
        "+model.pool.att_dmi=3",
        "+trainer.max_epoch=3",
        "+optimizer.weight_deca=1",
    ],
)
def test_a_wrong_key_is_told_before_anything_heavy_is_imported(tmp_path, argument):
    code, _, error, modules = run_module(tmp_path, "milforge.cli.train", argument)
    assert code == 1
    assert not HEAVY & modules
    (line,) = error.splitlines()
    assert line.startswith("error: ")
    assert "did you mean" in line


def test_a_fault_of_ours_keeps_its_traceback(here, monkeypatch):
    def broken(config, launch):
        raise KeyError("ours")

    monkeypatch.setattr("milforge.api.training.fit", broken)
    outcome = here("train", "logger=csv")
    assert outcome.returncode == 1
    assert "Traceback" in outcome.stderr
    assert "KeyError: 'ours'" in outcome.stderr


def test_a_failed_job_leaves_no_summary(here, monkeypatch):
    """It broke after some epochs: what is there must not look whole."""

    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("milforge.callbacks.predictions.pq.write_table", broken)
    options = ("data.train=8", "data.val=4", "data.test=4", "trainer.max_epochs=1")
    outcome = here("train", *options, "logger=csv", "callbacks.figures=null")
    assert outcome.error() == "disk full"
    assert not list(outcome.folder.rglob("*.parquet"))
    assert not list(outcome.folder.rglob("*.partial"))

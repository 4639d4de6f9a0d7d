"""`milforge-evaluate` and `milforge-predict`: a checkpoint alone is enough."""

import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf

from predicted import tables
from thinned import thinned

QUIET = ("logger=csv", "callbacks.figures=null")


@pytest.fixture(scope="module")
def alone(checkpoint, tmp_path_factory):
    """A copy of the checkpoint, by itself, under a name with a space and no word of its run."""
    path = tmp_path_factory.mktemp("elsewhere") / "copy of it.ckpt"
    shutil.copy(checkpoint, path)
    return path


@pytest.fixture
def evaluate(here, alone):
    return lambda *arguments: here("evaluate", f"ckpt_path='{alone}'", *QUIET, *arguments)


def test_evaluation_needs_the_checkpoint_alone(
    train, alone, trained, process, tmp_path, read_summary
):
    """Another folder, another process; of the run that trained nothing else is there."""
    outcome = process("evaluate", f"ckpt_path='{alone}'", "logger=csv")
    assert outcome.returncode == 0, outcome.stderr
    expected = read_summary(trained.run())
    summary = read_summary(outcome.run("evaluate"))
    of_test = {name: v for name, v in expected["metrics"].items() if name.startswith("test/")}
    assert summary["metrics"] == of_test
    assert summary["seed"] == expected["seed"] == 3
    assert summary["data"] == expected["data"]
    assert summary["status"] == "finished"
    assert summary["task"] == expected["task"]
    folder = outcome.run("evaluate")
    for mine, wanted in zip(tables(folder, None), tables(trained.run()), strict=True):
        assert mine.equals(wanted)
        assert mine.schema.metadata == wanted.schema.metadata
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"roc_pr.png", "confusion.png", "bags_9.png", "bags_no_9.png"} == figures
    assert not (folder / "checkpoints").exists()


def test_the_run_that_trained_may_be_gone(train, here, tmp_path, read_summary):
    run = train("trainer.max_epochs=1", "task.class_weights=balanced", "data.sampling=plain").run()
    expected = read_summary(run)["metrics"]
    checkpoint = shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "kept.ckpt")
    shutil.rmtree(tmp_path / "logs")
    outcome = here("evaluate", f"ckpt_path={checkpoint}", *QUIET)
    metrics = read_summary(outcome.run("evaluate"))["metrics"]
    assert metrics == {name: v for name, v in expected.items() if name.startswith("test/")}


def test_the_config_of_an_evaluation_is_resolved_and_stored(evaluate, trained):
    folder = evaluate("data.mean_size=5").run("evaluate")
    text = (folder / "config.yaml").read_text()
    assert "${" not in text
    config, before = OmegaConf.create(text), OmegaConf.load(trained.run() / "config.yaml")
    assert config.data == {**before.data, "mean_size": 5}
    assert config.model == before.model
    assert config.trainer.default_root_dir == str(config.paths.output_dir)
    assert str(trained.folder) not in text  # nothing is written to the old run


def test_a_path_relative_to_the_current_folder_is_taken(here, alone, tmp_path):
    shutil.copy(alone, tmp_path / "model.ckpt")
    assert here("evaluate", "ckpt_path=model.ckpt", *QUIET).returncode == 0


def test_overrides_act(evaluate, trained, read_summary):
    outcome = evaluate("data.mean_size=5", "data.sd_size=0", "data.test=6")
    table = pq.read_table(outcome.run("evaluate") / "predictions" / "instances.parquet")
    assert len(table) == 6 * 5
    summary = read_summary(outcome.run("evaluate"))
    assert summary["data"]["bags"]["test"] == 6
    assert summary["data"]["fingerprint"] != read_summary(trained.run())["data"]["fingerprint"]


def test_a_group_on_the_command_line_replaces_the_stored_one(evaluate):
    outcome = evaluate("data=digits_bags", "data.test=7", "data.train=2", "data.val=2")
    assert outcome.returncode == 0, outcome.stderr
    config = OmegaConf.load(outcome.run("evaluate") / "config.yaml")
    shipped = OmegaConf.to_container(
        OmegaConf.load(_shipped("data/digits_bags.yaml")), resolve=False
    )
    assert config.data == {**shipped, "test": 7, "train": 2, "val": 2, "seed": 3}


def _shipped(name):
    from milforge.config.messages import config_dir

    return f"{config_dir()}/{name}"


def test_an_evaluation_begun_again_is_not_finished_until_its_end(evaluate, tmp_path, monkeypatch):
    """Else a summary of one checkpoint would stand beside predictions of another."""
    folder = tmp_path / "logs/evaluate/runs/again"
    assert evaluate("run=again").returncode == 0
    written = folder / "predictions"
    of_before = [
        folder / "summary.json",
        written / "members.parquet",
        written / ".bags.parquet.0123.partial",
    ]
    for path in of_before[1:]:
        path.touch()

    def cut_off(*args, **kwargs):
        assert (folder / ".lock").exists()
        raise OSError("disk full")

    monkeypatch.setattr("lightning.Trainer.test", cut_off)
    assert evaluate("run=again").failure() == "disk full"
    assert not [path for path in (*of_before, folder / ".lock") if path.exists()]


def test_another_trainer_can_be_chosen(evaluate, read_summary, trained):
    outcome = evaluate("trainer=cpu", "trainer.precision=bf16-mixed")
    assert outcome.returncode == 0, outcome.stderr
    metrics = read_summary(outcome.run("evaluate"))["metrics"]
    expected = read_summary(trained.run())["metrics"]
    assert metrics["test/loss"] == pytest.approx(expected["test/loss"], rel=0.02)
    assert metrics["test/loss"] != expected["test/loss"]


def test_a_config_dir_may_stand_beside_a_checkpoint(evaluate, tmp_path):
    (tmp_path / "conf").mkdir()
    outcome = evaluate("--config-dir=conf")
    assert outcome.returncode == 0, outcome.stderr


def test_the_stored_config_can_be_shown(evaluate):
    outcome = evaluate("--cfg=job")
    assert outcome.returncode == 0, outcome.stderr
    assert OmegaConf.create(outcome.stdout).data.train == 16
    assert not (outcome.folder / "logs").exists()


def test_prediction_gives_what_evaluation_gives(here, alone, trained, read_summary):
    outcome = here("predict", f"ckpt_path='{alone}'", "loader.eval_batch_size=3")
    assert outcome.returncode == 0, outcome.stderr
    folder = outcome.run("predict")
    for table, expected in zip(tables(folder, None), tables(trained.run()), strict=True):
        assert table.column_names == expected.column_names
        assert table.schema == expected.schema
        for column in table.column_names:
            values, wanted = (each[column].to_numpy() for each in (table, expected))
            if values.dtype.kind == "f":
                np.testing.assert_allclose(values, wanted, atol=1e-6)
            else:
                np.testing.assert_array_equal(values, wanted)
    summary = read_summary(folder)
    assert summary["metrics"] == {}
    assert summary["status"] == "finished"
    assert not (folder / "figures").exists()
    assert "predictions" in outcome.stdout


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_checkpoint_must_be_given(here, command):
    assert here(command).error() == f"milforge-{command} needs a checkpoint: ckpt_path=FILE"


class Harmful:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def write_whole(path, checkpoint):
    shutil.copy(checkpoint, path)


def write_truncated(path, checkpoint):
    content = checkpoint.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_empty(path, checkpoint):
    path.write_bytes(b"")


def write_text(path, checkpoint):
    path.write_text("no checkpoint")


def write_foreign(path, checkpoint):
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, path)


def write_list(path, checkpoint):
    torch.save([1, 2], path)


def write_module(path, checkpoint):
    torch.save(torch.nn.Linear(1, 1), path)


def write_pickle(path, checkpoint):
    path.write_bytes(pickle.dumps(Harmful(path.with_name("harm"))))


def write_harmful(path, checkpoint):
    torch.save({"state_dict": {}, "milforge": Harmful(path.with_name("harm"))}, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_truncated, "cannot be read as a checkpoint"),
        (write_empty, "cannot be read as a checkpoint"),
        (write_text, "cannot be read as a checkpoint"),
        (write_module, "cannot be read as a checkpoint"),
        (write_pickle, "cannot be read as a checkpoint"),
        (write_harmful, "cannot be read as a checkpoint"),
        (write_foreign, "was not written by milforge-train"),
        (write_list, "was not written by milforge-train"),
    ],
)
@pytest.mark.parametrize("command", thinned(["train", "evaluate", "predict"], every=3))
def test_a_file_that_is_no_checkpoint_is_refused(
    here, tmp_path, checkpoint, command, write, message
):
    path = tmp_path / "bad.ckpt"
    write(path, checkpoint)
    error = here(command, f"ckpt_path={path}").error()
    assert message in error
    assert error.startswith(f"ckpt_path: {path} ")
    assert "checkpoints/ folder" in error
    assert not (tmp_path / "harm").exists()
    assert not list(tmp_path.glob("logs/*/runs/*"))


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_a_missing_checkpoint_is_named(here, command):
    error = here(command, "ckpt_path=nowhere.ckpt").error()
    assert error == "ckpt_path: there is no file nowhere.ckpt"


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_a_checkpoint_of_another_model_is_refused(here, alone, command):
    error = here(command, f"ckpt_path='{alone}'", "model=mean_pool").error()
    assert "does not fit the model of this config" in error
    assert str(alone) in error


@pytest.fixture(scope="module")
def idx_folder(tmp_path_factory):
    """MNIST's four files with 600 and 100 images of noise."""
    folder = tmp_path_factory.mktemp("mnist")
    rng = np.random.default_rng(0)
    for name, count in (("train", 600), ("t10k", 100)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.tile(np.arange(10, dtype=np.uint8), count // 10)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + values.tobytes())
    return folder


def test_other_instances_are_refused(evaluate, idx_folder):
    data = ("data=mnist_bags", f"data.root={idx_folder}", "data.mean_size=3", "data.train=2")
    error = evaluate(*data, "data.val=2", "data.test=2").error()
    assert "instances of shape (1, 8, 8), the data have (1, 28, 28)" in error


def test_other_classes_are_refused(evaluate):
    error = evaluate("data.target=4").error()
    assert error == (
        "expected the label among the classes no 9, 9, got 'no 4': the checkpoint was trained on "
        "other labels; choose other data or another checkpoint"
    )


def test_data_that_are_not_split_do_not_say_what_was_seen(evaluate, alone):
    told = evaluate("out_of_fold=true").error()
    assert told.startswith(f"out_of_fold=true: {alone} was trained on data that make their parts")


@pytest.mark.parametrize("key", ["monitor=val/auroc", "freeze=encoder", "optimizer=adam"])
def test_keys_of_training_are_refused(evaluate, key):
    assert f"there is no key '{key.split('=')[0]}'" in evaluate(key).error()


@pytest.mark.slow
def test_a_failure_in_a_process_of_its_own(process, tmp_path):
    """One line, no traceback; with HYDRA_FULL_ERROR=1 a traceback."""
    (tmp_path / "bad.ckpt").write_text("no checkpoint")
    outcome = process("evaluate", "ckpt_path=bad.ckpt")
    assert outcome.returncode == 1
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("error: ckpt_path: bad.ckpt cannot be read")
    assert outcome.stdout == ""
    outcome = process("evaluate", "ckpt_path=bad.ckpt", HYDRA_FULL_ERROR="1")
    assert outcome.returncode == 1
    assert "Traceback (most recent call last)" in outcome.stderr
    assert "ckpt_path: bad.ckpt cannot be read" in outcome.stderr

"""`milforge-evaluate` and `milforge-predict` of several checkpoints, by the real commands."""

import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.metrics import log_loss, roc_auc_score

from predicted import tables
from thinned import thinned

QUIET = ("logger=csv", "callbacks.figures=null")
# Of probabilities: each softmax in float32 rounds its exponentials, their sum and the quotient.
ROUNDED = 4 * float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def trained_in(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture
def sweep(train, trained_in):
    """Two seeds of attention and two of gated attention: the jobs 0 to 3 of a multirun."""
    folder = trained_in / "logs" / "train" / "multiruns" / "demo"
    if not folder.exists():
        choices = ("model=abmil,gated_abmil", "seed=1,2", "sweep=demo")
        outcome = train("-m", *choices, folder=trained_in)
        assert outcome.returncode == 0, outcome.stderr
    return folder


@pytest.fixture
def members(sweep):
    """Two seeds of attention, and one of gated attention."""
    return [sweep / str(job) / "checkpoints" / "best.ckpt" for job in (0, 1, 3)]


@pytest.fixture
def other(members, tmp_path):
    """`other(key=value)`: a checkpoint that was trained on something else."""

    def make(**content):
        checkpoint = torch.load(members[1], weights_only=True)
        checkpoint["milforge"] |= content
        torch.save(checkpoint, tmp_path / "other.ckpt")
        return tmp_path / "other.ckpt"

    return make


def listed(paths):
    return f"ckpt_path=[{','.join(map(str, paths))}]"


def column(table, name):
    return table[name].to_numpy().astype(np.float64)


@pytest.fixture(scope="module")
def told_alone():
    return []


@pytest.fixture
def alone(here, members, tmp_path, told_alone):
    """The tables of each member by itself, on the bags of the first."""
    for number, path in enumerate(members if not told_alone else []):
        folder = tmp_path / f"alone_{number}"
        folder.mkdir()
        outcome = here("predict", f"ckpt_path={path}", "seed=1", "data.seed=1", folder=folder)
        assert outcome.returncode == 0, outcome.stderr
        assert "members" not in outcome.stdout
        told_alone.append(tables(outcome.run("predict")))
    return told_alone


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_the_tables_are_the_means_of_those_of_the_members(
    here, alone, members, sweep, command, read_summary
):
    quiet = QUIET if command == "evaluate" else ()
    outcome = here(command, listed(members), *quiet)
    assert outcome.returncode == 0, outcome.stderr
    assert "members      3 checkpoints, averaged" in outcome.stdout.splitlines()
    told = tables(outcome.run(command))
    for mine, theirs, averaged in (
        (told[0], [bags for bags, _ in alone], ("probability_0", "probability_1")),
        (told[1], [instances for _, instances in alone], ("weight",)),
    ):
        assert mine.schema == theirs[0].schema
        for name in set(mine.column_names) - {*averaged, "score", "logit_0"}:
            assert mine[name].equals(theirs[0][name])
        for name in averaged:
            each = [column(table, name) for table in theirs]
            assert min(np.abs(each[0] - each[1]).max(), np.abs(each[0] - each[2]).max()) > 1e-3
            expected = np.mean(each, 0)
            np.testing.assert_allclose(column(mine, name), expected, rtol=0, atol=ROUNDED)
    scores, weights = (column(told[1], name) for name in ("score", "weight"))
    np.testing.assert_allclose(scores, np.log(weights), atol=1e-6)
    summary, first = read_summary(outcome.run(command)), read_summary(sweep / "0")
    assert summary["checkpoint"] == [str(path) for path in members]
    assert summary["data"] == first["data"]
    assert summary["seed"] == first["seed"] == 1
    y, p = (column(told[0], name) for name in ("label", "probability_1"))
    if command == "predict":
        assert summary["metrics"] == {}
    else:
        metrics = summary["metrics"]
        assert metrics["test/loss"] == pytest.approx(log_loss(y, p), rel=1e-5)
        assert metrics["test/auroc"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)
        assert metrics["test/accuracy"] == pytest.approx(np.mean((p > 0.5) == y), abs=1e-6)


def test_the_config_names_the_members_and_is_the_firsts(here, members, sweep):
    outcome = here("evaluate", listed(members[::-1]), *QUIET, "loader.eval_batch_size=5")
    assert outcome.returncode == 0, outcome.stderr
    config = OmegaConf.load(outcome.run("evaluate") / "config.yaml")
    first = OmegaConf.load(sweep / "3" / "config.yaml")
    assert config.ckpt_path == [str(path) for path in members[::-1]]
    assert config.data == first.data
    assert config.loader == {**first.loader, "eval_batch_size": 5}
    assert (config.model, config.seed) == (first.model, 2)
    assert config.trainer == {**first.trainer, "default_root_dir": config.paths.output_dir}


def test_a_pattern_stands_for_what_it_matches(here, sweep, tmp_path, read_summary):
    shutil.copytree(sweep, tmp_path / "demo")
    outcome = here("predict", "ckpt_path=demo/[0-2]/checkpoints/best.ckpt")
    assert outcome.returncode == 0, outcome.stderr
    assert "members      3 checkpoints, averaged" in outcome.stdout
    paths = [f"demo/{job}/checkpoints/best.ckpt" for job in range(3)]
    assert read_summary(outcome.run("predict"))["checkpoint"] == paths


def test_a_sweep_may_go_over_other_keys(here, members, tmp_path):
    outcome = here("predict", "-m", listed(members), "data.test=2,3", "sweep=sizes")
    assert outcome.returncode == 0, outcome.stderr
    jobs = tmp_path / "logs" / "predict" / "multiruns" / "sizes"
    assert [len(tables(jobs / job)[0]) for job in "01"] == [2, 3]


def test_a_list_of_one_is_plain_evaluation(here, members, sweep, read_summary):
    outcome = here("evaluate", listed(members[:1]), *QUIET)
    assert outcome.returncode == 0, outcome.stderr
    assert "averaged" not in outcome.stdout
    summary, trained = read_summary(outcome.run("evaluate")), read_summary(sweep / "0")
    of_test = {name: v for name, v in trained["metrics"].items() if name.startswith("test/")}
    assert summary["metrics"] == of_test
    assert summary["checkpoint"] == str(members[0])
    for mine, theirs in zip(tables(outcome.run("evaluate")), tables(sweep / "0"), strict=True):
        assert mine.equals(theirs)


@pytest.mark.nightly
def test_large_images_are_averaged_too(train, here, tmp_path):
    kind = ("data=megapixel_digits", "model=attention_sampling", "trainer.max_epochs=1")
    small = (
        "data.train=4",
        "data.val=2",
        "data.test=4",
        "model.patch_size=[24,24]",
        "callbacks.sampling_figures=null",
    )
    outcome = train("-m", *kind, *small, "seed=1,2", "sweep=demo")
    assert outcome.returncode == 0, outcome.stderr
    jobs = tmp_path / "logs" / "train" / "multiruns" / "demo"
    outcome = here("evaluate", f"ckpt_path={jobs}", *QUIET)
    assert outcome.returncode == 0, outcome.stderr
    bags, _ = tables(outcome.run("evaluate"))
    outcome = here("predict", f"ckpt_path={jobs}/1", "data.seed=1", folder=jobs)
    assert outcome.returncode == 0, outcome.stderr
    each = [tables(jobs / "0")[0], tables(outcome.run("predict"))[0]]
    for name in (f"probability_{c}" for c in range(10)):
        expected = np.mean([column(table, name) for table in each], 0)
        np.testing.assert_allclose(column(bags, name), expected, rtol=0, atol=ROUNDED)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"class_names": ["no 4", "4"]},
            "on the classes ('no 4', '4'), {0} on ('no 9', '9')",
        ),
        ({"instance_shape": (2, 8, 8)}, "on instances of shape (2, 8, 8), {0} on (1, 8, 8)"),
        ({"task": {"kind": "multilabel"}}, "on the task multilabel, {0} on binary"),
        (
            {"task": {"kind": "binary", "columns": ["a", "b"]}},
            "on the label columns ('a', 'b'), {0} on None",
        ),
    ],
)
@pytest.mark.parametrize("command", thinned(["evaluate", "predict"], every=3))
def test_a_member_of_another_kind_is_refused(here, members, other, command, content, words):
    path = other(**content)
    error = here(command, listed([*members, path])).error()
    assert error == (
        f"ckpt_path: {path} was trained {words.format(members[0])}; only checkpoints that agree "
        "in it can be averaged"
    )


def test_other_data_are_refused(here, members):
    error = here("evaluate", listed(members), "data.target=4", *QUIET).error()
    assert "among the classes no 9, 9, got 'no 4': the checkpoint was trained on other" in error


@pytest.mark.parametrize("given", ["model=gated_abmil", "model.dropout=0.5", "model/encoder=mlp"])
def test_another_model_is_refused(here, members, given):
    error = here("evaluate", listed(members), given, *QUIET).error()
    assert error.startswith("each of 3 checkpoints is built from the model that it was trained")
    assert f"{given}; leave the model as it is, or give one checkpoint" in error


def test_another_model_by_a_config_file_is_refused(here, members, tmp_path):
    (tmp_path / "conf" / "local").mkdir(parents=True)
    (tmp_path / "conf" / "local" / "default.yaml").write_text(
        "# @package _global_\nmodel: {dropout: 0.5}\n"
    )
    error = here("evaluate", "--config-dir=conf", listed(members), *QUIET).error()
    assert "got other values in a config file; leave the model as it is" in error


def test_a_misspelt_key_is_told_first(here, members, monkeypatch):
    def too_late(*_, **__):
        raise AssertionError("data or device was touched")

    monkeypatch.setattr("milforge.api.trained.evaluation.infer", too_late)
    error = here("evaluate", listed(members), "data.mean_sise=3").error()
    assert "did you mean 'data.mean_size'?" in error


def test_a_damaged_member_is_named(here, members, tmp_path):
    (tmp_path / "bad.ckpt").write_bytes(members[0].read_bytes()[:1000])
    error = here("evaluate", listed([members[0], "bad.ckpt"])).error()
    assert error.startswith("ckpt_path: bad.ckpt cannot be read as a checkpoint")


def test_members_of_other_folds_are_told(here, members, other):
    """What one of them was trained on, another would be tested on."""
    stored = torch.load(members[1], weights_only=True)["milforge"]["config"]
    path = other(config={**stored, "split": {"fold": 3}})
    outcome = here("evaluate", listed([members[0], path]), *QUIET)
    assert outcome.returncode == 0, outcome.stderr
    warning = "the checkpoints were trained with different split.fold: unless their test parts"
    assert warning in outcome.stdout + outcome.stderr
    outcome = here("evaluate", listed(members[:2]), *QUIET)
    assert "were trained with different" not in outcome.stdout + outcome.stderr

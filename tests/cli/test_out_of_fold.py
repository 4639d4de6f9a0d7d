"""Models and the bags that they have seen: cross-validations, other cohorts, grown tables."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from bag_folders import features, labelled_bags, write_layout
from predicted import bags as bags_of
from wandb_records import config_of, read_records

RUN = (
    "data=feature_bags",
    "data.root=bags",
    "data.labels=labels.csv",
    "data.covariates=[age]",
    "model.covariates=true",
    "split.folds=3",
    "split.val_share=0.2",
    "loader.num_workers=0",
    "model.encoder.hidden=[8]",
    "model.pool.att_dim=8",
    "optimizer.lr=0.1",
    "trainer.max_epochs=2",
    "logger=csv",
    "callbacks.figures=null",
)
QUIET = ("logger=csv", "callbacks.figures=null")


def with_age(path):
    """Adds a covariate, which differs much from fold to fold."""
    head, *lines = path.read_text().splitlines()
    aged = [f"{line},{20 + 3 * row**2}" for row, line in enumerate(lines)]
    path.write_text("\n".join([f"{head},age", *aged]) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cross_validation")
    labelled_bags(folder / "bags")
    with_age(folder / "labels.csv")
    return folder


@pytest.fixture
def folds(here, project):
    """The folders of the jobs of a cross-validation."""
    sweep = project / "logs/train/multiruns/cv"
    if not sweep.exists():
        outcome = here("train", "-m", *RUN, "split.fold=range(3)", "sweep=cv", folder=project)
        assert outcome.returncode == 0, outcome.stderr
    return [sweep / str(fold) for fold in range(3)]


@pytest.fixture
def apply(here, project):
    """`apply("evaluate", path, "split=all")`: the outcome, and the folder of the run."""

    def call(command, path, *arguments, folder=project):
        quiet = QUIET if command == "evaluate" else QUIET[:1]
        outcome = here(command, f"ckpt_path={path}", *quiet, "run=r", *arguments, folder=folder)
        return outcome, folder / "logs" / command / "runs/r"

    return call


def summary(run):
    return json.loads((run / "summary.json").read_text())


def positive(run):
    table = bags_of(run, "test")
    return dict(zip(table["bag_id"], table["probability_1"], strict=True))


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_each_bag_is_predicted_by_the_models_that_did_not_see_it(project, folds, apply, command):
    outcome, run = apply(command, folds[0].parent, "out_of_fold=true")
    assert outcome.returncode == 0, outcome.stderr
    expected = {bag: p for fold in folds for bag, p in positive(fold).items()}
    found = positive(run)
    assert len(found) == 12
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([found[bag] for bag in expected], [*expected.values()], atol=1e-6)
    members = pq.read_table(run / "predictions/members.parquet").to_pylist()
    told = {row["bag_id"]: row["checkpoint"] for row in members}
    assert len(members) == 12
    for fold in folds:
        for bag in positive(fold):
            assert told[bag] == str(fold / "checkpoints/best.ckpt")
    assert "12 of 12 bags, each predicted by the checkpoints that did not see it: 1 of 3" in (
        outcome.stdout
    )
    assert "bags         12 of 12 predicted" in outcome.stdout
    assert "too good" not in outcome.stdout
    assert "different split.fold" not in outcome.stdout
    assert "seen_in_training" not in summary(run)
    shutil.rmtree(run)


def test_a_table_without_labels_is_predicted_with_its_covariates(project, folds, apply):
    table = [line.split(",") for line in (project / "labels.csv").read_text().splitlines()]
    case, slide, _, age = zip(*table, strict=True)
    lines = [",".join(row) for row in zip(case, slide, age, strict=True)]
    (project / "new.csv").write_text("\n".join(lines) + "\n")
    told = apply("predict", folds[0], "data.labels=new.csv")[0].failure()
    assert "new.csv: expected a column label, got the columns case_id, slide_id, age: " in told
    assert "data.label_column (or [] for a table without labels, to predict)" in told
    new = ("data.labels=new.csv", "data.label_column=[]")
    outcome, run = apply("predict", folds[0], *new)
    assert outcome.returncode == 0, outcome.stderr
    expected = positive(folds[0])
    found = positive(run)
    assert len(found) == 12
    np.testing.assert_allclose([found[bag] for bag in expected], [*expected.values()], atol=1e-6)
    shutil.rmtree(run)
    told = apply("evaluate", folds[0], *new)[0].failure()
    assert told.endswith("data.label_column=[]: milforge-predict predicts bags without labels")


def test_bags_that_all_have_seen_are_left_out_by_name(folds, apply):
    outcome, run = apply("evaluate", folds[0], "out_of_fold=true")
    assert outcome.returncode == 0, outcome.stderr
    assert positive(run).keys() == positive(folds[0]).keys()
    assert "8 bags, s" in outcome.stdout
    assert "were seen in training by every checkpoint and are left out" in outcome.stdout
    shutil.rmtree(run)


def test_members_take_the_covariates_as_each_was_trained(folds, apply):
    outcome, run = apply("evaluate", folds[0].parent, "split=all")
    mean, told = positive(run), summary(run)
    shutil.rmtree(run)
    each = []
    for fold in folds:
        _, alone = apply("predict", fold, "split=all")
        each.append(positive(alone))
        shutil.rmtree(alone)
    for bag, p in mean.items():
        assert p == pytest.approx(np.mean([probabilities[bag] for probabilities in each]), abs=1e-6)
    # Two thirds of the bags were fitted on, or selected by, in each fold.
    seen = told["seen_in_training"]
    assert (seen["bags"], seen["of"]) == (12, 12)
    assert [*seen["checkpoints"].values()] == [8, 8, 8]
    assert outcome.stdout.count("8 of 12 test bags were in the train or val part of") == 3


def test_new_bags_are_not_left_out_in_silence(here, offline, project, folds, apply, tmp_path):
    """A table that has grown is split anew."""
    for name in ("bags", "labels.csv"):
        copy = shutil.copytree if (project / name).is_dir() else shutil.copy
        copy(project / name, tmp_path / name)
    with (tmp_path / "labels.csv").open("a") as file:
        for number in range(12, 18):
            write_layout(tmp_path / "bags", "clam", f"s{number}", features(5, seed=number), 0)
            file.write(f"p{number},s{number}.svs,no,50\n")
    outcome, _ = apply("evaluate", folds[0], folder=tmp_path)
    told = outcome.error()
    assert " bags, s1" in told
    assert "are new to the checkpoint and would not be tested: of 18 bags " in told
    assert "give split=all to test every bag, or split=files split.path=" in told
    outcome, run = apply("evaluate", folds[0], "split=all", folder=tmp_path)
    assert len(positive(run)) == 18
    assert "bags         18 of 18 predicted" in outcome.stdout
    assert summary(run)["seen_in_training"]["bags"] == 8
    tracked = here("evaluate", f"ckpt_path={folds[0]}", "split=all", QUIET[1], folder=tmp_path)
    assert tracked.returncode == 0, tracked.stderr
    (run,) = (each.parent for each in tmp_path.glob("logs/evaluate/runs/*/wandb"))
    assert config_of(read_records(run))["seen_in_training"] == 8
    outcome, run = apply(
        "evaluate", folds[0], "split=files", f"split.path={folds[0]}/splits.csv", folder=tmp_path
    )
    assert "bags         4 of 18 predicted" in outcome.stdout
    assert "seen_in_training" not in summary(run)

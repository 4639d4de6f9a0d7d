"""Split, graph and loader as groups of the config: in training, and over a checkpoint."""

import shutil

import pytest
from omegaconf import OmegaConf

from bag_folders import labelled_bags
from milforge.data import FeatureBags, ImageBags, KFold, read_labels, read_splits
from predicted import bags

FEATURES = ("data=feature_bags", "data.root=bags", "data.labels=labels.csv")
RUN = (
    "split.folds=3",
    "split.val_share=0.2",
    "loader.num_workers=0",
    "model.encoder.hidden=[8]",
    "model.pool.att_dim=8",
    "trainer.max_epochs=1",
    "logger=csv",
    "callbacks.figures=null",
)
KEPT = ("data", "split", "graph", "loader", "task", "loss", "metrics", "model", "module")


@pytest.fixture
def no_bag_is_read(monkeypatch):
    """Nor one that is generated."""

    def too_late(*_):
        raise AssertionError("a bag was read")

    for kind in (FeatureBags, ImageBags):
        monkeypatch.setattr(kind, "__getitem__", too_late)


@pytest.fixture
def labels(tmp_path):
    """A folder of twelve bags."""
    return labelled_bags(tmp_path / "bags", layout="root")


@pytest.fixture
def apply(here):
    """`apply(run, "split=all")`: an evaluation, of which the folder is new."""

    def call(run, *arguments, command="evaluate"):
        name = f"run=e{len(list(run.parents[2].glob(f'{command}/runs/*')))}"
        quiet = ("callbacks.figures=null",) if command == "evaluate" else ()
        checkpoint = f"ckpt_path={run}/checkpoints/best.ckpt"
        outcome = here(command, checkpoint, "logger=none", *quiet, name, *arguments)
        return outcome, run.parents[2] / command / "runs" / name.removeprefix("run=")

    return call


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def trained(here, labels, kept, tmp_path):
    """The second of three folds, trained for the first test that wants it: a copy of its run."""
    if not (kept / "logs").exists():
        outcome = here("train", *FEATURES, *RUN, "split.fold=1")
        assert outcome.returncode == 0, outcome.stderr
        shutil.copytree(tmp_path / "logs", kept / "logs")
    else:
        shutil.copytree(kept / "logs", tmp_path / "logs")
    (run,) = (tmp_path / "logs" / "train" / "runs").iterdir()
    return run


def config_of(run):
    return OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))


def of_test(run, read_summary):
    metrics = read_summary(run)["metrics"]
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


def test_each_concept_is_a_group_and_a_checkpoint_keeps_them_all(here, labels, apply, read_summary):
    groups = ("split.fold=0", "graph=grid", "loader.batch_size=16", "model=sm_abmil")
    more = ("task.class_weights=balanced", "loss=focal", "metrics=per_class")
    outcome = here("train", *FEATURES, *groups, *more, *RUN)
    assert outcome.returncode == 0, outcome.stderr
    run = outcome.run()
    config = config_of(run)
    assert (config["split"]["fold"], config["split"]["folds"]) == (0, 3)
    assert (config["graph"]["method"], config["loader"]["batch_size"]) == ("grid", 16)
    assert set(read_summary(run)["data"]["graphs"]) == {"train", "val", "test"}
    metrics = of_test(run, read_summary)
    assert {"test/sm_energy_after", "test/auroc_per_class"} < set(metrics)
    outcome, evaluation = apply(run)
    assert outcome.returncode == 0, outcome.stderr
    stored = config_of(evaluation)
    assert {name: stored[name] for name in KEPT} == {name: config[name] for name in KEPT}
    assert of_test(evaluation, read_summary) == metrics


def test_a_graph_that_a_data_set_chooses_can_be_left_out(train, read_summary):
    outcome = train("data=digits_grid", "graph=none", "model=gated_abmil", "data.mean_side=4")
    assert outcome.returncode == 0, outcome.stderr
    assert config_of(outcome.run())["graph"] == {}
    assert "graphs" not in read_summary(outcome.run())["data"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("split=kfold",),
            "this data set makes its parts itself, so no split is used; choose split=none",
        ),
        (
            (*FEATURES, "split=none"),
            "split: labels.csv has bags that are to be split, and nothing says how; choose "
            "split=kfold, random, files or all",
        ),
        (
            (*FEATURES, "split=all"),
            "expected at least one bag in the train part, got none: choose another split=...",
        ),
        ((*FEATURES, "split.fold=5"), "expected split.fold from 0 to 4, got 5"),
        ((*FEATURES, "split=random", "split.fold=-1"), "expected split.fold of at least 0, got -1"),
        ((*FEATURES, "split=files", "split.path=nowhere"), "nowhere: expected a split file or a"),
        ((*FEATURES, "graph=grid", "data.max_instances_per_bag=3"), "or choose graph=none"),
    ],
)
def test_a_split_that_cannot_be_is_told_before_a_bag_is_read(
    here, labels, no_bag_is_read, arguments, message
):
    assert message in here("train", *arguments, "logger=none").error()


def test_all_bags_of_the_folder_that_it_was_trained_on(trained, apply, labels):
    outcome, evaluation = apply(trained, "split=all")
    assert outcome.returncode == 0, outcome.stderr
    assert config_of(evaluation)["split"] == {"_target_": "milforge.data.AllBags"}
    assert sorted(bags(evaluation)["bag_id"]) == sorted(labels)
    assert "8 of 12 test bags were in the train or val part of" in outcome.stdout


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_another_cohort_is_looked_at_whole(trained, apply, tmp_path, command):
    (tmp_path / "new").mkdir()
    others = labelled_bags(tmp_path / "new" / "bags", count=6, seed=40, layout="root")
    cohort = ("data.root=new/bags", "data.labels=new/labels.csv")
    told = "6 bags, which the checkpoint was not split with: all of them are test bags"
    outcome, evaluation = apply(trained, *cohort, command=command)
    assert outcome.returncode == 0, outcome.stderr
    assert told in outcome.stdout
    assert sorted(bags(evaluation)["bag_id"]) == sorted(others)
    # The newly chosen data set comes with a split of its own, which is as little asked for.
    outcome, evaluation = apply(trained, "data=feature_bags", *cohort, command=command)
    assert told in outcome.stdout
    assert config_of(evaluation)["split"] != config_of(trained)["split"]
    assert sorted(bags(evaluation)["bag_id"]) == sorted(others)


def test_another_table_of_labels_is_another_cohort(trained, apply, tmp_path, labels):
    (tmp_path / "again.csv").write_bytes((tmp_path / "labels.csv").read_bytes())
    outcome, evaluation = apply(trained, "data.labels=again.csv")
    assert "12 bags, which the checkpoint was not split with" in outcome.stdout
    assert sorted(bags(evaluation)["bag_id"]) == sorted(labels)


def test_a_split_that_is_asked_for_is_that_of_another_cohort_too(trained, apply, tmp_path):
    (tmp_path / "again.csv").write_bytes((tmp_path / "labels.csv").read_bytes())
    split = ("split=kfold", "split.fold=1", "split.folds=3", "split.seed=4")
    outcome, evaluation = apply(trained, "data.labels=again.csv", *split)
    assert outcome.returncode == 0, outcome.stderr
    assert "was not split with" not in outcome.stdout
    table = read_labels(tmp_path / "again.csv")
    strata = [["no", "yes"].index(label) for label in table.labels.columns["label"]]
    expected = KFold(fold=1, folds=3, seed=4).choose(table.ids, strata, table.groups)
    assert sorted(bags(evaluation)["bag_id"]) == sorted(expected.test)


def test_a_key_of_the_stored_split_can_be_changed(trained, apply):
    split = read_splits(trained / "splits.csv")
    outcome, evaluation = apply(trained, "split.fold=2")
    assert outcome.returncode == 0, outcome.stderr
    assert config_of(evaluation)["split"] == {**config_of(trained)["split"], "fold": 2}
    assert not set(bags(evaluation)["bag_id"]) & set(split.test)


def test_generated_data_chosen_anew_have_the_parts_that_they_make(train, apply, read_summary):
    trained = train("data=digits_grid", "model=gated_abmil", "data.mean_side=4").run()
    other = ("data=digits_bags", "data.train=2", "data.val=2", "data.test=6", "graph=none")
    outcome, evaluation = apply(trained, *other)
    assert outcome.returncode == 0, outcome.stderr
    assert config_of(evaluation)["split"] == {}
    assert read_summary(evaluation)["data"]["bags"]["test"] == 6
    assert "was not split with" not in outcome.stdout
    # Graph, task and loss are still those of the run: here the graph has nothing to be built on.
    outcome, _ = apply(trained, *other[:-1])
    assert "expected coords for an adjacency by grid, got none: choose graph=" in outcome.failure()

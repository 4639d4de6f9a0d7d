"""What a label means, by the real commands: numbers, several labels, classes, covariates."""

import json
from dataclasses import replace
from functools import wraps

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

import milforge
import milforge.data
from bag_folders import labelled_bags, write_labels
from predicted import bags, tables

RUN = (
    *("data=feature_bags", "data.root=bags", "data.labels=labels.csv"),
    *("split.folds=3", "split.val_share=0.2", "loader.num_workers=0"),
    *("model.encoder.hidden=[8]", "model.pool.att_dim=8", "trainer.max_epochs=2"),
)
QUIET = ("logger=none", "callbacks.figures=null")
HEADER = "slide_id,patient,age,stage,er,pr,her2,diagnosis"


def table(count=12):
    """A row per bag; numbers that are far from 0, and labels of which each part has both kinds."""
    return [
        (
            *(f"s{n:02d}", f"p{n // 2}", 60 + 1.5 * n, ("I", "II", "III")[n % 3]),
            *(n % 2, n // 2 % 2, n // 3 % 2, ("malignant", "benign")[n // 2 % 2]),
        )
        for n in range(count)
    ]


@pytest.fixture
def cohort(tmp_path):
    """A folder of bags and a table of all that is known of them."""
    labelled_bags(tmp_path / "bags", layout="root")
    write_labels(tmp_path / "labels.csv", table(), HEADER)
    return {row[0]: dict(zip(HEADER.split(","), row, strict=True)) for row in table()}


@pytest.fixture
def fit(here, cohort):
    """`fit("task=regression")`: the run, after it has gone well."""

    def call(*arguments, figures=False, name="one"):
        quiet = ("logger=csv",) if figures else QUIET
        outcome = here("train", *RUN, *quiet, *arguments, f"run={name}")
        assert outcome.returncode == 0, outcome.stderr
        return outcome.folder / "logs" / "train" / "runs" / name

    return call


@pytest.fixture
def apply(here):
    """`apply("evaluate", run)`: a run of that command on the checkpoint of a run, or several."""

    def call(command, run, *arguments, name="one"):
        runs = run if isinstance(run, list) else [run]
        checkpoint = f"ckpt_path=[{','.join(str(best(each)) for each in runs)}]"
        quiet = QUIET if command == "evaluate" else ("logger=none",)
        outcome = here(command, checkpoint, *quiet, *arguments, f"run={name}")
        assert outcome.returncode == 0, outcome.stderr
        return outcome.folder / "logs" / command / "runs" / name

    return call


def best(run):
    return run / "checkpoints" / "best.ckpt"


def of_test(run, read_summary):
    metrics = read_summary(run)["metrics"]
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


REGRESSION = ("task=regression", "data.label_column=age")


def test_balanced_numbers_are_refused_before_a_bag_is_read(here, cohort, monkeypatch):
    monkeypatch.setattr("milforge.data.FeatureBags.__getitem__", None)
    told = here("train", *RUN, *QUIET, *REGRESSION, "loader.balanced=true").failure()
    assert told.startswith("loader.balanced=true: the task Regression has no classes to draw")


def test_numbers_are_learnt_predicted_and_measured_in_their_unit(fit, apply, cohort, read_summary):
    run = fit(*REGRESSION, "monitor=val/mae", figures=True)
    summary = read_summary(run)
    assert summary["task"] == {"name": "Regression", "class_names": [], "metric": "mae"}
    found = bags(run)
    assert not {"probability_0", "probability_1"} & set(found)
    assert tables(run)[0].schema.field("label").type == pa.float32()
    assert tables(run)[0].schema.metadata[b"task"] == b"Regression"
    y, p = np.array(found["label"]), np.array(found["prediction"])
    assert y.tolist() == [cohort[bag]["age"] for bag in found["bag_id"]]
    assert 50 < p.min() < p.max() < 90  # not on the scale that is learnt
    state = torch.load(best(run), weights_only=True)["state_dict"]
    logits = (p - state["task.mean"].item()) / state["task.std"].item()
    np.testing.assert_allclose(found["logit_0"], logits, atol=1e-5)
    metrics = summary["metrics"]
    expected = {
        "mae": mean_absolute_error(y, p),
        "rmse": np.sqrt(np.mean((y - p) ** 2)),
        "r2": r2_score(y, p),
        "pearson": np.corrcoef(y, p)[0, 1],
        "loss": np.mean(((y - p) / state["task.std"].item()) ** 2),
    }
    for name, value in expected.items():
        assert metrics[f"test/{name}"] == pytest.approx(value, rel=1e-4), name
    assert "test/spearman" in metrics
    assert "test/auroc" not in metrics
    figures = {path.stem for path in (run / "figures").iterdir()}
    assert {"learning_curves", "predicted", "bags"} == figures
    assert summary["monitor"] == "val/mae"

    evaluated = apply("evaluate", run)
    assert of_test(evaluated, read_summary) == of_test(run, read_summary)
    assert bags(evaluated) == found
    unlabelled = bags(apply("predict", run, "data.labels=null"))
    assert set(unlabelled["label"]) == {None}
    at = dict(zip(unlabelled["bag_id"], unlabelled["prediction"], strict=True))
    assert [at[bag] for bag in found["bag_id"]] == pytest.approx(p, abs=1e-4)


def test_members_that_learnt_other_scales_are_averaged_in_the_unit(fit, apply, read_summary):
    """Each fold has a mean and a deviation of its own."""
    runs = [fit(*REGRESSION, f"split.fold={fold}", name=f"fold{fold}") for fold in (0, 1)]
    scales = [
        torch.load(best(run), weights_only=True)["state_dict"]["task.mean"].item() for run in runs
    ]
    assert scales[0] != scales[1]
    each = [bags(apply("predict", run, "split=all", name=f"p{n}")) for n, run in enumerate(runs)]
    run = apply("evaluate", runs, "split=all")
    found = bags(run)
    mean = np.mean([one["prediction"] for one in each], 0)
    np.testing.assert_allclose(found["prediction"], mean, atol=1e-4)
    y = np.array(found["label"])
    metrics = read_summary(run)["metrics"]
    assert metrics["test/mae"] == pytest.approx(mean_absolute_error(y, mean), rel=1e-5)
    std = torch.load(best(runs[0]), weights_only=True)["state_dict"]["task.std"].item()
    assert metrics["test/loss"] == pytest.approx(np.mean(((y - mean) / std) ** 2), rel=1e-4)


def test_several_numbers_and_several_labels(fit, apply, read_summary):
    run = fit("task=regression", "data.label_column=[age,er]", name="numbers")
    found = bags(run)
    assert {"label_0", "label_1", "prediction_0", "prediction_1", "logit_1"} <= set(found)
    metrics = of_test(run, read_summary)
    for number in (0, 1):
        error = mean_absolute_error(found[f"label_{number}"], found[f"prediction_{number}"])
        assert metrics[f"test/mae_{number}"] == pytest.approx(error, rel=1e-5)
    assert of_test(apply("evaluate", run), read_summary) == metrics

    labels = ("data.label_column=[er,pr,her2]", "metrics=per_class", "task.class_weights=balanced")
    run = fit(*labels, name="labels")
    summary = read_summary(run)
    assert summary["task"] == {
        "name": "Multilabel",
        "class_names": ["er", "pr", "her2"],
        "metric": "auroc",
    }
    found, metrics = bags(run), summary["metrics"]
    for number, name in enumerate(("er", "pr", "her2")):
        y, p = found[f"label_{number}"], found[f"probability_{number}"]
        if len(set(y)) == 2:
            value = metrics[f"test/auroc_per_class_{name}"]
            assert value == pytest.approx(roc_auc_score(y, p), abs=1e-6)
    assert of_test(apply("evaluate", run, name="two"), read_summary) == pytest.approx(
        of_test(run, read_summary), nan_ok=True
    )


def test_the_names_and_weights_of_the_classes(fit, apply, read_summary):
    options = ("data.label_column=diagnosis", "task.positive=benign", "task.class_weights=[1,2]")
    run = fit(*options, "metrics=per_class", figures=True)
    summary = read_summary(run)
    names = ["malignant", "benign"]  # the positive one is the last
    assert summary["task"] == {"name": "Binary", "class_names": names, "metric": "auroc"}
    assert tables(run)[0].schema.metadata[b"class_names"] == b"malignant\nbenign"
    found = bags(run)
    y, p = np.array(found["label"]), np.array(found["probability_1"])
    assert [names[label] for label in y] == [
        ("malignant", "benign")[int(bag[1:]) // 2 % 2] for bag in found["bag_id"]
    ]
    figures = {path.stem for path in (run / "figures").iterdir()}
    assert {"bags_benign", "bags_malignant"} <= figures
    state = torch.load(best(run), weights_only=True)["milforge"]["task"]
    assert state["weights"][1] == pytest.approx(2 * state["weights"][0])
    weights = np.array(state["weights"])[y]
    loss = np.mean(weights * -np.where(y == 1, np.log(p), np.log(1 - p)))
    assert summary["metrics"]["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert of_test(apply("evaluate", run), read_summary) == of_test(run, read_summary)
    # The last of the names is the positive class where none is chosen, which is said.
    other = fit("data.label_column=diagnosis", name="other")
    assert read_summary(other)["task"]["class_names"] == ["benign", "malignant"]


def test_each_of_several_classes_by_its_name(fit, apply, read_summary):
    options = ("data.label_column=stage", "metrics=per_class", "task.class_weights=balanced")
    run = fit(*options, "monitor=val/loss")
    summary = read_summary(run)
    assert summary["task"] == {
        "name": "Multiclass",
        "class_names": ["I", "II", "III"],
        "metric": "auroc",
    }
    found = bags(run)
    for number, name in enumerate(("I", "II", "III")):
        y = np.array(found["label"]) == number
        if 0 < y.sum() < len(y):
            expected = roc_auc_score(y, found[f"probability_{number}"])
            value = summary["metrics"][f"test/auroc_per_class_{name}"]
            assert value == pytest.approx(expected, abs=1e-6)
    assert of_test(apply("evaluate", run), read_summary) == pytest.approx(
        of_test(run, read_summary), nan_ok=True
    )


def test_all_that_the_table_knows_stands_beside_the_predictions(fit, cohort):
    run = fit("data.label_column=er", "split.fold=1")
    whole = tables(run, None)[0]
    assert whole.column_names == [
        *("bag_id", "part", "patient", "size", "order", "label"),
        *("probability_0", "probability_1", "logit_0"),
        *("table_age", "table_stage", "table_pr", "table_her2", "table_diagnosis"),
    ]
    found = whole.to_pydict()
    assert sorted(set(found["part"])) == ["test", "val"]
    for part in ("test", "val"):
        order = [n for n, each in zip(found["order"], found["part"], strict=True) if each == part]
        assert order == list(range(len(order)))
    for number, bag in enumerate(found["bag_id"]):
        row = cohort[bag]
        assert found["patient"][number] == row["patient"]
        assert found["label"][number] == row["er"]
        assert found["table_stage"][number] == row["stage"]
        assert float(found["table_age"][number]) == row["age"]
        assert found["size"][number] == 5 + int(bag[1:]) % 4
        p = found["probability_1"][number]
        assert found["logit_0"][number] == pytest.approx(np.log(p / (1 - p)), abs=1e-4)


COVARIATES = ("data.label_column=er", "data.covariates=[age,stage]", "model.covariates=true")


def test_covariates_reach_the_head_and_another_cohort_needs_them(
    fit, apply, here, read_summary, tmp_path
):
    run = fit(*COVARIATES)
    checkpoint = torch.load(best(run), weights_only=True)
    assert [each["name"] for each in checkpoint["milforge"]["covariates"]] == ["age", "stage"]
    assert checkpoint["state_dict"]["network.head.weight"].shape == (1, 8 + 1 + 3)
    evaluated = apply("evaluate", run)
    assert of_test(evaluated, read_summary) == of_test(run, read_summary)
    assert bags(evaluated) == bags(run)

    (tmp_path / "new").mkdir()
    labelled_bags(tmp_path / "new" / "bags", count=6, seed=9, layout="root")
    other = ("data.root=new/bags", "data.labels=new/labels.csv", *QUIET)
    write_labels(tmp_path / "new" / "labels.csv", table(6), HEADER)
    known = apply("evaluate", run, *other[:2], name="known")
    assert len(bags(known)["bag_id"]) == 6
    rows = [(*row[:3], *row[4:]) for row in table(6)]
    write_labels(tmp_path / "new" / "labels.csv", rows, HEADER.replace("stage,", ""))
    told = here("evaluate", f"ckpt_path={best(run)}", *other).failure()
    assert told.startswith("expected data.covariates among the columns ")
    assert told.endswith(", got stage")


class Carrying:
    """Bags that have covariates of their own, rather than columns of a label table."""

    def __init__(self, bags):
        self.inner, self.labels = bags, bags.labels

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, number):
        return replace(self.inner[number], covariates=torch.tensor([number / 10, 1.0]))


def test_covariates_that_bags_carry_are_known_to_evaluation(train, here, monkeypatch):
    draw = milforge.data.digits_bags

    @wraps(draw)
    def carrying(*args, **kwargs):
        splits = draw(*args, **kwargs)
        parts = {name: Carrying(getattr(splits, name)) for name in ("train", "val", "test")}
        return replace(splits, **parts)

    monkeypatch.setattr(milforge.data, "digits_bags", carrying)
    trained = train("model.covariates=true", "trainer.max_epochs=1")
    assert trained.returncode == 0, trained.stderr
    checkpoint = trained.run() / "checkpoints" / "best.ckpt"
    before = json.loads((trained.run() / "summary.json").read_text())["metrics"]["test/loss"]
    evaluated = here("evaluate", f"ckpt_path={checkpoint}", *QUIET)
    assert evaluated.returncode == 0, evaluated.stderr
    summary = json.loads((evaluated.run("evaluate") / "summary.json").read_text())
    assert summary["metrics"]["test/loss"] == pytest.approx(before, rel=1e-6)
    assert milforge.load(checkpoint).network.covariates == 2


def test_a_head_that_is_to_see_covariates_needs_some(here, cohort):
    told = here("train", *RUN, *QUIET, "data.label_column=er", "model.covariates=true").error()
    assert (
        "expected bags with covariates for model.covariates=true, got none: give data.cov" in told
    )

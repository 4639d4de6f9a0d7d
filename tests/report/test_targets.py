"""Runs of several targets, of which bags lack some, and grades."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

import survival_oracles
from milforge.report.analysis.measures import quadratic_kappa
from milforge.report.checks.audit import audit
from milforge.report.files import write_page, write_report
from milforge.report.gather import gather
from milforge.report.page.decisions import conformal_section
from milforge.report.survey import survey
from milforge.report.table import pooled_table
from report_runs import Cohort, merged, rows_of, write_config, write_predictions, write_summary

TARGETS = {
    "life": ("Cox", ()),
    "life_grade": ("Ordinal", ("2", "3", "4")),
    "ill": ("Binary", ("no", "yes")),
    "age": ("Regression", ()),
}
METRICS = {
    "life": ["c_index"],
    "life_grade": ["kappa", "mae", "accuracy"],
    "ill": ["auroc", "ap", "accuracy", "brier"],
    "age": ["mae", "rmse", "r2", "pearson"],
}


@pytest.fixture(autouse=True, scope="module")
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milforge.report.analysis.pooled.RESAMPLES", 40)
        patch.setattr("milforge.report.analysis.pooled.DRAWS", 39)
        patch.setattr("milforge.report.checks.leaks.DRAWS", 39)
        yield


def columns_of(cohort, noise):
    """What `task=multi` writes; a third of the bags has no time, another no grade."""
    generator = np.random.default_rng(5)
    time = generator.exponential(4 * np.exp(-cohort.person)).clip(0.1, 9).round(1)
    event = (generator.uniform(size=cohort.n) < 0.7).astype(float)
    grade = np.clip(np.round(cohort.person + 3), 2, 4)
    generator = np.random.default_rng((noise, 1))
    said = cohort.person + 0.7 * generator.normal(size=(4, cohort.n))
    p = np.exp(-((said[1][:, None] + 3 - [2, 3, 4]) ** 2))
    p /= p.sum(1, keepdims=True)
    ill = 1 / (1 + np.exp(-said[2] - 2 * cohort.label + 1))
    third = np.arange(cohort.n) % 3
    return {
        "life_time": np.where(third == 0, np.nan, time),
        "life_event": np.where(third == 0, np.nan, event),
        "life_grade_label": np.where(third == 1, np.nan, grade),
        "ill_label": cohort.label.astype(float),
        "age_label": 50 + 10 * cohort.person,
        "life_risk": said[0],
        **{f"life_grade_probability_{c}": p[:, c] for c in range(3)},
        "ill_probability_0": 1 - ill,
        "ill_probability_1": ill,
        "age_prediction": 50 + 10 * said[3],
        **{f"logit_{c}": said[c] for c in range(4)},
    }


def write_targets(root, cohort, models=("one", "two"), folds=2):
    of = cohort.fold_of(folds)
    for number, model in enumerate(models):
        written = columns_of(cohort, number)
        for fold in range(folds):
            rows = rows_of(cohort, np.arange(cohort.n), "test", np.zeros(cohort.n))
            rows = {k: v for k, v in rows.items() if not k.startswith(("label", "prob", "logit"))}
            test, val = (
                {k: v[of == f] for k, v in (rows | written).items()} for f in (fold, 1 - fold)
            )
            val["part"] = np.full(len(val["part"]), "val", object)
            folder = root / f"{model}_{fold}"
            write_config(folder, model, **{"split.fold": fold, "split.folds": folds})
            write_predictions(
                folder, merged(test, val), task="Multi", class_names=(), targets=TARGETS
            )
            write_summary(folder, {"test/life_c_index": 0.6 + 0.1 * fold, "test/ill_auroc": 0.7})


@pytest.fixture(scope="module")
def cohort():
    return Cohort(40)


@pytest.fixture(scope="module")
def results(tmp_path_factory, cohort):
    root = tmp_path_factory.mktemp("runs")
    write_targets(root, cohort)
    outside = Cohort(20, seed=4)
    outside.name = np.array([f"other {name}" for name in outside.name], object)
    outside.bag = np.array([f"other {bag}" for bag in outside.bag], object)
    write_targets(root.parent / "outside", outside, ["one"], 1)
    best = str(root / "one_0/checkpoints/best.ckpt")
    write_config(root.parent / "outside/one_0", "one", task_name="evaluate", ckpt_path=best)
    write_summary(root.parent / "outside/one_0", {"test/loss": 0.7}, checkpoint=best)
    external = survey([root.parent / "outside"])
    metrics = ["test/life_c_index"]
    return gather(survey([root]), metrics, baseline=["model=one"], external=external)


def test_each_target_has_its_metrics_of_the_bags_that_have_its_label(results, cohort):
    rows = {
        (row.target, row.measure, row.group.values["model"]): row for row in results.pooled_rows
    }
    assert [*rows] == [
        (target, name, model)
        for target, names in METRICS.items()
        for name in names
        for model in ("one", "two")
    ]
    columns = results.pooled[0].predictions.columns
    assert {name for name in columns if not name.startswith("logit")} == {"risk"}
    for number, model in enumerate(("one", "two")):
        written = columns_of(cohort, number)
        known = ~np.isnan(written["life_time"])
        time, event, risk = (written[f"life_{n}"][known] for n in ("time", "event", "risk"))
        row = rows["life", "c_index", model]
        of_all = survival_oracles.concordance(risk, time, event)
        assert row.estimate.value == pytest.approx(of_all, abs=1e-9)
        assert (row.bags, row.runs_mean) == (known.sum(), pytest.approx(0.65))
        assert row.group.label == f"model={model} task.targets=life"
        known = ~np.isnan(written["life_grade_label"])
        p = np.stack([written[f"life_grade_probability_{c}"] for c in range(3)], 1)[known]
        grade = 2 + (p[:, 1] + p[:, 2] > 0.5).astype(int) + (p[:, 2] > 0.5)
        truth = written["life_grade_label"][known]
        kappa = cohen_kappa_score(truth, grade, weights="quadratic")
        assert rows["life_grade", "kappa", model].estimate.value == pytest.approx(kappa)
        found = rows["life_grade", "accuracy", model]
        assert found.estimate.value == pytest.approx(np.mean(truth == grade))
        assert found.method == "Wilson, by patient"
        mean = rows["life_grade", "mae", model].estimate.value
        assert mean == pytest.approx(np.abs(truth - grade).mean())
        area = roc_auc_score(cohort.label, written["ill_probability_1"])
        assert rows["ill", "auroc", model].estimate.value == pytest.approx(area)
        error = np.abs(written["age_label"] - written["age_prediction"]).mean()
        assert rows["age", "mae", model].estimate.value == pytest.approx(error)
    for (_, _, model), row in rows.items():
        assert (row.p is None) == (model == "one")
        assert row.adjusted == row.p  # one comparison of each metric of a target


def test_notes_and_checks_name_a_run_once(results):
    assert not [note for note in results.notes if "left out" in note or "Folds w" in note]
    findings = {each.title: each.text for each in audit(results.found.measured, results.pooled)}
    assert findings["Bags in two parts of a run"] == "In none of 4 runs."
    assert "What bag size alone predicts of ill" in findings
    assert "What column site alone predicts of age" in findings


def test_the_files_the_page_and_the_external_cohort(results, cohort, tmp_path):
    write_report(tmp_path, results)
    table = pq.read_table(tmp_path / "out_of_fold.parquet").to_pylist()
    assert sum(line["target"] == "ill" for line in table) == 2 * cohort.n
    with (tmp_path / "pooled.csv").open(newline="") as file:
        assert {line["task.targets"] for line in csv.DictReader(file)} == set(TARGETS)
    text = (tmp_path / "report.md").read_text()
    assert "## kappa of life\\_grade" in text or "## kappa of life_grade of the pooled" in text
    assert "c_index of life of the pooled test predictions" in pooled_table(results.pooled_rows)
    outside = {(row.target, row.measure): row for row in results.external.rows}
    assert {target for target, _ in outside} == set(TARGETS)
    row = outside["age", "mae"]
    written = columns_of(Cohort(20, seed=4), 0)
    error = np.abs(written["age_label"] - written["age_prediction"]).mean()
    assert row.external.value == pytest.approx(error)
    write_page(tmp_path / "page.html", results)
    page = (tmp_path / "page.html").read_text("utf-8")
    for words in ("Pooled kappa of life_grade", "ROC: ill, yes", "Conformal sets of life_grade",
                  "mae of age by site", "bags (15 no, 14 yes) of", "for life,"):  # fmt: skip
        assert words in page.replace(f"({(cohort.label == 0).sum()} no, {cohort.label.sum()} yes)",
                                     "(15 no, 14 yes)"), words  # fmt: skip
    tables = str(conformal_section(results).body).split("<table>")[1:]
    for each in tables:  # heads and rows of one width
        assert {row.count("<th ") + row.count("<td") for row in each.split("<tr>")[1:]} == {
            each.split("</tr>")[0].count("<th ")
        }


def test_a_file_that_does_not_say_its_targets_is_named(cohort, tmp_path):
    write_targets(tmp_path / "runs", cohort, ["one"])
    path = tmp_path / "runs/one_0/predictions/bags.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"task": "Multi"}), path)
    results = gather(survey([tmp_path / "runs"]), ["test/ill_auroc"])
    assert "does not say what its targets are" in " ".join(results.notes)
    assert len(results.pooled) == 4


def test_grades_that_begin_above_0_are_no_other_classes(cohort, tmp_path):
    """The label column has the grades of the label table, 2 to 4."""
    written = columns_of(cohort, 0)
    rows = rows_of(cohort, np.arange(cohort.n), "test", np.zeros(cohort.n))
    rows = {k: v for k, v in rows.items() if not k.startswith(("label", "prob", "logit"))}
    rows |= {f"probability_{c}": written[f"life_grade_probability_{c}"] for c in range(3)}
    truth = np.clip(np.round(cohort.person + 3), 2, 4).astype(int)
    write_config(tmp_path / "runs/0", "m", **{"split.folds": None})
    write_predictions(
        tmp_path / "runs/0", rows | {"label": truth}, task="Ordinal", class_names=("2", "3", "4")
    )
    write_summary(tmp_path / "runs/0", {"test/kappa": 0.5})
    results = gather(survey([tmp_path / "runs"]), ["test/kappa"])
    assert "damaged" not in json.dumps(results.notes)
    p = np.stack([rows[f"probability_{c}"] for c in range(3)], 1)
    grade = 2 + (p[:, 1] + p[:, 2] > 0.5).astype(int) + (p[:, 2] > 0.5)
    kappa = cohen_kappa_score(truth, grade, weights="quadratic")
    assert results.pooled_rows[0].estimate.value == pytest.approx(kappa)
    assert results.pooled_rows[0].runs_mean == 0.5
    assert np.isnan(quadratic_kappa(np.ones(3), np.ones(3)))

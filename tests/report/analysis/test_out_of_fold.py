"""Pooled predictions, recomputed from the Parquet files by other means."""

import csv
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

import survival_oracles as oracle
from milforge.report.analysis import pooled
from milforge.report.analysis.chosen_on_validation import temperature_scaled
from milforge.report.files import write_report
from milforge.report.gather import gather
from milforge.report.page.calibration import targets
from milforge.report.page.discrimination import _one_against_rest
from milforge.report.page.reproducibility import methods
from milforge.report.survey import survey
from report_runs import (
    Cohort,
    merged,
    rows_of,
    write_config,
    write_cross_validation,
    write_predictions,
    write_summary,
)

MODELS = {"abmil": 1.0, "smooth": 1.5}


@pytest.fixture(autouse=True, scope="module")
def few_draws():
    """The intervals of these tests need not be precise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pooled, "RESAMPLES", 100)
        patch.setattr(pooled, "DRAWS", 99)
        yield


@pytest.fixture(scope="module")
def cohort():
    return Cohort(40)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cohort):
    """2 models, 5 folds, 2 seeds; not to be changed."""
    root = tmp_path_factory.mktemp("runs")
    write_cross_validation(root, cohort, MODELS, seeds=2)
    return root


def gathered(root, **options):
    return gather(survey([root]), ["test/auroc"], **options)


@pytest.fixture(scope="module")
def results(runs):
    return gathered(runs, baseline=["model=abmil"])


def parts_of(root, model):
    """The rows of the test part of each run."""
    tables = [
        pq.read_table(path / "predictions" / "bags.parquet").to_pylist()
        for path in sorted(root.glob(f"{model}_*"))
    ]
    return [[row for row in rows if row["part"] == "test"] for rows in tables]


def test_each_bag_is_predicted_by_the_models_that_did_not_see_it(results, runs, cohort):
    for each, model in zip(results.pooled, MODELS, strict=True):
        assert each.group.label == f"model={model}"
        assert sorted(each.predictions.bag_id) == sorted(cohort.bag)
        assert set(each.models) == {2}  # seeds
        sums = {}
        for rows in parts_of(runs, model):
            for row in rows:
                sums.setdefault(row["bag_id"], []).append(row["probability_1"])
        found = dict(
            zip(each.predictions.bag_id, each.predictions.columns["probability_1"], strict=True)
        )
        for bag, values in sums.items():
            assert found[bag] == pytest.approx(np.mean(values))
        assert "logit_0" not in each.predictions.columns
        assert len(each.parts) == 5
        assert len(each.rounds) == 2
        assert each.test_parts == 5


def area(lines):
    return roc_auc_score(
        [line["label"] for line in lines], [line["probability_1"] for line in lines]
    )


def test_pooled_metrics_against_scikit_learn(results, runs, cohort):
    truth = dict(zip(cohort.bag, cohort.label, strict=True))
    rows = {(row.group.label, row.measure): row for row in results.pooled_rows}
    for model in MODELS:
        tables = parts_of(runs, model)
        both = [[*chain(*tables[0::2])], [*chain(*tables[1::2])]]  # the folds of a seed
        mean = {}
        for line in chain(*tables):
            mean[line["bag_id"]] = mean.get(line["bag_id"], 0) + line["probability_1"] / 2
        labels = [truth[bag] for bag in mean]
        row = rows[f"model={model}", "auroc"]
        assert row.estimate.value == pytest.approx(roc_auc_score(labels, [*mean.values()]))
        assert row.estimate.low < row.estimate.value < row.estimate.high <= 1
        single = [area(lines) for lines in both]
        assert row.single == pytest.approx(np.mean(single))
        each = [area(lines) for lines in tables]
        assert row.runs_mean == pytest.approx(np.mean(each))
        assert row.patients == 40
        assert row.bags == cohort.n
        ap = rows[f"model={model}", "ap"].estimate
        assert ap.value == pytest.approx(average_precision_score(labels, [*mean.values()]))
        assert 0 <= ap.low < ap.value < ap.high <= 1
        right = np.mean((np.array([*mean.values()]) > 0.5) == labels)
        assert rows[f"model={model}", "accuracy"].estimate.value == pytest.approx(right)
    compared = rows["model=smooth", "auroc"]
    assert compared.difference.value == pytest.approx(
        compared.estimate.value - rows["model=abmil", "auroc"].estimate.value
    )
    assert compared.test.startswith("DeLong")
    assert compared.p == compared.adjusted  # one comparison
    assert rows["model=abmil", "auroc"].p is None
    assert rows["model=smooth", "brier"].test == "permutation of patients"


def test_the_tables_that_are_written(results, cohort, tmp_path):
    write_report(tmp_path, results)
    table = pq.read_table(tmp_path / "out_of_fold.parquet").to_pylist()
    assert len(table) == 2 * cohort.n
    assert {"group", "bag_id", "patient", "label", "models", "table_site"} <= set(table[0])
    single = pq.read_table(tmp_path / "out_of_fold_single.parquet").to_pylist()
    assert len(single) == 4 * cohort.n
    values = {}
    for line in single:
        values.setdefault((line["group"], line["bag_id"]), []).append(line["probability_1"])
    for line in table:
        mean = np.mean(values[line["group"], line["bag_id"]])
        assert line["probability_1"] == pytest.approx(mean)
    assert {line["fold"] for line in single} == set("01234")
    assert {path.name for path in tmp_path.iterdir()} >= {"report.pdf", "report.svg", "pooled.csv"}
    with (tmp_path / "pooled.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["metric"] for row in rows[::2]] == ["auroc", "ap", "accuracy", "brier"]
    assert float(rows[1]["p_holm"]) == pytest.approx(results.pooled_rows[1].adjusted)
    text = (tmp_path / "report.md").read_text()
    assert "## auroc of the pooled test predictions, interval over patients" in text


def copy(cohort, root, folds=(0, 1), **keys):
    """One seed of a few folds."""
    of = cohort.fold_of(5)
    for fold in folds:
        chosen = np.flatnonzero(of == fold)
        folder = root / str(fold)
        write_config(folder, "abmil", **{"split.fold": fold, **keys})
        write_predictions(folder, rows_of(cohort, chosen, "test", cohort.logits(1, fold)))
        write_summary(folder, {"test/auroc": 0.7})


def said(root):
    return " ".join(gathered(root).notes)


def test_folds_that_are_missing_or_overlap_are_named(cohort, tmp_path):
    copy(cohort, tmp_path / "runs")
    assert "Folds without a run (of a seed at least): 2, 3, 4;" in said(tmp_path / "runs")
    write_predictions(
        tmp_path / "runs/1", rows_of(cohort, np.arange(cohort.n), "test", cohort.logits(1, 1))
    )
    assert "Folds that overlap:" in said(tmp_path / "runs")


def test_predictions_that_are_missing_damaged_or_old_are_named(cohort, tmp_path):
    copy(cohort, tmp_path / "runs", folds=range(5))
    root = tmp_path / "runs"
    (root / "0/predictions/bags.parquet").unlink()
    (root / "1/predictions/bags.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"bag_id": ["a"]}), root / "2/predictions/bags.parquet")
    rows = rows_of(cohort, np.arange(4), "test", cohort.logits(1, 1))
    write_predictions(root / "3", rows | {"label": np.full(4, np.nan)})
    text = said(root)
    assert "Without predictions/bags.parquet, so not among the pooled predictions:" in text
    assert "1/predictions/bags.parquet is damaged" in text
    assert "2/predictions/bags.parquet lacks part, patient, size, order" in text
    assert "3 has no labelled test bags" in text
    (each,) = gathered(root).pooled
    assert len(each.members) == 1


def test_other_classes_and_other_labels_are_named(cohort, tmp_path):
    copy(cohort, tmp_path / "runs", folds=range(3))
    rows = rows_of(cohort, np.flatnonzero(cohort.fold_of(5) == 2), "test", cohort.logits(1, 2))
    write_predictions(tmp_path / "runs/2", rows, class_names=("a", "b"))
    assert "other tasks or classes than Binary (healthy, tumour)" in said(tmp_path / "runs")
    of = np.flatnonzero(cohort.fold_of(5) == 0)
    rows = rows_of(cohort, of, "test", cohort.logits(1, 0))
    write_config(tmp_path / "runs/9", "other", **{"split.fold": 0})
    write_predictions(tmp_path / "runs/9", rows | {"label": 1 - rows["label"]})
    write_summary(tmp_path / "runs/9", {"test/auroc": 0.7})
    assert f"other labels in other runs: {min(cohort.bag[of])}" in said(tmp_path / "runs")


def test_few_patients_and_one_class_are_told_not_hidden(tmp_path):
    cohort = Cohort(8)
    chosen = np.flatnonzero(cohort.label == 1)
    folder = tmp_path / "runs/0"
    write_config(folder, "abmil", **{"split.folds": None})
    write_predictions(folder, rows_of(cohort, chosen, "test", cohort.logits(1, 0)))
    write_summary(folder, {"test/accuracy": 0.7})
    results = gather(survey([tmp_path / "runs"]), ["test/accuracy"])
    assert "There are 4 patients: below 10" in " ".join(results.notes)
    rows = {row.measure: row for row in results.pooled_rows}
    assert np.isnan(rows["auroc"].estimate.value)
    assert rows["auroc"].method.startswith("none")
    assert rows["accuracy"].estimate.low >= 0


@pytest.mark.parametrize("task", ["Multiclass", "Multilabel", "Regression"])
def test_other_tasks(cohort, tmp_path, task):
    generator = np.random.default_rng(0)
    base = rows_of(cohort, np.arange(cohort.n), "test", cohort.logits(1, 0))
    base = {k: v for k, v in base.items() if not k.startswith(("label", "prob", "logit"))}
    p = generator.dirichlet(np.ones(3), size=cohort.n)
    names = ("a", "b", "c")
    for number in range(2):
        p = (p + 0.2 * generator.dirichlet(np.ones(3), size=cohort.n)) / 1.2
        rows = dict(base)
        if task == "Regression":
            names, y = (), generator.normal(size=cohort.n)
            rows |= {"label": cohort.label + 0.0, "prediction": cohort.label + y, "logit_0": y}
        else:
            rows |= {f"probability_{c}": p[:, c] for c in range(3)}
            if task == "Multiclass":
                rows |= {"label": cohort.patient % 3}
            else:
                rows |= {f"label_{c}": (cohort.patient >> c) % 2 for c in range(3)}
        folder = tmp_path / "runs" / str(number)
        write_config(folder, f"m{number}", **{"split.folds": None})
        write_predictions(folder, merged(rows), task=task, class_names=names)
        write_summary(folder, {"test/loss": 0.7})
    results = gather(survey([tmp_path / "runs"]), ["test/loss"], baseline=["model=m0"])
    rows = {row.measure: row for row in results.pooled_rows[1::2]}
    if task == "Regression":
        assert set(rows) == {"mae", "rmse", "r2", "pearson"}
        assert rows["mae"].estimate.value == pytest.approx(np.abs(y).mean())
    else:
        y = (cohort.patient % 3)[:, None] == range(3)
        if task == "Multilabel":
            y = (cohort.patient[:, None] >> np.arange(3)) % 2
        assert rows["auroc"].estimate.value == pytest.approx(roc_auc_score(y, p))
        assert rows["auroc"].difference is not None
    for row in rows.values():
        assert 0 < row.p <= 1
        assert row.difference.low <= row.difference.value <= row.difference.high


def test_a_bag_counts_for_the_labels_that_it_has(cohort, tmp_path):
    generator = np.random.default_rng(0)
    y = ((cohort.patient[:, None] >> np.arange(3)) % 2).astype(float)
    p = 0.02 + 0.3 * y + 0.6 * generator.random(y.shape)
    y[generator.random(y.shape) < 0.3] = np.nan
    y[0] = np.nan
    for number, part in enumerate(("test", "val")):
        rows = rows_of(cohort, np.arange(cohort.n), part, cohort.logits(1, 0))
        rows = {k: v for k, v in rows.items() if not k.startswith(("label", "prob", "logit"))}
        rows |= {f"probability_{c}": p[:, c] for c in range(3)}
        rows |= {f"label_{c}": y[:, c] for c in range(3)}
        both = rows if not number else {k: [*both[k], *rows[k]] for k in both}
    folder = tmp_path / "runs" / "0"
    write_config(folder, "m", **{"split.folds": None})
    write_predictions(folder, both, task="Multilabel", class_names=("a", "b", "c"))
    write_summary(folder, {"test/loss": 0.7})
    results = gather(survey([tmp_path / "runs"]), ["test/loss"])
    found = {row.measure: row for row in results.pooled_rows}
    known = ~np.isnan(y)
    assert {row.bags for row in found.values()} == {known.any(1).sum()}
    each = [(y[known[:, c], c], p[known[:, c], c]) for c in range(3)]
    aurocs = [roc_auc_score(*pair) for pair in each]
    assert found["auroc"].estimate.value == pytest.approx(np.mean(aurocs))
    briers = [brier_score_loss(*pair) for pair in each]
    assert found["brier"].estimate.value == pytest.approx(np.mean(briers))
    (pooled,) = results.pooled
    assert [len(target.y) for target in targets(pooled.predictions)] == known.sum(0).tolist()
    # One temperature of all labels that are known.
    (temperature,) = temperature_scaled(pooled).temperatures
    logits = logit(p[known])
    around = temperature * np.array([0.99, 1, 1.01])
    losses = [log_loss(y[known], expit(logits / each)) for each in around]
    assert losses[1] == min(losses)
    shown = [len(points) for _, points, _ in _one_against_rest(pooled)]
    assert shown == known.sum(0).tolist()


def test_risks_of_all_folds_are_measured_together_and_beside_the_mean_of_the_runs(cohort, tmp_path):
    generator = np.random.default_rng(0)
    time = 1.0 + generator.integers(0, 15, cohort.n)
    y = {"time": time, "event": cohort.label, "risk": generator.normal(size=cohort.n) - time / 10}
    measured = []
    for fold in range(2):
        chosen = np.flatnonzero(cohort.fold_of(2) == fold)
        rows = rows_of(cohort, chosen, "test", cohort.logits(1, 0))
        rows = {k: v for k, v in rows.items() if not k.startswith(("label", "prob", "logit"))}
        rows |= {name: values[chosen] for name, values in y.items()}
        folder = tmp_path / "runs" / str(fold)
        write_config(folder, "m", **{"split.fold": fold, "split.folds": 2})
        write_predictions(folder, rows, task="Cox", class_names=())
        measured.append(oracle.concordance(*(rows[name] for name in ("risk", "time", "event"))))
        write_summary(folder, {"test/c_index": measured[-1]})
    results = gather(survey([tmp_path / "runs"]), ["test/c_index"])
    (row,) = results.pooled_rows
    of_all = oracle.concordance(y["risk"], y["time"], y["event"])
    assert row.estimate.value == pytest.approx(of_all, abs=1e-9)
    assert row.runs_mean == pytest.approx(np.mean(measured), abs=1e-9)
    assert abs(row.estimate.value - row.runs_mean) > 1e-3
    assert row.estimate.low < of_all < row.estimate.high
    (note,) = [note for note in results.notes if "c_index" in note and "each risk less" in note]
    assert "training bags of its model" in note


def test_folds_of_split_files_are_one_cross_validation(tmp_path, cohort):
    """They do not say how many there are; single models are pooled over them all the same."""
    folders = write_cross_validation(tmp_path, cohort, {"abmil": 1.0}, seeds=2)
    known = gathered(tmp_path)
    for folder in folders:
        config = (folder / "config.yaml").read_text()
        assert "folds: 5" in config
        (folder / "config.yaml").write_text(config.replace("folds: 5", "folds: null"))
    found = gathered(tmp_path)
    assert len(found.pooled[0].rounds) == 2
    assert [row.single for row in found.pooled_rows] == [row.single for row in known.pooled_rows]
    assert found.pooled_rows[0].single != pytest.approx(found.pooled_rows[0].runs_mean, abs=1e-4)
    text = str(methods(found).body)
    assert f"We analysed {cohort.n} bags (" in text
    assert " of 40 patients. Models were evaluated on 5 test parts; each bag" in text
    assert "averaged over 2 models." in text
    assert "by 5-fold cross-validation, grouped by patient" in str(methods(known).body)
    (each,) = found.pooled
    unknown = replace(each.predictions, patient=np.full(cohort.n, None, object))
    text = str(methods(replace(found, pooled=[replace(each, predictions=unknown)])).body)
    assert "patients. Models" not in text


def test_random_splits_that_share_test_bags_are_not_pooled_as_one(tmp_path, cohort):
    for fold, test in enumerate((np.arange(20), np.arange(10, 30))):
        folder = tmp_path / str(fold)
        write_config(folder, "abmil", **{"split.fold": fold, "split.folds": None})
        write_predictions(folder, rows_of(cohort, test, "test", cohort.logits(1, fold)))
        write_summary(folder, {"test/auroc": 0.7})
    (each,) = gathered(tmp_path).pooled
    assert sorted(map(len, each.rounds)) == [20, 20]
    assert (len(each.predictions), each.test_parts) == (30, 2)

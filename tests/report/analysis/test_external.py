"""An external cohort beside the internal one."""

import csv
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from milforge.report.analysis.operating_points import RULES
from milforge.report.files import write_page, write_report
from milforge.report.gather import gather
from milforge.report.page.decisions import operating_points
from milforge.report.page.external import external
from milforge.report.page.reproducibility import methods
from milforge.report.survey import survey
from report_runs import (
    Cohort,
    rows_of,
    write_config,
    write_cross_validation,
    write_predictions,
    write_summary,
)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("milforge.report.analysis.pooled.RESAMPLES", 50)
    monkeypatch.setattr("milforge.report.analysis.pooled.DRAWS", 49)
    monkeypatch.setattr("milforge.report.checks.leaks.DRAWS", 49)


def outside(seed=7):
    cohort = Cohort(30, seed=seed)
    cohort.bag = np.array([f"ext_{bag}" for bag in cohort.bag], object)
    cohort.name = np.array([f"ext_{name}" for name in cohort.name], object)
    return cohort


def evaluate(folder, cohort, checkpoint, seed=0, **options):
    """As `milforge-evaluate` leaves it."""
    write_config(folder, "abmil", task_name="evaluate", ckpt_path=str(checkpoint))
    logits = cohort.logits(1, seed)
    rows = rows_of(cohort, np.arange(cohort.n), "test", logits)
    write_predictions(folder, rows, **options)
    write_summary(folder, {"test/auroc": 0.7}, checkpoint=checkpoint)
    return rows["probability_1"]


@pytest.fixture
def runs(tmp_path):
    write_cross_validation(tmp_path / "runs", Cohort(30), {"abmil": 1.0, "smooth": 1.5}, seeds=1)
    return tmp_path / "runs"


def gathered(runs, external, **options):
    return gather(survey([runs]), ["test/auroc"], external=survey([external]), **options)


def test_evaluations_of_a_group_are_averaged_beside_its_internal_result(runs, tmp_path):
    cohort, folder = outside(), tmp_path / "external"
    each = [
        evaluate(
            folder / str(fold), cohort, str(runs / f"abmil_{fold}_0/checkpoints/best.ckpt"), fold
        )
        for fold in range(5)
    ]
    whole = [str(runs / f"smooth_{fold}_0/checkpoints/best.ckpt") for fold in range(5)]
    evaluate(folder / "ensemble", cohort, whole)
    results = gathered(runs, folder)
    assert not [note for note in results.notes if note.startswith("External")]
    rows = {(row.group, row.measure): row for row in results.external.rows}
    row = rows["model=abmil", "auroc"]
    assert row.external.value == pytest.approx(roc_auc_score(cohort.label, np.mean(each, 0)))
    assert (row.models, row.bags, row.patients) == (5, cohort.n, 30)
    assert row.internal == results.pooled_rows[0].estimate
    assert row.difference.value == pytest.approx(row.external.value - row.internal.value)
    assert row.difference.low < row.difference.value < row.difference.high
    assert rows["model=smooth", "auroc"].models == 1
    write_report(tmp_path / "out", results)
    with (tmp_path / "out/external.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["external"]) == pytest.approx(row.external.value)
    text = (tmp_path / "out/report.md").read_text()
    assert "## auroc of the internal and of the external cohort" in text
    write_page(tmp_path / "page.html", results)
    assert 'id="external"' in (tmp_path / "page.html").read_text("utf-8")


def test_thresholds_fixed_on_internal_validation_are_applied(runs, tmp_path):
    """By hand: Youden's of each fold's validation bags, their mean, on the mean of the models."""
    cohort, folder = outside(), tmp_path / "external"
    each, thresholds = [], []
    for fold in range(5):
        own = runs / f"abmil_{fold}_0"
        each.append(evaluate(folder / str(fold), cohort, str(own / "checkpoints/best.ckpt"), fold))
        rows = pq.read_table(own / "predictions/bags.parquet").to_pylist()
        val = [(row["probability_1"], row["label"]) for row in rows if row["part"] == "val"]
        gain = {
            t: np.mean([p >= t for p, y in val if y]) - np.mean([p >= t for p, y in val if not y])
            for t, _ in val
        }
        most = max(gain.values())
        thresholds.append(max(t for t, value in gain.items() if value > most - 1e-9))
    results = gathered(runs, folder)
    points = {(p.group, p.rule, p.cohort): p for p in results.points}
    assert set(points) == {
        *(("model=abmil", r, c) for r in RULES for c in ("internal", "external")),
        *(("model=smooth", rule, "internal") for rule in RULES),
    }
    found = points["model=abmil", "Youden", "external"]
    assert points["model=abmil", "Youden", "internal"].thresholds == pytest.approx(thresholds)
    assert found.thresholds == pytest.approx([np.mean(thresholds)])
    called = np.mean(each, 0) >= np.mean(thresholds)
    sick = cohort.label == 1
    counts = (~sick & ~called, ~sick & called, sick & ~called, sick & called)
    assert found.point.confusion == tuple(int(part.sum()) for part in counts)
    write_report(tmp_path / "out", results)
    with (tmp_path / "out/operating_points.csv").open(newline="") as file:
        rows = {(r["group"], r["rule"], r["cohort"]): r for r in csv.DictReader(file)}
    row = rows["model=abmil", "Youden", "external"]
    assert float(row["sensitivity"]) == pytest.approx(called[sick].mean())
    assert float(row["specificity"]) == pytest.approx((~called)[~sick].mean())
    assert float(row["specificity_low"]) < float(row["specificity"])
    text = str(external(results).body)
    assert "Operating points on both cohorts" in text
    assert f">{np.mean(thresholds):.3f}<" in text
    assert "external, after temperature" in text
    assert "Thresholds for the external cohort were those fixed" in methods(results).body


def test_without_internal_validation_there_is_no_threshold(runs, tmp_path):
    cohort = Cohort(30)
    for fold in range(5):
        own = runs / f"abmil_{fold}_0"
        test = np.flatnonzero(cohort.fold_of(5) == fold)
        write_predictions(own, rows_of(cohort, test, "test", cohort.logits(1, fold)))
    evaluate(tmp_path / "external/0", outside(), str(runs / "abmil_0_0/checkpoints/best.ckpt"))
    results = gathered(runs, tmp_path / "external")
    assert {p.point for p in results.points if p.group == "model=abmil"} == {None}
    text = str(external(results).body)
    assert text.count("no validation part has both classes") == 4
    assert "after temperature" not in text


def test_folds_without_a_threshold_are_counted(runs, tmp_path):
    cohort = Cohort(30)
    for fold in range(2):
        own = runs / f"abmil_{fold}_0"
        test = np.flatnonzero(cohort.fold_of(5) == fold)
        write_predictions(own, rows_of(cohort, test, "test", cohort.logits(1, fold)))
    results = gather(survey([runs]), ["test/auroc"])
    point = next(each for each in results.points if each.group == "model=abmil")
    assert (len(point.thresholds), point.folds) == (3, 5)
    assert sum(point.point.confusion) == (cohort.fold_of(5) > 1).sum()
    assert ", of 3 of 5 folds" in operating_points(results).body


def test_probabilities_of_calibrated_checkpoints_are_left_out_and_named(runs, tmp_path):
    """Their logits are divided already, and the thresholds of the runs are others."""
    checkpoint = str(runs / "abmil_0_0/checkpoints/calibrated.ckpt")
    evaluate(tmp_path / "external/0", outside(), checkpoint)
    write_summary(
        tmp_path / "external/0", {"test/auroc": 0.7}, checkpoint=checkpoint, calibrated=True
    )
    results = gathered(runs, tmp_path / "external")
    assert not results.external.rows
    assert not [point for point in results.points if point.cohort == "external"]
    (note,) = [note for note in results.notes if note.startswith("External")]
    assert f"left out: {tmp_path / 'external/0'}; evaluate best.ckpt" in note


def test_evaluations_are_no_models_that_were_trained(runs, tmp_path):
    """Nor is a run that a newer one of the same config, seed and fold stands for."""
    evaluate(runs / "evaluated", Cohort(30), str(runs / "abmil_0_0/checkpoints/best.ckpt"))
    shutil.copytree(runs / "abmil_0_0", runs / "again")
    text = str(methods(gather(survey([runs]), ["test/auroc"])).body)
    assert "We trained 10 models (" in text
    assert "evaluate" not in text[text.index("We trained") : text.index(" with 1 seeds")]


def test_folders_that_were_moved_are_found_by_name(runs, tmp_path):
    cohort = outside()
    evaluate(tmp_path / "external/0", cohort, "/gone/runs/abmil_0_0/checkpoints/best.ckpt")
    assert gathered(runs, tmp_path / "external").external.rows


def test_what_does_not_fit_is_named(runs, tmp_path):
    cohort, folder = outside(), tmp_path / "external"
    best = "checkpoints/best.ckpt"
    evaluate(folder / "other", cohort, "elsewhere/0/checkpoints/best.ckpt")
    evaluate(folder / "mixed", cohort, [str(runs / f"{m}_0_0" / best) for m in ("abmil", "smooth")])
    evaluate(folder / "classes", cohort, str(runs / "abmil_0_0" / best), class_names=("a", "b"))
    evaluate(folder / "bare", cohort, str(runs / "abmil_0_0" / best))
    (folder / "bare/predictions/bags.parquet").unlink()
    results = gathered(runs, folder)
    told = " ".join(note for note in results.notes if note.startswith("External"))
    assert "of none of the groups, or of more than one" in told
    assert all(str(folder / name) in told for name in ("other", "mixed"))
    assert "classes has no labels, or other classes" in told
    assert "bare has no predictions/bags.parquet" in told
    assert results.external.rows == []


def test_a_cohort_that_is_not_external_is_named(runs, tmp_path):
    evaluate(tmp_path / "external/0", Cohort(30), str(runs / "abmil_0_0/checkpoints/best.ckpt"))
    results = gathered(runs, tmp_path / "external")
    assert any("30 patients or bags of model=abmil are also" in note for note in results.notes)

"""An external cohort beside the internal one."""

import csv

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from milforge.report.files import write_page, write_report
from milforge.report.gather import gather
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
    monkeypatch.setattr("milforge.report.pooled.RESAMPLES", 50)
    monkeypatch.setattr("milforge.report.pooled.DRAWS", 49)
    monkeypatch.setattr("milforge.report.leaks.DRAWS", 49)


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
    assert "in none of the groups" in told
    assert all(str(folder / name) in told for name in ("other", "mixed"))
    assert "classes has no labels, or other classes" in told
    assert "bare has no predictions/bags.parquet" in told
    assert results.external.rows == []


def test_a_cohort_that_is_not_external_is_named(runs, tmp_path):
    evaluate(tmp_path / "external/0", Cohort(30), str(runs / "abmil_0_0/checkpoints/best.ckpt"))
    results = gathered(runs, tmp_path / "external")
    assert any("30 patients or bags of model=abmil are also" in note for note in results.notes)

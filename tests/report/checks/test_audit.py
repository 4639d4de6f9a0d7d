"""Each fault that is planted is found, and a clean cohort has none."""

import csv

import numpy as np
import pytest

from milforge.report.checks.audit import audit
from milforge.report.gather import gather
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


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("milforge.report.checks.leaks.DRAWS", 199)
    monkeypatch.setattr("milforge.report.analysis.pooled.RESAMPLES", 50)
    monkeypatch.setattr("milforge.report.analysis.pooled.DRAWS", 49)


def audited(root):
    results = gather(survey([root]), ["test/auroc"])
    found = audit(results.found.finished, results.pooled)
    return {finding.title: finding for finding in found}


@pytest.fixture
def runs(tmp_path):
    """One model, five folds, two seeds."""
    write_cross_validation(tmp_path / "runs", Cohort(60), {"abmil": 1.0}, seeds=2)
    return tmp_path / "runs"


def test_a_clean_cohort_has_no_fault(runs):
    found = audited(runs)
    levels = {title: finding.level for title, finding in found.items()}
    warned = "Which part chose the threshold, the temperature and the conformal sets"
    assert levels.pop(warned) == "warning"
    assert "split.calibration_share" in found[warned].text
    assert set(levels.values()) == {"fine"}, found
    assert "val/loss" in found["Which part chose the epoch"].text
    assert found["Seeds"].text == "2 seeds: 0, 1."
    assert "torch 2.6.0" in found["Versions"].text
    assert "commit 0123456789ab" in found["Versions"].text
    assert found["Patients on two sides"].text == "None of 60 patients."


def test_epochs_chosen_on_test(runs):
    write_summary(runs / "abmil_0_0", {"test/auroc": 0.7}, monitor="test/auroc")
    finding = audited(runs)["Which part chose the epoch"]
    assert finding.level == "fault"
    assert "1 of 10 runs" in finding.text
    assert "abmil_0_0" in finding.text


def test_settings_chosen_on_test(runs):
    write_config(runs / "abmil_0_0", "abmil", optimized_metric="test/auroc")
    assert audited(runs)["Which part chose the epoch"].level == "fault"


def test_validation_bags_that_are_test_bags(runs):
    cohort = Cohort(60)
    test = np.flatnonzero(cohort.fold_of(5) == 0)
    logits = cohort.logits(1, 0)
    rows = merged(rows_of(cohort, test, "val", logits), rows_of(cohort, test, "test", logits))
    write_predictions(runs / "abmil_0_0", rows)
    finding = audited(runs)["Bags in two parts of a run"]
    assert finding.level == "fault"
    assert "The epoch was chosen on test bags." in finding.text


def test_a_patient_on_two_sides(runs):
    cohort = Cohort(60)
    test = cohort.bag[cohort.fold_of(5) == 0]
    path = runs / "abmil_0_1" / "splits.csv"
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    several = [p for p in range(60) if (cohort.patient == p).sum() > 1 and p // 2 % 5 == 0]
    moved = cohort.bag[cohort.patient == several[0]][0]
    assert moved in test
    rows[0]["train"], rows[0]["test"] = moved, ""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    finding = audited(runs)["Patients on two sides"]
    assert finding.level == "fault"
    assert f"1 patients are in the test part and in another: patient_{several[0]:02d}" in (
        finding.text
    )
    assert "abmil_0_1" in finding.text


def test_without_patients_nothing_is_claimed(tmp_path):
    cohort = Cohort(20)
    rows = rows_of(cohort, np.arange(cohort.n), "test", cohort.logits(1, 0))
    write_config(tmp_path / "runs/0", "abmil")
    write_predictions(tmp_path / "runs/0", rows | {"patient": [None] * cohort.n})
    write_summary(tmp_path / "runs/0", {"test/auroc": 0.7})
    found = audited(tmp_path / "runs")
    assert found["Patients on two sides"].level == "unknown"
    assert found["Seeds"].level == "warning"


def test_a_doubled_slide(runs):
    cohort = Cohort(60)
    one, other = np.flatnonzero(cohort.fold_of(5) == 2)[[0, 5]]
    logits = cohort.logits(1, 200)
    logits[other], cohort.size[other] = logits[one], cohort.size[one]
    test = np.flatnonzero(cohort.fold_of(5) == 2)
    write_predictions(runs / "abmil_2_0", rows_of(cohort, test, "test", logits))
    finding = audited(runs)["A slide under two names"]
    assert finding.level == "warning"
    assert f"{cohort.bag[one]} = {cohort.bag[other]}" in finding.text


def planted(root, change):
    cohort = Cohort(60)
    change(cohort)
    write_cross_validation(root, cohort, {"abmil": 1.0}, seeds=1)
    return audited(root)


def test_a_label_that_follows_from_the_size(tmp_path):
    def change(cohort):
        cohort.size = np.where(cohort.label == 1, cohort.size * 3, cohort.size)

    found = planted(tmp_path / "runs", change)
    assert found["What bag size alone predicts"].level == "warning"
    assert "AUROC, in either direction 0.9" in found["What bag size alone predicts"].text
    assert found["What order of files alone predicts"].level == "fine"
    assert found["What column site alone predicts"].level == "fine"


def test_a_label_that_follows_from_the_site(tmp_path):
    def change(cohort):
        sick = (cohort.label == 1) & (cohort.patient % 6 != 1)
        cohort.site = np.where(sick, "north", "south").astype(object)

    found = planted(tmp_path / "runs", change)
    assert found["What column site alone predicts"].level == "warning"
    assert found["What bag size alone predicts"].level == "fine"


def test_a_label_that_follows_from_the_order_of_the_files(tmp_path):
    def change(cohort):
        cohort.order = np.argsort(np.argsort(cohort.label, kind="stable"), kind="stable")

    found = planted(tmp_path / "runs", change)
    assert found["What order of files alone predicts"].level == "warning"
    assert found["What bag size alone predicts"].level == "fine"


def test_standardised_with_test_bags_and_versions_that_differ(runs):
    write_config(runs / "abmil_1_0", "abmil", standardise="all", **{"split.fold": 1})
    write_summary(runs / "abmil_1_1", {"test/auroc": 0.7}, git_commit="fedcba9876543210")
    found = audited(runs)
    assert found["What the features are standardised by"].level == "fault"
    assert found["Versions"].level == "warning"
    assert "differ in commit" in found["Versions"].text


def test_bags_held_back_to_calibrate_chose_nothing_else(tmp_path):
    cohort = Cohort(60)
    of = cohort.fold_of(5)
    for fold in range(5):
        folder = tmp_path / "runs" / str(fold)
        write_config(folder, "abmil", **{"split.fold": fold})
        logits = cohort.logits(1, fold)
        held = rows_of(cohort, np.flatnonzero(of == (fold + 1) % 5), "calibration", logits)
        test = rows_of(cohort, np.flatnonzero(of == fold), "test", logits)
        write_predictions(folder, merged(held, test))
        write_summary(folder, {"test/auroc": 0.7})
    results = gather(survey([tmp_path / "runs"]), ["test/auroc"])
    assert all(len(part.val) for part in results.pooled[0].parts)
    found = {each.title: each for each in audit(results.found.finished, results.pooled)}
    finding = found["Which part chose the threshold, the temperature and the conformal sets"]
    assert finding.level == "fine"
    assert "split.calibration_share" in finding.text
    assert "were fitted on the bags held back to calibrate of each fold" in methods(results).body

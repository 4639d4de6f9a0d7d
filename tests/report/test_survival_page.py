"""Risks and curves of the page, against counts of bags."""

import numpy as np
import pytest
import torch

import survival_oracles
from milforge.functional import kaplan_meier
from milforge.metrics import CumulativeDynamicAUC, IntegratedBrierScore
from milforge.report import gather as gathering
from milforge.report.analysis.measures import measures, values_of
from milforge.report.page.survival import risk_groups, survival
from milforge.report.read_predictions import read_predictions
from milforge.report.survey import survey
from milforge.statistics import log_rank
from report_runs import Cohort, merged, rows_of, write_config, write_predictions, write_summary

TIMES = (2.0, 4.0, 6.0)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr("milforge.report.analysis.pooled.RESAMPLES", 30)
    monkeypatch.setattr("milforge.report.analysis.pooled.DRAWS", 29)
    monkeypatch.setattr("milforge.report.page.survival.RESAMPLES", 30)


def write_survival(root, *, val=True, curves=True):
    """Two folds; risks of the second are 5 higher, as those of another network may be."""
    cohort = Cohort(60)
    generator = np.random.default_rng(3)
    time = generator.exponential(4 * np.exp(-cohort.person)).clip(0.1, 9).round(1)
    event = generator.uniform(size=cohort.n) < 0.7
    of = cohort.fold_of(2)
    for fold in range(2):
        folder = root / str(fold)
        base = rows_of(cohort, np.arange(cohort.n), "test", np.zeros(cohort.n))
        rows = {k: v for k, v in base.items() if not k.startswith(("label", "prob", "logit"))}
        risk = cohort.person + 5 * fold + 0.5 * generator.normal(size=cohort.n)
        rows |= {"time": time, "event": event.astype(int), "risk": risk}
        if curves:
            scale = 4 * np.exp(-cohort.person)
            rows |= {f"survival_{t:g}": np.exp(-t / scale) for t in TIMES}
        test, other = ({k: v[of == f] for k, v in rows.items()} for f in (fold, 1 - fold))
        other["part"] = np.full(len(other["part"]), "val", object)
        write_config(folder, "m", **{"split.fold": fold, "split.folds": 2})
        names = merged(test, other) if val else test
        write_predictions(folder, names, task="Cox", class_names=())
        write_summary(folder, {"test/c_index": 0.6, "test/auc": 0.6, "test/ibs": 0.2})
    return gathering.gather(survey([root]), ["test/c_index"])


def test_scores_of_the_pooled_predictions(tmp_path):
    results = write_survival(tmp_path / "runs")
    test = results.pooled[0].predictions
    time, event, risk = test.labels["time"], test.labels["event"], test.columns["risk"]
    train = (time.tolist(), event.tolist())
    rows = {row.measure: row for row in results.pooled_rows}
    assert set(rows) == {"c_index", "auc", "ibs"}
    areas = [survival_oracles.auc(risk, time, event, t, train) for t in TIMES]
    assert rows["auc"].estimate.value == pytest.approx(np.trapezoid(areas, TIMES) / 4)
    curves = np.stack([test.columns[f"survival_{t:g}"] for t in TIMES], 1)
    scores = survival_oracles.integrated_brier(curves.tolist(), time, event, TIMES, train)
    assert rows["ibs"].estimate.value == pytest.approx(scores)
    assert rows["ibs"].estimate.low < scores < rows["ibs"].estimate.high
    text = survival(results).body
    assert f"at 4: {areas[1]:.3f} [" in text
    assert f"{scores:.3f}" in text
    assert "one curve for all" in text


def test_times_that_are_equal_are_equal_in_the_report_and_the_metric(tmp_path):
    """12.3 of a table is 12.300000190734863 in `bags.parquet`."""
    time = np.array([12.3, 5, 12.3, 20, 30, 4, 12.3, 21], np.float32)
    event = np.array([1, 1, 0, 1, 1, 1, 1, 0])
    generator = np.random.default_rng(0)
    rows = rows_of(Cohort(60), np.arange(8), "test", np.zeros(8))
    rows = {k: v for k, v in rows.items() if not k.startswith(("label", "prob", "logit"))}
    rows |= {"time": time, "event": event, "risk": generator.normal(size=8).astype(np.float32)}
    rows["survival_12.3"] = generator.uniform(size=8).astype(np.float32)
    write_predictions(tmp_path, rows, task="Cox", class_names=())
    test = read_predictions(tmp_path)
    watched = kaplan_meier(torch.tensor(time), torch.tensor(event), of_censoring=True)
    censoring = watched.times.tolist(), watched.values.tolist()
    metrics = {
        "auc": CumulativeDynamicAUC([12.3], censoring),
        "ibs": IntegratedBrierScore([12.3], censoring),
    }
    times, happened = torch.tensor(time), torch.tensor(event)
    metrics["auc"].update(torch.tensor(rows["risk"]), times, happened)
    metrics["ibs"].update(torch.tensor(rows["survival_12.3"])[:, None], times, happened)
    found = {each.name: each.of(test.y, values_of(test, each)) for each in measures(test)}
    for name, metric in metrics.items():
        assert found[name] == pytest.approx(float(metric.compute()), abs=1e-6)


def test_risk_groups_are_cut_at_the_validation_median_of_each_fold(tmp_path):
    results = write_survival(tmp_path / "runs")
    each = results.pooled[0]
    high, rule = risk_groups(each)
    assert rule == "median of validation"
    for part in each.parts:
        cut = np.median(part.val.columns["risk"])
        for bag, risk in zip(part.test.bag_id, part.test.columns["risk"], strict=True):
            assert high[each.predictions.bag_id == bag] == (risk > cut)
    test = each.predictions
    firsts = {}
    for number, patient in enumerate(test.clusters.tolist()):
        firsts.setdefault(patient, number)
    first = np.array(list(firsts.values()))
    p = log_rank(test.labels["time"][first], test.labels["event"][first], high[first])
    assert 0 < p < 0.05  # pooled medians would part the folds, not the patients
    text = survival(results).body
    assert f">{p:.3f}<" in text or (p < 0.001 and "&lt;0.001" in text)


def test_without_validation_bags_or_curves(tmp_path):
    results = write_survival(tmp_path / "runs", val=False, curves=False)
    high, rule = risk_groups(results.pooled[0])
    assert rule == "median of test"
    risk = results.pooled[0].predictions.columns["risk"]
    assert (high == (risk > np.median(risk))).all()
    assert [row.measure for row in results.pooled_rows] == ["c_index"]
    text = survival(results).body
    assert "median of test" in text
    assert "Brier score over time" not in text


def test_a_single_patient_has_no_bars(tmp_path):
    rows = rows_of(Cohort(20), np.arange(8), "test", np.zeros(33))
    rows = {k: v for k, v in rows.items() if not k.startswith(("label", "prob", "logit"))}
    rows |= {"patient": np.full(8, "one", object), "time": np.arange(8) + 1.0, "event": [1] * 8}
    rows |= {"risk": np.array([3.0, 4, 2, 1, 0, 2, 1, 1])}
    rows |= {f"survival_{t:g}": np.linspace(0.2, 0.9, 8) for t in TIMES}
    write_config(tmp_path / "runs/0", "m", **{"split.folds": None})
    write_predictions(tmp_path / "runs/0", rows, task="Cox", class_names=())
    write_summary(tmp_path / "runs/0", {"test/c_index": 0.6})
    results = gathering.gather(survey([tmp_path / "runs"]), ["test/c_index"])
    assert results.pooled_rows[0].method == "none: one patient"
    assert "at 4: 0.844 <" in survival(results).body

"""Metrics of censored times against loops over pairs, and what they say of odd data."""

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import survival_oracles as oracle
from milforge.functional.time_to_event.censoring import kaplan_meier
from milforge.functional.time_to_event.concordance import count_before
from milforge.metrics import (
    ConcordanceIndex,
    CumulativeDynamicAUC,
    IntegratedBrierScore,
    UnoConcordanceIndex,
    build_metrics,
    higher_is_better,
)

TIMES = (0.5, 1.0, 1.6, 2.25)


def curve(time, event):
    steps = kaplan_meier(torch.tensor(time), torch.tensor(event), of_censoring=True)
    return steps.times.tolist(), steps.values.tolist()


def as_tensors(*arrays):
    return [torch.tensor(each, dtype=torch.float32) for each in arrays]


def value_of(metric, *batch, parts=1):
    """The metric of a batch that comes in several parts."""
    for part in zip(*(each.tensor_split(parts) for each in batch), strict=True):
        metric.update(*part)
    return metric.compute()


@pytest.mark.parametrize("seed", range(4))
def test_all_equal_loops_over_pairs(seed):
    """Data with ties of times, of risks, and censoring, in training and test; numbers that
    float32 holds exactly."""
    risk, time, event = oracle.censored_data(seed=seed)
    _, *train = oracle.censored_data(seed=100 + seed)
    g = curve(*train)
    survival = np.random.default_rng(seed).integers(9, size=(len(time), len(TIMES))) / 8
    t_risk, t_time, t_event = as_tensors(risk, time, event)
    (t_survival,) = as_tensors(survival)
    ranked = t_risk, t_time, t_event
    aucs = [oracle.auc(risk, time, event, t, train) for t in TIMES]
    for metric, batch, expected in (
        (ConcordanceIndex(), ranked, oracle.concordance(risk, time, event)),
        (UnoConcordanceIndex(g), ranked, oracle.uno(risk, time, event, train)),
        (UnoConcordanceIndex(g, 1.5), ranked, oracle.uno(risk, time, event, train, 1.5)),
        (CumulativeDynamicAUC(TIMES, g, None), ranked, aucs),
        (CumulativeDynamicAUC(TIMES, g), ranked, np.nanmean(aucs)),
        (
            IntegratedBrierScore(TIMES, g),
            (t_survival, t_time, t_event),
            oracle.integrated_brier(survival, time, event, TIMES, train),
        ),
    ):
        computed = value_of(metric, *batch, parts=3)
        assert computed.dtype == torch.float64
        np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-9)


def test_without_censoring_unos_is_harrells():
    risk, time, event = as_tensors(*oracle.censored_data())
    never = ([9.0], [1.0])
    harrell = value_of(ConcordanceIndex(), risk, time, event)
    assert value_of(UnoConcordanceIndex(never), risk, time, event) == harrell


@given(st.integers(0, 500))
def test_laws_of_concordance(seed):
    """It knows the order of the risks alone, never turns it round, and gives ties one half."""
    risk, time, event = as_tensors(*oracle.censored_data(12, seed))
    c = float(value_of(ConcordanceIndex(), risk, time, event))
    if math.isnan(c):
        return
    assert float(value_of(ConcordanceIndex(), risk.exp(), time, event)) == c
    turned = float(value_of(ConcordanceIndex(), -risk, time, event))
    assert turned == pytest.approx(1 - c, abs=1e-12)
    assert float(value_of(ConcordanceIndex(), 0 * risk, time, event)) == 0.5


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 12), st.integers(0, 9))
def test_counting_before(values, end, wanted):
    end = min(end, len(values))
    lower, equal = count_before(
        torch.tensor(values, dtype=torch.int64), torch.tensor([end]), torch.tensor([wanted])
    )
    assert lower.item() == sum(value < wanted for value in values[:end])
    assert equal.item() == values[:end].count(wanted)


def test_many_bags_take_no_table_of_pairs():
    n = 100_000  # whose pairs would take 80 GB
    generator = torch.Generator().manual_seed(0)
    risk = torch.rand(n, generator=generator)
    c = value_of(ConcordanceIndex(), risk, 1 - risk, torch.ones(n))
    assert c.item() == pytest.approx(1, abs=1e-4)


def test_kaplan_and_meier_by_hand():
    time = torch.tensor([1.0, 2.0, 2.0, 2.0, 5.0])
    event = torch.tensor([1, 1, 0, 0, 1])
    steps = kaplan_meier(time, event)
    assert steps.times.tolist() == [1, 2, 5]
    assert steps.values.tolist() == pytest.approx([4 / 5, 3 / 5, 0])
    watched = kaplan_meier(time, event, of_censoring=True)
    assert watched.values.tolist() == pytest.approx([1, 1 / 3, 1 / 3])
    assert watched.last == 5
    assert kaplan_meier(time, 0 * event, of_censoring=True).last == 2


def test_what_is_asked_beyond_the_data_is_measured_up_to_them_and_said(caplog):
    """Where scikit-survival raises."""
    risk, time, event = as_tensors([3, 2, 1, 0], [1, 2, 3, 4], [1, 1, 1, 1])
    short = ([1.0, 2.5], [0.5, 0.0])  # nobody of the training part was watched beyond 1
    with caplog.at_level(logging.WARNING):
        assert value_of(UnoConcordanceIndex(short, tau=3.0), risk, time, event).item() == 1
        assert value_of(CumulativeDynamicAUC([1.0, 3.0], short), risk, time, event).item() == 1
        survival = torch.full((4, 2), 0.5)
        metric = IntegratedBrierScore([1.0, 3.0], short)
        value_of(metric, survival, time, event)
        metric.compute()
    told = [record.getMessage() for record in caplog.records]
    names = ["UnoConcordanceIndex", "CumulativeDynamicAUC", "IntegratedBrierScore"]
    tail = "3 was asked for, and the last training time still watched is 1: it is measured up to"
    assert [line.startswith(f"{name}: {tail}") for line, name in zip(told, names, strict=True)]


def test_what_has_no_pair_is_nan():
    g = ([1.0], [1.0])
    ones = torch.ones(2)
    for event in (torch.zeros(2), torch.ones(2)):  # nobody dies; both at once
        assert value_of(ConcordanceIndex(), ones, ones, event).isnan()
    assert value_of(CumulativeDynamicAUC([1.0], g), ones, ones, ones).isnan()
    assert value_of(ConcordanceIndex(), torch.tensor([1, torch.nan]), ones, ones).isnan()
    empty = torch.zeros(0)
    metric = CumulativeDynamicAUC([1.0, 2.0], g, None)
    assert value_of(metric, empty, empty, empty).isnan().tolist() == [True, True]


def test_risks_are_kept_once_and_up_is_said():
    g = ([1.0], [1.0])
    own = {
        "c_index": ConcordanceIndex(),
        "c_uno": UnoConcordanceIndex(g),
        "auc": CumulativeDynamicAUC([1.0], g),
        "ibs": IntegratedBrierScore([1.0], g),
    }
    inputs = {"risk": torch.rand(3), "time": torch.ones(3), "event": torch.ones(3)}
    inputs["survival"] = torch.rand(3, 1)
    metrics = build_metrics(own, {}, inputs)
    for _ in range(2):
        metrics.update(**inputs)
    members = dict(metrics.items(copy_state=False))
    assert members["c_uno"].predicted is members["auc"].predicted is members["c_index"].predicted
    assert len(members["ibs"].predicted) == 2
    assert {name for name, each in own.items() if higher_is_better(each)} == {
        *("c_index", "c_uno", "auc")
    }


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"of shape \(B,\), got \(2, 1\)"):
        ConcordanceIndex().update(torch.zeros(2, 1), torch.ones(2), torch.ones(2))
    metric = IntegratedBrierScore([1.0, 2.0], ([1.0], [1.0]))
    with pytest.raises(ValueError, match=r"survival of shape \(B, 2\), .* got \(2, 3\)"):
        metric.update(torch.zeros(2, 3), torch.ones(2), torch.ones(2))
    with pytest.raises(ValueError, match="tau above 0, got 0"):
        UnoConcordanceIndex(([1.0], [1.0]), 0)
    with pytest.raises(ValueError, match="mean or null, got 'macro'"):
        CumulativeDynamicAUC([1.0], ([1.0], [1.0]), "macro")

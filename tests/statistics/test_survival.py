"""Against pairs and events counted one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

import survival_oracles
from milforge.statistics import (
    concordance,
    dynamic_auroc,
    log_rank,
    mean_over_time,
    survival_brier,
)
from survival_oracles import censored_data

rows = st.lists(
    st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 3)), min_size=2, max_size=12
)


@given(rows)
def test_concordance_counts_pairs(found):
    agree = pairs = 0.0
    for t1, e1, r1 in found:
        for t2, e2, r2 in found:
            if e1 and (t1 < t2 or (t1 == t2 and not e2)):
                pairs += 1
                agree += 1 if r1 > r2 else 0.5 if r1 == r2 else 0
    value = concordance(*map(np.array, zip(*found, strict=True)))
    assert np.isnan(value) if not pairs else value == pytest.approx(agree / pairs)


def test_refusals():
    with pytest.raises(ValueError, match=r"expected \(n,\) each"):
        concordance([1], [True, False], [1])


@pytest.mark.parametrize("seed", range(4))
def test_scores_over_time_count_pairs(seed):
    """Times of few values: events and censoring at one time, and times beyond the last watched."""
    risk, time, event = censored_data(seed=seed)
    times = np.array([0.2, 0.5, 1.0, 1.75, 2.5, 3.0, 4.0])
    train = (time.tolist(), event.tolist())
    found = dynamic_auroc(time, event, risk, times)
    wanted = [survival_oracles.auc(risk, time, event, t, train) for t in times]
    assert found == pytest.approx(np.array(wanted), nan_ok=True)
    assert np.isfinite(found).sum() > 3
    survival = np.sort(np.random.default_rng(seed).uniform(size=(len(time), len(times))))[:, ::-1]
    scores = survival_brier(time, event, survival, times)
    wanted = [
        survival_oracles.brier(survival[:, k], time, event, t, train) if t <= max(time) else np.nan
        for k, t in enumerate(times)
    ]
    assert scores == pytest.approx(np.array(wanted), nan_ok=True)
    assert mean_over_time(scores, times) == pytest.approx(
        survival_oracles.integrated_brier(survival.tolist(), time, event, times, train)
    )


def test_log_rank_against_counts_at_each_event():
    risk, time, event = censored_data(n=60, seed=5)
    group = risk > 0.4
    excess = variance = 0.0
    for t in sorted(set(time[event == 1])):
        at_risk, here = time >= t, (time == t) & (event == 1)
        n, d, n1 = at_risk.sum(), here.sum(), (at_risk & group).sum()
        excess += (here & group).sum() - d * n1 / n
        if n > 1:
            variance += d * (n - d) / (n - 1) * n1 / n * (1 - n1 / n)
    assert log_rank(time, event, group) == pytest.approx(chi2.sf(excess**2 / variance, 1))
    assert log_rank(time, event, group | True) is None
    assert log_rank(time, event * 0, group) is None


def test_what_has_no_score():
    assert np.isnan(mean_over_time([np.nan], [1.0]))
    assert mean_over_time([np.nan, 0.3], [1.0, 2.0]) == 0.3
    with pytest.raises(ValueError, match="expected a risk for each of 2 bags"):
        dynamic_auroc([1, 2], [1, 0], [1], [1])
    with pytest.raises(ValueError, match=r"expected survival \(2, 1\)"):
        survival_brier([1, 2], [1, 0], [[1]], [1])
    with pytest.raises(ValueError, match=r"expected time and event \(n,\)"):
        survival_brier([1, 2], [1], [[1]], [1])

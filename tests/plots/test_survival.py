"""Figures of censored times hold the numbers of the data."""

import math

import numpy as np
import pytest
import torch

import survival_oracles as oracle
from milforge.data.labels import Labels
from milforge.plots import (
    plot_calibration_at,
    plot_kaplan_meier,
    plot_scores_over_time,
    plot_survival_curves,
)
from milforge.tasks import Cox


def make_data(seed=0, n=40):
    risk, time, event = oracle.censored_data(n, seed)
    return (torch.tensor(each) for each in (risk, time, event))


def log_rank(time, event, high):
    """Mantel's test, summed time by time, and the p of a chi-squared number of one degree."""
    surplus = variance = 0.0
    for t in sorted({float(t) for t, e in zip(time, event, strict=True) if e}):
        at_risk, dead = time >= t, (time == t) & (event == 1)
        n, d, share = int(at_risk.sum()), int(dead.sum()), float((at_risk & high).sum())
        share /= n
        surplus += int((dead & high).sum()) - d * share
        variance += d * share * (1 - share) * (n - d) / max(n - 1, 1)
    return math.erfc(math.sqrt(surplus**2 / variance / 2))


def title_of(time, event, high):
    return plot_kaplan_meier(time, event, high, "cut").axes[0].get_title().splitlines()[1]


@pytest.mark.parametrize("seed", range(3))
def test_the_title_has_the_p_of_the_log_rank_test(seed):
    risk, time, event = make_data(seed)
    high = risk > 0.4
    assert title_of(time, event, high) == f"log-rank p = {log_rank(time, event, high):.3g}, n = 40"
    ties = (time * 2).ceil()
    expected = f"log-rank p = {log_rank(ties, event, high):.3g}, n = 40"
    assert len(set(ties.tolist())) < 40
    assert title_of(ties, event, high) == expected


def test_one_group_and_no_event_have_no_p():
    risk, time, event = make_data()
    for high in (risk > 9, risk < 9):
        assert title_of(time, event, high) == "log-rank p undefined, n = 40"
    assert title_of(time, 0 * event, risk > 0.4) == "log-rank p undefined, n = 40"
    last = (time == time.max()).to(event.dtype)  # nobody outlives it: no group is better off
    assert title_of(time, last, risk > 0.4) == "log-rank p undefined, n = 40"


def test_risk_groups_with_the_numbers_at_risk():
    risk, time, event = make_data()
    high = risk > 0.4
    above, below = plot_kaplan_meier(time, event, high, "cut at 0.4", "days").axes
    p = log_rank(time, event, high)
    assert above.get_title() == f"cut at 0.4\nlog-rank p = {p:.3g}, n = 40"
    assert below.get_xlabel() == "time, days"
    low = above.lines[0]
    for t, s in zip(low.get_xdata()[1:], low.get_ydata()[1:], strict=True):
        product = 1.0
        for u in sorted({float(x) for x in time[~high] if x <= t}):
            at_risk = int((time[~high] >= u).sum())
            dead = int(((time[~high] == u) & (event[~high] == 1)).sum())
            product *= 1 - dead / at_risk
        assert s == pytest.approx(product)
    shown = [(t.get_position(), t.get_text()) for t in below.texts]
    for (tick, row), text in shown:
        assert int(text) == int((time[high if row == 0 else ~high] >= tick).sum())
    assert plot_kaplan_meier(time, event, risk > 9, "nobody").axes  # one group alone


def test_curves_go_through_what_is_predicted():
    survival = torch.tensor([[0.9, 0.5], [0.4, 0.2]])
    time, event = torch.tensor([1.5, 1.0]), torch.tensor([1, 0])
    (ax,) = plot_survival_curves([1.0, 2.0], survival, time, event, "years").axes
    curve, dot, _, bar = ax.lines
    assert curve.get_ydata().tolist() == pytest.approx([1, 0.9, 0.5])
    assert (dot.get_marker(), bar.get_marker()) == ("o", "|")
    assert dot.get_ydata() == pytest.approx([0.7])


def test_calibration_by_groups():
    n = 100
    predicted, time = torch.linspace(0, 1, n), torch.arange(n) + 1.0
    (ax,) = plot_calibration_at(predicted, time, torch.ones(n), 50.0).axes
    points = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(
        points[:, 0], [predicted[20 * k : 20 * k + 20].mean() for k in range(5)]
    )
    np.testing.assert_allclose(points[:, 1], [0, 0, 0.5, 1, 1], atol=1e-9)


def test_scores_without_a_value_are_left_out():
    left, right = plot_scores_over_time(
        [1, 2, 3], torch.tensor([0.6, torch.nan, 0.7]), torch.tensor([0.1, 0.2, 0.3]), "days"
    ).axes
    assert left.get_xlabel() == "time, days"
    assert np.isnan(left.lines[0].get_ydata()[1])
    assert right.lines[0].get_ydata() == pytest.approx([0.1, 0.2, 0.3])


def test_the_figures_of_a_task_cut_at_its_training_median():
    _, time, event = make_data()
    task = Cox(unit="days")
    y = torch.as_tensor(task.encode(Labels({"t": time.numpy(), "e": event.numpy()})))
    task.fit(y)
    logits = torch.randn(40, 1)
    task.fit_outputs(logits, task.target(y))
    columns = task.predict(logits)
    drawn = {name: draw(columns, y) for name, draw in task.figures().items()}
    assert set(drawn) == {"kaplan_meier", "survival_curves", "calibration", "scores_over_time"}
    title = drawn["kaplan_meier"].axes[0].get_title()
    assert f"{columns['risk'].median():.3g}" in title
    names = [line.get_label() for line in drawn["kaplan_meier"].axes[0].lines]
    assert "low risk, n = 20" in names
    train = time.tolist(), event.tolist()
    at = drawn["scores_over_time"].axes[0].lines[0]
    expected = [
        oracle.auc(columns["risk"].tolist(), *train, float(t), train) for t in at.get_xdata()
    ]
    np.testing.assert_allclose(at.get_ydata(), expected, atol=1e-6)
    few = {name: values[:1] for name, values in columns.items()}
    assert all(draw(few, y[:1]) for draw in task.figures().values())  # a single bag

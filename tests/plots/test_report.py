import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.markers import CARETLEFTBASE, CARETRIGHTBASE

from milforge.plots import GroupResult, plot_report

ARROWS = (CARETLEFTBASE, CARETRIGHTBASE)
LONG = "model=sm_abmil data/adjacency=radius optimizer.lr=0.0003 pool.att_dim=512 radius=1.5"


def bars(ax):
    return [line.get_xdata() for line in ax.lines if line.get_marker() == "None"]


def means(ax):
    return [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]


def runs(ax):
    return [points.get_offsets() for points in ax.collections]


def test_runs_means_and_intervals_stand_where_they_should():
    groups = [GroupResult("a", [0.7, 0.9, 0.8], (0.72, 0.88)), GroupResult("b", [0.5])]
    (ax,) = plot_report({"test/auroc": groups}).axes
    assert ax.get_title() == "test/auroc"
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    first, second = runs(ax)
    assert first[:, 0].tolist() == [0.7, 0.9, 0.8]
    assert second[:, 0].tolist() == [0.5]
    assert np.all(np.abs(first[:, 1]) < 0.5)  # in the band of their group
    assert np.all(np.abs(second[:, 1] - 1) < 0.5)
    assert means(ax) == pytest.approx([0.8, 0.5])
    (bar,) = bars(ax)
    assert tuple(bar) == (0.72, 0.88)
    low, high = ax.get_xlim()
    assert low < 0.5
    assert high > 0.9


def test_equal_runs_do_not_hide_each_other_nor_the_mean():
    (ax,) = plot_report({"m": [GroupResult("a", [0.5] * 12, (0.5, 0.5))]}).axes
    heights = np.sort(runs(ax)[0][:, 1])
    assert np.diff(heights).min() > 0.01
    (above,) = {line.get_ydata()[0] for line in ax.lines}
    assert above < heights.min() - 0.1


def test_an_endless_interval_leaves_the_axis_alone():
    groups = [GroupResult("a", [0.7, 0.8], (-1.2, 2.7)), GroupResult("b", [0.75])]
    (ax,) = plot_report({"m": groups}).axes
    low, high = ax.get_xlim()
    assert 0.65 < low < 0.7
    assert 0.8 < high < 0.85


def test_an_outlier_does_not_squeeze_the_others():
    groups = [GroupResult("a", [0.71, 0.72, 0.74, 0.05]), GroupResult("b", [0.75, 0.76, 0.78])]
    (ax,) = plot_report({"m": groups}).axes
    low, high = ax.get_xlim()
    assert 0.70 < low < 0.71
    assert 0.78 < high < 0.79
    (text,) = ax.texts
    assert text.get_text() == "◂ 0.05"
    assert text.get_position()[0] == pytest.approx(low)
    (plain,) = plot_report({"m": [GroupResult("a", [0.4, 0.7, 0.9])]}).axes
    assert not plain.texts


def arrows(ax):
    return [
        (*line.get_xdata(), line.get_marker()) for line in ax.lines if line.get_marker() in ARROWS
    ]


def test_differences_from_the_baseline_stand_beside_their_metric():
    runs_of = {"m": [GroupResult("a", [0.7, 0.8]), GroupResult("b", [0.72, 0.83])]}
    of = GroupResult("b", [0.02, 0.03], (0.01, 0.9))
    panels = {**runs_of, "n": runs_of["m"]}
    figure = plot_report(panels, {"m": [GroupResult("a", [], None, "baseline"), of]})
    first, beside, last = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["m", "m\ndifference from the baseline", "n"]
    assert not [line for ax in (first, last) for line in ax.lines if line.get_marker() == "None"]
    assert runs(beside)[1][:, 0].tolist() == [0.02, 0.03]
    assert means(beside) == pytest.approx([0.025])
    zero, bar = bars(beside)
    assert (list(zero), tuple(bar)) == ([0, 0], (0.01, 0.9))
    low, high = beside.get_xlim()
    assert low < 0 < 0.03 < high < 0.05  # the interval does not squeeze the runs
    assert arrows(beside) == [(high, CARETRIGHTBASE)]
    assert [text.get_text().strip() for text in beside.texts] == ["baseline"]


def test_an_outlier_does_not_squeeze_the_differences():
    groups = [GroupResult("a", [0.01, 0.02, 0.03, 0.04, -0.7], (-0.5, 0.3))]
    _, ax = plot_report({"m": [GroupResult("a", [0.5])]}, {"m": groups}).axes
    low, high = ax.get_xlim()
    assert -0.01 < low < 0
    assert [text.get_text() for text in ax.texts] == ["◂ -0.7"]
    assert arrows(ax) == [(low, CARETLEFTBASE), (high, CARETRIGHTBASE)]


@pytest.mark.parametrize(("groups", "panels"), [(1, 1), (2, 3), (12, 8)])
def test_no_text_runs_into_another(groups, panels):
    names = [f"{LONG} seed={number}" for number in range(groups)]
    values = np.random.default_rng(0).uniform(size=(panels, groups, 5)).tolist()
    figure = plot_report(
        {
            f"test/metric_{panel}": [
                GroupResult(name, runs) for name, runs in zip(names, values[panel], strict=True)
            ]
            for panel in range(panels)
        },
        {"test/metric_0": [GroupResult(name, [0.01, -0.02]) for name in names]},
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [figure.legends[0]]
    for ax in figure.axes:
        low, high = ax.get_xlim()
        ticks = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        texts += [text for tick, text in ticks if low <= tick <= high]  # others are not drawn
        texts += [ax.title, *(text for text in ax.get_yticklabels() if text.get_text())]
    boxes = [text.get_window_extent(renderer) for text in texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert not [other for other in boxes[i + 1 :] if box.overlaps(other)]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(labels) == groups
    assert all(label.count("\n") == 1 and len(label) < 90 for label in labels)


def test_a_group_without_the_metric_keeps_its_line():
    groups = [GroupResult("a", []), GroupResult("b", [0.4])]
    (ax,) = plot_report({"m": groups}).axes
    assert means(ax) == [0.4]
    assert len(ax.get_yticklabels()) == 2


@pytest.mark.parametrize(
    "panels",
    [{}, {"m": []}, {"m": [GroupResult("a", [1.0])], "n": [GroupResult("b", [1.0])]}],
)
def test_refusals(panels):
    with pytest.raises(ValueError, match="expected panels of the same groups"):
        plot_report(panels)

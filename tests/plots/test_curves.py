from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from milforge.plots import plot_confusion, plot_learning_curves, plot_roc_pr

NAMES = {
    "binary": ["benign", "malignant"],
    "multiclass": ["a", "b", "c"],
    "multilabel": ["x", "y", "z"],
}


def png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def is_png(figure: Figure) -> bool:
    return png(figure).startswith(b"\x89PNG")


def random_bags(task: str, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    noise = torch.rand(count, 3, generator=generator)
    if task == "binary":
        y = torch.arange(count) % 2
        return 0.4 * y + 0.6 * noise[:, 0], y
    if task == "multiclass":
        y = torch.arange(count) % 3
        return (3 * noise + 2 * torch.eye(3)[y]).softmax(dim=1), y
    y = (torch.rand(count, 3, generator=generator) < 0.4).long()
    return 0.3 * y + 0.7 * noise, y


def one_against_rest(task, probabilities, y):
    """(name, labels, scores) of each curve that is expected."""
    if task == "binary":
        return [("malignant", y.numpy(), probabilities.numpy())]
    truth = torch.eye(3)[y] if task == "multiclass" else y
    return list(zip(NAMES[task], truth.T.numpy(), probabilities.T.numpy(), strict=True))


def legend_texts(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def cell_texts(ax) -> list[list[str]]:
    """Count and share in each cell, row after row."""
    return [text.get_text().split("\n") for text in ax.texts]


# learning curves


def test_a_metric_has_one_panel_with_a_line_for_each_stage():
    history = {
        "train/loss": [(0, 0.9), (1, 0.5)],
        "val/loss": [(0, 1.0), (1, 0.6)],
        "val/localisation/auroc": [(0, 0.5), (1, 0.7)],
        "lr": [(0, 1e-3), (1, 1e-4)],
        "test/auroc": [(1, 0.8)],
        "val/never": [],
    }
    figure = plot_learning_curves(history)
    assert [ax.get_title() for ax in figure.axes] == ["loss", "localisation/auroc", "lr"]
    assert [len(ax.lines) for ax in figure.axes] == [2, 1, 1]
    train, val = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_xydata(), history["train/loss"])
    np.testing.assert_array_equal(val.get_xydata(), history["val/loss"])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["train", "val"]
    legend_colours = [to_rgb(line.get_color()) for line in figure.legends[0].get_lines()]
    assert legend_colours == [to_rgb(train.get_color()), to_rgb(val.get_color())]
    assert is_png(figure)


def test_a_stage_keeps_its_colour_beside_any_other():
    both = plot_learning_curves({"train/loss": [(0, 1)], "val/loss": [(0, 1)]})
    alone = plot_learning_curves({"val/loss": [(0, 1)]})
    assert alone.axes[0].lines[0].get_color() == both.axes[0].lines[1].get_color()


def test_points_out_of_order_are_drawn_in_order():
    line = plot_learning_curves({"val/loss": [(2, 0.1), (0, 0.3), (1, 0.2)]}).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])
    np.testing.assert_array_equal(line.get_ydata(), [0.3, 0.2, 0.1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_a_gap(value):
    figure = plot_learning_curves({"val/loss": [(0, 0.9), (1, value), (2, 0.5)]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0.9, np.nan, 0.5])
    assert is_png(figure)


def test_a_point_between_gaps_has_a_dot_in_a_long_curve():
    points = [(epoch, float("nan") if epoch in (49, 51) else 0.5) for epoch in range(100)]
    line = plot_learning_curves({"val/loss": points}).axes[0].lines[0]
    assert line.get_markevery() == [50]


def test_a_curve_of_nothing_but_nan_says_so():
    figure = plot_learning_curves({"train/loss": [(0, float("nan")), (1, float("nan"))]})
    assert [text.get_text() for text in figure.axes[0].texts] == ["no finite value"]
    assert is_png(figure)


@pytest.mark.parametrize("epochs", [[0], [0, 1], range(7), range(500)])
def test_the_ticks_are_whole_epochs(epochs):
    figure = plot_learning_curves({"val/loss": [(epoch, 0.5) for epoch in epochs]})
    assert is_png(figure)
    low, high = figure.axes[0].get_xlim()
    assert low < min(epochs) <= max(epochs) < high
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert ticks
    assert all(float(tick).is_integer() for tick in ticks)


def test_the_best_epoch_is_marked_in_every_panel_and_named():
    history = {"val/loss": [(0, 1), (1, 0.5)], "lr": [(0, 1), (1, 1)]}
    figure = plot_learning_curves(history, best_epoch=1)
    for ax in figure.axes:
        np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [1, 1])
    assert "best epoch: 1" in [t.get_text() for t in figure.legends[0].get_texts()]


@pytest.mark.parametrize("history", [{}, {"test/auroc": [(3, 0.9)]}, {"train/loss": []}])
def test_no_curve_at_all_is_refused(history):
    with pytest.raises(ValueError, match="expected a history with at least one curve"):
        plot_learning_curves(history)


# ROC and precision-recall


@pytest.mark.parametrize("task", NAMES)
def test_the_legends_hold_the_areas_that_sklearn_gives(task):
    probabilities, y = random_bags(task)
    figure = plot_roc_pr(probabilities, y, NAMES[task])
    roc, pr = figure.axes
    expected = one_against_rest(task, probabilities, y)
    assert legend_texts(roc) == [
        *(f"{name}: AUC {roc_auc_score(truth, score):.3f}" for name, truth, score in expected),
        "chance",
    ]
    assert legend_texts(pr) == [
        *(
            f"{name}: AP {average_precision_score(truth, score):.3f}"
            for name, truth, score in expected
        ),
        "chance (share of positives)",
    ]
    assert is_png(figure)


@pytest.mark.parametrize("task", NAMES)
def test_the_area_under_the_drawn_lines_is_that_of_the_legend(task):
    probabilities, y = random_bags(task)
    roc, pr = plot_roc_pr(probabilities, y, NAMES[task]).axes
    curves = [line for line in pr.lines if line.get_drawstyle() == "steps-post"]
    chance = [line for line in pr.lines if line.get_linestyle() == "--"]
    expected = one_against_rest(task, probabilities, y)
    assert len(curves) == len(chance) == len(expected)
    for number, (_, truth, score) in enumerate(expected):
        fpr, tpr = roc.lines[number].get_data()
        area = (np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum()
        assert area == pytest.approx(roc_auc_score(truth, score))
        recall, precision = curves[number].get_data()
        area = -(np.diff(recall) * precision[:-1]).sum()
        assert area == pytest.approx(average_precision_score(truth, score))
        assert chance[number].get_ydata()[0] == pytest.approx(truth.mean())
    np.testing.assert_array_equal(roc.lines[-1].get_xydata(), [[0, 0], [1, 1]])


@pytest.mark.parametrize(("value", "missing"), [(0, "positives"), (1, "negatives")])
def test_labels_all_alike_are_said_and_not_drawn(value, missing):
    figure = plot_roc_pr(torch.rand(8), torch.full((8,), value), NAMES["binary"])
    for ax in figure.axes:
        assert legend_texts(ax)[0] == f"malignant: no {missing}"
    assert len(figure.axes[0].lines) == 1  # the diagonal
    assert len(figure.axes[1].lines) == 0
    assert is_png(figure)


def test_a_class_that_does_not_occur_leaves_the_others_drawn():
    probabilities, y = random_bags("multiclass")
    figure = plot_roc_pr(probabilities[y < 2], y[y < 2], NAMES["multiclass"])
    texts = legend_texts(figure.axes[0])
    assert texts[2] == "c: no positives"
    assert ["AUC" in text for text in texts] == [True, True, False, False]


@pytest.mark.parametrize("plot", [plot_roc_pr, plot_confusion])
def test_binary_probabilities_may_have_any_of_three_shapes(plot):
    p, y = random_bags("binary")
    shapes = [p, p[:, None], torch.stack([1 - p, p], dim=1)]
    first, *others = (png(plot(x, y, NAMES["binary"])) for x in shapes)
    assert all(other == first for other in others)


def test_arrays_and_tensors_with_gradients_and_half_precision_are_taken():
    p, y = random_bags("binary")
    p = p.bfloat16()
    tensor = plot_roc_pr(p.clone().requires_grad_(), y, NAMES["binary"])
    array = plot_roc_pr(p.double().numpy(), y.numpy(), NAMES["binary"])
    assert legend_texts(tensor.axes[0]) == legend_texts(array.axes[0])


def test_twenty_one_classes_have_curves_that_differ():
    y = torch.arange(63) % 21
    roc = plot_roc_pr(torch.rand(63, 21), y, [f"c{n}" for n in range(21)]).axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in roc.lines[:21]}) == 21


# confusion matrix


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_cells_are_those_of_sklearn(task):
    probabilities, y = random_bags(task)
    figure = plot_confusion(probabilities, y, NAMES[task])
    predicted = probabilities > 0.5 if task == "binary" else probabilities.argmax(dim=1)
    cells = confusion_matrix(y, predicted)
    shares = confusion_matrix(y, predicted, normalize="true")
    expected = [
        [str(count), f"{share:.0%}"] for count, share in zip(cells.flat, shares.flat, strict=True)
    ]
    (ax,) = figure.axes
    assert cell_texts(ax) == expected
    assert [t.get_text() for t in ax.get_xticklabels()] == NAMES[task]
    assert [t.get_text() for t in ax.get_yticklabels()] == NAMES[task]
    assert is_png(figure)


def test_multilabel_has_one_small_matrix_a_class():
    probabilities, y = random_bags("multilabel")
    figure = plot_confusion(probabilities, y, NAMES["multilabel"])
    assert [ax.get_title() for ax in figure.axes] == NAMES["multilabel"]
    for number, ax in enumerate(figure.axes):
        cells = confusion_matrix(y[:, number], probabilities[:, number] > 0.5)
        assert [count for count, _ in cell_texts(ax)] == [str(count) for count in cells.flat]
    assert is_png(figure)


def test_a_probability_of_one_half_is_no_positive():
    figure = plot_confusion(torch.tensor([0.5]), torch.tensor([1]), NAMES["binary"])
    assert cell_texts(figure.axes[0])[2] == ["1", "100%"]


def test_a_class_without_bags_has_no_shares():
    figure = plot_confusion(torch.tensor([0.2, 0.9]), torch.zeros(2), NAMES["binary"])
    expected = [["1", "50%"], ["1", "50%"], ["0", "n/a"], ["0", "n/a"]]
    assert cell_texts(figure.axes[0]) == expected


def test_the_texts_of_the_cells_stand_out_from_their_ground():
    def luminance(colour):
        c = np.array(to_rgb(colour))
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for hits in range(0, 101, 5):
        p = torch.cat([torch.ones(hits), torch.zeros(100 - hits)])
        (ax,) = plot_confusion(p, torch.ones(100), NAMES["binary"]).axes
        ground = luminance(ax.images[0].to_rgba(np.array([[hits / 100]]))[0, 0, :3])
        text = luminance(ax.texts[3].get_color())
        assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) > 3


# input


@pytest.mark.parametrize("plot", [plot_roc_pr, plot_confusion])
@pytest.mark.parametrize(
    ("probabilities", "y", "names", "message"),
    [
        ([0.5, 0.5], [0], ["a", "b"], r"of 1 bags and 2 classes, got shape \(2,\)"),
        ([[0.5, 0.5]], [0], ["a", "b", "c"], "of 1 bags and 3 classes"),
        ([[0.5, 0.5]], [[0, 1, 1]], ["a", "b"], r"y of shape \(1,\) or \(1, 2\), got \(1, 3\)"),
        ([[0.5]], [[0, 1]], ["a", "b"], r"of 1 bags and 2 classes, got shape \(1, 1\)"),
        ([[0.5]], [0], ["a"], r"at least two class names, got \['a'\]"),
        ([], [], ["a", "b"], "at least one label"),
        ([float("nan"), 0.5], [0, 1], ["a", "b"], "got 1 that are NaN"),
        ([0.5, 0.5], [0, 2], ["a", "b"], "labels from 0 to 1, got 0 to 2"),
        ([[0.2, 0.3, 0.5]], [3], ["a", "b", "c"], "labels from 0 to 2"),
        ([[0.5, 0.5]], [[0, 2]], ["a", "b"], "labels from 0 to 1"),
        ([[0.5, 0.5]], [-1], ["a", "b"], "labels from 0 to 1, got -1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(plot, probabilities, y, names, message):
    with pytest.raises(ValueError, match=message):
        plot(torch.tensor(probabilities), torch.tensor(y), names)


@pytest.mark.parametrize("plot", [plot_roc_pr, plot_confusion])
def test_a_single_label_that_a_bag_may_have(plot):
    p, y = random_bags("binary")
    figure = plot(p[:, None], y[:, None], ["malignant"])
    assert is_png(figure)
    told = legend_texts(figure.axes[0])[0] if plot is plot_roc_pr else figure.axes[0].get_title()
    assert told.startswith("malignant")


def test_a_dollar_in_a_name_is_no_mathematics():
    assert is_png(plot_roc_pr(*random_bags("binary"), ["low", r"$\bad$ > 5$"]))


def test_the_settings_of_matplotlib_stay_as_they_were():
    before = dict(mpl.rcParams)
    png(plot_learning_curves({"val/loss": [(0, 1)]}))
    png(plot_roc_pr(*random_bags("binary"), NAMES["binary"]))
    png(plot_confusion(*random_bags("binary"), NAMES["binary"]))
    assert dict(mpl.rcParams) == before

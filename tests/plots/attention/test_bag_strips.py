from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from sklearn.datasets import load_digits

from milforge.plots import BagStrip, plot_attention_bars, plot_bag_strips
from milforge.plots.style import ORANGE, VERMILION, label
from thinned import thinned

DIGITS = torch.tensor(load_digits().images, dtype=torch.float32)[:, None]


def digits_bag(
    size, *, bag_id="bag", y="1", prediction="1", y_inst=None, weights=None, probability=0.875
):
    if weights is None:
        weights = torch.randn(size, generator=torch.Generator().manual_seed(size)).softmax(0)
    return BagStrip(bag_id, DIGITS[:size], weights, y, prediction, probability, y_inst)


def is_png(figure: Figure) -> bool:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue().startswith(b"\x89PNG")


def image_axes(figure):
    return [ax for ax in figure.axes if ax.images]


def titles(figure):
    return [ax.get_title() for ax in image_axes(figure)]


def row_labels(figure):
    return [[text.get_text() for text in ax.texts] for ax in figure.axes if not ax.images]


def drawn(figure):
    return [np.asarray(ax.images[0].get_array()) for ax in image_axes(figure)]


def is_orange(ax):
    return to_rgb(ax.spines["left"].get_edgecolor()) == to_rgb(ORANGE)


def test_each_instance_is_an_image_titled_with_its_weight():
    bags = [digits_bag(3), digits_bag(10), digits_bag(1)]
    figure = plot_bag_strips(bags)
    weights = torch.cat([bag.weights for bag in bags])
    assert titles(figure) == [f"{weight:.2f}" for weight in weights.tolist()]
    assert is_png(figure)


def test_the_instances_of_a_row_stand_side_by_side_from_the_left():
    figure = plot_bag_strips([digits_bag(2), digits_bag(5)])
    assert is_png(figure)
    boxes = [ax.get_position() for ax in image_axes(figure)]
    short, long = boxes[:2], boxes[2:]
    for above, below in zip(short, long, strict=False):
        assert above.x0 == pytest.approx(below.x0)
        assert above.y0 > below.y1
    assert all(left.x1 < right.x0 for left, right in pairwise(long))


def test_the_bar_is_as_long_as_the_weight_relative_to_the_largest():
    figure = plot_bag_strips([digits_bag(3, weights=torch.tensor([0.2, 0.8, 0.0]))])
    lengths = [ax.patches[-1].get_width() for ax in image_axes(figure)]
    assert lengths == pytest.approx([0.25, 1.0, 0.0])


def test_the_label_of_a_row_names_bag_truth_and_prediction():
    right = digits_bag(2, bag_id="slide 7", y="tumour", prediction="tumour")
    wrong = digits_bag(2, bag_id="slide 8", y="tumour", prediction="normal")
    figure = plot_bag_strips([right, wrong])
    assert row_labels(figure) == [
        ["slide 7", "true: tumour", "predicted: tumour (0.88)"],
        ["slide 8", "true: tumour", "wrong: normal (0.88)"],
    ]
    colours = [ax.texts[2].get_color() for ax in figure.axes if not ax.images]
    assert [colour == VERMILION for colour in colours] == [False, True]


def test_only_positive_instances_have_a_coloured_frame():
    figure = plot_bag_strips([digits_bag(4, y_inst=torch.tensor([0, 1, -1, 1])), digits_bag(2)])
    framed = [is_orange(ax) for ax in image_axes(figure)]
    assert framed == [False, True, False, True, False, False]
    assert "positive instance" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_the_legend_is_silent_on_frames_where_there_are_none():
    figure = plot_bag_strips([digits_bag(4, y_inst=torch.zeros(4))])
    assert len(figure.legends[0].get_texts()) == 1


def test_of_a_large_bag_the_largest_weights_are_shown_in_their_order():
    weights = torch.zeros(57)
    chosen = torch.tensor([50, 3, 17, 41])
    weights[chosen] = torch.tensor([0.4, 0.3, 0.2, 0.1])
    figure = plot_bag_strips([digits_bag(57, weights=weights)], max_instances=4)
    assert titles(figure) == ["0.30", "0.20", "0.10", "0.40"]
    assert row_labels(figure)[0][-1] == "4 of 57 shown"
    images = np.stack(drawn(figure))
    expected = DIGITS[chosen.sort().values, 0].numpy()
    np.testing.assert_allclose(images, expected / expected.max(), atol=1e-6)


def test_twelve_instances_are_shown_unless_told_and_ties_go_to_the_first():
    figure = plot_bag_strips([digits_bag(40, weights=torch.full((40,), 1 / 40)), digits_bag(12)])
    assert len(image_axes(figure)) == 24
    assert row_labels(figure)[0][-1] == "12 of 40 shown"
    assert len(row_labels(figure)[1]) == 3
    np.testing.assert_allclose(drawn(figure)[11], DIGITS[11, 0] / 16, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (6, 4)), (2, (6, 4)), (3, (6, 4, 3)), (4, (6, 4))]
)
def test_three_channels_are_colour_and_any_others_are_averaged(channels, shape):
    images = torch.rand(2, channels, 6, 4, generator=torch.Generator().manual_seed(0))
    figure = plot_bag_strips([BagStrip("b", images, torch.tensor([0.5, 0.5]), "0", "0", 1.0)])
    first = drawn(figure)[0]
    assert first.shape == shape
    expected = images[0].movedim(0, -1) if channels == 3 else images[0].mean(dim=0)
    both = images if channels == 3 else images.mean(dim=1)
    low, high = np.percentile(both.numpy(), (0.5, 99.5))
    np.testing.assert_allclose(first, ((expected - low) / (high - low)).clip(0, 1), atol=1e-5)
    assert is_png(figure)


def test_one_outlying_pixel_does_not_darken_the_figure():
    images = DIGITS[:12].clone()
    images[0, 0, 0, 0] = 1e6
    bag = BagStrip("b", images, torch.full((12,), 1 / 12), "0", "0", 1.0)
    brightest = [picture.max() for picture in drawn(plot_bag_strips([bag]))]
    assert min(brightest) > 0.8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("value", thinned([0.0, float("nan"), -2.5, float("inf")], every=2))
def test_images_all_alike_or_not_finite_can_be_drawn(channels, value):
    images = torch.full((2, channels, 4, 4), value)
    bag = BagStrip("b", images, torch.tensor([0.5, 0.5]), "0", "0", 1.0)
    assert is_png(plot_bag_strips([bag]))


def test_one_bright_pixel_on_black_is_seen():
    images = torch.zeros(1, 1, 50, 50)
    images[0, 0, 25, 25] = 1.0
    bag = BagStrip("b", images, torch.ones(1), "0", "0", 1.0)
    assert drawn(plot_bag_strips([bag]))[0][25, 25] == 1.0


def test_half_precision_and_gradients_are_taken():
    weights = torch.tensor([0.25, 0.75], dtype=torch.bfloat16, requires_grad=True)
    bag = BagStrip("b", DIGITS[:2].bfloat16().requires_grad_(), weights, "0", "0", 1.0)
    assert titles(plot_bag_strips([bag])) == ["0.25", "0.75"]
    assert is_png(plot_attention_bars([bag]))


def test_texts_of_a_row_never_reach_into_the_images():
    long = "TCGA-A1-A0SB-01Z-00-DX1.B34C267B-93C4-4F79"
    figure = plot_bag_strips([digits_bag(3, bag_id=long, y=long.upper(), prediction="W" * 40)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    right = max(t.get_window_extent(renderer).x1 for t in figure.axes[0].texts)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "".join(texts[: texts.index(f"true: {label(long.upper(), 18)}")]) == long  # whole
    assert right < min(ax.get_window_extent(renderer).x0 for ax in image_axes(figure))


# attention bars


def features_bag(weights, y_inst=None, **kwargs):
    defaults = {"bag_id": "bag", "y": "1", "prediction": "1", "probability": 0.875}
    return BagStrip(images=None, weights=weights, y_inst=y_inst, **(defaults | kwargs))


def test_bars_are_sorted_weights_with_the_positive_ones_coloured():
    bag = features_bag(torch.tensor([0.1, 0.6, 0.0, 0.3]), torch.tensor([1, 0, -1, 1]))
    figure = plot_attention_bars([bag])
    bars = sorted(figure.axes[0].patches, key=lambda bar: bar.get_x())
    assert [bar.get_height() for bar in bars] == pytest.approx([0.6, 0.3, 0.1, 0.0])
    orange = [to_rgb(bar.get_facecolor()) == to_rgb(ORANGE) for bar in bars]
    assert orange == [False, True, True, False]
    assert figure.axes[0].lines[0].get_ydata()[0] == 0.25
    assert is_png(figure)


def test_a_bag_of_thousands_is_drawn_as_two_shapes():
    weights = torch.randn(5000, generator=torch.Generator().manual_seed(0)).softmax(0)
    positive = torch.arange(5000) % 100 == 0
    figure = plot_attention_bars([features_bag(weights, positive.long())])
    negative_shape, positive_shape = figure.axes[0].patches
    assert isinstance(positive_shape, StepPatch)
    drawn_weights = positive_shape.get_data().values
    expected = weights[positive].sort(descending=True).values
    np.testing.assert_allclose(drawn_weights[~np.isnan(drawn_weights)], expected, rtol=1e-6)
    assert np.isnan(negative_shape.get_data().values).sum() == 50
    assert figure.axes[0].get_xscale() == "log"
    assert is_png(figure)


def test_a_wrong_prediction_is_marked_above_the_bars():
    weights = torch.tensor([0.5, 0.5])
    bags = [features_bag(weights), features_bag(weights, prediction="0")]
    right, wrong = plot_attention_bars(bags).axes
    assert right.get_title() == "bag\ntrue: 1\npredicted: 1 (0.88)"
    assert wrong.get_title() == "bag\ntrue: 1\nwrong: 0 (0.88)"
    assert wrong.title.get_color() == VERMILION != right.title.get_color()


def test_a_number_that_is_predicted_has_no_probability_and_is_never_wrong():
    told = {"y": "40.5", "prediction": "41.2", "probability": None}
    (ax,) = plot_attention_bars([features_bag(torch.tensor([0.5, 0.5]), **told)]).axes
    assert ax.get_title() == "bag\ntrue: 40.5\npredicted: 41.2"
    assert ax.title.get_color() != VERMILION
    figure = plot_bag_strips([digits_bag(3, **told)])
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert "predicted: 41.2" in texts
    assert is_png(figure)


@pytest.mark.parametrize("size", thinned([1, 50, 2, 51], every=2))
@pytest.mark.parametrize("label", [None, 0, 1])
def test_bags_of_any_size_and_labels_have_bars(size, label):
    y_inst = None if label is None else torch.full((size,), label)
    figure = plot_attention_bars([features_bag(torch.full((size,), 1 / size), y_inst)])
    assert len(figure.axes) == 1
    assert is_png(figure)


def test_weights_all_zero_can_be_drawn():
    weights = torch.zeros(3)
    assert is_png(plot_attention_bars([features_bag(weights)]))
    assert is_png(plot_bag_strips([digits_bag(3, weights=weights)]))


# input


@pytest.mark.parametrize("plot", [plot_bag_strips, plot_attention_bars])
def test_no_bags_are_refused(plot):
    with pytest.raises(ValueError, match="at least one bag"):
        plot([])


def test_a_strip_without_images_points_to_the_bars():
    with pytest.raises(ValueError, match=r"'bag'.*plot_attention_bars"):
        plot_bag_strips([features_bag(torch.ones(1))])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"weights": torch.ones(0)}, r"weights of shape \(n,\)"),
        ({"weights": torch.ones(3, 1)}, r"got \(3, 1\)"),
        ({"weights": torch.tensor([0.5, -1.5, 0.5])}, "got -1.5: give attention weights"),
        ({"weights": torch.tensor([0.5, float("nan"), 0.5])}, "got nan"),
        ({"images": DIGITS[:2]}, r"images of shape \(3, C, H, W\), got \(2, 1, 8, 8\)"),
        ({"images": DIGITS[:3, 0]}, r"got \(3, 8, 8\)"),
        ({"y_inst": torch.zeros(2)}, r"y_inst of shape \(3,\), got \(2,\)"),
        ({"coords": torch.zeros(2, 2)}, r"coords of shape \(3, 2\) or \(3, 3\), got \(2, 2\)"),
        ({"coords": torch.zeros(3)}, r"got \(3,\)"),
        ({"coords": torch.zeros(3, 4)}, r"got \(3, 4\)"),
        (
            {"coords": torch.tensor([[0, 0], [0, float("nan")], [0, 0]])},
            "finite coords, got 1 of 3",
        ),
        ({"coords": torch.full((3, 3), float("inf"))}, "got 3 of 3 instances"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    whole = {"images": DIGITS[:3], "weights": torch.ones(3) / 3, "y_inst": torch.zeros(3)}
    with pytest.raises(ValueError, match=f"'slide 7'.*{message}"):
        BagStrip(bag_id="slide 7", y="1", prediction="1", probability=1.0, **(whole | parts))

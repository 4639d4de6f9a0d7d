from io import BytesIO
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import entropy

from milforge.plots import plot_attention_over_epochs


def views(count, size=(24, 30), channels=1):
    return torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(0))


def maps(epochs, images, size=(12, 15)):
    """Attention that grows more peaked."""
    noise = torch.randn(epochs, images, *size, generator=torch.Generator().manual_seed(1))
    sharpness = torch.linspace(0, 5, epochs)[:, None, None, None]
    return (sharpness * noise).flatten(2).softmax(2).reshape(noise.shape)


def is_png(figure: Figure) -> bool:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue().startswith(b"\x89PNG")


def panels(figure):
    return [ax for ax in figure.axes if ax.get_title()]


def titles(figure):
    return [ax.get_title() for ax in panels(figure)]


def heat(ax):
    return np.asarray(ax.images[1].get_array())


def row_labels(figure):
    return [[text.get_text() for text in ax.texts] for ax in figure.axes if ax.texts]


def scales(figure):
    return [ax for ax in figure.axes if ax.get_ylabel() == "cells · attention\n(uniform: 1)"]


def test_a_row_is_an_image_and_a_column_an_epoch():
    found = maps(3, 2)
    figure = plot_attention_over_epochs(views(2), found, [0, 5, 20], ["one", "two"])
    assert titles(figure) == ["epoch 0", "epoch 5", "epoch 20"] * 2
    assert row_labels(figure) == [
        [name, f"uniform: {np.log(180):.2f} nats"] for name in ("one", "two")
    ]
    assert len(figure.axes) == 2 * (1 + 3 + 1)
    values = found.double().transpose(0, 1).flatten(0, 1).numpy()
    for ax, expected in zip(panels(figure), values, strict=True):
        np.testing.assert_allclose(heat(ax), 180 * expected / expected.sum(), rtol=1e-9)
        assert ax.get_xlabel() == f"{entropy(expected.ravel()):.2f} nats"
        assert ax.images[1].get_alpha().max() < 1
    assert is_png(figure)
    upper, lower = [ax.get_position() for ax in panels(figure)][:3], panels(figure)[3:]
    assert all(left.x1 < right.x0 for left, right in pairwise(upper))
    for above, below in zip(upper, lower, strict=True):
        assert above.x0 == pytest.approx(below.get_position().x0)
        assert above.y0 > below.get_position().y1


def test_the_image_stays_visible_in_grey_below_the_maps():
    low = views(1, channels=3)
    figure = plot_attention_over_epochs(low, maps(2, 1), [0, 1], ["one"])
    expected = low[0].mean(dim=0).numpy()
    for ax in panels(figure):
        grey = np.asarray(ax.images[0].get_array())
        assert np.corrcoef(grey.ravel(), expected.ravel())[0, 1] > 0.99
        assert 0.1 < grey.min() < grey.max() < 1
        assert ax.get_xlim() == (-0.5, 29.5)
        assert ax.get_ylim() == (23.5, -0.5)
        assert tuple(ax.images[1].get_extent()) == (-0.5, 29.5, 23.5, -0.5)


def test_a_map_that_lost_its_rim_lies_within_the_image():
    figure = plot_attention_over_epochs(views(1), maps(1, 1), [0], ["one"], receptive_field=6)
    (ax,) = panels(figure)
    assert tuple(ax.images[1].get_extent()) == (2.5, 26.5, 20.5, 2.5)
    assert ax.get_xlim() == (-0.5, 29.5)


def test_the_maps_of_a_row_share_a_scale_and_rows_do_not():
    found = maps(3, 2)
    found[:, 0] = 1 / 180
    figure = plot_attention_over_epochs(views(2), found, [0, 1, 2], ["flat", "peaked"])
    norms = [ax.images[1].norm for ax in panels(figure)]
    assert {(norm.vmin, norm.vmax) for norm in norms[:3]} == {(0.5, 2.0)}
    highest = 180 * float(found[:, 1].max())
    for norm in norms[3:]:
        assert (norm.vmin, norm.vmax) == pytest.approx((0.1, highest), rel=1e-5)
    flat, peaked = [scale.get_ylim() for scale in scales(figure)]
    assert flat == pytest.approx((0.5, 2.0))
    assert peaked == pytest.approx((0.1, highest), rel=1e-5)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(1, [0]), (8, range(8)), (9, None), (15, range(0, 15, 2)), (200, None)],
)
def test_at_most_eight_epochs_evenly_with_the_first_and_the_last(count, shown):
    found = maps(count, 1, (2, 2))
    figure = plot_attention_over_epochs(views(1, (4, 4)), found, range(10, 10 + count), ["one"])
    epochs = [int(title.split()[1]) - 10 for title in titles(figure)]
    assert len(epochs) == min(count, 8)
    assert (epochs[0], epochs[-1]) == (0, count - 1)
    steps = np.diff(epochs)
    assert not steps.size or steps.max() - steps.min() <= 1
    assert shown is None or epochs == list(shown)
    for ax, epoch in zip(panels(figure), epochs, strict=True):
        np.testing.assert_allclose(heat(ax), 4 * found[epoch, 0], rtol=1e-5)


def test_images_and_maps_of_several_sizes_share_a_figure():
    sizes = [(20, 60), (60, 20), (30, 30)]
    low = [views(1, size)[0] for size in sizes]
    found = [[maps(1, 1, (size[0] // 2, size[1] // 5))[0, 0] for size in sizes]] * 2
    figure = plot_attention_over_epochs(low, found, [0, 1], ["W" * 40, "tall", "square"])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    ratios = [ax.get_window_extent().width / ax.get_window_extent().height for ax in panels(figure)]
    assert ratios == pytest.approx([3, 3, 1 / 3, 1 / 3, 1, 1])
    renderer = canvas.get_renderer()
    left = min(ax.get_window_extent().x0 for ax in panels(figure))
    for ax in figure.axes:
        assert all(text.get_window_extent(renderer).x1 < left for text in ax.texts)
        box = ax.get_tightbbox(renderer)
        assert box is None or (box.x0 >= 0 and box.y0 >= 0)
        assert box is None or (box.x1 <= width and box.y1 <= height)
    rows = [[ax.get_tightbbox(renderer) for ax in panels(figure)[i : i + 2]] for i in (0, 2, 4)]
    assert all(one.x1 < other.x0 for one, other in rows)
    assert all(above[0].y0 > below[0].y1 for above, below in pairwise(rows))


def test_bytes_half_precision_and_gradients_are_taken():
    low = (255 * views(1)).byte()
    found = maps(2, 1).bfloat16().requires_grad_()
    assert is_png(plot_attention_over_epochs(low, found, [0, 1], ["one"]))


def test_the_settings_of_matplotlib_stay_as_they_were():
    before = dict(mpl.rcParams)
    assert is_png(plot_attention_over_epochs(views(1), maps(1, 1), [0], ["one"]))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("low", "found", "epochs", "names", "message"),
    [
        (views(0), maps(1, 0), [0], [], "at least one image and one epoch.*0 images"),
        (views(1), maps(0, 1), [], ["a"], "at least one image and one epoch.*0 epochs"),
        (views(1), maps(2, 1), [0], ["a"], "maps of 1 epochs.*got maps of 2"),
        (views(2), maps(1, 2), [0], ["a"], "names of 2 images.*1 names"),
        (views(2), maps(1, 1), [7], ["a", "b"], "epoch 7: expected 2 maps, one an image, got 1"),
        (views(1), maps(1, 1)[:, None], [3], ["a"], "image 'a', epoch 3: .*attention map of shape"),
        (views(1)[None], maps(1, 1), [3], ["a"], "image 'a', epoch 3: .*low-resolution image"),
        (views(1), -maps(1, 1), [3], ["a"], "image 'a', epoch 3: .*0 or more"),
        (views(1), 0 * maps(1, 1), [3], ["a"], "not all zero"),
        (views(1), torch.nan * maps(1, 1), [3], ["a"], "values from nan to nan"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(low, found, epochs, names, message):
    with pytest.raises(ValueError, match=message):
        plot_attention_over_epochs(low, found, epochs, names)


@pytest.mark.parametrize("field", [-1, 24])
def test_a_receptive_field_out_of_range_is_refused(field):
    with pytest.raises(ValueError, match=f"receptive field of at least 0.*got {field}"):
        plot_attention_over_epochs(views(1), maps(1, 1), [0], ["a"], receptive_field=field)


def test_uniform_attention_hides_nothing_of_the_image():
    even = torch.ones(1, 10, 18)
    peak = even.clone()
    peak[0, 3, 4] = 100
    figure = plot_attention_over_epochs(views(1), [even, peak], [0, 1], ["one"])
    first, last = (ax.images[1].get_alpha() for ax in panels(figure))
    assert (first == 0).all()
    assert last[3, 4] == 0.6
    assert 0 < last[0, 0] < 0.6


def test_of_a_slide_its_tissue_alone_counts():
    allowed = torch.zeros(1, 12, 15, dtype=torch.bool)
    allowed[:, 3:5] = True
    even = allowed / 30.0
    figure = plot_attention_over_epochs(views(1), [even], [0], ["one"], allowed=allowed)
    assert row_labels(figure)[0] == ["one", f"uniform: {np.log(30):.2f} nats"]
    np.testing.assert_allclose(heat(panels(figure)[0]), 1)
    with pytest.raises(ValueError, match="2 masks and 1 names"):
        plot_attention_over_epochs(views(1), [even], [0], ["one"], allowed=[allowed[0]] * 2)

from dataclasses import replace
from io import BytesIO
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.stats import entropy

from milforge.plots import SampledImage, plot_sampled_patches
from milforge.plots.style import VERMILION
from milforge.sampling import extract_patches, patch_offsets, sample_locations
from thinned import thinned


def sampled(
    n=3,
    *,
    high=(240, 300),
    low=(40, 50),
    cells=(20, 25),
    patch=(30, 24),
    seed=0,
    sharp=4.0,
    **kwargs,
):
    """An image of noise as `AttentionSampling` would have seen it."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, kwargs.pop("channels", 1), *high, generator=generator)
    attention = (sharp * torch.randn(1, *cells, generator=generator)).flatten().softmax(0)
    attention = attention.reshape(1, *cells)
    replacing = kwargs.pop("replacing", False)
    indices, probabilities = sample_locations(attention, n, replace=replacing, generator=generator)
    field = kwargs.get("receptive_field", 0)
    offsets = patch_offsets(indices, cells, low, high, patch, field)
    parts = {
        "bag_id": "image",
        "low": torch.nn.functional.interpolate(image, low, mode="area")[0],
        "attention": attention[0],
        "patches": extract_patches(image, offsets, patch)[0],
        "offsets": offsets[0],
        "high_size": high,
        "probabilities": probabilities[0],
        "y": "1",
        "prediction": "1",
        "probability": 0.875,
    }
    return SampledImage(**(parts | kwargs))


def at(*offsets, patch=(20, 20), high=(200, 100), low=(20, 10), **kwargs):
    """An image of one patch at each of these places."""
    n = len(offsets)
    parts = {
        "patches": torch.rand(n, 1, *patch, generator=torch.Generator().manual_seed(0)),
        "offsets": torch.tensor(offsets),
        "probabilities": torch.full((n,), 1 / n),
    }
    return sampled(1, high=high, low=low, cells=(4, 2), **(parts | kwargs))


def is_png(figure: Figure) -> bool:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue().startswith(b"\x89PNG")


def titled(figure, title):
    return [ax for ax in figure.axes if ax.get_title() == title]


def patch_axes(figure):
    """The panels of the patches: the only ones that have a title on the left."""
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


def frames(ax):
    """Left, top, right, bottom of each frame, in the order in which they were drawn."""
    found = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return [(*f.get_xy(), f.get_x() + f.get_width(), f.get_y() + f.get_height()) for f in found]


def numbers(ax):
    return [text.get_text() for text in ax.texts]


def drawn(ax, number=0):
    return np.asarray(ax.images[number].get_array())


def row_labels(figure):
    empty = [ax for ax in figure.axes if not ax.images and ax.texts]
    return [[text.get_text() for text in ax.texts] for ax in empty]


def scales(figure):
    return [ax for ax in figure.axes if ax.get_ylabel() == "cells · attention\n(uniform: 1)"]


def rendered(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def visible_texts(figure):
    """Each text with its box in pixels, or that of the colour behind it."""
    renderer = rendered(figure)
    texts = [text for ax in figure.axes for text in ax.get_children() if isinstance(text, Text)]
    texts += [text for ax in figure.axes for text in (ax.xaxis.label, ax.yaxis.label)]
    texts += [text for ax in scales(figure) for text in ax.get_yticklabels()]
    texts = [text for text in texts if text.get_text()]
    boxes = [(text.get_bbox_patch() or text).get_window_extent(renderer) for text in texts]
    return dict(zip(texts, boxes, strict=True))


# frames


@pytest.mark.parametrize("field", [0, 6])
def test_a_frame_is_where_its_patch_was_cut(field):
    high, low, patch = (240, 300), (40, 50), (30, 24)
    image = sampled(9, high=high, low=low, patch=patch, receptive_field=field)
    (ax,) = titled(plot_sampled_patches([image]), "sampled patches")
    expected = []
    for row, column in image.offsets.tolist():
        top, bottom = max(row, 0), min(row + patch[0], high[0])
        left, right = max(column, 0), min(column + patch[1], high[1])
        # a pixel of the view is 6 x 6 pixels of the image, and its centre is a whole number
        expected.append((left / 6 - 0.5, top / 6 - 0.5, right / 6 - 0.5, bottom / 6 - 0.5))
    np.testing.assert_allclose(frames(ax), expected, atol=1e-12)
    assert sorted(numbers(ax)) == [str(number) for number in range(1, 10)]


def test_height_and_width_are_scaled_each_by_its_own():
    (ax,) = titled(
        plot_sampled_patches([at([40, 30], high=(200, 100), low=(50, 10))]), "sampled patches"
    )
    np.testing.assert_allclose(frames(ax), [(2.5, 9.5, 4.5, 14.5)])


def test_frames_end_at_the_edges_of_the_image():
    places = [-5, -8], [190, 50], [100, 95]
    (ax,) = titled(plot_sampled_patches([at(*places)]), "sampled patches")
    expected = [(-0.5, -0.5, 0.7, 1.0), (4.5, 18.5, 6.5, 19.5), (9.0, 9.5, 9.5, 11.5)]
    np.testing.assert_allclose(frames(ax), expected)
    assert ax.get_xlim() == (-0.5, 9.5)
    assert ax.get_ylim() == (19.5, -0.5)


def test_patches_drawn_again_share_a_frame_that_has_all_their_numbers():
    image = at([0, 0], [60, 60], [0, 0], [0, 0], [60, 60], [0, 0])
    figure = plot_sampled_patches([image])
    (ax,) = titled(figure, "sampled patches")
    assert len(frames(ax)) == 2
    assert numbers(ax) == ["1 3 4…", "2 5"]
    assert len(patch_axes(figure)) == 6


def test_a_number_stands_at_its_frame():
    image = at([20, 20], [150, 60], patch=(10, 10))
    figure = plot_sampled_patches([image])
    (ax,) = titled(figure, "sampled patches")
    rendered(figure)
    for text, (left, top, right, bottom) in zip(ax.texts, frames(ax), strict=True):
        box = text.get_bbox_patch().get_window_extent().transformed(ax.transData.inverted())
        x, y = sorted([box.x0, box.x1]), sorted([box.y0, box.y1])
        assert max(left - x[1], x[0] - right) < 0.5
        assert max(top - y[1], y[0] - bottom) < 0.5


# patches


def test_a_number_that_is_predicted_has_no_probability():
    image = sampled(2, y="40.5", prediction="41.2", probability=None)
    figure = plot_sampled_patches([image])
    told = [text.get_text() for text in figure.findobj(Text)]
    assert any("predicted: 41.2" in each and "(" not in each for each in told)
    assert is_png(figure)


def test_patches_stand_in_the_order_drawn_with_their_probability():
    image = sampled(8)
    figure = plot_sampled_patches([image])
    axes = patch_axes(figure)
    assert [numbers(ax) for ax in axes] == [[str(number)] for number in range(1, 9)]
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == [f"{probability:.2g}" for probability in image.probabilities.tolist()]
    places = [(-round(ax.get_position().y0, 4), ax.get_position().x0) for ax in axes]
    assert places == sorted(places)
    for ax, patch in zip(axes, image.patches[:, 0].numpy(), strict=True):
        picture = drawn(ax)
        assert picture.shape == (30, 24)
        inside = (picture > 0) & (picture < 1)
        assert inside.mean() > 0.5  # where the patch reaches out of the image it is black
        slope, offset = np.polyfit(patch[inside], picture[inside], 1)
        np.testing.assert_allclose(slope * patch[inside] + offset, picture[inside], atol=1e-5)
        assert slope > 0


def test_patches_are_as_bright_beside_each_other_and_the_view_as_they_are():
    patches = torch.full((2, 1, 8, 8), 0.25)
    patches[1] = 0.5
    image = replace(
        at([0, 0], [50, 50]),
        patches=patches,
        low=torch.linspace(0, 1, 200).reshape(1, 20, 10),
    )
    first, second = patch_axes(plot_sampled_patches([image]))
    assert drawn(first).mean() == pytest.approx(0.25, abs=0.02)
    assert drawn(second).mean() == pytest.approx(0.5, abs=0.02)


def test_bytes_are_drawn_as_floats_of_the_same_picture():
    whole = torch.randint(0, 256, (3, 3, 20, 20), generator=torch.Generator().manual_seed(0))
    view = torch.randint(0, 256, (3, 20, 10), generator=torch.Generator().manual_seed(1))
    image = at([0, 0], [50, 50], [90, 40])
    kinds = [
        replace(image, patches=whole.byte(), low=view.byte()),
        replace(image, patches=whole / 255, low=view / 255),
        replace(image, patches=whole / 255, low=view.byte()),
    ]
    figures = [plot_sampled_patches([kind]) for kind in kinds]
    for ax, *others in zip(*(figure.axes for figure in figures), strict=True):
        for other in others:
            assert len(ax.images) == len(other.images)
            for one, same in zip(ax.images, other.images, strict=True):
                np.testing.assert_allclose(one.get_array(), same.get_array(), atol=1e-5)


@pytest.mark.parametrize(("channels", "shape"), [(1, ()), (2, ()), (3, (3,)), (5, ())])
def test_three_channels_are_colour_and_any_others_are_averaged(channels, shape):
    image = sampled(2, channels=channels)
    figure = plot_sampled_patches([image])
    (ax,) = titled(figure, "sampled patches")
    view = drawn(ax)
    assert view.shape == (40, 50, *shape)
    assert drawn(patch_axes(figure)[0]).shape == (30, 24, *shape)
    expected = image.low.movedim(0, -1) if channels == 3 else image.low.mean(dim=0)
    low, high = np.percentile(expected.numpy(), (0.5, 99.5))
    np.testing.assert_allclose(view, ((expected - low) / (high - low)).clip(0, 1), atol=1e-5)


def test_of_many_patches_the_first_sixteen_are_drawn():
    image = sampled(40)
    figure = plot_sampled_patches([image])
    assert len(patch_axes(figure)) == 16
    (ax,) = titled(figure, "sampled patches")
    assert len(frames(ax)) == 16
    assert row_labels(figure)[0][-1] == "first 16 of 40 patches"
    titles = [ax.get_title(loc="left") for ax in patch_axes(figure)]
    assert titles == [f"{p:.2g}" for p in image.probabilities[:16].tolist()]


@pytest.mark.parametrize(
    ("n", "patch"),
    [(1, (50, 50)), (6, (50, 50)), (10, (60, 20)), (16, (50, 50)), (16, (20, 60)), (16, (60, 20))],
)
def test_patches_are_large_enough_to_see(n, patch):
    figure = plot_sampled_patches([sampled(n, patch=patch)])
    inches = figure.get_size_inches() * figure.dpi
    for ax in patch_axes(figure):
        box = ax.get_position()
        sides = np.array([box.width, box.height]) * inches
        assert sides[0] / sides[1] == pytest.approx(patch[1] / patch[0])
        assert max(sides) > 0.55 * figure.dpi


# attention


@pytest.mark.parametrize("field", [0, 8])
def test_the_map_is_cells_times_attention_where_the_cells_are(field):
    image = sampled(receptive_field=field)
    image = replace(image, attention=7 * image.attention)
    (ax,) = titled(plot_sampled_patches([image]), "attention")
    values = image.attention.double().numpy()
    np.testing.assert_allclose(drawn(ax, 1), 500 * values / values.sum(), rtol=1e-9)
    heat = ax.images[1]
    assert heat.origin == "upper"
    assert heat.get_alpha().max() < 1
    left, right, bottom, top = heat.get_extent()
    indices = torch.tensor([[[0, 0], [19, 24]]])
    offsets = patch_offsets(indices, (20, 25), (40, 50), (240, 300), (1, 1), field)[0]
    for (row, column), (y, x) in zip(indices[0].tolist(), offsets.tolist(), strict=True):
        # the middle of the cell, to the pixel that a patch of one pixel is rounded to
        assert left + (column + 0.5) * (right - left) / 25 == pytest.approx(x / 6 - 0.5, abs=0.2)
        assert top + (row + 0.5) * (bottom - top) / 20 == pytest.approx(y / 6 - 0.5, abs=0.2)
    assert ax.get_xlim() == (-0.5, 49.5)
    assert ax.get_ylim() == (39.5, -0.5)


def test_the_image_stays_visible_in_grey_below_the_map():
    image = sampled(channels=3)
    (ax,) = titled(plot_sampled_patches([image]), "attention")
    grey = drawn(ax)
    assert grey.shape == (40, 50)
    assert grey.min() == pytest.approx(0.2, abs=0.1)
    assert grey.max() == pytest.approx(0.9, abs=0.1)
    expected = image.low.mean(dim=0).numpy()
    assert np.corrcoef(grey.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("sharp", "low", "high"), [(0.0, 0.5, 2.0), (30.0, 0.1, None), (0.1, 0.5, 2.0)]
)
def test_the_scale_fits_peaked_and_flat_attention(sharp, low, high):
    image = sampled(2, sharp=sharp)
    figure = plot_sampled_patches([image])
    norm = titled(figure, "attention")[0].images[1].norm
    assert isinstance(norm, LogNorm)
    high = high or 500 * float(image.attention.max())
    assert (norm.vmin, norm.vmax) == pytest.approx((low, high), rel=1e-5)
    (scale,) = scales(figure)
    assert scale.get_ylim() == pytest.approx((low, high), rel=1e-5)
    assert is_png(figure)


def test_the_entropy_stands_below_the_map():
    image = sampled(sharp=2.0)
    (ax,) = titled(plot_sampled_patches([image]), "attention")
    nats = entropy(image.attention.double().numpy().ravel())
    assert ax.get_xlabel() == f"entropy {nats:.2f} of {np.log(500):.2f} nats"


def test_cells_that_may_not_be_looked_at_do_not_count():
    """Uniform over the upper half: a map of 10 x 25 cells, transparent everywhere."""
    allowed = torch.zeros(20, 25, dtype=torch.bool)
    allowed[:10] = True
    image = replace(sampled(2), attention=allowed / 250.0, allowed=allowed)
    (ax,) = titled(plot_sampled_patches([image]), "attention")
    assert ax.get_xlabel() == f"entropy {np.log(250):.2f} of {np.log(250):.2f} nats"
    np.testing.assert_allclose(ax.images[1].get_array(), 1)
    assert not np.asarray(ax.images[1].get_alpha()).any()


def test_a_frame_is_as_large_as_what_its_patch_shows():
    """In a view of a tenth of the size; patches of 20 x 20 show 40 x 60 pixels."""
    image = at((20, 30), window=(40, 60))
    (ax,) = titled(plot_sampled_patches([image]), "sampled patches")
    (frame,) = [each for each in ax.patches if isinstance(each, Rectangle)]
    assert (frame.get_height(), frame.get_width()) == pytest.approx((4, 6))


def test_attention_all_in_one_cell_can_be_drawn():
    attention = torch.zeros(20, 25)
    attention[3, 4] = 2.0
    figure = plot_sampled_patches([replace(sampled(2), attention=attention)])
    (ax,) = titled(figure, "attention")
    assert ax.get_xlabel() == "entropy 0.00 of 6.21 nats"
    assert ax.images[1].norm.vmax == 500
    assert is_png(figure)


# rows


def test_a_row_is_an_image_and_its_label_names_it():
    right = sampled(3, bag_id="slide 7", y="tumour", prediction="tumour")
    wrong = sampled(5, bag_id="slide 8", y="tumour", prediction="normal", seed=1)
    figure = plot_sampled_patches([right, wrong])
    assert row_labels(figure) == [
        ["slide 7", "true: tumour", "predicted: tumour (0.88)"],
        ["slide 8", "true: tumour", "wrong: normal (0.88)"],
    ]
    verdicts = [ax.texts[2] for ax in figure.axes if not ax.images and ax.texts]
    assert [text.get_color() == VERMILION for text in verdicts] == [False, True]
    # a label, the view, the map and its scale each, and the patches
    assert len(figure.axes) == 2 * 4 + 3 + 5
    upper, lower = [ax.get_position() for ax in titled(figure, "attention")]
    assert upper.y0 > lower.y1
    assert upper.x0 == pytest.approx(lower.x0)
    sizes = [ax.get_xlabel() for ax in titled(figure, "sampled patches")]
    assert sizes == ["300 x 240 pixels"] * 2


def test_views_keep_their_proportions():
    wide, tall = (
        sampled(2, low=(20, 60), high=(200, 600)),
        sampled(2, low=(60, 20), high=(600, 200)),
    )
    figure = plot_sampled_patches([wide, tall])
    inches = figure.get_size_inches()
    for title in ("sampled patches", "attention"):
        boxes = [ax.get_position() for ax in titled(figure, title)]
        ratios = [b.width * inches[0] / (b.height * inches[1]) for b in boxes]
        assert ratios == pytest.approx([3, 1 / 3])


MANY = {"n": 16, "cells": (60, 60), "high": (1500, 1500), "low": (180, 180), "patch": (50, 50)}


MANY_IMAGES = (
    lambda: [sampled(**MANY, sharp=sharp) for sharp in (0, 6)],
    lambda: [sampled(**MANY, sharp=5.0, replacing=True, channels=3)],
    lambda: [sampled(10, high=(20_000, 20_000), low=(100, 100), patch=(50, 50), sharp=8.0)],
    lambda: [sampled(6, high=(300, 300), low=(100, 100), patch=(100, 100))],
    lambda: [
        sampled(1, bag_id="W" * 40, y="W" * 40, prediction="V" * 40),
        sampled(16, low=(20, 80), high=(200, 800), patch=(40, 40)),
        sampled(16, low=(80, 20), high=(800, 200), patch=(60, 20)),
        sampled(7, low=(80, 20), high=(800, 200), patch=(20, 160)),
    ],
)


@pytest.mark.parametrize("draw", thinned(MANY_IMAGES, every=5))
def test_no_text_lies_on_another_or_reaches_out_of_the_figure(draw):
    images = draw()
    figure = plot_sampled_patches(images)
    boxes = visible_texts(figure)
    assert len(boxes) > 10 * len(images)
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in boxes.items():
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
    for (text, box), (other, other_box) in combinations(boxes.items(), 2):
        apart_x = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        apart_y = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert min(apart_x, apart_y) <= 0, (text, other)


def test_the_label_of_a_row_does_not_reach_into_the_view():
    figure = plot_sampled_patches([sampled(2, bag_id="W" * 40, y="W" * 40, prediction="W" * 40)])
    renderer = rendered(figure)
    (label,) = [ax for ax in figure.axes if not ax.images and ax.texts]
    right = max(text.get_window_extent(renderer).x1 for text in label.texts)
    assert right < titled(figure, "sampled patches")[0].get_window_extent().x0


# values and settings


def test_half_precision_gradients_and_devices_are_taken():
    image = sampled(3)
    half = replace(
        image,
        low=image.low.bfloat16().requires_grad_(),
        attention=image.attention.bfloat16().requires_grad_(),
        patches=image.patches.half().requires_grad_(),
        probabilities=image.probabilities.clone().requires_grad_(),
        offsets=image.offsets.int(),
    )
    assert is_png(plot_sampled_patches([half]))


@pytest.mark.parametrize("value", [0.0, -2.5, float("nan"), float("inf")])
def test_images_all_alike_or_not_finite_can_be_drawn(value):
    image = sampled(2)
    low, patches = torch.full_like(image.low, value), torch.full_like(image.patches, value)
    assert is_png(plot_sampled_patches([replace(image, low=low, patches=patches)]))


def test_the_settings_of_matplotlib_stay_as_they_were():
    before = dict(mpl.rcParams)
    assert is_png(plot_sampled_patches([sampled()]))
    assert dict(mpl.rcParams) == before


# input


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one sampled image"):
        plot_sampled_patches([])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"low": torch.rand(1, 1, 40, 50)}, r"low-resolution image of shape \(C, h, w\)"),
        ({"low": torch.rand(1, 0, 50)}, r"low-resolution image of shape \(C, h, w\)"),
        ({"attention": torch.rand(1, 20, 25)}, r"attention map of shape \(mh, mw\)"),
        ({"attention": -torch.rand(20, 25)}, "finite values of 0 or more.*softmax"),
        ({"attention": torch.full((20, 25), float("nan"))}, "got values from nan"),
        ({"attention": torch.full((20, 25), float("inf"))}, "to inf"),
        ({"allowed": torch.ones(20, 24).bool()}, r"shape \(20, 25\), as the map.*\(20, 24\)"),
        ({"allowed": torch.zeros(20, 25).bool()}, "at least one, got 0 of shape"),
        ({"attention": torch.zeros(20, 25)}, "not all zero, got values from 0 to 0"),
        ({"patches": torch.rand(6, 30, 24)}, r"patches of shape \(n, C, ph, pw\)"),
        ({"patches": torch.rand(0, 1, 30, 24)}, "n at least 1"),
        ({"patches": torch.rand(5, 1, 30, 24)}, r"probabilities of shape \(5,\), one a patch"),
        ({"probabilities": torch.rand(5)}, r"probabilities of shape \(6,\)"),
        ({"probabilities": torch.tensor([0.1, 0.1, 1.5, 0, 0, 0])}, "from 0 to 1, got 1.5"),
        ({"probabilities": torch.full((6,), float("nan"))}, "from 0 to 1, got nan"),
        ({"offsets": torch.zeros(6, 2)}, r"integer offsets of shape \(6, 2\), got torch.float32"),
        ({"offsets": torch.zeros(6, 3).long()}, r"integer offsets of shape \(6, 2\)"),
        ({"offsets": torch.full((6, 2), 240)}, r"within the image of 240 x 300.*\[240, 240\]"),
        ({"offsets": torch.full((6, 2), -30)}, "row and column at full resolution"),
        ({"high_size": (240,)}, "high_size as a height and a width"),
        ({"receptive_field": 40}, "receptive field of at least 0 and below the image size"),
        ({"receptive_field": -1}, "receptive field"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(parts, message):
    image = sampled(6)
    with pytest.raises(ValueError, match=message):
        replace(image, **parts)


def test_the_image_is_named():
    with pytest.raises(ValueError, match="image 'slide 7'"):
        sampled(bag_id="slide 7", attention=torch.zeros(2, 2))

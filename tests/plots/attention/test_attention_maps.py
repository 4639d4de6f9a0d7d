from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection
from matplotlib.colors import LogNorm, to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from scipy.ndimage import label
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from milforge.plots import BagStrip, plot_attention_comparison, plot_attention_maps
from milforge.plots.attention.bag_strips import Backdrop
from milforge.plots.style import ORANGE, SILVER, VERMILION
from thinned import thinned

RANK = "rank\n(bright: highest)"
DIGITS = torch.tensor(load_digits().images, dtype=torch.float32)[:, None]


def placed_bag(coords, *, images=True, y_inst=None, weights=None, seed=0, **kwargs):
    coords = torch.as_tensor(coords)
    size = len(coords)
    if weights is None:
        weights = torch.randn(size, generator=torch.Generator().manual_seed(seed)).softmax(0)
    defaults = {"bag_id": "bag", "y": "1", "prediction": "1", "probability": 0.875}
    pictures = DIGITS[:size] if images else None
    parts = {"weights": weights, "y_inst": y_inst, "coords": coords}
    return BagStrip(images=pictures, **(defaults | parts | kwargs))


def grid(rows, columns, stride=1):
    """Places (x, y), row by row."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return stride * torch.stack([x, y], dim=-1).reshape(-1, 2)


def is_png(figure: Figure) -> bool:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue().startswith(b"\x89PNG")


def panels(figure, start=""):
    """The panels whose title starts so, in the order in which they were drawn."""
    return [ax for ax in figure.axes if ax.get_title() and ax.get_title().startswith(start)]


def titles(figure):
    """Of all panels; that of the ranks follows the attention of a single model."""
    return [ax.get_title().replace(RANK, "rank") for ax in panels(figure)]


def raster(ax):
    """What is drawn as tiles, NaN where there is none."""
    return np.ma.filled(ax.images[0].get_array().astype(float), np.nan)


def dots(ax):
    (found,) = [each for each in ax.collections if isinstance(each, EllipseCollection)]
    return found


def row_labels(figure):
    found = [[text.get_text() for text in ax.texts] for ax in figure.axes]
    return [texts for texts in found if texts]


def scales(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


def scale_bars(figure):
    """Each scale bar: its axes, its length in tiles and its text."""
    return [
        (ax, bar.size_bar.get_children()[0].get_width(), bar.txt_label.get_text())
        for ax in figure.axes
        for bar in ax.artists
        if isinstance(bar, AnchoredSizeBar)
    ]


# places


@pytest.mark.parametrize("stride", [1, 8, 448, 0.25])
def test_a_tile_is_n_times_the_weight_at_its_place_and_holes_are_nan(stride):
    coords = grid(4, 6, stride)[torch.arange(24) % 5 != 2] + 7 * stride
    coords = coords[torch.randperm(len(coords), generator=torch.Generator().manual_seed(1))]
    bag = placed_bag(coords)
    (ax,) = panels(plot_attention_maps([bag]), "attention")
    expected = np.full((4, 6), np.nan)
    for (x, y), weight in zip(coords.tolist(), bag.weights.tolist(), strict=True):
        expected[round(y / stride) - 7, round(x / stride) - 7] = weight * len(bag)
    np.testing.assert_allclose(raster(ax), expected, rtol=1e-6)
    assert np.isnan(expected).sum() == 5


def test_x_goes_to_the_right_and_y_downwards_in_every_panel():
    figure = plot_attention_maps([placed_bag(grid(3, 2), y_inst=torch.tensor([0, 1] * 3))])
    assert len(panels(figure)) == 4
    for ax in panels(figure):
        assert ax.get_xlim() == (-0.5, 1.5)
        assert ax.get_ylim() == (2.5, -0.5)
        assert tuple(ax.images[0].get_extent()) == (-0.5, 1.5, 2.5, -0.5)
        assert ax.images[0].origin == "upper"


def test_the_rank_shows_an_order_that_the_scale_hides():
    weights = torch.tensor([0.2501, 0.2499, 0.25, 0.25])
    figure = plot_attention_maps([placed_bag(grid(2, 2), weights=weights)])
    (ax,) = panels(figure, "rank")
    assert raster(ax).tolist() == [[0.875, 0.125], [0.5, 0.5]]
    bags = [placed_bag(grid(2, 2), weights=weights)]
    assert not panels(plot_attention_comparison({"a": bags, "b": bags}), "rank")


def test_the_images_stand_at_their_places_on_white():
    coords = torch.tensor([[2, 0], [1, 0], [1, 1], [0, 2]])
    (ax,) = panels(plot_attention_maps([placed_bag(coords)]), "images")
    canvas = raster(ax)
    assert canvas.shape == (24, 24)
    tiles = canvas.reshape(3, 8, 3, 8).swapaxes(1, 2)
    for (x, y), digit in zip(coords.tolist(), DIGITS[:4, 0].numpy(), strict=True):
        np.testing.assert_allclose(tiles[y, x], digit / 16, atol=1e-6)
    assert (tiles[1, [0, 2]] == 1).all()
    assert (tiles[2, 1:] == 1).all()


def test_three_channels_are_colour():
    images = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    bag = replace(placed_bag([[0, 0], [1, 1]]), images=images)
    canvas = raster(panels(plot_attention_maps([bag]), "images")[0])
    assert canvas.shape == (10, 8, 3)
    low, high = np.percentile(images.numpy(), (0.5, 99.5))
    expected = ((images[1].movedim(0, -1) - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(canvas[5:, 4:], expected, atol=1e-5)
    assert (canvas[5:, :4] == 1).all()


def test_the_truth_is_coloured_by_the_labels():
    y_inst = torch.tensor([1, 0, -1, 0, 1])
    figure = plot_attention_maps([placed_bag(grid(2, 3)[:5], y_inst=y_inst)])
    (ax,) = panels(figure, "truth")
    np.testing.assert_array_equal(raster(ax), [[2, 1, 0], [1, 2, np.nan]])
    colours = ax.images[0].to_rgba(np.array([2, 1]))[:, :3]
    np.testing.assert_allclose(colours, [to_rgb(ORANGE), to_rgb(SILVER)])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["positive", "negative", "unknown"]


def test_places_off_any_grid_are_dots_those_of_most_attention_on_top():
    coords = 900 * torch.rand(500, 2, generator=torch.Generator().manual_seed(3))
    bag = placed_bag(coords, y_inst=(coords[:, 0] < 200).long())
    figure = plot_attention_maps([bag])
    found = dots(panels(figure, "attention")[0])
    values = np.asarray(found.get_array())
    assert (np.diff(values) >= 0).all()
    order = torch.argsort(bag.weights, stable=True)
    np.testing.assert_allclose(values, bag.weights[order] * 500, rtol=1e-6)
    offsets = np.asarray(found.get_offsets())
    shifted = (coords - coords.min(dim=0).values)[order].numpy()
    unit = shifted[:, 0].max() / offsets[:, 0].max()
    np.testing.assert_allclose(offsets * unit, shifted, rtol=1e-4, atol=1e-2)
    truth = np.asarray(dots(panels(figure, "truth")[0]).get_array())
    np.testing.assert_array_equal(truth == 2, shifted[:, 0] + float(coords[:, 0].min()) < 200)
    assert panels(figure, "attention")[0].yaxis_inverted()
    assert is_png(figure)


@pytest.mark.parametrize(("extent", "pairs"), [(1500, 200), (2500, 200_000)])
def test_points_too_thin_or_too_many_for_a_grid_are_dots(extent, pairs):
    corner = torch.randint(0, extent, (pairs, 2), generator=torch.Generator().manual_seed(0))
    coords = torch.cat([corner, corner + torch.tensor([1, 0])])  # whole numbers, of stride 1
    ax = panels(plot_attention_maps([placed_bag(coords, images=False)]))[0]
    assert not ax.images
    assert len(dots(ax).get_offsets()) == 2 * pairs


def test_a_dot_is_seen_and_no_larger_than_it_must_be():
    spread = 1000 * torch.rand(40, 2, generator=torch.Generator().manual_seed(0))
    near = spread[:1] + torch.rand(2000, 2, generator=torch.Generator().manual_seed(1))
    for coords in (spread, torch.cat([spread, near])):
        ax = panels(plot_attention_maps([placed_bag(coords, images=False)]))[0]
        assert max(np.ptp(np.asarray(dots(ax).get_offsets()), axis=0)) < 121


def test_of_instances_at_one_place_the_one_of_most_attention_is_seen():
    coords = torch.tensor([[0, 0], [1, 0], [0, 0], [0, 1], [0, 0]])
    weights = torch.tensor([0.1, 0.1, 0.5, 0.1, 0.2])
    bag = placed_bag(coords, weights=weights, y_inst=torch.tensor([0, 0, 1, 0, 0]))
    figure = plot_attention_maps([bag])
    assert raster(panels(figure, "attention")[0])[0, 0] == pytest.approx(2.5)
    assert raster(panels(figure, "truth")[0])[0, 0] == 2


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_one_place_is_one_tile(axes, size):
    bag = placed_bag(torch.full((size, axes), 7.5), y_inst=torch.ones(size))
    figure = plot_attention_maps([bag])
    assert raster(panels(figure, "attention")[0]).shape == (1, 1)
    assert titles(figure) == ["images", "truth", "attention", "rank"]
    assert is_png(figure)


# chains


@pytest.mark.parametrize(("axes", "axis"), [(2, 0), (2, 1), (3, 0), (3, 2)])
def test_a_chain_is_a_band_of_tiles_with_holes(axes, axis):
    coords = torch.full((5, axes), 3.0)
    coords[:, axis] = torch.tensor([10.0, 0.0, 5.0, 25.0, 20.0])
    bag = placed_bag(coords)
    (ax,) = panels(plot_attention_maps([bag]), "attention")
    expected = 5 * bag.weights[[1, 2, 0, 0, 4, 3]].double().numpy()[None]
    expected[0, 3] = np.nan
    np.testing.assert_allclose(raster(ax), expected, rtol=1e-6)


def test_a_chain_of_irregular_spacing_is_tile_beside_tile_in_order():
    coords = torch.tensor([[0.0, 0.0], [9.73, 0.0], [1.31, 0.0], [1.9, 0.0]])
    bag = placed_bag(coords, weights=torch.tensor([0.1, 0.4, 0.2, 0.3]))
    (ax,) = panels(plot_attention_maps([bag]), "attention")
    np.testing.assert_allclose(raster(ax), [[0.4, 0.8, 1.2, 1.6]], rtol=1e-6)


@pytest.mark.parametrize("size", [2, 40, 1000])
def test_the_bands_of_a_chain_lie_below_each_other_tall_enough_to_see(size):
    coords = torch.stack([torch.arange(size), torch.zeros(size)], dim=1)
    figure = plot_attention_maps([placed_bag(coords, y_inst=torch.arange(size) % 2)])
    assert is_png(figure)
    boxes = [ax.get_window_extent() for ax in panels(figure)]
    assert len(boxes) == 4
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert len({(round(box.x0), round(box.x1)) for box in boxes}) == 1
    assert min(box.height for box in boxes) > 0.15 * figure.dpi


def test_a_long_chain_shows_one_image_in_so_many_at_their_places():
    coords = torch.stack([torch.arange(100), torch.zeros(100)], dim=1)
    (ax,) = panels(plot_attention_maps([placed_bag(coords)]), "images")
    assert ax.get_title() == "images (one in 3)"
    shown = raster(ax).reshape(8, 34, 8).swapaxes(0, 1)
    np.testing.assert_allclose(shown, DIGITS[:100:3, 0] / 16, atol=1e-6)
    assert tuple(ax.images[0].get_extent()) == (-0.5, 101.5, 0.5, -0.5)


def test_chains_and_maps_share_a_figure():
    chain = placed_bag([[0, 0], [1, 0], [2, 0]])
    figure = plot_attention_maps([chain, placed_bag(grid(3, 3))])
    assert is_png(figure)
    shapes = [raster(ax).shape for ax in panels(figure, "attention")]
    assert shapes == [(1, 3), (3, 3)]
    band, below = [ax.get_window_extent() for ax in panels(figure, "attention")]
    assert band.y0 > below.y1
    assert band.width == pytest.approx(below.width, rel=0.1)


# volumes


def volume(rows, columns, slices, spacing=5.0):
    plane = grid(rows, columns, 2).double()
    depths = spacing * torch.arange(slices).repeat_interleave(len(plane))
    return torch.cat([plane.repeat(slices, 1), depths[:, None]], dim=1)


def test_the_slices_of_most_attention_stand_side_by_side_in_order():
    coords = volume(2, 3, 9)
    weights = torch.ones(9, 6) + 0.01 * torch.arange(54).reshape(9, 6)
    chosen = [1, 2, 4, 5, 6, 8]
    weights[chosen] *= 10
    bag = placed_bag(coords, weights=(weights / weights.sum()).flatten(), y_inst=torch.ones(54))
    figure = plot_attention_maps([bag])
    drawn = raster(panels(figure, "attention")[0])
    blocks = [drawn[row : row + 2, left : left + 3] for row in (0, 3) for left in (0, 4, 8)]
    expected = (54 * weights / weights.sum())[chosen].reshape(6, 2, 3)
    np.testing.assert_allclose(blocks, expected, rtol=1e-6)
    assert drawn.shape == (5, 11)
    assert np.isfinite(drawn).sum() == 36
    assert row_labels(figure)[0][-1] == "6 of 9 slices shown"
    assert raster(panels(figure, "images")[0]).shape == (40, 88)


def test_a_volume_without_slices_is_seen_along_its_third_axis():
    coords = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    figure = plot_attention_maps([placed_bag(coords)])
    assert len(dots(panels(figure, "attention")[0]).get_offsets()) == 200
    assert row_labels(figure)[0][-1] == "seen along the third axis"


def test_a_volume_of_one_slice_is_a_map():
    coords = torch.cat([grid(3, 4), torch.full((12, 1), 9)], dim=1)
    figure = plot_attention_maps([placed_bag(coords)])
    assert raster(panels(figure, "attention")[0]).shape == (3, 4)
    assert len(row_labels(figure)[0]) == 3


# colour


@pytest.mark.parametrize(
    ("stride", "unit", "per_coord", "tiles", "text"),
    [
        (448, "pixels", 1.0, 1000 / 448, "1,000 pixels"),
        (448, "µm", 0.25, 200 / 112, "200 µm"),
        (256, "µm", 4.0, 2000 / 1024, "2 mm"),
    ],
)
def test_a_bar_says_how_long_it_is(stride, unit, per_coord, tiles, text):
    bag = placed_bag(grid(6, 10, stride=stride), unit=unit, per_coord=per_coord, images=False)
    figure = plot_attention_maps([bag])
    ((ax, length, said),) = scale_bars(figure)
    assert ax is panels(figure)[0]
    assert (length, said) == (pytest.approx(tiles), text)
    assert is_png(figure)


def test_a_bar_of_dots_is_as_long_as_it_says():
    coords = np.random.default_rng(0).uniform(0, 1000, (40, 2))
    figure = plot_attention_maps([placed_bag(coords, unit="µm", images=False)])
    ((_, length, said),) = scale_bars(figure)
    across = dots(panels(figure)[0]).get_offsets()[:, 0]
    assert said == "200 µm"
    assert length / np.ptp(across) == pytest.approx(200 / np.ptp(coords[:, 0]))


@pytest.mark.parametrize(
    ("coords", "unit"),
    [(grid(3, 3), None), (grid(1, 4), "µm"), (torch.zeros(2, 2), "µm")],
)
def test_no_bar_where_no_length_is_known(coords, unit):
    assert not scale_bars(plot_attention_maps([placed_bag(coords, unit=unit, images=False)]))


def test_the_slide_lies_below_the_tiles_that_were_cut_from_it():
    """Three tiles of 50 pixels, whose slide of 200 x 400 is drawn at a fifth of its size."""
    picture = np.zeros((80, 40, 3), np.uint8)
    picture[20:30, 10:20] = 255  # x from 50 to 100, y from 100 to 150: the second tile
    coords = [[0, 50], [50, 100], [100, 150]]
    bag = placed_bag(coords, slide=Backdrop(picture, 200, 400), images=False)
    other = placed_bag(coords, images=False)
    figure = plot_attention_maps([bag, other])
    assert titles(figure) == ["slide", "attention", "rank", "attention", "rank"]
    ax = panels(figure, "slide")[0]
    left, right, bottom, top = ax.images[0].get_extent()
    place = np.array(
        [(50 + 25) / 200 * (right - left) + left, (100 + 25) / 400 * (bottom - top) + top]
    )
    assert place == pytest.approx([1, 1])  # the middle of that tile on the map
    assert (*ax.get_xlim(), *ax.get_ylim()) == (-0.5, 2.5, 2.5, -0.5)
    volume_bag = placed_bag(volume(2, 2, 2), slide=bag.slide, images=False)
    assert "slide" not in titles(plot_attention_maps([volume_bag]))


def test_the_scale_reaches_from_a_tenth_to_the_largest():
    weights = torch.tensor([0.0, 0.001, 0.099, 0.9])
    figure = plot_attention_maps([placed_bag(grid(2, 2), weights=weights)])
    (ax,) = panels(figure, "attention")
    norm = ax.images[0].norm
    assert isinstance(norm, LogNorm)
    assert (norm.vmin, norm.vmax) == pytest.approx((0.1, 3.6))
    colours = ax.images[0].to_rgba(ax.images[0].get_array())
    assert (colours[..., 3] == 1).all()  # a weight of zero is no hole
    np.testing.assert_array_equal(colours[0, 0], colours[0, 1])
    (scale,) = scales(figure)
    assert scale.get_ylim() == pytest.approx((0.1, 3.6))
    ticks = [text.get_text() for text in scale.get_yticklabels()]
    assert ticks == ["0.1", "0.2", "0.5", "1", "2"]


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.26])
def test_even_attention_looks_even(weight):
    weights = torch.tensor([0.25, 0.25, 0.25, weight])
    figure = plot_attention_maps([placed_bag(grid(2, 2), weights=weights)])
    norm = panels(figure, "attention")[0].images[0].norm
    assert norm.vmin <= 0.5
    assert norm.vmax == 2
    assert is_png(figure)


def test_weights_all_zero_can_be_drawn():
    assert is_png(plot_attention_maps([placed_bag(grid(2, 2), weights=torch.zeros(4))]))


def test_single_tiles_of_much_attention_are_not_lost_between_pixels():
    coords = grid(900, 900)
    weights = torch.full((len(coords),), 1e-9)
    weights[[900 * row + row + 3 for row in range(100, 900, 101)]] = 0.125
    figure = plot_attention_maps([placed_bag(coords, weights=weights, images=False)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (ax,) = panels(figure, "attention")
    box = ax.get_window_extent()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, 1].astype(int)  # green grows with the colour
    inside = pixels[int(box.y0) + 3 : int(box.y1) - 3, int(box.x0) + 3 : int(box.x1) - 3]
    _, seen = label(inside > inside.min() + 80)
    assert seen == 8


# rows, titles, several models


def test_a_row_is_a_bag_and_its_label_names_it():
    right = placed_bag(grid(2, 2), bag_id="slide 7", y="tumour", prediction="tumour")
    wrong = placed_bag(grid(3, 2), bag_id="slide 8", y="tumour", prediction="normal")
    figure = plot_attention_maps([right, wrong])
    assert row_labels(figure) == [
        ["slide 7", "true: tumour", "predicted: tumour (0.88)"],
        ["slide 8", "true: tumour", "wrong: normal (0.88)"],
    ]
    texts = [ax.texts[2] for ax in figure.axes if ax.texts]
    assert [text.get_color() == VERMILION for text in texts] == [False, True]
    assert is_png(figure)
    upper, lower = [ax.get_position() for ax in panels(figure, "attention")]
    assert upper.y0 > lower.y1
    shapes = [raster(ax).shape for ax in panels(figure, "attention")]
    assert shapes == [(2, 2), (3, 2)]


def test_images_and_truth_are_left_out_where_no_bag_has_them():
    bare = placed_bag(grid(2, 2), images=False)
    unknown = placed_bag(grid(2, 2), images=False, y_inst=torch.full((4,), -1))
    figure = plot_attention_maps([bare, unknown])
    assert titles(figure) == ["attention", "rank"] * 2
    assert not figure.legends
    labelled = placed_bag(grid(2, 2), y_inst=torch.zeros(4))
    figure = plot_attention_maps([bare, labelled])
    assert titles(figure) == [
        "attention", "rank", "images", "truth", "attention", "rank",
    ]  # fmt: skip
    assert is_png(figure)
    first, _, images, truth, second, _ = [ax.get_position() for ax in panels(figure)]
    assert first.x0 == pytest.approx(second.x0, abs=0.01)
    assert images.x1 < truth.x0 < truth.x1 < second.x0


def three_models(coords, y_inst, **kwargs):
    return {
        name: [placed_bag(coords, y_inst=y_inst, seed=seed, **kwargs)]
        for seed, name in enumerate(["gated attention", "Sm early", "Sm late"])
    }


def test_a_map_a_model_titled_with_its_auroc():
    y_inst = torch.tensor([0, 1, -1, 1, 0, 0, 1, 0])
    models = three_models(grid(2, 4), y_inst)
    models["Sm early"] = [replace(models["Sm early"][0], prediction="0")]
    figure = plot_attention_comparison(models)
    known = y_inst >= 0
    expected = ["images", "truth"]
    for name, (bag,) in models.items():
        auroc = roc_auc_score(y_inst[known], bag.weights[known])
        verdict = "wrong: 0" if name == "Sm early" else "predicted: 1"
        expected.append(f"{name}\n{verdict} (0.88)\nAUROC {auroc:.3f}")
    assert titles(figure) == expected
    colours = [ax.title.get_color() == VERMILION for ax in panels(figure)]
    assert colours == [False, False, False, True, False]
    assert row_labels(figure) == [["bag", "true: 1"]]
    for ax, (bag,) in zip(panels(figure)[2:], models.values(), strict=True):
        np.testing.assert_allclose(raster(ax).ravel(), 8 * bag.weights, rtol=1e-6)
    assert is_png(figure)
    boxes = [ax.get_position() for ax in panels(figure)]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("y_inst", [None, torch.zeros(4), torch.ones(4), torch.full((4,), -1)])
def test_no_auroc_without_both_kinds(y_inst):
    figure = plot_attention_maps([placed_bag(grid(2, 2), y_inst=y_inst)])
    assert titles(figure)[-2:] == ["attention", "rank"]


def test_the_maps_of_a_row_share_a_scale_and_rows_do_not():
    models = {name: bags * 2 for name, bags in three_models(grid(3, 3), None).items()}
    larger = torch.zeros(9)
    larger[4] = 1
    models["Sm late"] = [models["Sm late"][0], replace(models["Sm late"][0], weights=larger)]
    figure = plot_attention_comparison(models)
    highest = [
        ax.images[0].norm.vmax for ax in panels(figure) if not ax.get_title().startswith("images")
    ]
    assert highest[:3] == [highest[0]] * 3
    assert highest[0] == pytest.approx(
        9 * max(float(bags[0].weights.max()) for bags in models.values())
    )
    assert highest[3:] == [9.0] * 3
    assert len(scales(figure)) == 2


def test_the_maps_of_one_model_are_its_comparison():
    bag = placed_bag(grid(3, 3), y_inst=torch.arange(9) % 2)
    one, other = plot_attention_maps([bag]), plot_attention_comparison({"attention": [bag]})
    assert titles(one) == titles(other)
    assert row_labels(one) == row_labels(other)
    for ax, same in zip(panels(one), panels(other), strict=True):
        np.testing.assert_array_equal(raster(ax), raster(same))


def test_texts_reach_neither_into_the_panels_nor_out_of_the_figure():
    long = "TCGA-A1-A0SB-01Z-00-DX1.B34C267B-93C4-4F79"
    texts = {"bag_id": long, "y": long.upper(), "prediction": "W" * 40}
    chain = torch.stack([torch.zeros(30), torch.arange(30)], dim=1)
    for coords in (grid(5, 6), chain):
        models = three_models(coords, torch.arange(30) % 2, **texts)
        for bags in (models, {"one": models["Sm early"]}, {long: models["Sm early"]}):
            figure = plot_attention_comparison(bags)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            renderer = canvas.get_renderer()
            right = max(t.get_window_extent(renderer).x1 for t in figure.axes[0].texts)
            assert right < min(ax.get_window_extent(renderer).x0 for ax in panels(figure))
            width, height = canvas.get_width_height()
            (scale,) = scales(figure)
            for artist in [*(ax.title for ax in panels(figure)), scale.yaxis.label]:
                box = artist.get_window_extent(renderer)
                assert box.x0 >= 0
                assert box.y0 >= 0
                assert box.x1 <= width
                assert box.y1 <= height


# size and settings


def disc(count):
    side = round((count * 4 / np.pi) ** 0.5)
    coords = grid(side, side, 448)
    return coords[(coords - 224 * side).float().norm(dim=1) < 224 * side]


@pytest.mark.parametrize("irregular", thinned([False, True], every=2))
def test_a_hundred_thousand_instances_are_drawn_as_one_artist(irregular):
    coords = disc(100_000).float()
    if irregular:
        coords += 300 * torch.rand(coords.shape, generator=torch.Generator().manual_seed(0))
    bag = placed_bag(coords, images=False, y_inst=(coords[:, 0] < 20_000).long())
    figure = plot_attention_maps([bag])
    assert is_png(figure)
    (ax,) = panels(figure, "attention")
    if irregular:
        assert len(dots(ax).get_offsets()) == len(bag)
    else:
        assert np.isfinite(raster(ax)).sum() == len(bag)


def test_images_of_many_instances_are_made_small_enough():
    images = torch.rand(900, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    coords = grid(30, 30) * 12
    coords[-1] += 12 * 100
    bag = replace(placed_bag(coords), images=images)
    (ax,) = panels(plot_attention_maps([bag]), "images")
    assert raster(ax).size <= 4_000_000


def test_half_precision_and_gradients_are_taken():
    weights = torch.tensor([0.25, 0.75], dtype=torch.bfloat16, requires_grad=True)
    bag = placed_bag([[0, 0], [1, 1]], weights=weights, y_inst=torch.tensor([0, 1]))
    bag = replace(bag, images=DIGITS[:2].bfloat16().requires_grad_())
    figure = plot_attention_maps([bag])
    assert titles(figure)[-2] == "attention\nAUROC 1.000"
    np.testing.assert_array_equal(raster(panels(figure)[-2]).diagonal(), [0.5, 1.5])


def test_the_settings_of_matplotlib_stay_as_they_were():
    before = dict(mpl.rcParams)
    assert is_png(plot_attention_maps([placed_bag(grid(2, 2))]))
    assert dict(mpl.rcParams) == before


# input


def test_no_bags_and_no_models_are_refused():
    with pytest.raises(ValueError, match="at least one bag"):
        plot_attention_maps([])
    with pytest.raises(ValueError, match="at least one model"):
        plot_attention_comparison({})
    with pytest.raises(ValueError, match="at least one bag"):
        plot_attention_comparison({"a": [placed_bag(grid(2, 2))], "b": []})


def test_a_bag_without_coords_points_to_the_bars():
    bag = replace(placed_bag(grid(2, 2)), coords=None)
    with pytest.raises(ValueError, match=r"'bag': expected coords.*plot_attention_bars"):
        plot_attention_maps([bag])


@pytest.mark.parametrize(
    ("bags", "place"),
    [
        ([placed_bag(grid(2, 2)), placed_bag(grid(2, 2), bag_id="other")], 1),
        ([placed_bag(grid(2, 2) + 1), placed_bag(grid(2, 2))], 0),
        ([placed_bag(grid(2, 3)), placed_bag(grid(2, 2))], 0),
        ([placed_bag(grid(2, 2))], 1),
        ([placed_bag(grid(2, 2))] * 3, 2),
    ],
)
def test_models_of_other_instances_are_refused(bags, place):
    first = [placed_bag(grid(2, 2))] * 2
    with pytest.raises(ValueError, match=f"place {place} of 'Sm' than of 'gated'"):
        plot_attention_comparison({"gated": first, "Sm": bags})

"""Figures of attention over the places of the instances, beside the truth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from milforge.functional import segment_auroc
from milforge.plots.attention.attention_scale import attention_norm, dress_scale
from milforge.plots.attention.bag_strips import BagStrip, draw_row_label, predicted
from milforge.plots.attention.instance_positions import MOST_CELLS, Places, find_places
from milforge.plots.attention.map_panels import (
    BAND_TILES,
    TRUTH,
    draw_images,
    draw_ranks,
    draw_scale_bar,
    draw_slide,
    draw_tiles,
    draw_truth,
    frame_panel,
    title_panel,
)
from milforge.plots.style import as_pictures, check_any, label, new_figure, top_legend, value_range

BAND_WIDTH, BAND_HEIGHT, PANEL_WIDTH, LOWEST_ROW = 7.0, 0.3, 2.6, 1.2  # inches


@dataclass(frozen=True, eq=False)
class _Row:
    """One bag, under each model, as it is drawn."""

    bags: tuple[BagStrip, ...]
    places: Places
    attention: NDArray[np.float64]  # (models, n), 1 where uniform
    truth: NDArray[np.int64] | None  # of the instances drawn, a position in TRUTH
    images: NDArray[np.float32] | None  # of the instances drawn


def plot_attention_maps(bags: Sequence[BagStrip]) -> Figure:
    """The attention of one model over the places of the instances, a row a bag.

    As `plot_attention_comparison` of one model, whose prediction stands in the label of the row.
    Beside the map lies another of the rank of the weights, in which their order can be seen where
    all look alike on the scale.

    Args:
        bags: at least one, all with coords.

    Raises:
        ValueError: where there is no bag, or a bag has no coords.
    """
    return plot_attention_comparison({"attention": bags})


def plot_attention_comparison(bags: Mapping[str, Sequence[BagStrip]]) -> Figure:
    """The same bags under several models: images, truth and one map of attention a model.

    A row a bag. The images stand at their places, white and black as in `plot_bag_strips`; the
    truth is the instance labels. Slides, images or truth that no bag has are left out. A scale bar
    stands where the unit of the coords is known, except in bands. A map shows n times
    the attention weight, so 1 is the uniform weight 1 / n, on a logarithmic scale that the maps
    of a row share; it reaches from 0.5 to 2 at least, so that even attention looks even, and less
    than 0.1 looks like 0.1. The title of a map has the AUROC of the weights within the bag, where
    it has positive and negative instances.

    Instances on a grid are tiles, holes are white; others, such as nuclei, are dots. Where several
    share a place, the one of most attention is seen. Instances on a line along an axis are a band
    of tiles; where their spacing is irregular, tile beside tile in order. In a long band one image
    in so many is shown. Of a volume the 6 slices across the third axis with the most attention are
    drawn side by side, in order from the top left; where the third coordinates form no slices, the
    volume is seen along that axis.

    Args:
        bags: name of a model to its bags; at least one each, all with coords, the same instances
            in the same order for each model. Images and instance labels are the first model's.

    Raises:
        ValueError: where there is no model or no bag, a bag has no coords, or the bags of two
            models do not hold the same instances.
    """
    if not bags:
        raise ValueError("expected the bags of at least one model to draw, got none")
    names, models = list(bags), list(bags.values())
    _check_same(names, models)
    rows = [_row(under_each) for under_each in zip(*models, strict=True)]
    pictures = [row.images for row in rows if row.images is not None]
    black_white = value_range(pictures) if pictures else (0.0, 1.0)
    kinds = ["slide"] * any(_on_slide(row) for row in rows) + ["images"] * bool(pictures)
    kinds += ["truth"] * any(row.truth is not None for row in rows)
    last = len(kinds) + len(models)
    panels = last + (len(models) == 1)

    # Bands lie below each other, so that each is as long as can be; maps lie side by side.
    stacked = all(row.places.chain for row in rows)
    width = BAND_WIDTH if stacked else PANEL_WIDTH * panels
    heights = [_heights(row, kinds, panels - len(kinds), stacked) for row in rows]
    figure = new_figure(2.9 + width, 0.5 + sum(map(sum, heights)))
    ratios = [sum(of_row) for of_row in heights]
    outer = figure.add_gridspec(len(rows), 2, width_ratios=[2, width], height_ratios=ratios)
    for number, (row, of_row) in enumerate(zip(rows, heights, strict=True)):
        first = figure.add_subplot(outer[number, 0])
        draw_row_label(first, row.bags[0], notes=row.places.notes, verdict=len(models) == 1)
        split = (panels, 1) if stacked else (1, panels)
        inner = outer[number, 1].subgridspec(*split, height_ratios=of_row)
        axes = []
        if _on_slide(row):
            assert row.bags[0].slide is not None
            axes.append(figure.add_subplot(inner[0]))
            draw_slide(axes[-1], row.places, row.bags[0].slide)
        if row.images is not None:
            axes.append(figure.add_subplot(inner[kinds.index("images")]))
            step = math.ceil(row.places.shape[1] / BAND_TILES[stacked][1])
            step = step if row.places.chain else 1
            draw_images(axes[-1], row.places, row.images, black_white, step)
        if row.truth is not None:
            axes.append(figure.add_subplot(inner[kinds.index("truth")]))
            draw_truth(axes[-1], row.places, row.truth)
        maps = [figure.add_subplot(inner[panel]) for panel in range(len(kinds), last)]
        mappable = _draw_attention(maps, names, row)
        axes += maps
        if last < panels:
            axes.append(figure.add_subplot(inner[last]))
            draw_ranks(axes[-1], row.places, row.attention[0])
        for ax in axes:
            frame_panel(ax, row.places, stacked)
        if row.bags[0].unit is not None:
            draw_scale_bar(axes[0], row.places, row.bags[0].unit, row.bags[0].per_coord)
        _draw_scale(figure, axes, mappable, below=row.attention.min() < mappable.norm.vmin)
    shown = {code for row in rows if row.truth is not None for code in row.truth.tolist()}
    handles = [Patch(color=TRUTH[code][1], label=TRUTH[code][0]) for code in sorted(shown)[::-1]]
    if handles:
        top_legend(figure, handles)
    return figure


def _on_slide(row: _Row) -> bool:
    """Whether the part of the slide below the tiles is drawn."""
    return row.bags[0].slide is not None and row.places.origin is not None


def _check_same(names: Sequence[str], models: Sequence[Sequence[BagStrip]]) -> None:
    for name, bags in zip(names, models, strict=True):
        check_any(bags)
        for bag in bags:
            if bag.coords is None:
                raise ValueError(
                    f"bag {bag.bag_id!r}: expected coords to draw a map, got None: "
                    "plot_attention_bars draws bags whose instances have no places"
                )
        for number, (bag, first) in enumerate(zip_longest(bags, models[0])):
            if bag is None or first is None or not _same_instances(bag, first):
                raise ValueError(
                    f"expected the same bags with the same instances under each model, got another "
                    f"bag_id or other coords at place {number} of {name!r} than of {names[0]!r}: "
                    "give all models the same bags, in the same order"
                )


def _same_instances(one: BagStrip, other: BagStrip) -> bool:
    return one.bag_id == other.bag_id and np.array_equal(_points(one), _points(other))


def _points(bag: BagStrip) -> NDArray[np.float64]:
    """Coords `(n, 2)` or `(n, 3)`, found to be there."""
    assert bag.coords is not None
    return bag.coords.detach().cpu().double().numpy()


def _row(bags: tuple[BagStrip, ...]) -> _Row:
    attention = np.stack([bag.weights.detach().cpu().double().numpy() for bag in bags])
    relative = attention * attention.shape[1]
    places = find_places(_points(bags[0]), attention.sum(axis=0))
    labels = bags[0].y_inst
    truth = None
    if labels is not None and ((labels == 0) | (labels == 1)).any():
        codes = torch.where(labels == 1, 2, torch.where(labels == 0, 1, 0))
        truth = codes.cpu().numpy()[places.index]
    return _Row(bags, places, relative, truth, _thumbnails(bags[0], places))


def _thumbnails(bag: BagStrip, places: Places) -> NDArray[np.float32] | None:
    """The images of the instances drawn, small enough for all of them to be laid out."""
    if bag.images is None:
        return None
    height, width = places.shape
    most = max(1, math.isqrt(MOST_CELLS // (height * width)))
    images = bag.images[torch.from_numpy(places.index)].detach().cpu().float()
    size = min(images.shape[2], most), min(images.shape[3], most)
    return as_pictures(adaptive_avg_pool2d(images, size) if size != images.shape[2:] else images)


def _heights(row: _Row, kinds: Sequence[str], maps: int, stacked: bool) -> list[float]:
    """Inches of the panels that lie below each other, with their titles."""
    rows, columns = row.places.shape
    if not stacked:
        title = 0.45 if len(row.bags) == 1 else 0.6
        title += 0.25 * (row.bags[0].unit is not None)  # the scale bar
        return [max(title + PANEL_WIDTH * min(max(rows / columns, 0.3), 1.3), LOWEST_ROW)]
    fewest, most = BAND_TILES[stacked]
    tile = BAND_WIDTH / min(max(columns, fewest), most)
    inches = {"images": 0.3 + tile, "truth": 0.3 + BAND_HEIGHT}
    heights = [inches[kind] for kind in kinds] + [0.3 + BAND_HEIGHT] * maps
    return [height * max(1.0, LOWEST_ROW / sum(heights)) for height in heights]


def _draw_attention(maps: Sequence[Axes], names: Sequence[str], row: _Row) -> ScalarMappable:
    """A map a model, all on the scale of the one returned."""
    norm = attention_norm(row.attention)
    for ax, name, bag, attention in zip(maps, names, row.bags, row.attention, strict=True):
        values = attention[row.places.index]
        mappable = draw_tiles(ax, row.places, values, colormaps["viridis"], norm, stage="data")
        lines = [label(name, 30)]
        if len(maps) > 1:
            lines.append(predicted(bag))
        auroc = _auroc(bag, row.bags[0].y_inst)
        if not math.isnan(auroc):
            lines.append(f"AUROC {auroc:.3f}")
        title_panel(ax, row.places, *lines, wrong=len(maps) > 1 and bag.wrong)
    return mappable


def _draw_scale(
    figure: Figure, axes: Sequence[Axes], mappable: ScalarMappable, *, below: bool
) -> None:
    """The scale of attention to the right of the axes; a tip where there are values below it."""
    extend = "min" if below else "neither"
    bar = figure.colorbar(
        mappable, ax=axes, extend=extend, extendfrac=0.04, shrink=0.85, aspect=13, pad=0.02
    )
    dress_scale(bar, "n · attention\n(uniform: 1)")


def _auroc(bag: BagStrip, labels: Tensor | None) -> float:
    """AUROC of the weights within the bag; NaN where it is not defined."""
    if labels is None:
        return math.nan
    ptr = torch.tensor([0, len(bag)])
    return float(segment_auroc(bag.weights.detach().cpu(), labels.cpu(), ptr))

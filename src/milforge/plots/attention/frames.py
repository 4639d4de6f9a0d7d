"""Numbered frames around the patches in the view of a large image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from milforge.plots.style import INK, ORANGE

NUMBER = 6.5  # points
MARGIN = 0.22  # around a number, of its size
MOST_JOINED = 3  # numbers at one place
COVERING = 60.0  # points that a number is rather moved than to hide a frame
DIRECTIONS = 32
BADGE: dict[str, Any] = {
    "fontsize": NUMBER,
    "color": INK,
    "weight": "bold",
    "bbox": {"boxstyle": f"square,pad={MARGIN}", "facecolor": ORANGE, "edgecolor": "none"},
}


def frames_in_view(
    offsets: NDArray[np.int64],
    patch_size: tuple[int, int],
    high_size: tuple[int, int],
    low_size: tuple[int, int],
) -> NDArray[np.float64]:
    """The part of each patch within the image, in pixels of the view as `imshow` counts them.

    Args:
        offsets: `(n, 2)` row and column of the upper left corners at full resolution.
        patch_size: height and width of a patch at full resolution.
        high_size: height and width of the image at full resolution.
        low_size: height and width of the view.

    Returns:
        `(n, 4)` left, top, right, bottom; 0 is the centre of the first pixel. The right lies not
        beyond the left where a patch lies outside of the image, nor the bottom beyond the top.

    Example:
        >>> frames_in_view(np.array([[-10, 50]]), (20, 20), (100, 100), (10, 10))
        array([[ 4.5, -0.5,  6.5,  0.5]])
    """
    high = np.asarray(high_size)
    corners = np.stack([offsets, offsets + np.asarray(patch_size)]).clip(0, high)
    rows_columns = corners * (np.asarray(low_size) / high) - 0.5
    return np.concatenate(rows_columns[..., ::-1], axis=1)


def draw_frames(ax: Axes, frames: NDArray[np.float64], points_per_pixel: float) -> None:
    """Frames numbered from 1, one for equal ones; no number lies on another.

    Args:
        ax: with the view, of known size.
        frames: `(n, 4)` as `frames_in_view` returns them.
        points_per_pixel: size at which a pixel of the view is drawn.
    """
    left, top, right, bottom = np.asarray(ax.viewLim.extents)
    corner = np.array([min(left, right), min(top, bottom)])
    panel = abs(right - left) * points_per_pixel, abs(bottom - top) * points_per_pixel
    numbers: dict[tuple[float, ...], list[int]] = {}
    for number, frame in enumerate(frames.tolist(), start=1):
        numbers.setdefault(tuple(frame), []).append(number)
    names = [_joined(of_frame) for of_frame in numbers.values()]
    apart = np.asarray(list(numbers))
    dark = [withStroke(linewidth=1.8, foreground=INK)]
    for x0, y0, x1, y1 in apart:
        line = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=ORANGE, linewidth=0.9)
        line.set(path_effects=dark, clip_on=False)
        ax.add_patch(line)
    boxes = (apart - np.tile(corner, 2)) * points_per_pixel
    for name, box, centre in zip(names, boxes, place_numbers(boxes, names, panel), strict=True):
        end = np.clip(centre, box[:2], box[2:])
        if np.abs(end - centre).max() > NUMBER:
            x, y = np.stack([centre, end], axis=1) / points_per_pixel + corner[:, None]
            ax.plot(x, y, color=ORANGE, linewidth=0.9, path_effects=dark, zorder=3)
        x, y = centre / points_per_pixel + corner
        ax.text(x, y, name, ha="center", va="center_baseline", zorder=4, **BADGE)


def _joined(numbers: Sequence[int]) -> str:
    more = "…" if len(numbers) > MOST_JOINED else ""
    return " ".join(map(str, numbers[:MOST_JOINED])) + more


def place_numbers(
    boxes: NDArray[np.float64], names: Sequence[str], panel: tuple[float, float]
) -> NDArray[np.float64]:
    """Where the number of each frame stands: at a corner within, or around it, as near as can be.

    Args:
        boxes: `(n, 4)` left, top, right, bottom of the frames in points.
        names: their n numbers.
        panel: width and height within which the numbers stay.

    Returns:
        `(n, 2)` centres in points.
    """
    angles = 2 * np.pi * (np.arange(DIRECTIONS) / DIRECTIONS - 3 / 8)  # the upper left first
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    circle /= np.abs(circle).max(axis=1, keepdims=True)
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1.0)
    taken = np.empty((0, 4))
    centres = np.empty((len(boxes), 2))
    for number in np.lexsort((boxes[:, 0], boxes[:, 1])):
        box, half = boxes[number], _half_size(names[number])
        middle, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        gaps = np.arange(1.5, max(panel), 3.0)
        around = [circle * (reach + half + gap) for gap in gaps]
        within = [circle[:: DIRECTIONS // 4] * (reach - half)] if (reach > 2 * half).all() else []
        moved = np.concatenate([*within, *around])
        spots = (middle + moved).clip(half, np.maximum(np.asarray(panel) - half, half))
        rectangles = np.concatenate([spots - half, spots + half], axis=1)
        end = spots.clip(box[:2], box[2:])
        hidden = (_overlap(rectangles, boxes) / areas).sum(axis=1)
        cost = np.linalg.norm(spots - end, axis=1) + COVERING * hidden
        cost += 1e6 * (_overlap(rectangles, taken) > 0).any(axis=1)
        best = int(cost.argmin())
        centres[number] = spots[best]
        taken = np.concatenate([taken, rectangles[best : best + 1]])
    return centres


def _half_size(name: str) -> NDArray[np.float64]:
    """Half the width and height of a number with its margin and a little air, in points."""
    return NUMBER * np.array([0.35 * len(name) + MARGIN + 0.1, 0.6 + MARGIN + 0.05])


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that each of m rectangles shares with each of n, `(m, n)`."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    area: NDArray[np.float64] = (high - low).clip(0).prod(axis=2)
    return area

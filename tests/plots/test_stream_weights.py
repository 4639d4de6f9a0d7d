from io import BytesIO

import numpy as np
import pytest

from milforge.plots import plot_stream_weights
from milforge.plots.style import line_style

HISTORY = {
    "train/weight_uni": [(0, 0.5), (1, 0.7), (2, 0.9)],
    "val/weight_uni": [(0, 0.6), (1, 0.8), (2, float("nan"))],
    "val/weight_conch_v1.5": [(2, -0.1), (0, 0.5), (1, 0.2)],
    "test/weight_uni": [(2, 0.9)],
    "val/loss": [(0, 1.0)],
    "lr": [(0, 1e-3)],
}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_streams_have_colours_and_stages_have_dashes():
    figure = plot_stream_weights(HISTORY)
    (ax,) = figure.axes
    assert legend(figure) == ["conch_v1.5", "uni", "train", "val"]
    drawn = [(line.get_color(), line.get_linestyle()) for line in ax.lines]
    conch, uni = (line_style(number)[0] for number in (0, 1))
    assert drawn == [(uni, "--"), (uni, "-"), (conch, "-")]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.6, 0.8, np.nan])
    np.testing.assert_allclose(ax.lines[2].get_xydata(), [[0, 0.5], [1, 0.2], [2, -0.1]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "weight, mean over bags")
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_the_best_epoch_is_marked_where_it_is_known():
    figure = plot_stream_weights(HISTORY, best_epoch=1)
    assert legend(figure)[-1] == "best epoch: 1"
    assert list(figure.axes[0].lines[-1].get_xdata()) == [1, 1]


def test_long_names_and_mathematics_stay_within_the_figure():
    figure = plot_stream_weights({f"val/weight_{name * 30}": [(0, 0.5)] for name in ("a$", "b_")})
    assert all(len(text) < 60 for text in legend(figure))
    figure.savefig(BytesIO(), format="png")


@pytest.mark.parametrize("history", [{}, {"val/loss": [(0, 1.0)]}, {"val/weight_uni": []}])
def test_without_weights_there_is_nothing_to_draw(history):
    with pytest.raises(ValueError, match="expected a history with weights of streams"):
        plot_stream_weights(history)

from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
import torch

from milforge.plots import plot_predicted


def png(figure):
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def random_numbers(outputs=1, bags=30):
    generator = torch.Generator().manual_seed(0)
    y = 20 + 60 * torch.rand(bags, outputs, generator=generator)
    p = y + 5 * torch.randn(bags, outputs, generator=generator)
    return (p[:, 0], y[:, 0]) if outputs == 1 else (p, y)


def test_dots_are_the_bags_and_the_dashed_line_is_where_they_should_be():
    p, y = random_numbers()
    (ax,) = plot_predicted(p, y, ["age"]).axes
    np.testing.assert_allclose(ax.collections[0].get_offsets(), torch.stack([y, p], 1), rtol=1e-6)
    line = ax.lines[0].get_xydata()
    np.testing.assert_array_equal(line[:, 0], line[:, 1])
    assert ax.get_xlim() == ax.get_ylim() == tuple(line[:, 0])
    assert line[0, 0] < min(p.min(), y.min())
    assert line[1, 0] > max(p.max(), y.max())
    error = float((p - y).abs().mean())
    assert ax.get_title().splitlines() == ["age", f"mean absolute error {error:.3g}, n = 30"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("true", "predicted")


def test_one_panel_a_column():
    p, y = random_numbers(4)
    figure = plot_predicted(p, y, list("abcd"))
    assert [ax.get_title()[0] for ax in figure.axes] == list("abcd")
    for number, ax in enumerate(figure.axes):
        drawn = np.asarray(ax.collections[0].get_offsets())
        np.testing.assert_allclose(drawn[:, 1], p[:, number], rtol=1e-6)
    assert png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9])
def test_numbers_that_are_all_alike(value):
    figure = plot_predicted(torch.full((1,), value), torch.full((1,), value), ["x"])
    low, high = figure.axes[0].get_xlim()
    assert low < value < high
    assert png(figure).startswith(b"\x89PNG")


def test_the_more_dots_the_fainter():
    def strength(bags):
        return plot_predicted(*random_numbers(bags=bags), ["x"]).axes[0].collections[0].get_alpha()

    assert strength(10) == strength(500) > strength(2000) > strength(50000) > 0.1


def test_arrays_gradients_and_half_precision_are_taken():
    p, y = random_numbers()
    half = plot_predicted(p.bfloat16().requires_grad_(), y.double().numpy(), ["x"])
    assert len(half.axes[0].collections[0].get_offsets()) == 30


@pytest.mark.parametrize(
    ("p", "y", "names", "message"),
    [
        ((3,), (4,), ["a"], r"in 1 columns, got shapes \(3, 1\) and \(4, 1\)"),
        ((3, 2), (3, 2), ["a"], "in 1 columns"),
        ((0,), (0,), ["a"], "at least one bag"),
    ],
)
def test_parts_that_do_not_fit_are_refused(p, y, names, message):
    with pytest.raises(ValueError, match=message):
        plot_predicted(torch.zeros(p), torch.zeros(y), names)


def test_what_is_not_finite_is_refused():
    bad, good = torch.tensor([torch.nan, 1, torch.inf]), torch.ones(3)
    with pytest.raises(ValueError, match="finite predictions, got 2 that are NaN"):
        plot_predicted(bad, good, ["a"])
    with pytest.raises(ValueError, match="finite labels, got 2"):
        plot_predicted(good, bad, ["a"])


def test_the_settings_of_matplotlib_stay_as_they_were():
    before = dict(mpl.rcParams)
    png(plot_predicted(*random_numbers(), [r"$\bad$"]))
    assert dict(mpl.rcParams) == before

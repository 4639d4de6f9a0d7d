"""Deletion and insertion curves against a bag whose logit is a sum."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from milforge.maps.checks.faithfulness import agreement, area, areas_of, curves_of, kept, shares
from milforge.maps.checks.faithfulness_files import areas_table, draw_curves, write_curves

ADDED = np.random.default_rng(0).normal(size=37)


def logits_of(parts):
    return np.array([ADDED[part].sum() for part in parts])


def make_curves(seed=0):
    return curves_of({"contribution": ADDED, "attention": -ADDED}, logits_of, seed)


def test_curves_are_those_of_the_tiles_that_are_left():
    curves = make_curves()
    assert set(curves) == {
        (score, curve)
        for score in ("contribution", "attention", "random")
        for curve in ("deletion", "insertion")
    }
    falling = np.sort(ADDED)[::-1]
    for share, low, high in zip(
        shares(), curves["contribution", "deletion"], curves["contribution", "insertion"],
        strict=True,
    ):  # fmt: skip
        count = round(share * 37)
        assert high == pytest.approx(falling[:count].sum())
        assert low == pytest.approx(falling[37 - count :].sum())
    # The other way round is the mirror image, and a random order lies between.
    np.testing.assert_allclose(curves["attention", "insertion"], curves["contribution", "deletion"])
    for each in curves.values():
        assert each[-1] == pytest.approx(ADDED.sum())
    areas = areas_of([curves, make_curves(1)])
    assert (
        areas["faithfulness/deletion/contribution"]
        < areas["faithfulness/deletion/random"]
        < areas["faithfulness/deletion/attention"]
    )
    assert (
        areas["faithfulness/insertion/contribution"]
        > areas["faithfulness/insertion/random"]
        > areas["faithfulness/insertion/attention"]
    )
    assert areas["faithfulness/deletion/contribution"] == pytest.approx(
        area(curves["contribution", "deletion"])
    )


def test_tiles_that_are_left_stay_in_their_order():
    """A model that looks at the order says of all of them what it says of the bag."""
    weight = np.arange(37.0)

    def logits_of(parts):
        return np.array([ADDED[part] @ weight[: len(part)] for part in parts])

    for each in curves_of({"contribution": ADDED}, logits_of).values():
        assert each[-1] == pytest.approx(ADDED @ weight)


def test_random_orders_are_the_same_again_and_others_with_another_seed():
    one, same, other = (make_curves(seed)["random", "deletion"] for seed in (0, 0, 1))
    assert one.tolist() == same.tolist() == make_curves()["random", "insertion"].tolist()
    assert one.tolist() != other.tolist()


def test_something_is_always_left():
    for curve in ("deletion", "insertion"):
        assert all(len(part) >= 1 for part in kept(np.array([1, 0]), curve))


def test_agreement_is_a_rank_correlation():
    assert agreement([ADDED, ADDED**3]) == pytest.approx(1)
    assert agreement([ADDED, -ADDED]) == pytest.approx(-1)
    assert np.isnan(agreement([ADDED, np.ones(37)]))


def test_what_is_written_of_them(tmp_path):
    curves = make_curves()
    write_curves(tmp_path / "a.parquet", {"a": curves, "b": make_curves(1)})
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert len(rows) == 2 * 6 * 10
    own = [
        row["logit"]
        for row in rows
        if (row["bag_id"], row["score"], row["curve"]) == ("a", "attention", "deletion")
    ]
    assert own == curves["attention", "deletion"].tolist()
    deletion, insertion = draw_curves([curves]).axes
    assert [line.get_label() for line in deletion.lines] == ["contribution", "attention", "random"]
    np.testing.assert_allclose(insertion.lines[0].get_ydata(), curves["contribution", "insertion"])
    measured = {**areas_of([curves]), "faithfulness/agreement/contribution": 0.25}
    text = "".join(areas_table(measured, 1))
    assert '<th scope="col">agreement</th>' in text
    assert f"<td>{measured['faithfulness/deletion/random']:.4g}</td>" in text
    assert "<td>0.25</td>" in text

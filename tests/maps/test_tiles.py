"""Which bags can be mapped, and what is said of the others."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from milforge.maps.checks.written import check_agreement, expected, written_rows
from milforge.maps.choose import Judged, choose
from milforge.maps.tiles import corners_of, folder_of, side_of


@pytest.mark.parametrize(
    ("coords", "slide", "message"),
    [
        (None, None, "it has no coords"),
        (torch.tensor([[0.0, 1, 1], [0, 1, 2]]), None, "a map is of a plane"),
        (torch.tensor([[0.0, float("nan")]]), None, "NaN or infinity"),
        (torch.zeros(2, 2), torch.tensor([0, 1]), "it holds several slides"),
    ],
)
def test_coords_that_are_no_map(coords, slide, message):
    with pytest.raises(ValueError, match=message):
        corners_of(coords, slide)


def test_corners_and_sides():
    coords = torch.tensor([[448, 0, 3], [896, 0, 3], [896, 448, 3]])
    corners = corners_of(coords, torch.zeros(3))
    assert corners.tolist() == [[448, 0], [896, 0], [896, 448]]
    assert side_of(corners, None) == 448
    assert side_of(corners, 512.0) == 512
    with pytest.raises(ValueError, match="a single tile does not tell its size: give tile_size"):
        side_of(corners[:1], None)
    with pytest.raises(ValueError, match=r"do not tell the size of a tile.*give tile_size"):
        side_of(corners[[0, 0]], None)


@pytest.mark.parametrize(
    "name", ["../up", "/etc", "a\\b", "..", ".", " ", "a:b", "x\n", "a.", "NUL\0"]
)
def test_names_that_are_no_folder(name):
    with pytest.raises(ValueError, match="cannot be that of a folder: rename the bag"):
        folder_of(name)


def test_names_too_long_or_taken():
    with pytest.raises(ValueError, match="too long"):
        folder_of("ä" * 100)
    with pytest.raises(ValueError, match="cannot be"):
        folder_of("index.html")
    assert folder_of("TCGA-3C (b), 7 é") == "TCGA-3C (b), 7 é"


NAN = float("nan")
NAMES = [f"bag {i}" for i in range(8)]
JUDGED = Judged(
    NAMES,
    np.array([0.1, 0.9, 0.4, 0.6, NAN, 0.05, 0.7, 0.2]),
    np.array([0.0, 1.0, 0.0, 1.0, NAN, 0.0, 1.0, 0.0]),
    np.array([0.9, 0.9, 0.6, 0.6, 0.99, 0.95, 0.7, 0.8]),
)
NOTHING = Judged(NAMES, *(np.full(8, NAN) for _ in range(3)))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, [1, 6, 3, 5, 0, 7]),  # the worst three and the best three
        ("wrong", [1, 6, 3]),
        ("most_certain", [4, 5, 0, 1, 7, 6]),
        (["bag 3", "bag 1", "bag 3"], [3, 1]),
        ("bag 2", [2]),
    ],
)
def test_bags_are_chosen(wanted, expected):
    assert choose(wanted, JUDGED) == (expected, {})


def test_what_cannot_be_chosen():
    chosen, missing = choose(["bag 1", "else"], JUDGED)
    assert chosen == [1]
    assert missing == {"else": "there is no such bag among those that the checkpoint is to predict"}
    with pytest.raises(ValueError, match="bags=wrong: no bag has both"):
        choose("wrong", NOTHING)
    with pytest.raises(ValueError, match="bags=most_certain: the task has no probabilities"):
        choose("most_certain", NOTHING)
    assert choose(None, NOTHING)[0] == [0, 1, 2, 3, 4, 5]
    few = Judged(
        NAMES[:2], *(getattr(JUDGED, each)[:2] for each in ("error", "wrong", "certainty"))
    )
    assert choose(None, few) == ([1, 0], {})  # none twice


def write_run(folder, rows, checkpoint="checkpoints/best.ckpt"):
    (folder / "predictions").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "predictions" / "bags.parquet")
    (folder / "summary.json").write_text(json.dumps({"checkpoint": checkpoint}))
    return str(folder / "checkpoints" / "best.ckpt")


def row(bag, p, part="test"):
    known = {"bag_id": bag, "part": part, "patient": None, "size": 3, "order": 0}
    return {**known, "probability_1": p, "logit_0": 2 * p}


def test_predictions_are_found_and_averaged(tmp_path):
    first = written_rows(write_run(tmp_path / "a", [row("x", 0.2), row("x", 0.9, "val")]))
    second = written_rows(write_run(tmp_path / "b", [row("x", 0.4), row("y", 0.5)]))
    assert expected([first], "x", "test") == {"probability_1": 0.2, "logit_0": 0.4}
    assert expected([first], "x", "train")["probability_1"] == 0.2
    assert expected([first], "x", "test", averaged=True) == {"probability_1": 0.2}
    assert expected([first, second], "x", "test") == {"probability_1": pytest.approx(0.3)}
    assert expected([first, second], "y", "test") is None
    assert expected([first, None], "x", "test") is None
    assert written_rows(write_run(tmp_path / "c", [row("x", 0.2)], "last.ckpt")) is None
    assert written_rows(str(tmp_path / "alone.ckpt")) is None
    (tmp_path / "a" / "predictions" / "bags.parquet").write_bytes(b"half")
    with pytest.raises(ValueError, match="is damaged"):
        written_rows(str(tmp_path / "a" / "checkpoints" / "best.ckpt"))


def test_a_prediction_is_that_of_the_file_or_is_refused():
    check_agreement(
        {"probability_1": 0.2004, "t": float("inf")}, {"probability_1": 0.2, "t": float("inf")}
    )
    with pytest.raises(
        ValueError, match=r"not the one in the run's .*probability_1 is 0.3, there 0.2"
    ):
        check_agreement({"probability_1": 0.3}, {"probability_1": 0.2})
    with pytest.raises(ValueError, match="not the one"):
        check_agreement({"probability_1": NAN}, {"probability_1": 0.2})
    with pytest.raises(ValueError, match="has other columns"):
        check_agreement({"risk": 1.0}, {"probability_1": 0.2})

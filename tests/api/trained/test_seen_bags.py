"""Which bags a checkpoint has seen, from the split that it keeps."""

import pytest

from milforge.api.trained.seen_bags import check_new_bags, out_of_fold, seen_by
from milforge.data import Split


def stored(*parts, calibrated=False):
    names = ("train", "val", "test", "calibration")
    task = {"calibration": {"temperature": 1.0} if calibrated else None}
    return {"split": dict(zip(names, parts, strict=True)), "task": task}


def test_bags_held_back_to_calibrate_are_seen_by_what_was_calibrated_with_them():
    parts = (["a"], ["b"], ["c"], ["d"])
    assert seen_by(stored(*parts)) == {"a", "b"}
    assert seen_by(stored(*parts, calibrated=True)) == {"a", "b", "d"}
    assert seen_by({"split": None, "task": {}}) == set()


@pytest.mark.parametrize(("calibrated", "expected"), [(False, (0, 1)), (True, (1,))])
def test_they_are_then_predicted_by_others(calibrated, expected):
    folds = out_of_fold(
        {
            "0": stored(["a"], ["b"], ["c"], ["d"], calibrated=calibrated),
            "1": stored(["c"], ["b"], ["a"], [], calibrated=calibrated),
        }
    )
    folds.choose(["a", "b", "c", "d"], None)
    assert folds.members["d"] == expected


def test_bags_of_any_part_are_known_and_none_is_left_out_unasked():
    before = stored(["a"], ["b"], ["c"], ["d"])["split"]
    check_new_bags(Split(("d",), ("a",), ("c",), ("b",)), before, [])
    for split in (Split(("x",), (), ("c",)), Split((), (), ("c",), ("x",))):
        with pytest.raises(ValueError, match=r"1 bags, x among them, are new to the checkpoint"):
            check_new_bags(split, before, [])
        check_new_bags(split, before, ["split=all"])
    check_new_bags(Split(("a",), (), ("x",)), before, [])

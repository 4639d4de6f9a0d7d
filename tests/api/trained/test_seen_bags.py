"""Which bags a checkpoint has seen, from the split that it keeps."""

import pytest

from milforge.api.trained.seen_bags import (
    check_new_bags,
    out_of_fold,
    seen_by,
    seen_in_training,
)
from milforge.data import Split
from milforge.training.data.labelled_parts import BagInfo


def stored(*parts, calibrated=False, bag="slide"):
    names = ("train", "val", "test", "calibration")
    task = {"calibration": {"temperature": 1.0} if calibrated else None}
    split = dict(zip(names, parts, strict=True))
    return {"split": split, "task": task, "config": {"data": {"bag": bag}}}


class Data:
    """What is asked of a DataModule: the names of its test bags, and what is known of them."""

    def __init__(self, known):
        self.split = Split((), (), tuple(known))
        self.known = known

    def info(self, part, bag_id):
        assert part == "test"
        return self.known[bag_id]


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


SLIDES = {"s1": BagInfo("p"), "s2": BagInfo("p"), "s3": BagInfo("q"), "p": BagInfo("r")}
PATIENTS = {"p": BagInfo("p", {"slides": "s1;s2"}), "q": BagInfo("q", {"slides": "s3"})}


@pytest.mark.parametrize(
    ("trained", "parts", "kind", "known", "expected"),
    [
        ("slide", (["s2"], ["p"]), "slide", SLIDES, 2),
        ("patient", (["q"], ["p"]), "patient", PATIENTS, 2),
        ("slide", (["s2"], ["s9"]), "patient", PATIENTS, 1),
        ("patient", (["p"], ["x"]), "slide", SLIDES, 2),  # the slide that is called so is of r
        ("slide", (["s9"], []), "patient", PATIENTS, None),
        (None, (["s1"], []), None, SLIDES, 1),  # a data set without that option
    ],
)
def test_a_patient_was_seen_with_a_slide_and_a_slide_with_its_patient(
    trained, parts, kind, known, expected
):
    checkpoints = {"0": stored(*parts, [], [], bag=trained)}
    found = seen_in_training(checkpoints, Data(known), kind)
    assert (None if found is None else found["bags"]) == expected


def test_bags_of_another_kind_are_not_taken_for_unseen():
    checkpoints = {"cv/0": stored(["s1"], ["s2"], ["s3"], [])}
    with pytest.raises(
        ValueError, match=r"cv/0 was trained with data\.bag=slide, .*=patient it has"
    ):
        out_of_fold(checkpoints, "patient")
    assert out_of_fold(checkpoints, "slide").seen == [{"s1", "s2"}]

"""Labels that are one class but for their spelling."""

import numpy as np
import pytest

from milforge.data.labels import LabelError, Labels
from milforge.tasks import Auto, Binary


def labels(*texts):
    return Labels({"label": np.array(texts)})


@pytest.mark.parametrize("make", [Auto, Binary])
def test_spellings_that_differ_in_case_or_spaces_are_no_classes(make):
    given = labels("yes", "no", "Yes", "yes", "no", "", "N o", "n  o")
    with pytest.raises(
        LabelError, match="one spelling of each label, got 'Yes' beside 'yes': wr"
    ) as caught:
        make().resolve(given).encode(given)
    assert sorted(caught.value.problems) == [2, 5, 7]
    assert "'n  o' beside 'N o'" in caught.value.problems[7][0]
    rest = given.take([0, 1, 3, 4])
    assert make().resolve(rest).encode(rest).tolist() == [1, 0, 1, 0]


def test_spellings_that_the_config_names_are_classes():
    given = labels("a", "A", "a")
    assert Auto(["a", "A"]).resolve(given).encode(given).tolist() == [0, 1, 0]

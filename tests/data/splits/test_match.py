"""Names of bags as tools write them into split files."""

import pytest

from milforge.data.splits.match import match_ids


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1020", "1020"),
        ("1020.0", "1020"),
        ("1020.svs", "1020"),
        ("1020.h5", "1020"),
        (" 1020 ", "1020"),
        ("1020.0.h5", "1020"),
        ("12", "12"),
        ("12.00", "12.00"),
        ("a.svs", "a.svs"),  # a name that there is stands for itself
        ("b.0", "b.0"),
        ("1021.0", "1021.0"),
    ],
)
def test_a_name_is_that_of_a_bag_or_stays(name, expected):
    assert match_ids([name], ["1020", "12", "12.00", "a", "a.svs"]) == (expected,)

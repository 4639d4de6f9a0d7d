"""The split that a config asks for."""

import pytest

from milforge.data import Split, Splitting, kfold_splits, monte_carlo_splits, write_split

IDS = [f"bag {i}" for i in range(40)]
LABELS = [0, 1] * 20
GROUPS = [f"patient {i // 2}" for i in range(40)]


@pytest.mark.parametrize("fold", [0, 3, 4, 9])
def test_folds_are_those_of_the_cross_validation(fold):
    splitting = Splitting(fold=fold, folds=5, repeats=2, val_share=0.2, seed=7)
    expected = kfold_splits(IDS, LABELS, GROUPS, folds=5, repeats=2, val_share=0.2, seed=7)
    assert splitting.choose(IDS, LABELS, GROUPS) == expected[fold]


def test_random_splits():
    splitting = Splitting(fold=2, random_splits=3, test_share=0.25, val_share=0.25, seed=1)
    options = {"splits": 3, "test_share": 0.25, "val_share": 0.25, "seed": 1}
    assert splitting.choose(IDS, LABELS) == monte_carlo_splits(IDS, LABELS, None, **options)[2]


def test_a_file_is_read_and_checked(tmp_path):
    split = Split(tuple(IDS[:20]), tuple(IDS[20:30]), tuple(IDS[30:]))
    write_split(split, tmp_path / "splits_4.csv")
    splitting = Splitting(tmp_path, fold=4)
    assert splitting.choose(IDS, LABELS, GROUPS) == split
    strangers = ["patient 0"] * 40
    with pytest.raises(ValueError, match="patient 0"):
        splitting.choose(IDS, LABELS, strangers)
    with pytest.raises(FileNotFoundError, match="splits_5"):
        Splitting(tmp_path, fold=5).choose(IDS, LABELS)


@pytest.mark.parametrize("options", [{"fold": 5}, {"fold": -1}, {"fold": None}])
def test_a_fold_that_there_is_not(options):
    with pytest.raises(ValueError, match=r"data\.fold from 0 to 4"):
        Splitting(**options)
    with pytest.raises(ValueError, match=r"data\.fold from 0 to 2"):
        Splitting(fold=3, random_splits=3)

"""The split that a config asks for."""

import pytest

from milforge.data import (
    AllBags,
    KFold,
    RandomSplit,
    Split,
    SplitFiles,
    kfold_splits,
    monte_carlo_splits,
    write_split,
)

IDS = [f"bag {i}" for i in range(40)]
LABELS = [0, 1] * 20
GROUPS = [f"patient {i // 2}" for i in range(40)]


def parts(split):
    return split.train, split.val, split.test


@pytest.mark.parametrize("fold", [0, 3, 4, 9])
def test_folds_are_those_of_the_cross_validation(fold):
    splitter = KFold(fold=fold, folds=5, repeats=2, val_share=0.2, seed=7)
    expected = kfold_splits(IDS, LABELS, GROUPS, folds=5, repeats=2, val_share=0.2, seed=7)
    assert splitter.choose(IDS, LABELS, GROUPS) == expected[fold]


@pytest.mark.parametrize("fold", [0, 2])
def test_random_splits(fold):
    splitter = RandomSplit(fold=fold, test_share=0.25, val_share=0.25, seed=1)
    options = {"splits": 3, "test_share": 0.25, "val_share": 0.25, "seed": 1}
    assert splitter.choose(IDS, LABELS) == monte_carlo_splits(IDS, LABELS, None, **options)[fold]
    of_patients = monte_carlo_splits(IDS, LABELS, GROUPS, **options)[fold]
    assert splitter.choose(IDS, LABELS, GROUPS) == of_patients


@pytest.mark.parametrize(
    ("splitter", "draw"),
    [
        (KFold(fold=1), lambda labels, stratify: kfold_splits(IDS, labels, stratify=stratify)),
        (
            RandomSplit(fold=1),
            lambda labels, stratify: monte_carlo_splits(IDS, labels, splits=2, stratify=stratify),
        ),
    ],
)
def test_classes_are_spread_evenly_where_there_are_any_and_it_is_asked_for(splitter, draw):
    rare = [1] * 5 + [0] * 35
    assert splitter.choose(IDS, rare) == draw(rare, True)[1]
    free = draw([0] * 40, False)[1]
    assert splitter.choose(IDS, None) == free  # as of a task of numbers
    assert type(splitter)(fold=1, stratify=False).choose(IDS, rare) == free


def test_a_file_is_read_and_checked(tmp_path):
    split = Split(tuple(IDS[:20]), tuple(IDS[20:30]), tuple(IDS[30:]))
    write_split(split, tmp_path / "splits_4.csv")
    splitter = SplitFiles(str(tmp_path), fold=4)
    assert splitter.choose(IDS, LABELS, GROUPS) == split
    assert splitter.choose(IDS, None, GROUPS) == split
    assert SplitFiles(str(tmp_path / "splits_4.csv")).choose(IDS, LABELS) == split
    strangers = ["patient 0"] * 40
    with pytest.raises(ValueError, match="patient 0"):
        splitter.choose(IDS, LABELS, strangers)
    with pytest.raises(ValueError, match=r"not in the data: bag 39"):
        splitter.choose(IDS[:39], LABELS[:39])
    with pytest.raises(ValueError, match=rf"^split.path={tmp_path}: expected a split into"):
        splitter.choose(IDS[:39], LABELS[:39])
    with pytest.raises(FileNotFoundError, match="splits_5"):
        SplitFiles(str(tmp_path), fold=5).choose(IDS, LABELS)


def test_the_names_of_a_file_may_have_suffixes(tmp_path):
    written = [f"{name}.svs" for name in IDS]
    write_split(Split(tuple(written[:30]), (), tuple(written[30:])), tmp_path / "s.csv")
    splitter = SplitFiles(str(tmp_path / "s.csv"))
    assert splitter.choose(IDS, LABELS) == Split(tuple(IDS[:30]), (), tuple(IDS[30:]))
    rest = splitter.choose(IDS[1:], LABELS[1:], None, [IDS[0]])
    assert rest.train == tuple(IDS[1:30])


def test_the_split_of_a_run_in_the_home_folder(tmp_path, monkeypatch):
    split = Split(tuple(IDS[:20]), (), tuple(IDS[20:]))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_split(split, tmp_path / "splits.csv")
    assert SplitFiles("~").choose(IDS, LABELS) == split


def test_all_bags_are_test_bags():
    assert AllBags().choose(IDS, LABELS, GROUPS) == Split((), (), tuple(IDS))
    assert AllBags().choose(IDS, None) == Split((), (), tuple(IDS))
    assert AllBags().choose([], None) == Split((), (), ())


@pytest.mark.parametrize("kind", ["kfold", "random", "files", "all"])
def test_without_faulty_bags_the_others_stay_where_they_are(tmp_path, kind):
    write_split(Split(tuple(IDS[:20]), tuple(IDS[20:30]), tuple(IDS[30:])), tmp_path / "s.csv")
    splitter = {
        "kfold": KFold(fold=2),
        "random": RandomSplit(fold=1),
        "files": SplitFiles(str(tmp_path / "s.csv")),
        "all": AllBags(),
    }[kind]
    whole = splitter.choose(IDS, LABELS, GROUPS)
    gone = {IDS[0], IDS[25], IDS[39], "a bag that there never was"}
    rest = splitter.choose(IDS, LABELS, GROUPS, gone)
    for before, after in zip(parts(whole), parts(rest), strict=True):
        assert after == tuple(bag for bag in before if bag not in gone)


def test_a_file_may_name_a_faulty_bag_that_is_gone(tmp_path):
    write_split(Split(tuple(IDS[:20]), (), tuple(IDS[20:])), tmp_path / "s.csv")
    splitter = SplitFiles(str(tmp_path / "s.csv"))
    assert splitter.choose(IDS[1:], LABELS[1:], None, [IDS[0]]).train == tuple(IDS[1:20])


@pytest.mark.parametrize("fold", [10, -1])
def test_a_fold_that_there_is_not(fold):
    with pytest.raises(ValueError, match=rf"^expected split\.fold from 0 to 9, got {fold}$"):
        KFold(fold=fold, repeats=2)


def test_random_splits_have_any_number_but_a_negative_one():
    RandomSplit(fold=1000)
    with pytest.raises(ValueError, match=r"^expected split\.fold of at least 0, got -1$"):
        RandomSplit(fold=-1)

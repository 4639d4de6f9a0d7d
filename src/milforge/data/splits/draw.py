"""Which bags a network is fitted on, selected by, and reported on."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The bags of the parts, by id.

    Args:
        train: bags to fit on.
        val: bags to select and stop by; there may be none.
        test: bags to report on.
        calibration: bags held back to fit temperature and conformal sets on; there may be none.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    calibration: tuple[str, ...] = ()


def kfold_splits(
    ids: Sequence[str],
    labels: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    folds: int = 5,
    repeats: int = 1,
    val_share: float = 0.1,
    calibration_share: float = 0,
    stratify: bool = True,
    seed: int = 0,
) -> list[Split]:
    """Splits for a k-fold cross-validation, stratified by label and grouped by patient.

    Each bag is in the test part of exactly one fold of a repeat, each repeat is a new draw. The
    folds are those of scikit-learn's `StratifiedKFold`, or `StratifiedGroupKFold` with groups;
    the validation part is drawn from the other bags, stratified and grouped too. The split
    depends on the seed and on what is known of each bag, not on the order of the bags.

    Classes are spread evenly over the parts as far as the groups allow. A combination of labels
    is the class of a multilabel bag; combinations too rare for every fold count as one class.

    Args:
        ids: names of the bags.
        labels: `(n,)` classes, integers or names, or `(n, C)` multilabel, of 0 and 1.
        groups: the patient of each bag, all of whose bags stay on one side. None: each bag is a
            patient.
        folds: number of folds, 2 or more.
        repeats: number of repeats, 1 or more.
        val_share: share of all bags that validate, which train and validation have together with
            `1 - 1 / folds`; 0 leaves none to select or stop by.
        calibration_share: share of all bags that are held back from training and selection to
            calibrate; with 0 the splits are those without it.
        stratify: whether classes are spread evenly; else labels are ignored.
        seed: 0 or more.

    Returns:
        `repeats * folds` splits, those of the first repeat first; ids in rising order.

    Raises:
        ValueError: where ids occur twice, there is not one label and one group per bag, a number
            is out of its range, or there are more folds than patients, or than patients of a class.

    Example:
        >>> ids = [f"bag {i}" for i in range(6)]
        >>> split = kfold_splits(ids, [0, 0, 0, 1, 1, 1], folds=3, val_share=0.3)[0]
        >>> len(split.train), len(split.val), len(split.test)
        (2, 2, 2)
    """
    if folds < 2 or repeats < 1:
        raise ValueError(f"expected folds >= 2 and repeats >= 1, got {folds} and {repeats}")
    _check_shares(val_share, calibration_share, 1 - 1 / folds)
    bags = _Bags(ids, labels, groups, folds, f"folds={folds}", stratify)
    splits = []
    for repeat in range(repeats):
        rng = np.random.default_rng((seed, repeat))
        for test in _folds(bags, folds, int(rng.integers(2**31))):
            rest = np.setdiff1d(np.arange(len(bags.ids)), test)
            splits.append(bags.parted(test, rest, val_share, calibration_share, rng))
    return splits


def monte_carlo_splits(
    ids: Sequence[str],
    labels: ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    splits: int,
    test_share: float = 0.2,
    val_share: float = 0.1,
    calibration_share: float = 0,
    stratify: bool = True,
    seed: int = 0,
) -> list[Split]:
    """Independent random splits, stratified by label and grouped by patient.

    The shares are met as nearly as the patients allow; with one bag a patient, to half a bag of
    each class, of which every part gets at least one.

    Args:
        ids: names of the bags.
        labels: as in `kfold_splits`.
        groups: as in `kfold_splits`.
        splits: number of splits, 1 or more.
        test_share: share of all bags that are reported on; 0 leaves none.
        val_share: share of all bags that validate; 0 leaves none.
        calibration_share: as in `kfold_splits`.
        stratify: as in `kfold_splits`.
        seed: 0 or more; a longer list of splits begins with the shorter one.

    Raises:
        ValueError: as `kfold_splits` does; a class must be found in as many patients as there are
            parts.

    Example:
        >>> ids = [f"bag {i}" for i in range(10)]
        >>> split = monte_carlo_splits(ids, [0, 1] * 5, splits=1, test_share=0.4)[0]
        >>> len(split.train), len(split.val), len(split.test)
        (4, 2, 4)
    """
    if splits < 1:
        raise ValueError(f"expected at least one split, got splits={splits}")
    if not 0 <= test_share < 1:
        raise ValueError(f"expected test_share from 0 to less than 1, got {test_share}")
    _check_shares(val_share, calibration_share, 1 - test_share)
    shares = {"val": val_share, "test": test_share, "calibration": calibration_share}
    parts = ["train", *(name for name, share in shares.items() if share > 0)]
    needed = " and ".join([*[", ".join(parts[:-1])] * (len(parts) > 1), parts[-1]])
    bags = _Bags(ids, labels, groups, len(parts), needed, stratify)
    made = []
    for number in range(splits):
        rng = np.random.default_rng((seed, number))
        everything = np.arange(len(bags.ids))
        test = bags.draw(everything, test_share, rng, spare=len(parts) - 1)
        rest = np.setdiff1d(everything, test)
        made.append(bags.parted(test, rest, val_share, calibration_share, rng, test_share))
    return made


def twice(names: Sequence[str]) -> list[str]:
    """Those that occur more than once, in rising order."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def _check_shares(val: float, calibration: float, below: float) -> None:
    if not 0 <= val < below:
        raise ValueError(f"expected val_share from 0 to less than {below:.3g}, got {val}")
    if not 0 <= calibration < below - val:
        raise ValueError(
            f"expected calibration_share from 0 to less than {below - val:.3g}, what val_share "
            f"leaves, got {calibration}"
        )


class _Bags:
    """Bags in the order of their ids, with the number of their patient and of their class."""

    def __init__(
        self,
        ids: Sequence[str],
        labels: ArrayLike,
        groups: Sequence[Hashable] | None,
        least: int,
        needed: str,
        stratify: bool,
    ) -> None:
        y = np.asarray(labels)
        patients = list(ids if groups is None else groups)
        if y.ndim not in (1, 2) or not len(ids) == len(y) == len(patients):
            raise ValueError(
                f"expected a label and a group for each of {len(ids)} bags, got labels of shape "
                f"{y.shape} and {len(patients)} groups"
            )
        if repeated := twice(ids):
            raise ValueError(f"expected bag ids that differ, got {', '.join(repeated[:10])} twice")
        order = sorted(range(len(ids)), key=lambda i: ids[i])
        self.ids = [ids[i] for i in order]
        # Numbered as they come up in that order, so that names of any type will do.
        numbers: dict[Hashable, int] = {}
        self.groups = np.array([numbers.setdefault(patients[i], len(numbers)) for i in order])
        if not stratify:
            y = np.zeros(len(y), np.int64)
        axis = 0 if y.ndim == 2 else None
        names, classes = np.unique(y[order], axis=axis, return_inverse=True)
        self.classes = classes.reshape(-1)
        if y.ndim == 2:
            self.classes = self._merge_rare(least)
        unit = "bags" if groups is None else "patients"
        for number, found in enumerate(self._patients()):
            if found < least:
                of_class = f" of class {names[number]}" if stratify and y.ndim == 1 else ""
                raise ValueError(
                    f"expected at least {least} {unit}{of_class}, one for each of {needed}, got "
                    f"{found}: ask for fewer, or leave out or join rare classes"
                )

    def parted(
        self,
        test: Numbers,
        rest: Numbers,
        val_share: float,
        calibration_share: float,
        rng: np.random.Generator,
        test_share: float = 1.0,
    ) -> Split:
        """The split of that test part; validation and calibration are drawn from the rest."""
        calibrates = calibration_share > 0
        val = self.draw(rest, val_share, rng, spare=1 + calibrates)
        left = np.setdiff1d(rest, val)
        calibration = self.draw(left, calibration_share, rng, spare=1)
        train = np.setdiff1d(left, calibration)
        parts = [
            tuple(self.ids[i] for i in sorted(part)) for part in (train, val, test, calibration)
        ]
        shares = (1.0, val_share, test_share, calibration_share)
        if not all(part for part, share in zip(parts, shares, strict=True) if share):
            names = "train, val and test" + calibrates * ", and calibration"
            counts = ", ".join(str(len(part)) for part in parts[: 3 + calibrates])
            raise ValueError(
                f"expected bags for {names}, got {counts}: the patients are too few for these "
                "shares"
            )
        return Split(*parts)

    def draw(self, pool: Numbers, share: float, rng: np.random.Generator, spare: int) -> Numbers:
        """Draws whole patients of the pool that hold about this share of all bags of each class.

        The patients come in random order; one is taken where that brings the numbers of bags of
        each class nearer to their shares, relative to the size of the class, and leaves `spare`
        bags of the class in the pool. Where none is, the one that comes nearest is.
        """
        if share == 0:
            return pool[:0]
        patients, of_bag = np.unique(self.groups[pool], return_inverse=True)
        every_class = np.bincount(self.classes)
        counts = np.zeros((len(patients), len(every_class)))
        np.add.at(counts, (of_bag, self.classes[pool]), 1)
        wanted = np.maximum(share * every_class, 1)  # or a rare class could not be measured
        taken, left = np.zeros_like(wanted), counts.sum(0)

        def distance(held: NDArray[np.float64]) -> float:
            return float(np.square((held - wanted) / every_class).sum())

        def spares(more: NDArray[np.float64]) -> bool:
            return bool((left - more >= spare)[more > 0].all())

        order = rng.permutation(len(patients)).tolist()
        chosen = []
        for patient in order:
            more = counts[patient]
            if spares(more) and distance(taken + more) < distance(taken):
                taken, left = taken + more, left - more
                chosen.append(patient)
        if not chosen:
            able = [patient for patient in order if spares(counts[patient])]
            chosen = sorted(able, key=lambda patient: distance(counts[patient]))[:1]
        return pool[np.isin(of_bag, chosen)]

    def _patients(self) -> Numbers:
        """In how many patients each class is found."""
        pairs = np.unique(np.stack([self.classes, self.groups]), axis=1)
        return np.bincount(pairs[0])

    def _merge_rare(self, least: int) -> Numbers:
        """The classes, those found in fewer patients joined to one; to the largest if need be."""
        patients = self._patients()
        rare = patients < least
        if not rare.any():
            return self.classes
        merged = np.where(rare[self.classes], -1, self.classes)
        if len(np.unique(self.groups[merged == -1])) < least:
            merged[merged == -1] = patients.argmax()
        return np.unique(merged, return_inverse=True)[1]


def _folds(bags: _Bags, folds: int, seed: int) -> Iterator[Numbers]:
    """The numbers of the bags of each test part."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    grouped = len(np.unique(bags.groups)) < len(bags.ids)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    folder = kind(folds, shuffle=True, random_state=seed)
    groups = bags.groups if grouped else None
    for _, test in folder.split(bags.classes, bags.classes, groups):
        yield test

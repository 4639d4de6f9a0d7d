"""How a config has bags split: in folds, at random, by files, or not at all."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from milforge.data.splits.check import check_split
from milforge.data.splits.draw import Split, kfold_splits, monte_carlo_splits
from milforge.data.splits.files import read_splits
from milforge.data.splits.match import match_ids

Groups = Sequence[Hashable] | None


class Splitter(Protocol):
    """Chooses the split of labelled bags."""

    def choose(
        self,
        ids: Sequence[str],
        strata: ArrayLike | None,
        groups: Groups = None,
        without: Collection[str] = (),
    ) -> Split:
        """The split of these bags.

        Args:
            ids: names of the bags that have a label.
            strata: `(n,)` or `(n, C)` integers that drawn parts have in equal shares; None where
                the task has none.
            groups: the patient of each bag.
            without: names of bags that are left out of their part. A split is drawn with them, so
                the others stay where they are.

        Raises:
            ValueError: where a split cannot be drawn, or the one of a file does not fit the bags
                or leaks; as `kfold_splits`, `read_splits` and `check_split` say.
        """
        ...


class _Drawn(ABC):
    """Draws splits, of which `fold` is chosen."""

    fold: int
    stratify: bool

    @abstractmethod
    def _draw(
        self, ids: Sequence[str], strata: ArrayLike, groups: Groups, stratify: bool
    ) -> Sequence[Split]:
        """At least `fold + 1` splits."""

    def choose(
        self,
        ids: Sequence[str],
        strata: ArrayLike | None,
        groups: Groups = None,
        without: Collection[str] = (),
    ) -> Split:
        """See `Splitter.choose`."""
        given = np.zeros(len(ids), np.int64) if strata is None else strata
        drawn = self._draw(ids, given, groups, self.stratify and strata is not None)
        return _leave_out(drawn[self.fold], without)


@dataclass(frozen=True)
class KFold(_Drawn):
    """Folds of a cross-validation, grouped by patient.

    Args:
        fold: which of the `folds` times `repeats`, from 0.
        folds: number of folds.
        repeats: how often the bags are dealt into folds.
        val_share: share of all bags that select and stop; 0 leaves none.
        calibration_share: share of all bags held back to calibrate; 0 leaves none.
        stratify: whether the classes are spread evenly over the folds.
        seed: seed of the draw, not of a run, so that all runs have the same folds.

    Raises:
        ValueError: for a fold that there is not.

    Example:
        >>> ids = [f"bag {i}" for i in range(20)]
        >>> split = KFold(fold=2).choose(ids, [0, 1] * 10)
        >>> len(split.train), len(split.val), len(split.test)
        (14, 2, 4)
    """

    fold: int = 0
    folds: int = 5
    repeats: int = 1
    val_share: float = 0.1
    calibration_share: float = 0
    stratify: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _check_number("split.fold", self.fold, self.folds * self.repeats)

    def _draw(
        self, ids: Sequence[str], strata: ArrayLike, groups: Groups, stratify: bool
    ) -> Sequence[Split]:
        return kfold_splits(
            ids,
            strata,
            groups,
            folds=self.folds,
            repeats=self.fold // self.folds + 1,
            val_share=self.val_share,
            calibration_share=self.calibration_share,
            stratify=stratify,
            seed=self.seed,
        )


@dataclass(frozen=True)
class RandomSplit(_Drawn):
    """Independent random splits, grouped by patient.

    Args:
        fold: which of the splits, from 0; any number.
        test_share: share of the bags that are reported on; 0 leaves none, with test=false.
        val_share: share of all bags that select and stop; 0 leaves none.
        calibration_share: share of all bags held back to calibrate; 0 leaves none.
        stratify: whether the classes are spread evenly over the parts.
        seed: seed of the draw, not of a run, so that all runs have the same splits.

    Raises:
        ValueError: for a negative number.
    """

    fold: int = 0
    test_share: float = 0.2
    val_share: float = 0.1
    calibration_share: float = 0
    stratify: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fold < 0:
            raise ValueError(f"expected split.fold of at least 0, got {self.fold}")

    def _draw(
        self, ids: Sequence[str], strata: ArrayLike, groups: Groups, stratify: bool
    ) -> Sequence[Split]:
        return monte_carlo_splits(
            ids,
            strata,
            groups,
            splits=self.fold + 1,
            test_share=self.test_share,
            val_share=self.val_share,
            calibration_share=self.calibration_share,
            stratify=stratify,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SplitFiles:
    """Splits that are given, as CLAM and torchmil write them, or a run's own `splits.csv`.

    Args:
        path: a split file, or a folder of such; see `read_splits`, and `match_ids` for how its
            names are understood.
        fold: which file of the folder; None: its `splits.csv`, or the file that `path` names.
    """

    path: str
    fold: int | None = None

    def choose(
        self,
        ids: Sequence[str],
        strata: ArrayLike | None,
        groups: Groups = None,
        without: Collection[str] = (),
    ) -> Split:
        """See `Splitter.choose`."""
        read = read_splits(Path(self.path).expanduser(), self.fold)
        known = [*ids, *without]
        matched = Split(*(match_ids(part, known) for part in astuple(read)))
        split = _leave_out(matched, without)
        try:
            check_split(split, ids, groups)
        except ValueError as error:
            raise ValueError(f"split.path={self.path}: {error}") from error
        return split


@dataclass(frozen=True)
class AllBags:
    """Every bag is a test bag: an external cohort. There is nothing to train on."""

    def choose(
        self,
        ids: Sequence[str],
        strata: ArrayLike | None,
        groups: Groups = None,
        without: Collection[str] = (),
    ) -> Split:
        """See `Splitter.choose`."""
        return _leave_out(Split((), (), tuple(ids)), without)


def _check_number(name: str, number: int, count: int) -> None:
    if not 0 <= number < count:
        raise ValueError(f"expected {name} from 0 to {count - 1}, got {number}")


def _leave_out(split: Split, names: Collection[str]) -> Split:
    parts = astuple(split)
    return Split(*(tuple(bag for bag in part if bag not in names) for part in parts))

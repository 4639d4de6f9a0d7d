"""The split that a config asks for: from files, or drawn."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from milforge.data.check_split import check_split
from milforge.data.split_files import read_splits
from milforge.data.splits import Split, kfold_splits, monte_carlo_splits


@dataclass(frozen=True)
class Splitting:
    """How bags are split into train, validation and test.

    Args:
        splits: a split file or a folder of such, as `read_splits` takes it; None draws the split.
        fold: number of the split, from 0: of the files, of `folds` times `repeats`, or of
            `random_splits`.
        folds: number of folds of a cross-validation, stratified by label and grouped by patient.
        repeats: how often the bags are dealt into folds anew.
        random_splits: number of independent random splits, instead of folds.
        test_share: share of the bags that are reported on, of random splits.
        val_share: share of all bags that select and stop; 0 leaves none.
        seed: of the draw; not that of a run, so that all runs have the same folds.
        stratify: whether the classes are spread evenly in it.

    Raises:
        ValueError: for a fold that there is not.

    Example:
        >>> ids = [f"bag {i}" for i in range(20)]
        >>> split = Splitting(fold=2).choose(ids, [0, 1] * 10)
        >>> len(split.train), len(split.val), len(split.test)
        (14, 2, 4)
    """

    splits: str | Path | None = None
    fold: int | None = 0
    folds: int = 5
    repeats: int = 1
    random_splits: int | None = None
    test_share: float = 0.2
    val_share: float = 0.1
    seed: int = 0
    stratify: bool = True

    def __post_init__(self) -> None:
        if self.splits is not None:
            return
        count = self.folds * self.repeats if self.random_splits is None else self.random_splits
        if self.fold is None or not 0 <= self.fold < count:
            raise ValueError(f"expected data.fold from 0 to {count - 1}, got {self.fold}")

    def choose(
        self,
        ids: Sequence[str],
        labels: ArrayLike,
        groups: Sequence[Hashable] | None = None,
        without: Collection[str] = (),
    ) -> Split:
        """The split of these bags.

        Args:
            ids: names of the bags that have a label.
            labels: `(n,)` or `(n, C)`, as `kfold_splits` takes them.
            groups: the patient of each bag.
            without: names of bags that are left out of their part. The split is drawn with them,
                so the others stay where they are.

        Raises:
            ValueError: where a split cannot be drawn, or the one of a file does not fit the bags
                or leaks; as `kfold_splits`, `read_splits` and `check_split` say.
        """
        if self.splits is not None:
            split = _leave_out(read_splits(Path(self.splits).expanduser(), self.fold), without)
            check_split(split, ids, groups)
            return split
        assert self.fold is not None  # __post_init__ has seen to it
        if self.random_splits is not None:
            drawn = monte_carlo_splits(
                ids,
                labels,
                groups,
                splits=self.fold + 1,
                test_share=self.test_share,
                val_share=self.val_share,
                stratify=self.stratify,
                seed=self.seed,
            )
        else:
            drawn = kfold_splits(
                ids,
                labels,
                groups,
                folds=self.folds,
                repeats=self.fold // self.folds + 1,
                val_share=self.val_share,
                stratify=self.stratify,
                seed=self.seed,
            )
        return _leave_out(drawn[self.fold], without)


def _leave_out(split: Split, names: Collection[str]) -> Split:
    parts = (split.train, split.val, split.test)
    return Split(*(tuple(bag for bag in part if bag not in names) for part in parts))

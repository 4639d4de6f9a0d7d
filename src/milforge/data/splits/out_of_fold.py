"""Which of several models may predict a bag: those that did not see it."""

from collections.abc import Collection, Hashable, Sequence

from numpy.typing import ArrayLike

from milforge.data.splits.draw import Split


class OutOfFold:
    """Every bag is a test bag that at least one model has not seen, as in a cross-validation.

    A model has seen the bags that it was fitted on and selected by, and with each of them all bags
    of the patient.

    Args:
        seen: for each model the names of the bags that it was fitted on or selected by.

    Attributes:
        members: after `choose`, for each test bag the numbers of the models that did not see it.
        left_out: after `choose`, the bags that all models have seen.

    Example:
        >>> folds = OutOfFold([{"a", "b"}, {"a", "c"}])
        >>> folds.choose(["a", "b", "c", "d"], None).test
        ('b', 'c', 'd')
        >>> folds.members
        {'b': (1,), 'c': (0,), 'd': (0, 1)}
    """

    def __init__(self, seen: Sequence[Collection[str]]) -> None:
        self.seen = [frozenset(each) for each in seen]
        self.members: dict[str, tuple[int, ...]] = {}
        self.left_out: tuple[str, ...] = ()

    def choose(
        self,
        ids: Sequence[str],
        strata: ArrayLike | None,
        groups: Sequence[Hashable] | None = None,
        without: Collection[str] = (),
    ) -> Split:
        """See `Splitter.choose`.

        Raises:
            ValueError: where all models have seen all bags.
        """
        patients = list(ids if groups is None else groups)
        known = [
            {patient for bag, patient in zip(ids, patients, strict=True) if bag in seen}
            for seen in self.seen
        ]
        able = {
            bag: tuple(number for number, each in enumerate(known) if patient not in each)
            for bag, patient in zip(ids, patients, strict=True)
            if bag not in without
        }
        self.members = {bag: numbers for bag, numbers in able.items() if numbers}
        self.left_out = tuple(bag for bag, numbers in able.items() if not numbers)
        if not self.members:
            raise ValueError(
                f"out_of_fold=true: all {len(able)} bags were seen in training by every one of "
                f"{len(self.seen)} checkpoints: give those of all folds (ckpt_path=SWEEP)"
            )
        return Split((), (), tuple(self.members))

"""Every patient predicted by the models of a group that did not see it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from milforge.predictions_file import FILE
from milforge.report.differences import REPETITION
from milforge.report.groups import Group, Repeat, of_target
from milforge.report.predictions import Predictions, averaged
from milforge.report.read_predictions import read_targets
from milforge.report.runs import Run
from milforge.report.survey import listed


@dataclass(frozen=True)
class Member:
    """A run of a group with what it predicted."""

    run: Run
    repeat: Repeat
    predictions: Predictions

    @property
    def fold(self) -> int | None:
        """The number of its fold; None where the split has none."""
        text = self.run.config.get("split.fold", "")
        return int(text) if text.isdigit() else None

    @property
    def folds(self) -> int | None:
        """How many folds the cross-validation has; None where there is none."""
        text = self.run.config.get("split.folds", "")
        return int(text) if text.isdigit() else None

    @property
    def chooses_by(self) -> str:
        """The part that thresholds and temperature are chosen on."""
        return "calibration" if "calibration" in self.predictions.part else "val"

    @property
    def round(self) -> tuple[object, ...]:
        """What the runs of one cross-validation have in common: seed, and number of the repeat.

        Where the number of folds is not known, as of split files, the seed alone.
        """
        again = {
            key: value
            for key, value in self.run.config.items()
            if REPETITION.search(key) and key != "split.fold"
        }
        number = self.fold // self.folds if self.fold is not None and self.folds else None
        return (*sorted(again.items()), number)


@dataclass(frozen=True)
class Part:
    """Runs with the same validation and the same test bags: the seeds of a fold.

    Attributes:
        members: the runs.
        val: what they predict, averaged, of the bags held back to calibrate, or where there are
            none of their validation bags; there may be none.
        test: the same of their test bags.
    """

    members: list[Member]
    val: Predictions
    test: Predictions


@dataclass(frozen=True)
class OutOfFold:
    """What a group predicts of the bags that it did not see, of one target where it has several.

    Attributes:
        trained: the group.
        target: the target; empty where the task has no several.
        group: the group as tables name it, with the target where there are any.
        members: its runs with predictions of labelled test bags.
        predictions: each bag once, averaged over the models that did not see it.
        models: `(n,)` how many these are.
    """

    trained: Group
    target: str
    group: Group
    members: list[Member]
    predictions: Predictions
    models: NDArray[np.int64]

    @cached_property
    def parts(self) -> list[Part]:
        """The runs by what they were validated and tested on."""
        found: dict[object, list[Member]] = {}
        for member in self.members:
            key = tuple(
                frozenset(member.predictions.of_part(part).bag_id)
                for part in (member.chooses_by, "test")
            )
            found.setdefault(key, []).append(member)
        return [
            Part(
                members,
                *(
                    averaged([m.predictions.of_part(part).labelled for m in members])[0]
                    for part in (members[0].chooses_by, "test")
                ),
            )
            for members in found.values()
        ]

    @cached_property
    def rounds(self) -> list[Predictions]:
        """Single models: the test bags of each cross-validation, or of each run without folds.

        Runs of an unknown number of folds are of one cross-validation while they share no test bag.
        """
        found: dict[object, list[list[Predictions]]] = {}
        for member in self.members:
            test = member.predictions.of_part("test").labelled
            several = found.setdefault(member.round, [])
            bags = set(test.bag_id)
            for together in several:
                if member.folds or not any(bags & set(each.bag_id) for each in together):
                    together.append(test)
                    break
            else:
                several.append([test])
        return [averaged(each)[0] for several in found.values() for each in several]

    @property
    def test_parts(self) -> int:
        """In how many different test parts the bags were tested."""
        return len({frozenset(part.test.bag_id) for part in self.parts})


def collect(groups: Sequence[Group]) -> tuple[list[OutOfFold], list[str]]:
    """Reads the predictions of all groups.

    Returns:
        Those that have any, target after target, all of a target of one task with the same
        classes; and sentences on what is missing or does not fit.
    """
    notes: list[str] = []
    without: list[str] = []
    found: dict[str, dict[int, list[Member]]] = {}  # by target, and number of the group
    for number, group in enumerate(groups):
        for repeat, run in group.runs.items():
            if not (run.folder / FILE).is_file():
                without.append(str(run.folder))
                continue
            try:
                targets = read_targets(run.folder)
            except ValueError as error:
                notes.append(f"Predictions left out: {error}.")
                continue
            for target, predictions in targets.items():
                if not predictions.labels or not len(predictions.of_part("test").labelled):
                    of = f" with the target {target}" if target else ""
                    notes.append(
                        f"Predictions left out: {run.folder} has no labelled test bags{of}."
                    )
                    continue
                members = found.setdefault(target, {}).setdefault(number, [])
                members.append(Member(run, repeat, predictions))
    if without:
        notes.append(
            f"Without {FILE}, so not among the pooled predictions: {listed(without)}; "
            "milforge-evaluate writes it from a checkpoint."
        )
    pooled: list[OutOfFold] = []
    for target, by_group in found.items():
        kept, left = _of_one_kind(by_group, target)
        notes += left
        for number, members in kept.items():
            trained = groups[number]
            shown = of_target(trained, target) if any(found) else trained
            pooled.append(_pool(trained, target, shown, members))
    of_groups = {each.trained.label: each for each in pooled}
    for label, each in of_groups.items():
        name = f"{label}: " if len(of_groups) > 1 else ""
        notes += [f"{name}{note}" for note in _fold_faults(each.members)]
    return pooled, notes + _different_labels(pooled)


def by_target(pooled: Sequence[OutOfFold]) -> dict[str, list[OutOfFold]]:
    """The groups that predict each target."""
    found: dict[str, list[OutOfFold]] = {}
    for each in pooled:
        found.setdefault(each.target, []).append(each)
    return found


def members_of(pooled: Sequence[OutOfFold]) -> list[Member]:
    """Each run once, also where it predicts several targets."""
    return list({member.run.folder: member for each in pooled for member in each.members}.values())


def _of_one_kind(
    members: dict[int, list[Member]], target: str
) -> tuple[dict[int, list[Member]], list[str]]:
    """The runs of the most common task and classes, and a sentence on those that are left out."""
    kinds = Counter(_kind(each) for found in members.values() for each in found)
    ((kept, _),) = kinds.most_common(1)
    left = [
        str(each.run.folder) for found in members.values() for each in found if _kind(each) != kept
    ]
    if not left:
        return members, []
    note = (
        f"Runs of other tasks or classes{target and f' of {target}'} than {_in_words(kept)}, which "
        f"are left out of pooled predictions: {listed(left)} (report them by themselves)."
    )
    alike = {
        number: [each for each in found if _kind(each) == kept] for number, found in members.items()
    }
    return {number: found for number, found in alike.items() if found}, [note]


def _pool(trained: Group, target: str, shown: Group, members: list[Member]) -> OutOfFold:
    tests = [member.predictions.of_part("test").labelled for member in members]
    predictions, models = averaged(tests)
    return OutOfFold(trained, target, shown, members, predictions, models)


def _fold_faults(members: Sequence[Member]) -> list[str]:
    """Folds that overlap or are missing, for each cross-validation of a seed."""
    notes = []
    rounds: dict[object, list[Member]] = {}
    for member in members:
        if member.folds:
            rounds.setdefault(member.round, []).append(member)
    missing, twice = set(), set()
    for found in rounds.values():
        folds = found[0].folds or 0
        missing |= set(range(folds)) - {(each.fold or 0) % folds for each in found}
        counts = Counter(
            bag for each in found for bag in each.predictions.of_part("test").bag_id.tolist()
        )
        twice |= {bag for bag, count in counts.items() if count > 1}
    if missing:
        numbers = ", ".join(map(str, sorted(missing)))
        notes.append(
            f"Folds without a run (of a seed at least): {numbers}; pooled numbers are those of "
            "the bags that were tested."
        )
    if twice:
        notes.append(
            f"Folds that overlap: {len(twice)} bags, {listed(sorted(twice)[:3])} among them, are "
            "in the test part of several folds of one cross-validation."
        )
    return notes


def _different_labels(pooled: Sequence[OutOfFold]) -> list[str]:
    known: dict[tuple[str, str, str], float] = {}
    different = set()
    for each in pooled:
        for member in each.members:
            for name, values in member.predictions.labels.items():
                for bag, value in zip(member.predictions.bag_id, values.tolist(), strict=True):
                    key = (each.target, name, bag)
                    if value == value and known.setdefault(key, value) != value:
                        different.add(bag)
    if not different:
        return []
    return [
        f"Bags with other labels in other runs: {listed(sorted(different))}; the tables of labels "
        "differ, so their pooled numbers are not to be trusted."
    ]


def _kind(member: Member) -> tuple[str, tuple[str, ...]]:
    return member.predictions.task, member.predictions.class_names


def _in_words(kind: tuple[str, tuple[str, ...]]) -> str:
    task, names = kind
    return f"{task} ({', '.join(names)})" if names else task

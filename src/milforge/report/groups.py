"""Runs in groups by what differs among their configs; the runs of a group are repetitions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from milforge.config.keys.key_check import did_you_mean
from milforge.report.differences import (
    MISSING,
    REPETITION,
    follows,
    named,
    short_name,
    tabulate,
    what_differs,
)
from milforge.report.runs import Run
from milforge.report.survey import listed

FOLD = re.compile(r"(^|[._])(fold|repeat)$|^split\.seed$")
TARGET = "task.targets"  # what tells the targets of a group apart
# Groups of the config that decide which data a run sees.
OF_THE_DATA = ("data.", "split.", "graph.", "task.", "bags_alone")


class Repeat(NamedTuple):
    """What makes a run one of several like it: runs of equal repeat are compared in pairs."""

    fold: tuple[str, ...]
    rest: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Runs that differ in seed and fold only.

    Attributes:
        values: name to value of what tells the group from the others.
        runs: the newest finished run of each repeat.
    """

    values: Mapping[str, str]
    runs: Mapping[Repeat, Run]

    @property
    def label(self) -> str:
        """`model=abmil train=60`, as on the command line."""
        shown = (f"{name}={value}" for name, value in self.values.items() if value != MISSING)
        return " ".join(shown) or "all runs"


def of_target(group: Group, target: str) -> Group:
    """A group as a table names it that has a line for each target; `""` is no target."""
    return Group({**group.values, TARGET: target or MISSING}, group.runs)


@dataclass(frozen=True)
class Grouping:
    """All groups.

    Attributes:
        groups: in the order of their first runs.
        keys: the shown name of what differs, to its whole key.
        notes: sentences on what a reader of the averages should know.
    """

    groups: list[Group]
    keys: dict[str, str]
    notes: list[str]


def group_runs(runs: Sequence[Run], by: Sequence[str] | None = None) -> Grouping:
    """Groups runs by all that differs (see `what_differs`), or by the keys that are named.

    Raises:
        ValueError: for a name in `by` that is no key of the runs, or the end of several.
    """
    table = tabulate(runs)
    differing = what_differs(runs, table)
    chosen = differing
    if by is not None:
        chosen = dict(named(name, runs, table) for name in by)
    others = {
        name: column
        for name, column in differing.items()
        if name not in chosen and not follows(column, list(zip(*chosen.values(), strict=True)))
    }
    shown = {name: short_name(name, table) for name in chosen}
    again = [key for key in table if REPETITION.search(key) and key not in chosen]
    folds = [table[key] for key in again if FOLD.search(key)]
    rest = [table[key] for key in again if not FOLD.search(key)] + list(others.values())

    members: list[tuple[tuple[str, ...], Repeat, Run]] = []
    for i, run in enumerate(runs):
        repeat = Repeat(tuple(each[i] for each in folds), tuple(each[i] for each in rest))
        members.append((tuple(column[i] for column in chosen.values()), repeat, run))
    newest: dict[tuple[str, ...], dict[Repeat, Run]] = {}
    for values, repeat, run in sorted(members, key=lambda member: member[2].written):
        newest.setdefault(values, {})[repeat] = run

    notes = []
    if others:
        names = ", ".join(short_name(name, table) for name in others)
        notes.append(f"Runs of a group differ in more than seed and fold: {names}.")
        notes += _of_other_versions(runs, list(zip(*chosen.values(), strict=True)), others)
    older = [
        str(run.folder) for values, repeat, run in members if newest[values][repeat] is not run
    ]
    if older:
        notes.append(
            f"Left out, as a newer run has the same config, seed and fold: {listed(older)}."
        )
    settings = [table[key] for key in table if key.startswith(OF_THE_DATA) or key in again]
    seen: dict[object, dict[str | None, str]] = {}
    for i, run in enumerate(runs):
        same = seen.setdefault(tuple(column[i] for column in settings), {})
        same.setdefault(run.fingerprint, str(run.folder))
    notes += [
        "These runs of equal settings, seed and fold saw different data, as its fingerprint tells: "
        f"{listed([*each.values()])}."
        for each in seen.values()
        if len(each) > 1
    ]
    groups = [
        Group(dict(zip(shown.values(), values, strict=True)), dict(sorted(newest[values].items())))
        for values in dict.fromkeys(values for values, _, _ in members)
    ]
    return Grouping(groups, {name: key for key, name in shown.items()}, notes)


def _of_other_versions(
    runs: Sequence[Run], groups: Sequence[object], columns: Mapping[str, Sequence[str]]
) -> list[str]:
    """A sentence on runs of a group of which some have a key that the others have not.

    An update has added or removed it. The present default does not stand in for it, because nobody
    knows whether the code without the key did what the default does.

    Args:
        runs: all of them.
        groups: the group of each.
        columns: values of each run by key, of the keys that tell no groups apart.
    """
    keys: list[str] = []
    older: list[str] = []
    for key, column in columns.items():
        for group in dict.fromkeys(groups):
            sides: dict[bool, list[Run]] = {}
            for run, its, value in zip(runs, groups, column, strict=True):
                if its == group:
                    sides.setdefault(value == MISSING, []).append(run)
            if len(sides) == 2:
                first = min(sides.values(), key=lambda side: min(run.written for run in side))
                keys.append(key)
                older += [str(run.folder) for run in first]
    if not keys:
        return []
    return [
        f"{listed([*dict.fromkeys(keys)])}: only some runs of a group have this key, as after an "
        "update of the code, and runs with it are in no pair with runs without it. To compare "
        "them, remove the older ones and repeat the command, which runs them again: "
        f"{listed([*dict.fromkeys(older)])}."
    ]


def baselines(grouping: Grouping, terms: Sequence[str]) -> Sequence[Group | None]:
    """The group that each group is compared with.

    It is the one group of the values that `terms` names, or, where they leave several, that which
    has the group's own values otherwise.

    Args:
        grouping: the groups.
        terms: `["model=abmil"]`.

    Raises:
        ValueError: where no group has these values.
    """
    wanted = {}
    for term in terms:
        name, equals, value = term.partition("=")
        names = {key: shown for shown, key in grouping.keys.items()}
        names |= {shown: shown for shown in grouping.keys}
        if not equals or name not in names:
            differing = ", ".join(grouping.keys) or "nothing"
            raise ValueError(
                f"expected --baseline as NAME=VALUE of what differs, got {term!r}"
                f"{did_you_mean(name, list(names))} (what differs: {differing})"
            )
        wanted[names[name]] = value
    fitting = [group for group in grouping.groups if wanted.items() <= group.values.items()]
    if not fitting:
        labels = [group.label for group in grouping.groups]
        text = " ".join(terms)
        raise ValueError(
            f"there is no group {text} for the baseline{did_you_mean(text, labels)} "
            f"(there are: {listed(labels)})"
        )
    if len(fitting) == 1:
        return fitting * len(grouping.groups)
    return [
        next((each for each in fitting if each.values == {**group.values, **wanted}), None)
        for group in grouping.groups
    ]

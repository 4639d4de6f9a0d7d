"""In which keys the configs of runs differ, and which of these a reader wants to see."""

import re
from collections.abc import Iterable, Mapping, Sequence

from milforge.config.keys.key_check import did_you_mean
from milforge.report.runs import Run
from milforge.report.survey import listed

REPETITION = re.compile(r"(^|[._])(fold|repeat|seed)$")
# What changes no result.
IGNORED = (
    "paths",
    "logger",
    "hydra",
    "sweep",
    "launcher",
    "search",
    "optimized_metric",
    "tags",
    "callbacks.figures",
    "callbacks.predictions",
    "callbacks.progress",
)
# What a run begins with, where it does not begin anew.
STARTS = ("ckpt_path", "init_from")
MISSING = "-"  # the value of a key that a run does not have

Column = list[str]  # one value per run


def tabulate(runs: Sequence[Run]) -> dict[str, Column]:
    """Key to its value in each run, the run's own folders written as the keys they come from."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    paths = [
        {value: key for key, value in run.config.items() if key.startswith("paths.")}
        for run in runs
    ]

    def text(run: Run, own: Mapping[str, str], key: str) -> str:
        value = run.config.get(key, MISSING)
        for path, name in own.items():
            if value == path or value.startswith(f"{path}/"):
                return f"${{{name}}}{value[len(path) :]}"
        return value

    return {
        key: [text(run, own, key) for run, own in zip(runs, paths, strict=True)] for key in keys
    }


def what_differs(runs: Sequence[Run], table: Mapping[str, Column]) -> dict[str, Column]:
    """What tells groups of runs apart, by key, or by the name of a group of configs.

    Left out are seeds and folds, paths, loggers, and values that only repeat the seed or fold.
    Where a group of configs was chosen on the command line (`model=abmil`), that choice stands for
    all keys that follow from it.
    """
    again = {key: column for key, column in table.items() if REPETITION.search(key)}
    starts = {key: _starts(runs, table, key, again) for key in STARTS if key in table}
    table = {**table, **starts}
    options = _options(runs, table)
    explicit = {name for run in runs for name in run.overrides} - set(options)
    left = {
        key: column
        for key, column in table.items()
        if len(set(column)) > 1
        and key not in again
        and not any(f"{key}.".startswith(f"{name}.") for name in IGNORED)
        and (key in explicit or not any(_repeats(column, each) for each in again.values()))
    }
    chosen: dict[str, Column] = {}
    for name, prefix in options.items():
        mine = {
            key: column
            for key, column in left.items()
            if key not in explicit and f"{key}.".startswith(prefix)
        }
        choices = _choices(name, runs, mine)
        explained = [key for key, column in mine.items() if follows(column, choices)]
        if explained and len(set(choices)) > 1:
            chosen[name] = choices
            left = {key: column for key, column in left.items() if key not in explained}
    if "task_name" in left:  # a command has keys that another has not
        tasks = left["task_name"]
        left = {
            key: column
            for key, column in left.items()
            if key == "task_name" or not (MISSING in column and follows(column, tasks))
        }
    return chosen | left


def _starts(
    runs: Sequence[Run], table: Mapping[str, Column], key: str, again: Mapping[str, Column]
) -> Column:
    """The checkpoint that each training began with; those of each seed or fold are one.

    A checkpoint to evaluate is as much a repetition as the run it is from.
    """
    tasks = table.get("task_name", ["train"] * len(runs))
    paths = [
        "null" if task != "train" or path in ("last", MISSING) else path
        for path, task in zip(table[key], tasks, strict=True)
    ]
    for numbers in again.values():
        without = [
            path if path == "null" else re.sub(rf"(?<!\d){re.escape(number)}(?!\d)", "#", path)
            for path, number in zip(paths, numbers, strict=True)
        ]
        if len({each for each in without if each != "null"}) == 1 < len(set(paths) - {"null"}):
            return without
    return paths


def _options(runs: Sequence[Run], table: Mapping[str, Column]) -> dict[str, str]:
    """Groups of configs chosen on a command line, each with the prefix of its keys.

    The innermost come first, and last those, such as `experiment`, that may set any key.
    """
    found = {}
    for name in dict.fromkeys(name for run in runs for name in run.overrides):
        prefix = f"{name.replace('/', '.')}."
        if any(key.startswith(prefix) for key in table):
            found[name] = prefix
        elif name not in table:
            found[name] = ""
    found = {name: found[name] for name in found if name.split("/")[0] not in IGNORED}
    return dict(sorted(found.items(), key=lambda each: -len(each[1])))


def _choices(name: str, runs: Sequence[Run], keys: Mapping[str, Column]) -> Column:
    """The option of each run; a run that named none has that whose keys it has, or `default`."""
    given = {i: run.overrides[name] for i, run in enumerate(runs) if name in run.overrides}
    telling = [
        column
        for column in keys.values()
        if follows([column[i] for i in given], list(given.values()))
    ]
    known = {tuple(column[i] for column in telling): option for i, option in given.items()}
    return [
        given.get(i) or known.get(tuple(column[i] for column in telling), "default")
        for i in range(len(runs))
    ]


def named(name: str, runs: Sequence[Run], table: Mapping[str, Column]) -> tuple[str, Column]:
    """What the user calls by a name: a group of configs, a key, or the end of one.

    Raises:
        ValueError: where the name is none of these, or the end of several keys.
    """
    options = _options(runs, table)
    if name in options:
        prefix = options[name]
        mine = {key: column for key, column in table.items() if f"{key}.".startswith(prefix)}
        return name, _choices(name, runs, mine)
    fitting = [name] if name in table else [key for key in table if key.endswith(f".{name}")]
    if len(fitting) == 1:
        return fitting[0], table[fitting[0]]
    if fitting:
        raise ValueError(f"expected one key for --by {name}, it may be {listed(fitting)}")
    near = did_you_mean(name, [*options, *table, *(short_name(key, table) for key in table)])
    raise ValueError(f"there is no key {name!r} in the configs of these runs for --by{near}")


def short_name(key: str, keys: Iterable[str]) -> str:
    """The shortest end of a key that no other key has."""
    parts = key.split(".")
    ends = (".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1))
    others = [f".{each}" for each in keys if each != key]
    return next((end for end in ends if not any(o.endswith(f".{end}") for o in others)), key)


def follows(column: Sequence[str], of: Sequence[object]) -> bool:
    """Whether the values are a function of others."""
    return len(set(zip(of, column, strict=True))) == len(set(of))


def _repeats(column: Column, again: Column) -> bool:
    """Whether values are the same in all runs but for the seed or fold that is written in them."""
    without = {
        re.sub(rf"(?<!\d){re.escape(number)}(?!\d)", "#", value)
        for value, number in zip(column, again, strict=True)
    }
    return len(set(again)) > 1 and len(without) == 1

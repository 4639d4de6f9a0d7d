"""What `milforge-bench` runs: the sweeps of a bench, and what was named before the first result."""

import argparse
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from milforge.config.keys.key_help import Composed

SIMPLEST = "simlp"
UNIT_TEST = "mil_unit_test"  # of configs/data
MOST = 100_000  # runs of a model
RULES = ("single_concept", "threshold", "false_frequency")
# What the command itself says to milforge-train.
OWN = {
    "model": "--models",
    "seed": "--seeds",
    "split.fold": "--folds",
    "run": "sweep=NAME",
    "bags_alone": "--bags-alone",
}


@dataclass(frozen=True)
class Plan:
    """What is run, and where.

    Args:
        folder: of the bench; its sweeps are below it.
        sweep: name of the folder, below that of all sweeps.
        models: options of the group `model`.
        baseline: one of them.
        seeds: number of seeds.
        folds: number of folds; None where the data have none.
        metric: its name; None: the first of the test.
        overrides: of every run.
        config_dir: folder of further configs.
    """

    folder: Path
    sweep: str
    models: tuple[str, ...]
    baseline: str
    seeds: int
    folds: int | None
    metric: str | None
    overrides: tuple[str, ...]
    config_dir: str | None = None

    def command(self) -> list[str]:
        """The sweep of the models, as `milforge-train` takes it.

        Seeds come first: more of them are further jobs, and those that are done keep their numbers.
        """
        folds = [] if self.folds is None else [f"split.fold={_several(self.folds)}"]
        runs = [f"seed={_several(self.seeds)}", *folds, f"model={','.join(self.models)}"]
        return [*self.start("models"), *self.overrides, *runs]

    def unit_tests(self) -> list[str]:
        """The sweep of the models on the three rules of `mil_unit_test`."""
        runs = [f"seed={_several(self.seeds)}", f"data.rule={','.join(RULES)}"]
        data = [f"data={UNIT_TEST}"]
        return [
            *self.start("unit_tests"),
            *data,
            *self.overrides,
            *runs,
            f"model={','.join(self.models)}",
        ]

    def controls(self) -> list[list[str]]:
        """The sweeps of what can be told without instances, and of shuffled labels.

        The runs of the first sweep see one number per bag. The simplest network is enough for that,
        and overrides of what belongs to another network, or to instances, are left out.
        """
        runs = self.command()[-3 if self.folds is not None else -2 : -1]
        other = r"[+~]*(model|graph|loss\.instances|init_from)\b"
        plain = [each for each in self.overrides if not re.match(other, each)]
        alone = [*plain, *runs, "graph=none", f"model={SIMPLEST}", "bags_alone=size,order"]
        shuffled = [*self.overrides, *runs, f"model={self.baseline}", "bags_alone=labels"]
        return [[*self.start("alone"), *alone], [*self.start("shuffled"), *shuffled]]

    def start(self, name: str) -> list[str]:
        """How the command line of a sweep of the bench begins."""
        further = [] if self.config_dir is None else ["--config-dir", self.config_dir]
        return ["-m", *further, f"sweep={self.sweep}/{name}", "hydra.callbacks.sweep.table=false"]

    def named_beforehand(self) -> dict[str, Any]:
        """What must not change once the first result is known."""
        return {
            "models": list(self.models),
            "baseline": self.baseline,
            "metric": self.metric,
            "folds": self.folds,
        }


def make_plan(options: argparse.Namespace) -> Plan:
    """Checks the command line, and makes the folder.

    Raises:
        ValueError: for what cannot be run, or contradicts what the bench was begun with.
    """
    from milforge.config import run_folders
    from milforge.config.keys.key_help import composed
    from milforge.config.resolvers import prepare

    overrides = _check_overrides(options.overrides)
    name = dict(each.split("=", 1) for each in overrides if "=" in each).get("sweep")
    overrides = [each for each in overrides if not each.startswith("sweep=")]
    if options.seeds < 1:
        raise ValueError(f"expected --seeds of at least 1, got {options.seeds}")
    if options.difference is not None and not 0 < options.difference < math.inf:
        raise ValueError(f"expected --difference above 0, got {options.difference:g}")
    if options.metric is not None and not re.match(r"(train|val|test)/.", options.metric):
        raise ValueError(
            f"expected --metric with its part, as test/{options.metric}, got {options.metric}"
        )
    prepare()
    if options.unit_tests:
        _check_unit_tests(options, overrides)
    # Not the options of the models, which the one that is chosen by default may lack.
    plain = [each for each in overrides if not re.match(r"launcher=|hydra|[+~]*model\b", each)]
    found = composed("train", plain, [options.config_dir] if options.config_dir else [])
    monitor = found.config.monitor or "val/"  # which a task names itself
    if options.select and not str(monitor).startswith("val/"):
        raise ValueError(
            "--select val: expected runs that go by a metric of validation, got "
            f"monitor={monitor}: leave one of the two out"
        )
    models = _choose_models(options.models, found, options.config_dir)
    baseline = options.baseline or models[0]
    if baseline not in models:
        raise ValueError(
            f"expected --baseline to be one of --models, {', '.join(models)}, got {baseline!r}"
        )
    folds = _count_folds(options.folds, found.config.split)
    if options.seeds * (folds or 1) > MOST:
        raise ValueError(
            f"expected at most {MOST:,} runs of a model, got {options.seeds * (folds or 1):,}: "
            "lower --seeds or --folds"
        )
    run_folders.forget()
    parent = str(Path(found.config.paths.log_dir) / found.config.task_name / "multiruns")
    folder = Path(run_folders.sweep_dir(parent, name))
    plan = Plan(
        folder,
        name or folder.name,
        models,
        baseline,
        options.seeds,
        folds,
        options.metric,
        tuple(overrides),
        options.config_dir,
    )
    keep(plan)
    return plan


def _check_unit_tests(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Checks that nothing is asked for that the unit tests have of their own.

    Raises:
        ValueError: names it.
    """
    data = [each for each in overrides if re.match(r"[+~]*(data|split|task)(=|@|\.rule)", each)]
    if data:
        raise ValueError(f"{data[0]}: --unit-tests brings data of its own, leave it out")
    for name in ("select", "bags_alone", "metric", "folds", "difference", "baseline"):
        if getattr(options, name) not in (None, False):
            raise ValueError(
                f"--{name.replace('_', '-')}: --unit-tests compares no models, leave it out"
            )


def _check_overrides(overrides: Sequence[str]) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    for text in overrides:
        key = text.partition("=")[0].lstrip("+~")
        if key in OWN:
            raise ValueError(f"{text}: the bench says so itself, by {OWN[key]}")
        if key == "search":
            raise ValueError(f"{text}: a bench compares settings, and searches for none")
        if parser.parse_override(text).is_sweep_override():
            raise ValueError(
                f"{text}: expected one value; the bench runs over models, seeds and folds, and "
                "milforge-train -m over others"
            )
    return list(overrides)


def _choose_models(text: str, found: "Composed", config_dir: str | None) -> tuple[str, ...]:
    from milforge.config.keys.key_check import did_you_mean
    from milforge.config.messages import config_dir as shipped

    known = found.options["model"]
    if text == "all":
        from milforge.api.bag_models import takes_bags

        folders = [*([config_dir] if config_dir else []), shipped()]
        return tuple(name for name in known if takes_bags(name, folders))
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise ValueError(
                f"there is no model {name!r}{did_you_mean(name, known)} (there are "
                f"{', '.join(known)})"
            )
    if not names:
        raise ValueError("expected --models as names of models, as in --models abmil,simlp")
    return names


def _count_folds(wanted: int | None, split: Any) -> int | None:
    """How many folds are run; of split files and of independent draws those that are asked for."""
    there = None
    if split is not None and "fold" in split and "folds" not in split:
        if wanted is not None and wanted < 1:
            raise ValueError(f"expected --folds of at least 1, got {wanted}")
        return wanted
    if split is not None and "folds" in split:
        counts = (split.folds, split.get("repeats", 1))
        if not all(type(each) is int and each > 0 for each in counts):
            raise ValueError(
                f"expected whole numbers of at least 1 as split.folds and split.repeats, got "
                f"{counts[0]} and {counts[1]}"
            )
        there = counts[0] * counts[1]
    if wanted is None or wanted == there:
        return there
    if there is None or not 1 <= wanted <= there:
        have = "none: choose split=kfold" if there is None else f"{there}"
        raise ValueError(f"--folds {wanted}: the split has {have}")
    return wanted


def _several(count: int) -> str:
    return ",".join(map(str, range(count)))


def keep(plan: Plan) -> None:
    """Writes what was named beforehand, or checks that it is as it was.

    A metric that no run has, misspelt say, was not chosen by the results: another may take its
    place.

    Raises:
        ValueError: where it is not.
    """
    from milforge.processes.files import atomic_path, read_json

    path, now = plan.folder / "bench.json", plan.named_beforehand()
    if path.is_file():
        try:
            before = read_json(path)
            if not isinstance(before, dict):
                raise ValueError(f"{path.name} is damaged (expected names and values)")
        except ValueError as error:
            raise ValueError(
                f"{plan.folder}: {error}, so it does not say what the bench was begun with: name "
                "another sweep=, or remove that file if it was begun with the same --models, "
                "--baseline, --metric and --folds"
            ) from error
        for key, value in now.items():
            replaced = key == "metric" and _is_unknown(before.get(key), plan.folder)
            if before.get(key) != value and not replaced:
                raise ValueError(
                    f"{plan.folder} was begun with {key} {_text(before.get(key))}, got "
                    f"{_text(value)}: name another sweep=, or compare what is there by "
                    "milforge-report"
                )
        if before.get("metric") == plan.metric:
            return
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(now, indent=2) + "\n", "utf-8")


def _is_unknown(metric: Any, folder: Path) -> bool:
    """Whether a metric was named that no run of the models has."""
    from milforge.runs.read_files import read_summary

    for path in folder.glob("models/*/summary.json"):
        with suppress(ValueError, OSError):  # a damaged one, which the table names
            if metric in read_summary(path)["metrics"]:
                return False
    return metric is not None


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else json.dumps(value)

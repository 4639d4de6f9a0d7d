"""What `scripts/fuzz.py` hands to the commands: a value of another kind for each key and option."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from fuzz_inputs import ON_DISK, TINY, Command, Make, write_bags, write_npy
from fuzz_runs import FOLDS, PLAIN, RUN
from fuzz_spoil import VALUES, Draw
from omegaconf import OmegaConf

CONFIGS = Path(__file__).parents[1] / "configs"
# Values of keys by which a run may rightly take as long as anyone likes.
ENDLESS = {"trainer.max_epochs"}
# Commands that have options rather than keys, with what they need.
OPTIONS = {
    "report": [str(FOLDS), "--out", "report"],
    "inspect": ["bags", "--labels", "labels.csv"],
    "bench": ["--models", "simlp", "--seeds", "1", "sweep=b", *TINY, PLAIN[0]],
    "calibrate": [f"ckpt_path={FOLDS}/0"],
}


def kinds(base: Path, print_help: Callable[[str], str]) -> dict[str, list[Make]]:
    """The inputs of each kind.

    Args:
        base: the folder of the whole runs.
        print_help: what a command says with `--help`.
    """
    import milforge

    tiny = [*TINY, PLAIN[0]]
    disk = [*ON_DISK, "data.labels=labels.csv", *tiny[3:]]
    best = [f"ckpt_path={base / RUN}/checkpoints/best.ckpt", *PLAIN]
    of_fold = [f"ckpt_path={base / FOLDS}/0/checkpoints/best.ckpt"]
    stored = _plain(OmegaConf.load(base / RUN / "config.yaml"))
    found: dict[str, list[Make]] = {}
    for name, given in (("train", tiny), ("train of bags on disk", disk)):
        config = _plain(milforge.compose("train", given))
        found[f"key of {name}"] = [_key("train", key, given) for key in _keys(config)]
    found["key of evaluate"] = [_key("evaluate", key, best) for key in _keys(stored)]
    for name, given in (("predict", [best[0]]), ("map", of_fold)):
        own = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        del own["defaults"]
        found[f"key of {name}"] = [_key(name, key, given) for key in _keys(own)]
    for group, given in (("model", tiny), ("graph", disk), ("data", tiny[3:]), ("task", disk)):
        found[f"key of a {group}"] = list(_of_options(group, given))
    found["option"] = [
        _option(command, flag, given)
        for command, given in OPTIONS.items()
        for flag in dict.fromkeys(re.findall(r"(?:^| |\[)(--[a-z][a-z-]+)", print_help(command)))
        if flag != "--help"
    ] + [_option("calibrate", key, OPTIONS["calibrate"]) for key in ("ckpt_path=", "alpha=")] * 4
    return found


def _of_options(group: str, given: Sequence[str]) -> Iterator[Make]:
    """Each key that a file of a group brings."""
    for path in sorted((CONFIGS / group).glob("*.yaml")):
        own = yaml.safe_load(path.read_text()) or {}
        own.pop("defaults", None)
        if path.stem in ("feature_bags", "image_folder"):
            continue  # these are given data by others
        chosen = [*given, f"{group}={path.stem}"]
        if path.stem == "attention_sampling":
            chosen += ["data=megapixel_digits", "data.canvas=64"]
        yield from (_key("train", f"{group}.{key}", chosen) for key in _keys(own))


def _key(command: str, key: str, given: Sequence[str]) -> Make:
    """A value of another kind for a key."""

    def make(folder: Path, draw: Draw, _: Path) -> Command:
        if given[0] == ON_DISK[0]:
            write_bags(folder, write_npy, ".npy")
        numbers = key in ENDLESS
        known = [each for each in VALUES if not (numbers and isinstance(each, int | float))]
        return command, [*given, f"++{key}={written(draw.choice(known))}"]

    return make


def _option(command: str, flag: str, given: Sequence[str]) -> Make:
    """A value of another kind for an option of a command."""

    def make(folder: Path, draw: Draw, base: Path) -> Command:
        if command == "inspect":
            write_bags(folder, write_npy, ".npy")
        else:
            (folder / "logs").symlink_to(base / "logs")
        value = str(draw.choice(VALUES))
        further = [f"{flag}{value}"] if flag.endswith("=") else [flag, value]
        return command, [*given, *further]

    return make


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def _keys(node: object, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    found = []
    for key, value in node.items():
        if not str(key).startswith("_"):
            found.append(f"{prefix}{key}")
        found += _keys(value, f"{prefix}{key}.")
    return found


def written(value: object) -> str:
    """A value as the command line takes it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "'" + value.replace("'", "\\'") + "'" if not value.startswith("${") else value
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def chosen(makes: Sequence[Make], share: int) -> list[Make]:
    """One of so many, of all parts of a kind."""
    return random.Random(0).sample(list(makes), max(1, len(makes) // share))

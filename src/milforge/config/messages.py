"""Errors in one sentence."""

import re
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from milforge.config.hydra_versions import VERSION_BASE
from milforge.config.keys.key_check import did_you_mean
from milforge.processes.system_errors import WRITING, refusal, shortage

# Hydra's plugins, and the extra that brings them.
EXTRAS = {
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_local": "submitit",
    "hydra/launcher/submitit_slurm": "submitit",
    "hydra/launcher/ray": "ray",
    "hydra/sweeper/optuna": "optuna",
    "hydra/sweeper/sampler/tpe": "optuna",
}
# What the launchers raise where the process of a job is gone.
DEAD_PROCESS = (
    "TerminatedWorkerError",
    "UncompletedJobError",
    "FailedJobError",
    "WorkerCrashedError",
)


# How torch begins where an allocation of host memory fails.
NO_MEMORY = "DefaultCPUAllocator: "
WHERE = "HYDRA_FULL_ERROR=1 shows where"

# How OmegaConf begins where a resolver refuses its input.
RESOLVING = "ValueError raised while resolving interpolation: "


def config_dir() -> str:
    """The folder of the configs: inside an installed wheel, or in the checkout."""
    packaged = Path(str(files("milforge"))) / "configs"
    if packaged.is_dir():
        return str(packaged)
    return str(Path(__file__).resolve().parents[3] / "configs")


def explain(error: Exception, config_name: str, sweep: Path | None = None) -> str | None:
    """The error in a sentence for the user; None where the fault is ours.

    Args:
        error: what a command raised.
        config_name: name of its primary config.
        sweep: folder of the sweep that was running.
    """
    if isinstance(error, InstantiationException):
        known = isinstance(error.__cause__, Exception) and is_out_of_memory(error.__cause__)
        return _explain_memory(error) if known else _explain_making(error)
    if isinstance(error, yaml.YAMLError):
        return _explain_yaml(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _explain_config(error, config_name)
    if str(error).startswith("Config group override must be a string"):  # Hydra's own ValueError
        return "a group takes the name of one of its options, not null; ~GROUP leaves it out"
    if str(error) == "No trials are completed yet.":  # Optuna's
        return "no trial of the search has a value to go by; see above what each said"
    if type(error).__name__ in DEAD_PROCESS:
        folder = sweep or Path()
        return (
            "the process of a job was killed (out of memory?) or died; when no other runs any more "
            f"(milforge-report {folder}), begin again with the same command and "
            f"sweep={folder.name}: finished jobs are left as they are, the others go on"
        )
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a device
        return (
            "the memory of the device is full: lower loader.batch_size, loader.max_instances or "
            f"loader.eval_batch_size ({_one_line(error)})"
        )
    if is_out_of_memory(error):
        return _explain_memory(error)
    if str(error).startswith("Early stopping conditioned on metric"):
        return f"callbacks.early_stopping.monitor: {_one_line(error)}"
    if type(error).__module__.startswith("wandb."):
        return f"W&B: {_one_line(error)}: mend it, or do without (logger=csv)"
    if isinstance(error, OSError) and (error.errno is not None or shortage(error)):
        return _explain_system(error)
    return _one_line(error) if _is_sentence(error) else None


def _explain_system(error: OSError) -> str:
    """What the system refused, the file where it names one, and what helps."""
    lacking = shortage(error)
    remedy = WRITING.get(error.errno or 0) or (lacking[1] if lacking else None)
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    after = (
        " (paths.log_dir is where runs are written; one goes on with run=NAME, a job of a sweep "
        "with sweep=NAME)"
    )
    return " ".join(what.split()) + (f": {remedy}{after}" if remedy else "")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory of the machine, or of what a job may use of it, has run out."""
    return isinstance(error, MemoryError) or NO_MEMORY in str(error)


def _explain_memory(error: Exception) -> str:
    return (
        "there is not enough memory, of this machine or of what this job may use: lower "
        "loader.batch_size, loader.max_instances, loader.num_workers or the size of the model, or "
        f"ask for more ({_one_line(error)[:200]})"
    )


def _explain_making(error: InstantiationException) -> str:
    """What a class, or a function, of the config makes of its values; Hydra names the key."""
    cause = error.__cause__
    if isinstance(cause, Exception) and _is_sentence(cause):
        return _one_line(cause)
    return f"{_one_line(error)} ({WHERE})"


def _explain_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:  # bytes that are no text
        return f"a config file is no YAML in UTF-8: {_one_line(error)}"
    problem = getattr(error, "problem", None) or "something else"
    return f"{mark.name}, line {mark.line + 1}: expected YAML, got another ({problem}): mend it"


def _is_sentence(error: Exception) -> bool:
    """Whether the error is written for the user: one of ours, of the system, or Lightning's own."""
    # By name: Lightning need not be imported to say that a config is wrong.
    misconfiguration = type(error).__name__ == "MisconfigurationException"
    return isinstance(error, ValueError | OSError) or misconfiguration


def _one_line(error: Exception) -> str:
    # Bags have many faults at once, of which each has its line.
    lines = str(error).splitlines() if getattr(error, "faults", ()) else [str(error)]
    return "\n".join(" ".join(line.split()) if i == 0 else line for i, line in enumerate(lines))


def _explain_config(error: Exception, config_name: str) -> str:
    text = str(error)
    refused = refusal(error)
    if refused is not None:  # where a resolver makes a folder
        return _explain_system(refused)
    if RESOLVING in text:  # an error of one of our resolvers, written for the user
        return " ".join(text.partition(RESOLVING)[2].splitlines()[0].split())
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be read: a value with one of = , : ( ) [ ] {{ }} quotes or "
            "spaces at its ends is put into quotes that the shell leaves: "
            f"'{_key(error.override)}=\"VALUE\"', with \\ before quotes of that kind in it"
        )
    wrong = re.search(r"Could not override '([^']+)'", text)
    if wrong:
        key = wrong[1]
        return f"there is no key {key!r}{did_you_mean(key, _known_keys(config_name))}"
    option = re.search(r"Could not find '(?:([^']+)/)?([^'/]+)'.*Available options in", text, re.S)
    if option:
        group, name = option[1] or "", option[2]
        extra = EXTRAS.get(f"{group}/{name}")
        if extra is not None:
            what = group.split("/")[1]
            return f'{what} {name} is not installed: pip install "milforge[{extra}]"'
        options = re.findall(r"^\t(\S+)$", text, re.M)
        known = f" (there are {', '.join(options)})"
        return f"there is no {group}={name}{did_you_mean(name, options)}{known}"
    unknown = re.search(r"Key '([^']+)' not in '\w+Config'(?:.*\s+full_key: (\S+))?", text)
    if unknown:
        key = unknown[2] or unknown[1]
        return f"there is no key {key!r}{did_you_mean(key, _known_keys(config_name))}"
    # Hydra names the override, and OmegaConf below it what is wrong with it.
    below = f": {error.__cause__}".split("\n")[0] if error.__cause__ else ""
    return _one_line(error) + below


def _known_keys(config_name: str) -> list[str]:
    """All keys of the config with the groups chosen on the command line, as far as they compose."""
    chosen = [
        argument
        for argument in sys.argv[1:]
        if re.fullmatch(r"[\w/]+=[\w/]+", argument)
        and (Path(config_dir()) / _key(argument)).is_dir()
    ]
    config = OmegaConf.create()
    for overrides in ([], chosen):  # the wrong key may stand in what is chosen
        GlobalHydra.instance().clear()
        with (
            suppress(HydraException, OmegaConfBaseException),
            hydra.initialize_config_dir(config_dir(), **VERSION_BASE),
        ):
            config = hydra.compose(config_name, overrides=overrides)
    groups = [
        str(path.relative_to(config_dir()))
        for path in Path(config_dir()).rglob("*")
        if path.is_dir()
    ]
    return groups + _flat(OmegaConf.to_container(config, resolve=False), "")


def _key(argument: str) -> str:
    return argument.partition("=")[0]


def _flat(node: Any, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys: list[str] = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_flat(value, f"{prefix}{key}.")]
    return keys

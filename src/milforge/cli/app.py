"""What the commands share: configs, run folders, errors in one sentence."""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from milforge.cli import schema
from milforge.cli.check import did_you_mean

_folders: dict[str, str] = {}


def config_dir() -> str:
    """The folder of the configs: inside an installed wheel, or in the checkout."""
    packaged = Path(str(files("milforge"))) / "configs"
    if packaged.is_dir():
        return str(packaged)
    return str(Path(__file__).resolve().parents[3] / "configs")


def run(
    task: Callable[[DictConfig], None],
    config_name: str,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Runs a command on the overrides of the command line.

    Errors of the user's making (`ValueError`, `OSError`, Hydra's and Lightning's own) end the
    process with one sentence on standard error and exit code 1; with `HYDRA_FULL_ERROR=1` they
    come with their traceback. All others are ours to mend, and keep it.

    Args:
        task: takes the composed config.
        config_name: name of the primary config.
        before: runs before the config is composed; its errors are told like those of the task.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    failures: list[Exception] = []
    _prepare()

    def call(config: DictConfig) -> None:
        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        if config.sweep is None and sweeping:
            config.sweep = Path(HydraConfig.get().sweep.dir).name
        # Processes started from here shall not think that the user asked for tracebacks.
        with _full_error(wants_traceback):
            try:
                task(config)
            except Exception as error:
                if sweeping:
                    _note_failure(Path(config.paths.output_dir), error, config_name)
                    raise
                failures.append(error)  # Hydra would print it before we can explain it

    call.__module__ = task.__module__
    try:
        before()
        with _full_error(True):
            main = hydra.main(version_base="1.3", config_path=config_dir(), config_name=config_name)
            main(call)()
        if failures:
            raise failures[0]
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except Exception as error:
        _remove_empty_folders()
        sentence = _explain(error, config_name)
        if wants_traceback or sentence is None:
            traceback.print_exception(error)
            sys.exit(1)
        sys.exit(f"error: {sentence}")


def _note_failure(folder: Path, error: Exception, config_name: str) -> None:
    """Leaves the error in the folder of a job, for whoever surveys the sweep."""
    from milforge.data.files import atomic_path

    told = _explain(error, config_name) or f"{type(error).__name__}: {error}"
    with atomic_path(folder / "summary.json") as path:
        path.write_text(json.dumps({"status": "failed", "error": told}, indent=2) + "\n")


@contextmanager
def _full_error(wanted: bool) -> Iterator[None]:
    """Whether Hydra raises errors or prints them and exits, which an environment variable says."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1" if wanted else "0"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _prepare() -> None:
    schema.register()
    _folders.clear()
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # we say it ourselves
    OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
    OmegaConf.register_new_resolver("sweep_dir", _sweep_dir, replace=True)


def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _run_dir(parent: str, run: str | None) -> str:
    """The folder of a run, by its name.

    Without a name a new one of this second's, with a number where the second is taken; made at
    once.
    """
    if run is not None:
        return str(Path(parent) / run)
    if parent not in _folders:
        name, n = _now(), 1
        while True:
            folder = Path(parent) / (name if n == 1 else f"{name}_{n}")
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                n += 1
        _folders[parent] = str(folder)
    return _folders[parent]


def _sweep_dir(parent: str, name: str | None) -> str:
    return _folders.setdefault(parent, str(Path(parent) / (name or _now())))


def _remove_empty_folders() -> None:
    """Leaves no folder behind for a run that never began."""
    for folder in _folders.values():
        with suppress(OSError):
            Path(folder).rmdir()


def _explain(error: Exception, config_name: str) -> str | None:
    """The error in a sentence for the user; None where the fault is ours."""
    cause = error.__cause__
    if isinstance(error, InstantiationException) and isinstance(cause, Exception):
        if _is_sentence(cause):
            return _one_line(cause)
        # A value of another type than the class takes; Hydra's message names the key of the config.
        return _one_line(error) if isinstance(cause, TypeError | HydraException) else None
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _explain_config(error, config_name)
    if str(error).startswith("Config group override must be a string"):  # Hydra's own ValueError
        return "a group takes the name of one of its options, not null; ~GROUP leaves it out"
    return _one_line(error) if _is_sentence(error) else None


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
    wrong = re.search(r"Could not override '([^']+)'", text)
    if wrong:
        key = wrong[1]
        return f"there is no key {key!r}{did_you_mean(key, _known_keys(config_name))}"
    option = re.search(r"Could not find '(?:([^']+)/)?([^'/]+)'.*Available options in", text, re.S)
    if option:
        group, name = option[1] or "", option[2]
        options = re.findall(r"^\t(\S+)$", text, re.M)
        known = f" (there are {', '.join(options)})"
        return f"there is no {group}={name}{did_you_mean(name, options)}{known}"
    unknown = re.search(r"Key '([^']+)' not in '\w+Config'(?:\s+full_key: (\S+))?", text)
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
        and (Path(config_dir()) / _group(argument)).is_dir()
    ]
    config = OmegaConf.create()
    for overrides in ([], chosen):  # the wrong key may stand in what is chosen
        GlobalHydra.instance().clear()
        with (
            suppress(HydraException, OmegaConfBaseException),
            hydra.initialize_config_dir(config_dir(), version_base="1.3"),
        ):
            config = hydra.compose(config_name, overrides=overrides)
    groups = [
        str(path.relative_to(config_dir()))
        for path in Path(config_dir()).rglob("*")
        if path.is_dir()
    ]
    return groups + _flat(OmegaConf.to_container(config, resolve=False), "")


def _group(argument: str) -> str:
    return argument.split("=")[0]


def _flat(node: Any, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys: list[str] = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_flat(value, f"{prefix}{key}.")]
    return keys

"""What the commands share: configs, run folders, errors in one sentence."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from milforge.api.launch import Launch
from milforge.cli.common import sweep
from milforge.cli.common.terminal import show_any_name
from milforge.config import run_folders
from milforge.config.hydra_versions import MAIN
from milforge.config.keys import key_help
from milforge.config.messages import config_dir, explain
from milforge.config.resolvers import prepare
from milforge.processes.launch_environment import started_by
from milforge.runs.refused_folder import RefusedFolder

# What a command does; a search goes by the number.
Task = Callable[[DictConfig], float | None]


def run(task: Task, config_name: str, before: Callable[[], None] = lambda: None) -> None:
    """Runs a command on the overrides of the command line.

    Errors of the user's making (`ValueError`, `OSError`, Hydra's and Lightning's own) end the
    process with one sentence on standard error and exit code 1; with `HYDRA_FULL_ERROR=1` they
    come with their traceback. All others are faults of MilForge, and keep it.

    Args:
        task: takes the composed config.
        config_name: name of the primary config.
        before: runs before the config is composed; its errors are reported like those of the task.
    """
    job = Job(task, config_name, wants_traceback=os.environ.get("HYDRA_FULL_ERROR") == "1")
    show_any_name()
    run_folders.forget()
    prepare()
    try:
        if asked := key_help.question(sys.argv[1:]):
            print(key_help.answer(asked, config_name, sys.argv[1:]))
            return
        _check_folder()
        before()
        with _full_error(True):
            main = hydra.main(config_path=config_dir(), config_name=config_name, **MAIN)
            main(job)()
        if job.failure is not None:
            raise job.failure
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
    except SystemExit as end:
        if end.code:
            run_folders.remove_empty()
        # Lightning makes of Ctrl-C an exit with code 1.
        if isinstance(end.__context__, KeyboardInterrupt):
            sys.exit(130)
        raise
    except Exception as error:
        run_folders.remove_empty()
        sentence = explain(error, config_name, run_folders.sweep_folder())
        if job.wants_traceback or sentence is None:
            traceback.print_exception(error)
            sys.exit(1)
        sys.exit(f"error: {sentence}")


def launched(config: DictConfig) -> Launch:
    """How Hydra has started this job."""
    hydra_config = HydraConfig.get()
    in_sweep = hydra_config.mode == RunMode.MULTIRUN
    runs = Path(config.paths.log_dir, config.task_name, "runs").absolute()
    folder = Path(config.paths.output_dir)
    name = ""  # of a folder that hydra.run.dir names in the command
    if in_sweep:
        name = f" and sweep={config.sweep}"
    elif folder.is_relative_to(runs):
        name = f" and run={folder.relative_to(runs)}"
    chosen = {str(group): str(option) for group, option in hydra_config.runtime.choices.items()}
    return Launch(
        overrides=tuple(hydra_config.overrides.task),
        in_sweep=in_sweep,
        by_slurm=hydra_config.launcher._target_.endswith("SlurmLauncher"),
        choices={
            group: option
            for group, option in chosen.items()
            if option != "None" and not group.startswith(("hydra", "paths", "local"))
        },
        again=f"it goes on with the same command{name}",
    )


class Job:
    """The task of a command as Hydra calls it: here, or in a process that a launcher started.

    Such a process gets this object pickled, with all that Hydra knows in this one (resolvers,
    schemas, the config stored in a checkpoint), and composes the config itself.

    Args:
        task: takes the composed config.
        config_name: name of the primary config.
        wants_traceback: whether the user asked for tracebacks.
    """

    def __init__(self, task: Task, config_name: str, *, wants_traceback: bool) -> None:
        self.task = task
        self.config_name = config_name
        self.wants_traceback = wants_traceback
        self.failure: Exception | None = None
        self.__module__ = f"milforge.cli.{config_name}"  # Hydra names the job by it

    def __call__(self, config: DictConfig) -> float | None:
        """Runs the task.

        Errors are kept (Hydra would print them before we can explain them); that of a job of a
        sweep is left in its folder, so that it stops no other.
        """
        logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # we say it ourselves
        # Processes started from here must not think that the user asked for tracebacks.
        with _full_error(self.wants_traceback):
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return self._in_sweep(config)
            try:
                sweep.check_single(HydraConfig.get().overrides.task)
                return self.task(config)
            except Exception as error:
                self.failure = error
                return None

    def _in_sweep(self, config: DictConfig) -> float | None:
        job = sweep.SweepJob(Path(config.paths.output_dir), HydraConfig.get())
        if not job.begin():
            return None
        sweep.start_processes_as_python_does()
        try:
            return self.task(config)
        except RefusedFolder as error:
            job.refuse(str(error))
            raise
        except Exception as error:
            sentence = explain(error, self.config_name)
            if self.wants_traceback or sentence is None:
                traceback.print_exception(error)
            job.fail(sentence or f"{type(error).__name__}: {error}")
            return None


@contextmanager
def _full_error(wanted: bool) -> Iterator[None]:
    """Sets whether Hydra raises errors, or prints them and exits."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1" if wanted else "0"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _check_folder() -> None:
    """Checks that all processes of a run that torchrun or srun has started write to one folder.

    Each composes the config for itself, and would make a folder of its own.

    Raises:
        ValueError: where they have no name in common, or would each begin a whole sweep.
    """
    starter, arguments = started_by(), sys.argv[1:]
    if starter is None:
        return
    if {"-m", "--multirun"} & set(arguments):
        raise ValueError(
            f"a sweep is begun by one process, and {starter} has started several, each of which "
            "would begin it; choose launcher=submitit_slurm, which starts those of each job"
        )
    if not any(each.startswith("run=") for each in arguments):
        raise ValueError(
            f"{starter} has started several processes, which are to write to one folder: name it "
            "with run=NAME"
        )

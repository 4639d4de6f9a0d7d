"""The run of Weights & Biases that tracks a run: where it is kept, and how it goes on."""

import logging
import os
import re
from pathlib import Path
from secrets import token_hex

import lightning as L
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from milforge.processes.files import atomic_path
from milforge.processes.lightning_private import is_offline, run_options, set_offline
from milforge.processes.wandb_mode import is_offline_mode, wandb_mode

log = logging.getLogger(__name__)

STEPS_OF_A_PART = 1_000_000  # more than the calls to log of any run


def _parts_of(folder: Path) -> list[Path]:
    """The folders of the parts of an offline run, one for each time that it went on."""
    return sorted(folder.parent.glob("offline-run-*"))


@rank_zero_only
def set_axes(logger: WandbLogger) -> None:
    """Panels of W&B are drawn over epochs, and a run that goes on counts its steps on.

    Offline, W&B begins each part of such a run at step 0, and a server drops what is logged at a
    step that it has seen.
    """
    run = logger.experiment
    for part in ("train", "val", "test", "best", "same_bags"):
        run.define_metric(f"{part}/*", step_metric="epoch")
    before = len(_parts_of(Path(run.dir).parent)) - 1
    if is_offline(logger) and before > 0:
        run.log({"parts_before": before}, step=before * STEPS_OF_A_PART)


@rank_zero_only
def prepare_wandb(logger: WandbLogger, path: Path, name: str | None) -> None:
    """Has W&B go on with the run of which a file holds the id, or begin one and note its id.

    `WANDB_MODE` of the environment counts more than the config.
    Where W&B cannot be reached, the run is tracked offline, so that it is not lost and can be
    uploaded later.
    """
    stage_in(path.parent / "wandb")
    mode = wandb_mode()
    if mode is not None:
        set_offline(logger, is_offline_mode(mode))
    # Lightning passes what W&B no longer takes, and each run would begin with a warning.
    options = run_options(logger)
    options.pop("anonymous", None)
    if options.get("name") is None:
        options["name"] = name
    known = path.read_text(errors="replace").strip() if path.is_file() else ""
    if re.fullmatch(r"[\w-]{1,128}", known, re.ASCII):
        options["id"] = known
        if not is_offline(logger):
            options["resume"] = "allow"
    else:
        if path.is_file():
            log.warning("%s is damaged: W&B tracks what follows as a run of its own", path)
        # An agent of a W&B sweep says which run this is.
        options["id"] = os.environ.get("WANDB_RUN_ID") or token_hex(4)
        with atomic_path(path) as partial:
            partial.write_text(f"{options['id']}\n")
    if not is_offline(logger):
        # Said in so many words, as W&B may have read the mode of an earlier run in this process.
        options["mode"] = options.get("mode") or "online"
        import wandb  # which takes most of a second

        try:
            logger.experiment  # noqa: B018 (it connects)
            return
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            why = str(error).splitlines()[0]
            log.warning("W&B cannot be reached (%s): this run is tracked offline", why)
            wandb.teardown()  # its service holds the id of the run that failed
            set_offline(logger, True)
            options.pop("resume", None)
    # Lightning says it by an environment variable, which W&B reads once in a process.
    options["mode"] = "offline"


def stage_in(folder: Path) -> None:
    """Has W&B gather what it logs in the run's folder, where it may not in the user's home.

    It says so only when a table is logged, after training.
    """
    import wandb

    staging = Path(wandb.env.get_data_dir()) / "artifacts" / "staging"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        writable = os.access(staging, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        os.environ["WANDB_DATA_DIR"] = str(folder)
        # Its process writes its log there, and to the terminal where it may not.
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))


def wandb_folder(trainer: L.Trainer) -> str | None:
    """Folder of the W&B run, where there is one on this machine.

    A run that was killed and goes on has several, of one id: a pattern that matches them all, which
    `wandb sync` joins.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            folder = Path(logger.experiment.dir).parent
            several = len(_parts_of(folder)) > 1
            return str(folder.parent / "offline-run-*" if several else folder)
    return None

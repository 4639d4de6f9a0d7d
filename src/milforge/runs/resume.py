"""What happens where a folder holds a run already: it goes on, or is left as it is."""

import csv
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import nan
from pathlib import Path
from typing import IO, Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from milforge.processes.file_lock import lock
from milforge.processes.files import atomic_path
from milforge.runs.checkpoint_io import last_whole
from milforge.runs.former_names import with_present_targets
from milforge.runs.read_files import read_summary, read_yaml
from milforge.runs.refused_folder import RefusedFolder

logger = logging.getLogger(__name__)

_TRIES = 100  # to lock a file that is there

Rows = list[dict[str, str]]
# A config as plain data and the one that was typed, to what decides which weights come out of the
# first, key by key.
Identity = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]


def finished_metrics(folder: Path) -> dict[str, float] | None:
    """Returns the metrics of the run in this folder if it is finished, else None."""
    path = folder / "summary.json"
    if not path.is_file():
        return None
    try:
        summary = read_summary(path)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}: remove that file to have the run go on") from error
    if summary.get("status") != "finished":
        return None
    # JSON has no NaN, which AUROC is where all bags are of one class.
    return {name: nan if value is None else value for name, value in summary["metrics"].items()}


def check_same_run(config: Mapping[str, Any], folder: Path, identity: Identity) -> None:
    """Checks that the run in a folder, if there is one, has these settings.

    Args:
        config: the settings, as plain data.
        folder: of the run.
        identity: gives what of a config must be the same.

    Raises:
        RefusedFolder: where it has others; names the first.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return
    try:
        stored = with_present_targets(read_yaml(path))
    except ValueError as error:
        raise RefusedFolder(
            f"{folder}: {error}, so it does not say which settings its run has: choose another "
            "folder (run=NAME, or sweep=NAME), or remove that file if they are these"
        ) from error
    there, here = identity(stored, config), identity(config, config)
    for key in sorted(there.keys() | here.keys()):
        one, other = there.get(key, "not set"), here.get(key, "not set")
        if one != other:
            raise RefusedFolder(
                f"{folder} holds a run with other settings: {key} is {one} there and {other} here; "
                "go on with the settings of that run, or choose another folder (run=NAME, or "
                "sweep=NAME)"
            )


def check_same_data(
    there: Mapping[str, Mapping[str, str]], here: Mapping[str, Mapping[str, str]], folder: Path
) -> None:
    """Checks that a run that goes on sees the bags that it was begun with.

    Features that differ are warned of alone: a data set may draw them at random.

    Args:
        there: the hashes in the checkpoint: of each part, by what they are of.
        here: those of the data at hand.
        folder: of the run.

    Raises:
        RefusedFolder: where bags, labels or sizes are others; says which, and of which part.
    """
    words = {"bags": "bags", "labels": "labels", "sizes": "numbers of instances"}
    changed = [
        f"the {words[what]} of the {part} part"
        for part, hashes in here.items()
        for what in words
        if there.get(part, {}).get(what) != hashes[what]
    ]
    if changed:
        raise RefusedFolder(
            f"{folder} holds a run that was begun with other data: {' and '.join(changed)} differ; "
            "give it the data of before, or begin anew in another folder (run=NAME, or sweep=NAME)"
        )
    for part, hashes in here.items():
        if there.get(part, {}).get("features") != hashes["features"]:
            logger.warning(
                "the features of the first or last bag of the %s part are not those that the run "
                "in %s was begun with: unless your data set draws them at random, begin anew in "
                "another folder (run=NAME)",
                part,
                folder,
            )


def checkpoint_to_go_on_from(folder: Path) -> str | None:
    """Returns the newest whole checkpoint of the run in a folder; None where there is none.

    Warns of checkpoints that are damaged.
    """
    path, damaged = last_whole(folder / "checkpoints")
    for each in damaged:
        instead = "the run begins anew" if path is None else f"going on from {path.name}"
        logger.warning("%s is damaged, %s", each, instead)
    if path is not None:
        logger.info("going on from %s", path)
    return None if path is None else str(path)


def read_metrics(folder: Path) -> Rows:
    """The whole rows of `metrics.csv`, of which a run that was killed may have left a part.

    They are read early, because a logger that starts again removes the file.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = [line for line in file if line.endswith("\n")]
    try:
        rows = list(csv.DictReader(lines))
    except csv.Error as error:
        logger.warning("%s is damaged (%s): it begins anew with this epoch", path, error)
        return []
    whole = [row for row in rows if None not in row and None not in row.values()]
    return [row for row in whole if row.get("step", "").isdecimal()]


def restore_metrics(trainer: L.Trainer, rows: Rows, step: int) -> None:
    """Puts back the rows from before the step at which the run goes on."""
    kept = [row for row in rows if int(row["step"]) < step]
    for each in trainer.loggers:
        if isinstance(each, CSVLogger) and kept:
            writer = each.experiment
            writer.metrics_keys = list(kept[0])
            with (
                atomic_path(Path(writer.metrics_file_path)) as partial,
                partial.open("w", newline="") as lines,
            ):
                table = csv.DictWriter(lines, writer.metrics_keys)
                table.writeheader()
                table.writerows(kept)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps a second run out of a folder while a run writes there.

    Raises:
        RefusedFolder: where another run does.
    """
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    # There is no trainer yet to ask.
    if rank_zero_only.rank != 0 or int(node) != 0:  # type: ignore[attr-defined]
        yield
        return
    path = folder / ".lock"
    with _locked(path, folder):
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows keeps a file that is open
                path.unlink(missing_ok=True)


def _locked(path: Path, folder: Path) -> IO[str]:
    """The open file of a folder's lock, which this process holds until it is closed."""
    for _ in range(_TRIES):
        file = path.open("a")
        try:
            lock(file)
        except (BlockingIOError, PermissionError) as error:
            file.close()
            raise RefusedFolder(
                f"another process is writing to {folder}: wait for its end, or choose another "
                "folder (run=NAME, or sweep=NAME)"
            ) from error
        except OSError:  # a file system without locks
            logger.debug("%s cannot be locked", path)
            return file
        # A run that has just ended removed the file: a lock on that keeps nobody out.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
    return path.open("a")  # a file system that gives a file another number each time


def remove_partial_files(folder: Path) -> None:
    """Removes what a run that was killed had begun to write."""
    for path in folder.rglob(".*.partial"):
        path.unlink(missing_ok=True)

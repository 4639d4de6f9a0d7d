"""Temperature and conformal thresholds of a trained model, from its validation bags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from milforge.config.checkpoints.checkpoint_config import load_checkpoint
from milforge.predictions_file import FILE
from milforge.processes.files import atomic_path, read_json
from milforge.report.predictions import Predictions
from milforge.report.read_predictions import read_predictions
from milforge.statistics import class_thresholds, fit_temperature
from milforge.tasks.classes.calibration import Calibration

NAME = "calibrated.ckpt"
KINDS = ("binary", "multiclass", "multilabel")
FEWEST = 10  # patients


@dataclass(frozen=True)
class Calibrated:
    """A checkpoint that was calibrated.

    Attributes:
        path: of the new checkpoint.
        calibration: what it holds.
        class_names: of its task.
        notes: what its user should know.
    """

    path: Path
    calibration: Calibration
    class_names: tuple[str, ...]
    notes: list[str]


def calibrate(path: str, *, alpha: float = 0.1) -> Calibrated:
    """Fits both on the validation bags of a run, and writes `calibrated.ckpt` beside `best.ckpt`.

    They are those of the run's `predictions/bags.parquet`, as the best checkpoint predicted them;
    where bags were held back to calibrate (`split.calibration_share`), those. The new checkpoint is
    the old one with the calibration in it: what evaluates and predicts with it divides the logits
    by the temperature and writes conformal sets.

    Args:
        path: of the run's `best.ckpt`.
        alpha: the share of patients whose set may miss the true class.

    Raises:
        ValueError: where the run has no such predictions, or they are not of this checkpoint.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"expected alpha between 0 and 1, got {alpha}")
    checkpoint = load_checkpoint(path)
    stored = checkpoint["milforge"]
    kind = stored["task"].get("kind")
    if kind not in KINDS:
        raise ValueError(
            f"ckpt_path: {path} is of a task without classes ({kind}): temperature and conformal "
            f"sets are for {', '.join(KINDS)}"
        )
    if stored["task"].get("calibration") is not None:
        raise ValueError(f"ckpt_path: {path} is calibrated already: give the run's best.ckpt")
    folder = Path(path).parent.parent
    predictions = _validation(folder, path, stored)
    notes = []
    patients = len(set(predictions.clusters))
    if patients < FEWEST:
        notes.append(
            f"{patients} validation patients are few: the temperature is a rough guess, and sets "
            "may be full"
        )
    monitor = str(stored["config"].get("monitor") or "val/loss")
    part = str(predictions.part[0])
    if part == "val" and monitor.startswith("val/"):
        notes.append(
            f"the validation part chose the epoch too ({monitor}), so sets hold the true class a "
            "little less often than they promise: split.calibration_share=0.1 holds back patients "
            "for that alone"
        )
    labels, logits = predictions.y, _logits(predictions, kind, folder / FILE)
    temperature = fit_temperature(logits, labels)
    thresholds = None
    if kind != "multilabel":
        p = _probability(logits / temperature)
        found = class_thresholds(p, labels.astype(int), predictions.clusters, alpha=alpha)
        thresholds = tuple(found.tolist())
    calibration = Calibration(temperature, thresholds, float(alpha), part)
    target = Path(path).with_name(NAME)
    _write(target, checkpoint, calibration)
    return Calibrated(target, calibration, tuple(stored["class_names"]), notes)


def _validation(folder: Path, path: str, stored: dict[str, Any]) -> Predictions:
    """The validation bags of the run, as this checkpoint predicted them."""
    remedy = "give the best.ckpt in a run's own checkpoints/ folder"
    if not (folder / FILE).is_file():
        raise ValueError(f"ckpt_path: {path} lies in no run's folder: it has no {FILE}; {remedy}")
    written = _summary(folder).get("checkpoint")
    if not isinstance(written, str) or Path(written).name != Path(path).name:
        raise ValueError(
            f"ckpt_path: {folder / FILE} was written by {written or 'another checkpoint'}, not by "
            f"{Path(path).name}; {remedy}"
        )
    predictions = read_predictions(folder)
    if predictions.class_names != tuple(stored["class_names"]):
        raise ValueError(
            f"ckpt_path: {folder / FILE} has the classes {', '.join(predictions.class_names)}, the "
            f"checkpoint {', '.join(stored['class_names'])}: they are of different runs"
        )
    part = "calibration" if "calibration" in predictions.part else "val"
    found = predictions.of_part(part).labelled
    split = stored["split"]
    if split is not None and set(found.bag_id) - {*split["val"], *split.get("calibration", ())}:
        raise ValueError(f"ckpt_path: {folder / FILE} is of another split than the checkpoint")
    if not len(found):
        raise ValueError(
            f"ckpt_path: {folder / FILE} holds no labelled validation bags, on which temperature "
            "and sets are fitted: train with split.val_share above 0"
        )
    if found.y.ndim == 1 and np.ptp(found.y) == 0:
        raise ValueError(
            f"ckpt_path: the validation bags of {folder} are of one class, which tells no "
            "temperature: use another split"
        )
    return found


def _logits(predictions: Predictions, kind: str, path: Path) -> Any:
    """`(n,)` of two classes, else `(n, K)`."""
    found = predictions.predicted("logit") if predictions.has("logit") else np.empty((0, 0))
    wanted = 1 if kind == "binary" else len(predictions.class_names)
    if found.ndim != 2 or found.shape[1] != wanted or not np.isfinite(found).all():
        raise ValueError(
            f"ckpt_path: {path} is damaged (expected {wanted} finite logits of each bag): evaluate "
            "the checkpoint again (milforge-evaluate)"
        )
    return found[:, 0] if kind == "binary" else found


def _summary(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / "summary.json")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _probability(logits: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """`(n, C)` of `(n,)` or `(n, C)` logits of one class a bag."""
    from scipy import special

    if logits.ndim == 1:
        return special.expit(np.stack([-logits, logits], 1))
    return special.softmax(logits, 1)


def _write(target: Path, checkpoint: dict[str, Any], calibration: Calibration) -> None:
    import torch

    stored = checkpoint["milforge"]
    task = {**stored["task"], "calibration": calibration.state()}
    with atomic_path(target) as partial, partial.open("wb") as file:
        torch.save({**checkpoint, "milforge": {**stored, "task": task}}, file)

"""How faithful the maps of the predicted bags are."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from milforge.callbacks.records import BagRecord
from milforge.maps.checks.faithfulness import Curves, agreement, areas_of, curves_of
from milforge.maps.kinds import Floats
from milforge.tasks import Task

logger = logging.getLogger(__name__)

SIGNED = {"contribution": "contributions", "gradient": "gradient", "occlusion": "occlusion"}


def measure_faithfulness(
    module: Any,
    records: Sequence[BagRecord],
    batch_of: Callable[[int], Any],
    explained: Callable[[int, Any], Any],
    shown: Callable[[BagRecord, int], int],
) -> tuple[dict[str, float], dict[str, Curves]]:
    """Deletion and insertion curves of all bags of at least two tiles, and what they amount to.

    A bag of which the model does not say what is asked for is left out, which the log says.

    The logit is that of the predicted class; of a task with one output and no classes that output.

    Args:
        module: predicts.
        records: what it predicted.
        batch_of: the batch of a bag by its number, not in inference mode.
        explained: what the module says of a bag, by its number and its batch.
        shown: the number of the output of which a map is drawn.

    Raises:
        ValueError: where no bag is left.

    Returns:
        The mean areas by name, with the mean agreement of the maps of several models; and the
        curves by the name of the bag.
    """
    curves: dict[str, Curves] = {}
    agreements: dict[str, list[float]] = {}
    for number, record in enumerate(records):
        if record.size < 2:
            continue
        batch = batch_of(number)
        try:
            found = explained(number, batch)
        except ValueError as error:
            logger.warning("bag %s is not among those measured: %s", record.bag_id, error)
            continue
        output = shown(record, len(found.logits))
        sign = _sign(record, module.task, len(found.logits))
        scores = scores_by_name(found, output, sign)

        def logits_of(
            parts: Sequence[Any], batch: Any = batch, output: int = output, sign: int = sign
        ) -> Floats:
            with torch.inference_mode(False), torch.no_grad():
                logits = module.logits_of_parts(batch, [torch.from_numpy(each) for each in parts])
            values: Floats = sign * logits[:, output].numpy()
            return values

        curves[record.bag_id] = curves_of(scores, logits_of, number)
        each = [scores_by_name(member, output, sign) for member in found.members]
        for name in scores if len(each) > 1 else ():
            maps = [one[name] for one in each if name in one]
            if len(maps) == len(each) and not np.isnan(alike := agreement(maps)):
                agreements.setdefault(name, []).append(alike)
        if (number + 1) % 50 == 0:
            logger.info("faithfulness of %d of %d bags", number + 1, len(records))
    if not curves:
        raise ValueError(
            "faithfulness=true: no bag could be measured: none has two tiles of which the model "
            "says what score= asks for"
        )
    measured = areas_of(list(curves.values()))
    measured |= {
        f"faithfulness/agreement/{name}": float(np.mean(each)) for name, each in agreements.items()
    }
    return measured, curves


def scores_by_name(found: Any, output: int, sign: int) -> dict[str, Floats]:
    """`(N,)` by name: what speaks for the predicted class is large."""
    scores: dict[str, Floats] = {}
    for name, attribute in SIGNED.items():
        values = getattr(found, attribute)
        if values is not None:
            scores[name] = sign * values[:, output].numpy()
    if found.weights is not None:
        scores["attention"] = found.weights.double().numpy()
    return scores


def _sign(record: BagRecord, task: Task, outputs: int) -> int:
    """-1 where the only logit speaks against the predicted class."""
    p = record.columns.get("probability")
    two = p is not None and p.ndim == 1 and len(p) == len(task.class_names) == 2
    return -1 if outputs == 1 and two and p is not None and p[0] > p[1] else 1

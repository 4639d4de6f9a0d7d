"""The map of a bag: what the model says of its tiles, checked against what the run has written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from milforge.callbacks.mapping.bags_in_words import (
    label_of,
    outputs_of,
    predicted_of,
    shown_output,
)
from milforge.callbacks.predictions import bags_table
from milforge.callbacks.records import BagRecord
from milforge.maps.checks.blocks import blocks_of
from milforge.maps.checks.written import Row, check_agreement, expected
from milforge.maps.kinds import Said
from milforge.maps.places import Place
from milforge.maps.sums import check_sum, sum_in_words
from milforge.maps.tiles import TileMap
from milforge.tasks import Task

Score = Literal["auto", "contribution", "attention", "gradient", "occlusion"]


def map_of(
    module: Any,
    batch: Any,
    record: BagRecord,
    place: Place,
    score: Score,
    checkpoints: Sequence[str],
    written: Sequence[Any],
) -> TileMap:
    """The map of a bag.

    Args:
        module: predicts.
        batch: the bag alone, not in inference mode.
        record: what was predicted of it.
        place: where its tiles lie.
        score: see `MapWriter`.
        checkpoints: what predicts.
        written: what the run of each has written, see `written_rows`.

    Raises:
        ValueError: where the model does not say what is asked for, or its prediction is not the one
            that was written.
    """
    task: Task = module.task
    of_bag = getattr(module, "of_bag", None)
    numbers = range(len(written)) if of_bag is None else of_bag[record.bag_id]
    averaged = len(checkpoints) > 1
    said = expected([written[n] for n in numbers], record.bag_id, record.part, averaged=averaged)
    if said is None:
        notes = ["No predictions of the run were at hand to compare its prediction with."]
    else:
        check_agreement(_row(record, task), said)
        notes = ["Its prediction is the one in predictions/bags.parquet of the run."]
    found, main = said_of(module, batch, record, score, blocks_for(score, place))
    if found.contributions is None:
        notes.append("The model has no exact contributions.")
    else:
        added, offset, logits = map(_numpy, (found.contributions, found.offset, found.logits))
        check_sum(added, offset, logits)
        notes.append(sum_in_words(offset, logits, len(checkpoints)))
    names = member_names([checkpoints[n] for n in numbers])
    return TileMap(
        name=record.bag_id,
        corners=place.corners,
        side=place.side,
        outputs=outputs_of(task, len(found.logits)),
        classes=task.class_names,
        scores=_numpy(record.scores),
        logits=found.logits.numpy(),
        offset=_numpy(found.offset),
        main=main,
        shown=shown_output(record, len(found.logits)),
        label=label_of(record, task),
        predicted=predicted_of(record, task),
        notes=(*notes, *place.notes),
        members=dict(zip(names, map(_said, found.members), strict=False)),
        of_token=found.of_token,
        to_pixels=place.to_pixels,
        to_micrometres=place.to_micrometres,
        weights=_numpy(record.weights),
        contributions=_numpy(found.contributions),
        gradient=_numpy(found.gradient),
        occlusion=_numpy(found.occlusion),
        probability=_numpy(found.probability),
    )


def blocks_for(score: Score, place: Place) -> NDArray[np.int64] | None:
    """The blocks of tiles that are taken out, where the score asks for it."""
    return blocks_of(place.corners, place.side) if score == "occlusion" else None


def said_of(
    module: Any,
    batch: Any,
    record: BagRecord,
    score: Score,
    blocks: NDArray[np.int64] | None = None,
) -> tuple[Any, str]:
    """What the model says of a bag, and the key of what is drawn of it.

    Args:
        module: predicts.
        batch: the bag alone, not in inference mode.
        record: what was predicted of it.
        score: see `MapWriter`.
        blocks: `(N,)` the blocks of tiles to be taken out, see `blocks_of`; None: nothing is.

    Raises:
        ValueError: where the model does not say what is asked for.
    """
    parts = None if blocks is None else torch.from_numpy(blocks)
    # Not in inference mode, in which there are no gradients.
    with torch.inference_mode(False), torch.no_grad():
        found = module.explained(batch, gradient=score == "gradient", blocks=parts)
        if score == "auto" and found.contributions is None and record.weights is None:
            found = module.explained(batch, gradient=True)
    known = {
        "contribution": found.contributions,
        "attention": record.weights,
        "gradient": found.gradient,
        "occlusion": found.occlusion,
    }
    order = list(known) if score == "auto" else [score]
    main = next((key for key in order if known[key] is not None), None)
    if main is not None:
        return found, main
    members = found.members or (found,)
    if score == "attention":
        raise ValueError("the model has no attention: choose score=gradient or score=occlusion")
    if score == "contribution" and any(each.contributions is None for each in members):
        raise ValueError(
            "the model has no contributions that are exact (docs/models.md): choose score=gradient "
            "or score=occlusion"
        )
    raise ValueError(
        "the models scale their labels each in its own way, so what they say has no mean"
    )


def _row(record: BagRecord, task: Task) -> Row:
    """What is predicted of a bag, in the columns of the predictions file."""
    (row,) = bags_table([record], task).to_pylist()
    starts = tuple("logit" if name == "logits" else name for name in record.columns)
    return {k: v for k, v in row.items() if isinstance(v, float) and k.startswith(starts)}


def _numpy(values: torch.Tensor | None) -> Any:
    return None if values is None else values.double().numpy()


def _said(found: Any) -> Said:
    names = ("weights", "contributions", "gradient", "occlusion", "probability")
    return Said(**{name: _numpy(getattr(found, name)) for name in names})


def member_names(checkpoints: Sequence[str]) -> list[str]:
    """Names of checkpoints to tell them apart: those of their runs where they differ.

    Example:
        >>> member_names(["cv/0/checkpoints/best.ckpt", "cv/1/checkpoints/best.ckpt"])
        ['0', '1']
    """
    names = [Path(each).parent.parent.name for each in checkpoints]
    return names if len(set(names)) == len(names) and all(names) else list(checkpoints)

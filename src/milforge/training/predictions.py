"""What an evaluation or prediction step returns about the bags of a batch."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from milforge.data import BagBatch, ImageBatch
from milforge.functional import segment_index, segment_softmax
from milforge.models import BagOutput
from milforge.models.streams import mean_attention
from milforge.tasks import Task


class BagPredictions(TypedDict):
    """All on the CPU.

    Attributes:
        columns: the columns of the task, `(B,)` or `(B, K)`, and the `logits` `(B, O)` beside them.
        sizes: `(B,)` int64, instances of each bag: `N` in all.
        scores: `(N,)` attention scores; missing where the pooling has none.
        weights: `(N,)` attention weights; missing where the pooling has none.
        y_inst: `(N,)` instance labels, -1 where unknown; missing where there are none.
        coords: `(N, 2)` or `(N, 3)`; missing where there are none.
        details: `(B, ...)` each: what else the network says; see `milforge.models.BagOutput`.
    """

    columns: Mapping[str, Tensor]
    sizes: Tensor
    details: Mapping[str, Tensor]
    scores: NotRequired[Tensor]
    weights: NotRequired[Tensor]
    y_inst: NotRequired[Tensor]
    coords: NotRequired[Tensor]


def predictions_of(
    batch: BagBatch | ImageBatch, output: BagOutput, columns: Mapping[str, Tensor]
) -> BagPredictions:
    """What is predicted of the bags of a batch and of their instances.

    Args:
        batch: the bags, as the network saw them.
        output: the output of the network.
        columns: what is predicted of each bag.
    """
    predicted = BagPredictions(
        columns={name: each.cpu() for name, each in columns.items()},
        sizes=_sizes(batch, output).cpu(),
        details={name: each.detach().cpu() for name, each in output.details.items()},
    )
    scores = attention_scores(batch, output)
    if scores is not None:
        predicted["scores"] = scores.detach().float().cpu()
        if "weights" in output.details:
            predicted["weights"] = output.details["weights"].detach().float().cpu().flatten()
        elif isinstance(batch, BagBatch):
            predicted["weights"] = segment_softmax(scores.detach().float(), batch.ptr).cpu()
    if isinstance(batch, BagBatch):
        if batch.y_inst is not None:
            predicted["y_inst"] = batch.y_inst.cpu()
        if batch.coords is not None:
            predicted["coords"] = batch.coords.cpu()
    elif "coords" in output.details:
        predicted["coords"] = output.details["coords"].cpu().flatten(0, 1)
    return predicted


def _sizes(batch: BagBatch | ImageBatch, output: BagOutput) -> Tensor:
    """`(B,)` instances of each bag; of an image the patches that were looked at."""
    if isinstance(batch, BagBatch):
        return batch.ptr.diff()
    looked_at = 0 if output.scores is None else len(output.scores) // max(1, len(batch))
    return torch.full((len(batch),), looked_at)


def attention_scores(batch: BagBatch | ImageBatch, output: BagOutput) -> Tensor | None:
    """`(N,)` attention scores; of several heads those of their mean weights.

    Of several classes those of the predicted one, and of the positive one where there are two.
    """
    scores = output.scores
    if scores is None or scores.ndim == 1 or not isinstance(batch, BagBatch):
        return scores
    if output.scores_of == "heads":
        return mean_attention(scores.unbind(1), batch.ptr)
    if output.logits.shape[1] == 1:
        return scores[:, -1]
    predicted = output.logits.detach().argmax(1)
    shown = predicted[segment_index(batch.ptr, len(scores))]
    return scores.gather(1, shown[:, None])[:, 0]


def labelled_instances(
    batch: BagBatch | ImageBatch, output: BagOutput, task: Task
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """What tells how well attention finds the positive instances.

    Returns:
        `(N,)` attention scores without gradient, `(N,)` instance labels, `(B,)` sizes of the bags
        and `(B,)` whether they are positive; None where there are no labels or scores.
    """
    if not isinstance(batch, BagBatch) or batch.y_inst is None or batch.y is None:
        return None
    scores = attention_scores(batch, output)
    if scores is None:
        return None
    # Detached, or the graph of every step would be kept till the end of the epoch.
    return scores.detach(), batch.y_inst, batch.ptr.diff(), task.is_positive(batch.y)

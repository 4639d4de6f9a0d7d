"""Modules that were trained apart as one: their probabilities and attention are averaged."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milforge.data import BagBatch, ImageBatch, Task
from milforge.functional import segment_softmax
from milforge.models import BagOutput, SamplingOutput
from milforge.training.bag_classification import BagClassification
from milforge.training.image_classification import ImageClassification
from milforge.training.predictions import BagPredictions, ImagePredictions


class BagEnsemble(BagClassification):
    r"""Averages the probabilities and the attention weights of its members.

    $$ p = \frac{1}{M} \sum_m p_m \qquad s_n = \frac{1}{M} \sum_m s_{mn} $$

    The members see each batch one after the other, and each standardises it by its own statistics.
    The logits are those of `p`, so that loss and metrics are of the averages, and the scores are
    `log s`, whose softmax is `s`; there are none where a member's pooling has none. Class weights
    are those of the first member. It is there to evaluate and predict, not to be trained.

    Args:
        members: of the same task and classes.
    """

    def __init__(self, members: Sequence[BagClassification]) -> None:
        first = members[0]
        super().__init__(
            nn.ModuleList(members),
            first.task,
            first.class_names,
            class_weights=first.class_weights,
        )
        self.members = list(members)

    def prepared(self, batch: BagBatch) -> BagBatch:
        """The batch as it is: each member prepares it for itself."""
        return batch

    def forward(self, batch: BagBatch) -> BagOutput:
        """The members' outputs, averaged."""
        outputs = [member(member.prepared(batch)) for member in self.members]
        scores = [output.scores for output in outputs]
        attends = all(each is not None for each in scores)
        return BagOutput(
            logits_of_mean([output.logits for output in outputs], self.task),
            scores_of_mean(scores, batch.ptr) if attends else None,
            penalty=None,
        )

    def predictions(self, batch: BagBatch, output: BagOutput) -> BagPredictions:
        """The averages."""
        told = super().predictions(batch, output)
        if output.scores is not None:  # a softmax of them in float32 would round once more
            told["weights"] = output.scores.detach().exp().float().cpu()
        return told


class _SampledMean(NamedTuple):
    """What an ensemble says about a batch of images; `first` is what its first member does."""

    logits: Tensor
    attention: Tensor
    first: SamplingOutput


class ImageEnsemble(ImageClassification):
    """Averages the probabilities and the attention maps of its members.

    Each member looks at patches that it draws from its own attention; those that predictions and
    figures tell of, with their weights, are the first member's. See `BagEnsemble`.

    Args:
        members: of the same task and classes.
    """

    def __init__(self, members: Sequence[ImageClassification]) -> None:
        first, *others = members
        super().__init__(
            first.network, first.task, first.class_names, class_weights=first.class_weights
        )
        self.others = nn.ModuleList(each.network for each in others)

    def forward(self, batch: ImageBatch) -> _SampledMean:
        """The members' outputs, averaged.

        Raises:
            ValueError: for attention maps of different sizes.
        """
        outputs = [network(batch) for network in (self.network, *self.others)]
        maps = [output.attention for output in outputs]
        sizes = sorted({tuple(each.shape[1:]) for each in maps})
        if len(sizes) > 1:
            raise ValueError(
                f"expected attention maps of one size to average, got {sizes}: average models "
                "with the same attention network"
            )
        logits = logits_of_mean([output.logits for output in outputs], self.task)
        return _SampledMean(logits, torch.stack(maps).mean(0), outputs[0])

    def predictions(self, batch: ImageBatch, output: Any) -> ImagePredictions:
        """The averages, and the patches of the first member."""
        told = super().predictions(batch, output.first)
        told["probabilities"] = self.probabilities(output.logits).cpu()
        told["attention"] = output.attention.detach().float().cpu()
        return told


def logits_of_mean(logits: Sequence[Tensor], task: Task) -> Tensor:
    """Logits of the mean of the probabilities that several logits stand for.

    Args:
        logits: each `(B,)` (binary) or `(B, C)`.
        task: binary and multilabel logits stand for a sigmoid, multiclass ones for a softmax.

    Returns:
        As one of `logits`, float64, so that a loss of them is exact for probabilities near 0 and 1.

    Example:
        >>> each = [torch.tensor([0.2, 0.9]).logit(), torch.tensor([0.4, 0.5]).logit()]
        >>> logits_of_mean(each, "binary").sigmoid().float()
        tensor([0.3000, 0.7000])
    """
    stacked = torch.stack(list(logits)).double()
    if task == "multiclass":
        return _log_mean_exp(stacked.log_softmax(2))
    return _log_mean_exp(F.logsigmoid(stacked)) - _log_mean_exp(F.logsigmoid(-stacked))


def scores_of_mean(scores: Sequence[Tensor], ptr: Tensor) -> Tensor:
    """Logarithm of the mean of the attention weights that several scores stand for.

    Args:
        scores: each `(N,)`.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(N,)` float64; -inf where the mean is 0.

    Example:
        >>> each = [torch.tensor([0.1, 0.9]).log(), torch.tensor([0.3, 0.7]).log()]
        >>> scores_of_mean(each, torch.tensor([0, 2])).exp().float()
        tensor([0.2000, 0.8000])
    """
    # Exponents of float64: a weight that float32 would round to 0 keeps its rank.
    weights = [segment_softmax(each.double(), ptr) for each in scores]
    return torch.stack(weights).mean(0).log()


def _log_mean_exp(values: Tensor) -> Tensor:
    """Over the first axis."""
    return values.logsumexp(0) - math.log(len(values))

"""Modules that were trained apart as one: their predictions and attention are averaged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from milforge.data import BagBatch, CovariateEncoder, ImageBatch
from milforge.functional import segment_softmax
from milforge.models import BagOutput
from milforge.training.module import MILModule
from milforge.training.predicting import Batch
from milforge.training.predictions import BagPredictions, attention_scores


class Ensemble(MILModule):
    r"""Averages the predictions and the attention weights of its members.

    $$ p = \frac{1}{M} \sum_m p_m \qquad s_n = \frac{1}{M} \sum_m s_{mn} $$

    The columns of the task are averaged (`Task.average`), never the logits, because each member may
    scale its labels otherwise. The members see each batch one after the other, and each
    standardises it by its own statistics. The scores are `log s`, whose softmax is `s`; there are
    none where a member's pooling has none; of attention per class they are those of the class that
    all predict together. What all members log, such as the weights of streams,
    is averaged too. So are attention maps of large images, and the entropy is that of the mean; the
    patches that predictions and figures show are those of the first member. An ensemble
    evaluates and predicts; it is not to be trained.

    The covariates of a bag are those of all members in turn, each of which takes its own.

    Args:
        members: modules of the same task and classes; the task and the loss of the first are used.
        of_bag: the numbers of the members that a bag is predicted by, by its name; a batch is then
            a single bag. None: every bag by all.
    """

    def __init__(
        self, members: Sequence[MILModule], of_bag: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        first = members[0]
        super().__init__(
            nn.ModuleList(members), first.task, loss=first.loss, metrics=first.configured_metrics
        )
        self.members = list(members)
        self.of_bag = of_bag
        stored = [member.stored.get("covariates") or [] for member in members]
        widths = [len(CovariateEncoder(each).names) for each in stored]
        self._covariates = list(pairwise(accumulate(widths, initial=0)))

    @cached_property
    def logged(self) -> tuple[str, ...]:
        """The details that every member logs."""
        members = cast(Iterable[MILModule], self.network)
        first, *others = (member.logged for member in members)
        return tuple(name for name in first if all(name in each for each in others))

    def prepared(self, batch: Batch) -> Batch:
        """The batch as it is: each member prepares it for itself."""
        return batch

    def forward(self, batch: Batch) -> BagOutput:
        """The members' outputs, averaged; the columns are in the details, see `columns`.

        Raises:
            ValueError: for attention maps of different sizes.
        """
        seen = self.seen_by(batch)
        members = [member for member, _ in seen]
        outputs = [member(own) for member, own in seen]
        columns = [member.columns(output) for member, output in zip(members, outputs, strict=True)]
        logits, averaged = self.task.average(columns)
        details = {f"{_COLUMN}{name}": each for name, each in averaged.items()}
        for name in self.logged:
            details[name] = torch.stack([each.details[name] for each in outputs]).mean(0)
        first = outputs[0].details
        if "attention" in first:
            attention = _mean_map([each.details["attention"] for each in outputs])
            details = {**first, **details, "attention": attention}
            if "attention_entropy" in details:
                details["attention_entropy"] = torch.special.entr(attention).sum((1, 2))
            return BagOutput(logits, outputs[0].scores, details=details)
        # Several heads are averaged with those of the other members, in float64; of several classes
        # that counts which all predict together, whatever a member says.
        shown = [
            output.scores
            if output.scores_of == "heads"
            else attention_scores(batch, output._replace(logits=logits))
            for output in outputs
        ]
        scores = [each for each in shown if each is not None]
        attends = len(scores) == len(outputs) and isinstance(batch, BagBatch)
        if attends and isinstance(batch, BagBatch):
            return BagOutput(logits, scores_of_mean(scores, batch.ptr), details=details)
        return BagOutput(logits, details=details)

    def seen_by(self, batch: Batch) -> list[tuple[MILModule, Any]]:
        """The members that predict a batch, each with the batch as it sees it."""
        chosen = [(number, self.members[number]) for number in self._chosen(batch)]
        return [(member, member.prepared(self._own(batch, number))) for number, member in chosen]

    def _chosen(self, batch: Batch) -> Sequence[int]:
        """The numbers of the members that predict a batch."""
        if self.of_bag is None:
            return range(len(self.members))
        (bag_id,) = batch.bag_id
        return self.of_bag[bag_id]

    def _own(self, batch: Batch, member: int) -> Batch:
        """The batch with the covariates of a member alone."""
        taken = self._covariates[-1][1]
        if isinstance(batch, ImageBatch) or batch.covariates is None or not taken:
            return batch
        start, stop = self._covariates[member]
        own = batch.covariates[:, start:stop] if stop > start else None
        return replace(batch, covariates=own)

    def columns(self, output: BagOutput) -> dict[str, Tensor]:
        """The averages."""
        averaged = {
            name.removeprefix(_COLUMN): each
            for name, each in output.details.items()
            if name.startswith(_COLUMN)
        }
        return {**averaged, "logits": output.logits.float()}

    def predictions(
        self, batch: Batch, output: BagOutput, columns: Mapping[str, Tensor]
    ) -> BagPredictions:
        """The averages."""
        details = {n: each for n, each in output.details.items() if not n.startswith(_COLUMN)}
        predicted = super().predictions(batch, output._replace(details=details), columns)
        if output.scores is not None and isinstance(batch, BagBatch):
            # A softmax of them in float32 would round once more.
            predicted["weights"] = output.scores.detach().exp().float().cpu()
        return predicted


_COLUMN = "column "  # how the details of an ensemble hold its columns


def scores_of_mean(scores: Sequence[Tensor], ptr: Tensor) -> Tensor:
    """Logarithm of the mean of the attention weights that several scores stand for.

    Args:
        scores: each `(N,)` or `(N, K)`, whose weights are averaged over K, too.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(N,)` float64; -inf where the mean is 0.

    Example:
        >>> each = [torch.tensor([0.1, 0.9]).log(), torch.tensor([0.3, 0.7]).log()]
        >>> scores_of_mean(each, torch.tensor([0, 2])).exp().float()
        tensor([0.2000, 0.8000])
    """

    # Exponents of float64: a weight that float32 would round to 0 keeps its rank.
    def weights(member: Tensor) -> Tensor:
        heads = member.double().reshape(len(member), -1).unbind(1)
        return torch.stack([segment_softmax(each, ptr) for each in heads]).mean(0)

    return torch.stack([weights(each) for each in scores]).mean(0).log()


def _mean_map(maps: Sequence[Tensor]) -> Tensor:
    sizes = sorted({tuple(each.shape[1:]) for each in maps})
    if len(sizes) > 1:
        raise ValueError(
            f"expected attention maps of one size to average, got {sizes}: average models "
            "with the same attention network"
        )
    return torch.stack(list(maps)).mean(0)

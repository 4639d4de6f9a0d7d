"""Double-tier feature distillation MIL."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from milforge.data import BagBatch
from milforge.functional import (
    attention_pool,
    keyed_uniform,
    segment_index,
    segment_rank,
    segment_softmax,
)
from milforge.models.feature_network import FeatureNetwork, Permutation
from milforge.models.options import check_choice, check_counts
from milforge.models.output import Auxiliary, BagOutput
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads

Distil = Literal["afs", "maxs", "maxmins"]


class DTFD(FeatureNetwork):
    """Splits a bag at random into pseudo-bags, and pools what is distilled of each.

    Tier 1 pools each pseudo-bag by gated attention and is held to the label of the bag; tier 2
    pools what is distilled by gated attention of its own (Zhang et al. 2022, arXiv:2203.12081).
    Distilled are, of each pseudo-bag, `afs`: its pooled vector; `maxs`: the instances of the
    highest class activation `W_1 (s_n h_n)`; `maxmins`: those of the highest and of the lowest.
    The class is that which tier 1 predicts for the pseudo-bag, the positive one where there is one
    logit.

    Which instances stand together depends on the seed of the bag and the place of an instance in
    it, so that evaluation is fixed; over seeds the order does not matter.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        pseudo_bags: their number; a smaller bag has one per instance.
        att_dim: width of the projections of both attentions.
        distil: `afs`, `maxs` or `maxmins`.
        distilled: instances of each kind of each pseudo-bag, for `maxs` and `maxmins`; none
            counts twice.
        distil_gradient: whether the loss of tier 2 reaches the encoder and tier 1.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: for numbers below 1, or another way to distil.
    """

    permutation: Permutation = "random"

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        pseudo_bags: int = 5,
        att_dim: int = 128,
        distil: Distil = "afs",
        distilled: int = 1,
        distil_gradient: bool = True,
        aem: float = 0.0,
        covariates: bool = False,
        num_covariates: int = 0,
    ) -> None:
        super().__init__(
            instance_shape,
            num_outputs,
            encoder=encoder,
            fusion=fusion,
            aem=aem,
            covariates=covariates,
            num_covariates=num_covariates,
        )
        check_counts(pseudo_bags=pseudo_bags, distilled=distilled)
        check_choice("distil", distil, get_args(Distil))
        self.attention1 = AttentionHeads(self.width, 1, att_dim)
        self.head1 = nn.Linear(self.width, num_outputs)
        self.attention2 = AttentionHeads(self.width, 1, att_dim)
        self.head2 = nn.Linear(self.width, num_outputs)
        self.pseudo_bags = pseudo_bags
        self.distil = distil
        self.distilled = distilled
        self.distil_gradient = distil_gradient

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits of tier 2, and of each pseudo-bag those of tier 1.

        The scores are those of the weights that an instance has in the pooled bag. Of `maxs` and
        `maxmins` they are -inf for what is not distilled.
        """
        order, ptr1, bag1 = self._split(batch, len(x))
        x = x[order]
        f1 = self.attention1(x)[:, 0]
        z1 = attention_pool(x, f1, ptr1)
        logits1 = self.head1(z1)
        weights1 = segment_softmax(f1, ptr1)
        of = segment_index(ptr1, len(x))  # the pseudo-bag of each instance
        if self.distil == "afs":
            rows, bag = z1, bag1
        else:
            chosen = self._chosen(x, weights1, logits1, ptr1)
            rows, bag = x[chosen], bag1[of[chosen]]
        if not self.distil_gradient:
            rows = rows.detach()
        # Not by `bincount`, which waits for a device to know the largest number.
        counts = bag.new_zeros(len(batch)).index_add(0, bag, torch.ones_like(bag))
        ptr2 = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        f2 = self.attention2(rows)[:, 0]
        logits = self.head2(attention_pool(rows, f2, ptr2))
        if self.distil == "afs":
            weights = weights1 * segment_softmax(f2, ptr2)[of]
            # A weight of 0 would give a gradient of infinity times 0.
            scores = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
        else:
            scores = torch.full_like(weights1, -torch.inf).masked_scatter(
                chosen, f2.to(weights1.dtype)
            )
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return BagOutput(logits, scores[back], auxiliary=(Auxiliary(logits1, bag1),))

    def _split(self, batch: BagBatch, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """The instances by pseudo-bag `(N,)`, their boundaries `(S + 1,)`, their bags `(S,)`."""
        ptr, parts = batch.ptr, self.pseudo_bags
        drawn = keyed_uniform(self.seeds(batch), ptr, size)[:, 0]
        part = segment_index(ptr, size) * parts + segment_rank(drawn, ptr) % parts
        counts = part.new_zeros(len(batch) * parts).index_add(0, part, torch.ones_like(part))
        there = counts > 0
        bag = torch.arange(len(batch), device=ptr.device).repeat_interleave(parts)
        sizes = counts[there]
        bounds = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        return part.argsort(stable=True), bounds, bag[there]

    def _chosen(self, x: Tensor, weights: Tensor, logits: Tensor, ptr: Tensor) -> Tensor:
        """`(N,)` bool: what is distilled of each pseudo-bag."""
        of = segment_index(ptr, len(x))
        with torch.no_grad():
            activation = F.linear(x * weights[:, None].to(x.dtype), self.head1.weight)
            if logits.shape[1] > 1:
                shown = logits.argmax(1)[of][:, None]
                activation = activation.softmax(1).gather(1, shown)
            rank = segment_rank(activation[:, 0], ptr)
        chosen = rank < self.distilled
        if self.distil == "maxmins":
            chosen = chosen | (rank >= ptr.diff()[of] - self.distilled)
        return chosen

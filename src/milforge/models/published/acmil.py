"""Attention-challenging MIL."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import (
    attention_pool,
    keyed_uniform,
    segment_index,
    segment_rank,
    segment_softmax,
    segment_sum,
    weighted_sums,
)
from milforge.models.feature_network import FeatureNetwork
from milforge.models.output import Auxiliary, BagOutput
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads


class ACMIL(FeatureNetwork):
    r"""Several gated branches, kept apart, that are denied what they look at most.

    The bag is pooled by the mean of the branches' attention weights. In training a random share of
    the `top` instances of highest score of each branch is hidden from it; each branch is held to
    the label by a classifier of its own; and the mean cosine of the attention weights of two
    branches is added to the loss (Zhang et al. 2024, arXiv:2311.07125).

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        branches: number of attentions.
        att_dim: width of the projection that they share.
        top: instances of highest score that may be hidden; at most the bag.
        hidden_share: share of them that is, rounded down.
        diversity: weight of the cosine.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: for a share that is not below 1, which would hide a small bag as a whole.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        branches: int = 5,
        att_dim: int = 128,
        top: int = 10,
        hidden_share: float = 0.6,
        diversity: float = 1.0,
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
        if not 0 <= hidden_share < 1:
            raise ValueError(f"expected model.hidden_share from 0 to below 1, got {hidden_share}")
        self.attention = AttentionHeads(self.width, branches, att_dim)
        self.branch_heads = nn.ModuleList(
            nn.Linear(self.width, num_outputs) for _ in range(branches)
        )
        self.head = nn.Linear(self.width, num_outputs)
        self.top = top
        self.hidden_share = hidden_share
        self.diversity = diversity

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, a score per instance and branch, and in training what the branches add."""
        scores = self.attention(x)
        if self.training:
            hidden = self._hidden(scores, batch)
            scores = scores.masked_fill(hidden, -torch.inf)
        weights = segment_softmax(scores, batch.ptr)
        logits = self.head(weighted_sums(x, weights.mean(1), batch.ptr))
        if not self.training:
            return BagOutput(logits, scores)
        z = attention_pool(x, scores, batch.ptr).unbind(1)
        own = [head(each) for head, each in zip(self.branch_heads, z, strict=True)]
        bags = torch.arange(len(batch), device=x.device).repeat(len(own))
        penalty = self.diversity * mean_cosine(weights, batch.ptr).sum() / max(1, len(batch))
        return BagOutput(logits, scores, penalty, (Auxiliary(torch.cat(own), bags),))

    def contribute(self, x: Tensor, batch: BagBatch) -> Tensor:
        """`(N, O)`: what each instance adds to the logits of its bag, in evaluation."""
        weights = segment_softmax(self.attention(x), batch.ptr).mean(1)
        return weights[:, None] * (x @ self.head.weight.t())

    @property
    def offset(self) -> Tensor:
        """`(O,)`: what is added to the contributions."""
        return self.head.bias

    def _hidden(self, scores: Tensor, batch: BagBatch) -> Tensor:
        """`(N, K)` bool: what each branch does not see."""
        drawn = keyed_uniform(self.seeds(batch), batch.ptr, len(scores), scores.shape[1])
        among = segment_rank(scores, batch.ptr) < self.top
        place = segment_rank(drawn.where(among, -1.0), batch.ptr)
        number = (batch.ptr.diff().clamp(max=self.top) * self.hidden_share).floor()
        return place < number[segment_index(batch.ptr, len(scores))][:, None]


def mean_cosine(weights: Tensor, ptr: Tensor) -> Tensor:
    """Mean cosine of the attention weights `(N, K)` of two heads, in each bag: `(B,)`.

    0 where there is one head, or no instance.
    """
    heads = weights.shape[1]
    first, second = torch.triu_indices(heads, heads, 1, device=weights.device)
    if not len(first):
        return weights.new_zeros(len(ptr) - 1)
    products = segment_sum(weights[:, first] * weights[:, second], ptr)
    squares = segment_sum(weights.square(), ptr)
    sizes = (squares[:, first] * squares[:, second]).clamp(min=1e-16).sqrt()
    return (products / sizes).mean(1)

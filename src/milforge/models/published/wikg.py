"""A graph that the instances make themselves, with attention that knows it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from milforge.data import BagBatch
from milforge.functional import attention_pool, segment_index, segment_mean
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_choice, check_counts
from milforge.models.output import BagOutput
from milforge.models.streams import Encoder

Interaction = Literal["paper", "published"]
_CHUNK = 2**24  # products of instances that are looked at together


class WiKG(FeatureNetwork):
    r"""Each instance attends to the few that answer it best (Li et al. 2024, arXiv:2403.07719).

    With `x = (h + mean h) / 2`, heads `e = W_h x`, tails `t = W_t x`, the k instances j of highest
    `e_i . t_j / sqrt(d)`, and p the softmax of these,

    $$ r_{ij} = p_{ij} t_j + (1 - p_{ij}) e_i \qquad
       u_{ij} = \langle t_j, \tanh(e_i + r_{ij}) \rangle \qquad
       e_{N(i)} = \sum_j \mathrm{softmax}_j(u_{ij}) \, t_j $$

    and an instance becomes `leaky(W_1 (e + e_N)) + leaky(W_2 (e * e_N))`, which attention pools.
    The search for the neighbours runs in chunks, and what belongs to them is computed again in
    the backward pass, so memory grows with the bag and not with its square.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        dim: d, the width of heads and tails.
        neighbours: k; a smaller bag has as many as it has instances.
        interaction: `paper`, `u` as above, or `published`, the product of the two sums, which the
            published code computes.
        dropout: of the instances before the pooling.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: for numbers below 1, or another interaction.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        dim: int = 512,
        neighbours: int = 6,
        interaction: Interaction = "paper",
        dropout: float = 0.3,
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
        check_counts(dim=dim, neighbours=neighbours)
        check_choice("interaction", interaction, get_args(Interaction))
        self.heads = nn.Linear(self.width, dim)
        self.tails = nn.Linear(self.width, dim)
        self.sums = nn.Linear(dim, dim)
        self.products = nn.Linear(dim, dim)
        self.attention = nn.Sequential(
            nn.Linear(dim, max(1, dim // 2)),
            nn.LeakyReLU(),
            nn.Linear(max(1, dim // 2), 1, bias=False),
        )
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_outputs)
        self.neighbours = neighbours
        self.interaction = interaction

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and a score per instance."""
        ptr = batch.ptr
        bag = segment_index(ptr, len(x))
        x = (x + segment_mean(x, ptr)[bag].to(x.dtype)) / 2
        e, t = self.heads(x), self.tails(x)
        near, there = self._search(e, t, ptr)  # (N, k)
        scale = e.shape[1] ** -0.5
        again = partial(checkpoint, use_reentrant=False)
        columns = near.unbind(1)
        likeness = torch.stack([again(_product, e, t, column) for column in columns], dim=1)
        p = (likeness * scale).masked_fill(~there, -torch.inf).softmax(1)
        u = torch.stack(
            [
                again(_answer, e, t, column, share, self.interaction)
                for column, share in zip(columns, p.unbind(1), strict=True)
            ],
            dim=1,
        )
        weights = u.masked_fill(~there, -torch.inf).softmax(1)
        gathered = torch.zeros_like(e)
        for column, weight in zip(columns, weights.to(e.dtype).unbind(1), strict=True):
            gathered = gathered + again(_share, t, column, weight)
        x = F.leaky_relu(self.sums(e + gathered)) + F.leaky_relu(self.products(e * gathered))
        x = self.dropout(x)
        scores = self.attention(x)[:, 0]
        return BagOutput(self.head(self.norm(attention_pool(x, scores, ptr))), scores)

    @torch.no_grad()
    def _search(self, e: Tensor, t: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Rows `(N, k)` of the neighbours, and whether there is one: a small bag has less."""
        near = torch.zeros(len(e), self.neighbours, dtype=torch.int64, device=e.device)
        there = torch.zeros_like(near, dtype=torch.bool)
        for start, stop in pairwise(ptr.tolist()):
            k = min(self.neighbours, stop - start)
            rows = max(1, _CHUNK // max(1, stop - start))
            for first in range(start, stop, rows):
                last = min(first + rows, stop)
                found = (e[first:last] @ t[start:stop].T).topk(k, dim=1).indices
                near[first:last, :k] = found + start
            there[start:stop, :k] = True
        return near, there


def _product(e: Tensor, t: Tensor, near: Tensor) -> Tensor:
    return (e * t[near]).sum(1)


def _answer(e: Tensor, t: Tensor, near: Tensor, share: Tensor, interaction: str) -> Tensor:
    """`u_ij` `(N,)` for one neighbour j of each i."""
    of = t[near]
    p = share.to(of.dtype)[:, None]
    gate = (e + p * of + (1 - p) * e).tanh()
    return of.sum(1) * gate.sum(1) if interaction == "published" else (of * gate).sum(1)


def _share(t: Tensor, near: Tensor, weight: Tensor) -> Tensor:
    return t[near] * weight[:, None]

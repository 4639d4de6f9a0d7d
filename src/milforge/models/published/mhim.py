"""Masked hard instance mining."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from math import pi

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
from milforge.models.feature_network import FeatureNetwork, encoded
from milforge.models.output import BagOutput
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads


class MHIM(FeatureNetwork):
    r"""Attention that in training does not see what its teacher finds easy.

    The teacher is the moving average of the network, with the buffers of the network; it begins as
    what the network is in the first step, the weights of `init_from` included. Hidden in
    training are the instances of highest attention of the teacher, those of lowest, and a random
    share of the rest; numbers are rounded down, so that one instance at least is seen. The loss has
    the term

    $$ -\lambda \, \mathrm{softmax}(z_\text{teacher} / \tau)^\top \log \mathrm{softmax}(z) $$

    of the vectors that both make of the bag, the teacher of the whole of it (Tang et al. 2023,
    arXiv:2307.15254, over gated attention). The teacher is updated when a training step begins, so
    it follows the network by one step. A step is a batch, also where
    `trainer.accumulate_grad_batches` adds up the gradients of several.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        att_dim: width of the projection of the attention.
        gated: whether the attention has a gate.
        momentum: of the moving average.
        hide_high: share of the instances of highest attention that is hidden at first.
        hide_low: share of those of lowest attention.
        hide_random: share of the others.
        decay_steps: training steps in which `hide_high` falls to 0, along a cosine; None: never.
        consistency: `lambda`.
        temperature: `tau`.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: for shares that would hide all, or a momentum that is none.
    """

    step: Tensor

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        att_dim: int = 128,
        gated: bool = False,
        momentum: float = 0.9999,
        hide_high: float = 0.03,
        hide_low: float = 0.0,
        hide_random: float = 0.5,
        decay_steps: int | None = None,
        consistency: float = 0.1,
        temperature: float = 0.1,
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
        if min(hide_high, hide_low, hide_random) < 0 or max(hide_high + hide_low, hide_random) >= 1:
            raise ValueError(
                "expected model.hide_high + model.hide_low and model.hide_random from 0 to below "
                f"1, got {hide_high} + {hide_low} and {hide_random}"
            )
        if not 0 <= momentum <= 1:
            raise ValueError(f"expected model.momentum from 0 to 1, got {momentum}")
        self.attention = AttentionHeads(self.width, 1, att_dim, gated=gated)
        self.head = nn.Linear(self.width, num_outputs)
        self.teacher = nn.ModuleDict({"encoder": self.encoder, "attention": self.attention})
        if self.fusion is not None:
            self.teacher["fusion"] = self.fusion
        self.teacher = deepcopy(self.teacher).requires_grad_(False)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.momentum = momentum
        self.shares = (hide_high, hide_low, hide_random)
        self.decay_steps = decay_steps
        self.consistency = consistency
        self.temperature = temperature

    def train(self, mode: bool = True) -> "MHIM":
        """The teacher drops nothing."""
        super().train(mode)
        self.teacher.eval()
        return self

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits and scores, in training of what is seen; what is not has a score of -inf."""
        scores = self.attention(x)[:, 0]
        if not self.training:
            return BagOutput(self.head(attention_pool(x, scores, batch.ptr)), scores)
        self._update_teacher()
        with torch.no_grad():
            fusion = dict(self.teacher.named_children()).get("fusion")
            whole, _ = encoded(batch.x, self.teacher["encoder"], fusion)
            looked_at = self.teacher["attention"](whole)[:, 0]
            taught = attention_pool(whole, looked_at, batch.ptr)
        hidden = self._hidden(segment_softmax(looked_at, batch.ptr), batch)
        scores = scores.masked_fill(hidden, -torch.inf)
        z = attention_pool(x, scores, batch.ptr)
        target = (taught / self.temperature).softmax(1)
        apart = -(target * F.log_softmax(z, dim=1)).sum()
        penalty = self.consistency * apart / max(1, len(batch))
        return BagOutput(self.head(z), scores, penalty)

    def contribute(self, x: Tensor, batch: BagBatch) -> Tensor:
        """`(N, O)`: what each instance adds to the logits of its bag, in evaluation."""
        weights = segment_softmax(self.attention(x)[:, 0], batch.ptr)
        return weights[:, None] * F.linear(x, self.head.weight)

    @property
    def offset(self) -> Tensor:
        """`(O,)`: what is added to the contributions."""
        return self.head.bias

    def _hidden(self, weights: Tensor, batch: BagBatch) -> Tensor:
        """`(N,)` bool: what is not seen, by the teacher's attention weights."""
        ptr, size = batch.ptr, len(weights)
        high, low, random = self.shares
        easiest: float | Tensor = high
        if self.decay_steps is not None:
            # On the device, which is not asked for the step; in single precision a cosine of 0 is
            # less, and one instance fewer is hidden.
            done = (self.step.double() / self.decay_steps).clamp(max=1.0)
            easiest = (0.5 * high * (1 + (pi * done).cos())).float()
        bag = segment_index(ptr, size)
        sizes = ptr.diff()
        highest, lowest = (sizes * easiest).floor(), (sizes * low).floor()
        rank = segment_rank(weights, ptr)
        easy = (rank < highest[bag]) | (rank >= (sizes - lowest)[bag])
        drawn = keyed_uniform(self.seeds(batch), ptr, size)[:, 0]
        number = ((sizes - highest - lowest) * random).floor()
        return easy | (segment_rank(drawn.masked_fill(easy, -1.0), ptr) < number[bag])

    @torch.no_grad()
    def _update_teacher(self) -> None:
        parts = [self.encoder, self.attention, *([self.fusion] if self.fusion else [])]
        own = [each for part in parts for each in part.parameters()]
        begun = self.step > 0  # on the device, which is not asked for it
        share = torch.where(begun, 1 - self.momentum, 1.0)
        for average, weight in zip(self.teacher.parameters(), own, strict=True):
            average.lerp_(weight, share.to(average.dtype))
        # Statistics, such as those of batch normalisation, are averages already.
        known = [each for part in parts for each in part.buffers()]
        for its, mine in zip(self.teacher.buffers(), known, strict=True):
            its.copy_(mine)
        self.step += 1

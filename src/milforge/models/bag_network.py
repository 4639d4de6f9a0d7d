"""A whole network: instance encoder, pooling, linear head."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from inspect import signature
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import segment_mean
from milforge.models.covariates import check_covariates, covariates_of
from milforge.models.feature_network import encoded, entropy_penalty
from milforge.models.options import check_choice
from milforge.models.output import BagOutput
from milforge.models.streams import (
    Encoder,
    build_encoder,
    build_fusion,
    check_instances,
    fuse_streams,
    mean_attention,
    weighs,
)
from milforge.nn import EachStream, MLPEncoder

Pool = nn.Module | Callable[..., nn.Module]
Level = Literal["instances", "bags"]


class BagNetwork(nn.Module):
    """Encodes the instances, pools each bag into one vector, and predicts from that.

    Where instances have several streams of features, each stream has an encoder of its own, and
    `fusion` makes one vector of theirs: of each instance, before the pooling, or of each bag, of
    which every stream then has a pooling of its own. In the latter case the attention scores are
    `log(1/S sum_s softmax(f_s))`, whose softmax is the mean over the streams of their attention
    weights. Streams stand in the order of their names.

    Args:
        instance_shape: shape of one instance; with several streams, a mapping from the name of
            each to the shape of its instances.
        num_outputs: number of logits per bag, as the task has it: 1 for a binary one, else the
            number of classes, or of numbers to be predicted.
        encoder: builds the encoder from `instance_shape`.
        pool: a pooling module, or what builds one when called with `in_dim=`. One whose `forward`
            takes `adj`, such as `SmAttentionPool`, is given that of the batch. One whose vectors
            are of another width than the instances states it as `out_dim`.
        fusion: builds what fuses streams, `StreamFusion` or `ConcatStreams`, when called with
            `in_dims=`; it states its width as `dim`. It is ignored where there is one stream.
        fuse: `instances`, or `bags`: pool each stream first (a pooling module is copied).
        hidden: widths of layers with ReLU between the pooled bag and the last, linear one.
        dropout: probability of dropping a feature of the pooled bag, and of each of those layers.
        attention_l2: strength of an L2 penalty `strength * sum w^2` on the weight matrices, not
            the biases, of the pooling.
        aem: strength of the term that keeps attention from collapsing, see `entropy_penalty`.
        covariates: whether the head sees the covariates of a bag beside its pooled vector.
        num_covariates: number of covariates that each bag has; ignored without `covariates`.

    Attributes:
        needs_adjacency: whether batches must have one.
        logged: the details that are logged: `weight_<stream>` `(B,)` for each stream, its weight in
            the fusion, without a gradient: the mean over the channels and, where instances are
            fused, over those of the bag, 0 where it has none. Empty where no streams are weighed.

    Raises:
        ValueError: where encoder and instances do not fit each other, there are several streams
            and no fusion, or no covariates that the head could see.
    """

    uses_coords = False  # of a batch; see milforge.training.data.used_coords

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        pool: Pool,
        fusion: Callable[..., nn.Module] | None = None,
        fuse: Level = "instances",
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        attention_l2: float = 0.0,
        aem: float = 0.0,
        covariates: bool = False,
        num_covariates: int = 0,
    ) -> None:
        super().__init__()
        check_choice("fuse", fuse, get_args(Level))
        self.fusion: nn.Module | None = None
        self.instance_shape, self.encoder, widths = build_encoder(instance_shape, encoder)
        self.fuses_bags = len(widths) > 1 and fuse == "bags"
        self.pool: nn.Module
        if self.fuses_bags:
            self.pool = EachStream({name: _build(pool, each) for name, each in widths.items()})
            pools = list(self.pool.children())
            pooled = {name: _width(self.pool[name], each) for name, each in widths.items()}
            self.fusion = build_fusion(fusion, pooled)
            width = cast(int, self.fusion.dim)
        else:
            width = next(iter(widths.values()))
            if len(widths) > 1:
                self.fusion = build_fusion(fusion, widths)
                width = cast(int, self.fusion.dim)
            self.pool = pool if isinstance(pool, nn.Module) else pool(in_dim=width)
            pools = [self.pool]
            width = _width(self.pool, width)
        self.dropout = nn.Dropout(dropout)
        self.covariates = check_covariates(covariates, num_covariates)
        width += self.covariates
        self.hidden = MLPEncoder((width,), hidden, dropout) if hidden else None
        self.head = nn.Linear(hidden[-1] if hidden else width, num_outputs)
        self.attention_l2 = attention_l2
        self.aem = aem
        streams = tuple(widths) if weighs(self.fusion) else ()
        self.logged = tuple(f"weight_{name}" for name in streams)
        parameters = signature(pools[0].forward).parameters
        self._attends = "return_att" in parameters
        self.needs_adjacency = "adj" in parameters

    def forward(self, batch: BagBatch) -> BagOutput:
        """Logits of each bag of the batch.

        Raises:
            ValueError: where the instances are not of the shapes that the network was built for,
                or the batch lacks the adjacency or the covariates that it needs.
        """
        check_instances(batch.x, self.instance_shape)
        weights: Tensor | None = None  # (S, B)
        scores: Tensor | None
        if isinstance(self.pool, EachStream):
            x = self.encoder(batch.x)
            pooled = {name: self._pooled(self.pool[name], x[name], batch) for name in x}
            z, weights = fuse_streams(self.fusion, {name: z for name, (z, _) in pooled.items()})
            known = [f for _, f in pooled.values() if f is not None]
            scores = mean_attention(known, batch.ptr) if known else None
        else:
            x, of_instances = encoded(batch.x, self.encoder, self.fusion)
            if of_instances is not None:
                weights = segment_mean(of_instances.T.contiguous(), batch.ptr).T
            z, scores = self._pooled(self.pool, x, batch)
        z = self.dropout(z)
        if self.covariates:
            z = torch.cat([z, covariates_of(batch, self.covariates).to(z.dtype)], dim=1)
        logits = self.head(z if self.hidden is None else self.hidden(z))
        details = {} if weights is None else dict(zip(self.logged, weights, strict=True))
        return BagOutput(logits, scores, self._penalty(scores, batch.ptr), details=details)

    def contributions(self, batch: BagBatch) -> Tensor | None:
        r"""What each instance adds to the logits of its bag, in evaluation.

        $$ c_{no} = \sum_k w_{nk} \, \langle V_{ok}, h_n \rangle $$

        with the vectors `h` of the instances, the `weights` of the pooling in the K parts of a
        bag's vector, and the head `V`.

        Returns:
            `(N, O)`, signed, which sums with `offset` to the logits. None where nothing such is
            exact: a pooling that is no weighted sum (it has no method `weights`), layers before
            the last one, streams that are fused bag by bag, or covariates.
        """
        weigh = getattr(self.pool, "weights", None)
        if weigh is None or self.hidden is not None or self.fuses_bags or self.covariates:
            return None
        check_instances(batch.x, self.instance_shape)
        x, _ = encoded(batch.x, self.encoder, self.fusion)
        weights = weigh(x, **self._options(batch)).to(x.dtype)
        head = self.head.weight.reshape(self.head.out_features, weights.shape[1], -1)  # (O, K, D)
        return sum_of_heads(weights, x, head)

    @property
    def offset(self) -> Tensor:
        """`(O,)`: what is added to the contributions."""
        return self.head.bias

    def _options(self, batch: BagBatch) -> dict[str, Tensor]:
        """What the pooling is given beside the instances."""
        if not self.needs_adjacency:
            return {"ptr": batch.ptr}
        if batch.adj is None:
            raise ValueError(
                f"expected bags with an adjacency for {type(self.pool).__name__}, got none: "
                "choose graph=..., or build one per bag with milforge.graph.build_adjacency"
            )
        return {"ptr": batch.ptr, "adj": batch.adj}

    def _pooled(self, pool: nn.Module, x: Tensor, batch: BagBatch) -> tuple[Tensor, Tensor | None]:
        """Bags `(B, D)` of instances `(N, D)`, and the attention scores if there are any."""
        options = self._options(batch)
        if self._attends:
            z, scores = pool(x, return_att=True, **options)
            return z, scores
        return pool(x, **options), None

    def _penalty(self, scores: Tensor | None, ptr: Tensor) -> Tensor | None:
        terms = []
        if self.attention_l2 != 0:
            kernels = [p.square().sum() for p in self.pool.parameters() if p.ndim > 1]
            terms.append(self.attention_l2 * sum(kernels, start=self.head.weight.new_zeros(())))
        if self.aem != 0 and scores is not None:
            terms.append(entropy_penalty(scores, ptr, self.aem))
        return torch.stack(terms).sum() if terms else None


def sum_of_heads(weights: Tensor, x: Tensor, head: Tensor) -> Tensor:
    """`(N, O)`: of `weights` `(N, K)`, `x` `(N, D)` and `head` `(O, K, D)`, summed over K."""
    parts = [weights[:, k : k + 1] * (x @ head[:, k].T) for k in range(weights.shape[1])]
    return torch.stack(parts).sum(0)


def _width(pool: nn.Module, width: int) -> int:
    """What it states, or the width of what it is given."""
    return getattr(pool, "out_dim", width)


def _build(pool: Pool, width: int) -> nn.Module:
    return deepcopy(pool) if isinstance(pool, nn.Module) else pool(in_dim=width)

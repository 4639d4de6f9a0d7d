"""What networks share that work on one vector per instance."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import attention_entropy, segment_mean
from milforge.models.covariates import check_covariates, covariates_of
from milforge.models.output import BagOutput
from milforge.models.streams import (
    Encoder,
    build_encoder,
    build_fusion,
    check_instances,
    fuse_streams,
    weighs,
)

# What the output of a bag does where its instances are put in another order.
Permutation = Literal["invariant", "order", "random"]


class FeatureNetwork(nn.Module, ABC):
    """Encodes the instances, fuses their streams, and leaves the rest to a subclass.

    A subclass says in `pool` what is made of a table `(N, D)` of vectors; `self.width` is D.
    Covariates c of a bag add `W c` to its logits, as they do where they stand beside the pooled
    vector before a linear layer; further logits, such as those of instances, do not see them.

    Args:
        instance_shape: shape of one instance; with several streams, a mapping from the name of
            each to the shape of its instances.
        num_outputs: number of logits per bag.
        encoder: builds the encoder from `instance_shape`.
        fusion: builds what fuses streams, `StreamFusion` or `ConcatStreams`, when called with
            `in_dims=`. It is ignored where there is one stream.
        aem: strength of the term that keeps attention from collapsing, see `entropy_penalty`.
        covariates: whether the logits see the covariates of a bag.
        num_covariates: number of covariates that each bag has; ignored without `covariates`.

    Attributes:
        width: of the vectors of the instances.
        permutation: `invariant`; `order`, where the output depends on the order of the instances;
            or `random`, where it does so by what is drawn at random for each of them.
        logged: `weight_<stream>` for each stream, as in `BagNetwork`.

    Raises:
        ValueError: where encoder and instances do not fit each other, there are several streams
            and no fusion, or no covariates that the logits could see.
    """

    permutation: Permutation = "invariant"
    needs_adjacency = False

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        aem: float = 0.0,
        covariates: bool = False,
        num_covariates: int = 0,
    ) -> None:
        super().__init__()
        self.fusion: nn.Module | None = None
        self.logged: tuple[str, ...] = ()
        self.aem = aem
        self.instance_shape, self.encoder, widths = build_encoder(instance_shape, encoder)
        self.width = next(iter(widths.values()))
        if len(widths) > 1:
            self.fusion = build_fusion(fusion, widths)
            self.width = cast(int, self.fusion.dim)
            if weighs(self.fusion):
                self.logged = tuple(f"weight_{name}" for name in widths)
        self.covariates = check_covariates(covariates, num_covariates)
        self.covariate_head: nn.Linear | None = None
        if self.covariates:
            self.covariate_head = nn.Linear(self.covariates, num_outputs, bias=False)

    def forward(self, batch: BagBatch) -> BagOutput:
        """Logits of each bag of the batch, and what is added to their loss.

        Raises:
            ValueError: where the instances are not of the shapes that the network was built for,
                or the batch lacks the covariates.
        """
        x, details = self.encode(batch)
        output = self.pool(x, batch)
        if self.covariate_head is not None:
            seen = self.covariate_head(covariates_of(batch, self.covariates).to(x.dtype))
            output = output._replace(logits=output.logits + seen)
        penalty = output.penalty
        if self.aem and output.scores is not None:
            entropy = entropy_penalty(output.scores, batch.ptr, self.aem)
            penalty = entropy if penalty is None else penalty + entropy
        return output._replace(penalty=penalty, details={**details, **output.details})

    def encode(self, batch: BagBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The vectors `(N, D)` of the instances, and the mean weight of each stream in a bag."""
        check_instances(batch.x, self.instance_shape)
        x, weights = encoded(batch.x, self.encoder, self.fusion)
        if weights is None:
            return x, {}
        means = segment_mean(weights.T.contiguous(), batch.ptr).T
        return x, dict(zip(self.logged, means, strict=True))

    @abstractmethod
    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """What is said of the bags of which the instances are `x` `(N, D)`."""

    def contributions(self, batch: BagBatch) -> Tensor | None:
        """What each instance adds to the logits of its bag, in evaluation.

        Returns:
            `(N, O)`, signed, which sums with `offset` to the logits. None where nothing such is
            exact, and with covariates.
        """
        if self.covariates:
            return None
        return self.contribute(self.encode(batch)[0], batch)

    def contribute(self, x: Tensor, batch: BagBatch) -> Tensor | None:
        """The contributions of the instances `x` `(N, D)`; a subclass that has any says so."""
        return None

    def seeds(self, batch: BagBatch) -> Tensor:
        """`(B,)` int64: a seed per bag, of what is drawn at random for it.

        A batch that has none is given new ones in training, and 0 out of it.
        """
        if batch.seeds is not None:
            return batch.seeds
        if self.training:
            return torch.randint(2**63 - 1, (len(batch),))
        return torch.zeros(len(batch), dtype=torch.int64)


def encoded(
    x: Tensor | Mapping[str, Tensor], encoder: nn.Module, fusion: nn.Module | None
) -> tuple[Tensor, Tensor | None]:
    """The vectors `(N, D)` of instances, and, where streams are weighed, their weights `(S, N)`."""
    vectors = encoder(x)
    return (vectors, None) if isinstance(vectors, Tensor) else fuse_streams(fusion, vectors)


def entropy_penalty(scores: Tensor, ptr: Tensor, strength: float) -> Tensor:
    r"""The term of attention entropy maximisation (AEM, Zhang et al. 2024, arXiv:2406.15303).

    $$ \frac{\lambda}{B} \sum_b \sum_{n \in b} s_n \log s_n $$

    Args:
        scores: `(N,)`, or `(N, K)`, over whose heads or classes it is averaged.
        ptr: `(B + 1,)` int64, the bag boundaries.
        strength: `lambda`.

    Returns:
        A scalar, to be added to the loss; 0 where there is no bag.
    """
    entropy = attention_entropy(scores, ptr)
    columns = entropy.shape[1] if entropy.ndim == 2 else 1
    return -strength * entropy.sum() / (columns * max(1, len(entropy)))

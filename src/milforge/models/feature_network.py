"""What networks share that work on one vector per instance."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import attention_entropy, segment_mean
from milforge.models.output import BagOutput
from milforge.models.streams import (
    Encoder,
    Shape,
    Shapes,
    build_fusion,
    check_instances,
    fuse_streams,
    stream_encoder,
    weighs,
)

# What the output of a bag does where its instances are put in another order.
Permutation = Literal["invariant", "order", "random"]


class FeatureNetwork(nn.Module, ABC):
    """Encodes the instances, fuses their streams, and leaves the rest to a subclass.

    A subclass says in `pool` what is made of a table `(N, D)` of vectors; `self.width` is D.

    Args:
        instance_shape: shape of one instance; with several streams, a mapping from the name of
            each to the shape of its instances.
        encoder: builds the encoder from `instance_shape`.
        fusion: builds what fuses streams, `StreamFusion` or `ConcatStreams`, when called with
            `in_dims=`. It is ignored where there is one stream.
        aem: strength of the term that keeps attention from collapsing, see `entropy_penalty`.

    Attributes:
        width: of the vectors of the instances.
        permutation: `invariant`; `order`, where the output depends on the order of the instances;
            or `random`, where it does so by what is drawn at random for each of them.
        logged: `weight_<stream>` for each stream, as in `BagNetwork`.

    Raises:
        ValueError: where encoder and instances do not fit each other, or there are several streams
            and no fusion.
    """

    permutation: Permutation = "invariant"
    needs_adjacency = False

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        aem: float = 0.0,
    ) -> None:
        super().__init__()
        self.instance_shape: Shape | Shapes
        self.fusion: nn.Module | None = None
        self.logged: tuple[str, ...] = ()
        self.aem = aem
        if isinstance(instance_shape, Mapping):
            shapes = {name: tuple(instance_shape[name]) for name in sorted(instance_shape)}
            self.instance_shape = shapes
            self.encoder: nn.Module = stream_encoder(shapes, encoder)
            widths = {name: cast(int, self.encoder[name].out_dim) for name in shapes}
            self.width = next(iter(widths.values()))
            if len(shapes) > 1:
                self.fusion = build_fusion(fusion, widths)
                self.width = cast(int, self.fusion.dim)
                if weighs(self.fusion):
                    self.logged = tuple(f"weight_{name}" for name in shapes)
        else:
            self.instance_shape = tuple(instance_shape)
            self.encoder = encoder(instance_shape)
            self.width = cast(int, self.encoder.out_dim)

    def forward(self, batch: BagBatch) -> BagOutput:
        """Logits of each bag of the batch, and what is added to their loss.

        Raises:
            ValueError: where the instances are not of the shapes that the network was built for.
        """
        x, details = self.encode(batch)
        output = self.pool(x, batch)
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

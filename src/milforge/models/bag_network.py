"""A whole network: instance encoder, pooling, linear head."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from milforge.data import BagBatch


class BagOutput(NamedTuple):
    """What a network says about a batch of bags.

    Attributes:
        logits: `(B,)` where there is one output (binary), else `(B, C)`.
        scores: `(N,)` attention scores before the softmax; None where the pooling has none.
        penalty: scalar to be added to the loss; None where there is none.
    """

    logits: Tensor
    scores: Tensor | None
    penalty: Tensor | None


class BagNetwork(nn.Module):
    """Encodes the instances, pools each bag into one vector, and classifies that.

    Args:
        instance_shape: shape of one instance.
        num_outputs: number of logits a bag: 1 for a binary task, else the number of classes.
        encoder: builds the encoder from `instance_shape`.
        pool: a pooling module, or what builds one when called with `in_dim=`. One whose `forward`
            takes `adj`, such as `SmAttentionPool`, is given that of the batch.
        dropout: probability of dropping a feature of the pooled bag.
        attention_l2: strength of an L2 penalty `strength * sum w^2` on the weight matrices, not
            the biases, of the pooling.

    Attributes:
        needs_adjacency: whether batches must have one.

    Raises:
        ValueError: where encoder and instances do not fit each other.
    """

    def __init__(
        self,
        instance_shape: Sequence[int],
        num_outputs: int,
        *,
        encoder: Callable[[Sequence[int]], nn.Module],
        pool: nn.Module | Callable[..., nn.Module],
        dropout: float = 0.0,
        attention_l2: float = 0.0,
    ) -> None:
        super().__init__()
        self.instance_shape = tuple(instance_shape)
        self.encoder = encoder(instance_shape)
        width = cast(int, self.encoder.out_dim)
        self.pool = pool if isinstance(pool, nn.Module) else pool(in_dim=width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_outputs)
        self.attention_l2 = attention_l2
        parameters = signature(self.pool.forward).parameters
        self._attends = "return_att" in parameters
        self.needs_adjacency = "adj" in parameters

    def forward(self, batch: BagBatch) -> BagOutput:
        """Classifies each bag of the batch.

        Raises:
            ValueError: where the instances are not of the shape that the network was built for,
                or the batch has no adjacency and the pooling needs one.
        """
        if not isinstance(batch.x, Tensor):
            raise ValueError(
                f"expected instances of shape {self.instance_shape}, got the streams "
                f"{sorted(batch.x)}; choose one of them when the bags are read"
            )
        if batch.x.shape[1:] != self.instance_shape:
            raise ValueError(
                f"expected instances of shape {self.instance_shape}, for which the network was "
                f"built, got {tuple(batch.x.shape[1:])}"
            )
        options: dict[str, Any] = {"ptr": batch.ptr}
        if self.needs_adjacency:
            if batch.adj is None:
                raise ValueError(
                    f"expected bags with an adjacency for {type(self.pool).__name__}, got none: "
                    "build one a bag with milforge.graph.build_adjacency"
                )
            options["adj"] = batch.adj
        x = self.encoder(batch.x)
        if self._attends:
            z, scores = self.pool(x, return_att=True, **options)
        else:
            z, scores = self.pool(x, **options), None
        logits = self.head(self.dropout(z))
        if logits.shape[1] == 1:
            logits = logits[:, 0]
        return BagOutput(logits, scores, self._penalty())

    def _penalty(self) -> Tensor | None:
        if self.attention_l2 == 0:
            return None
        kernels = [p.square().sum() for p in self.pool.parameters() if p.ndim > 1]
        return self.attention_l2 * sum(kernels, start=self.head.weight.new_zeros(()))

"""A transformer over the instances of a bag."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import segment_mean
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_choice, check_counts
from milforge.models.output import BagOutput
from milforge.models.streams import Encoder
from milforge.nn.blocks.self_attention import ClassToken, SelfAttentionLayer, without_tokens

Readout = Literal["token", "mean"]


class Transformer(FeatureNetwork):
    """Layers of exact self-attention, without places, so that the order does not matter.

    Time grows with the square of a bag, memory with the bag.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        layers: number of layers.
        heads: number of heads.
        mlp_dim: width of the hidden layer of each.
        dropout: in each layer.
        readout: `token`, a class token, whose attention in the last layer the scores are; or
            `mean`, that of the instances, without scores.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: where there are more heads than the width, or for another readout.
    """

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        layers: int = 2,
        heads: int = 8,
        mlp_dim: int = 512,
        dropout: float = 0.0,
        readout: Readout = "token",
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
        check_counts(layers=layers)
        check_choice("readout", readout, get_args(Readout))
        self.token = ClassToken(self.width) if readout == "token" else None
        self.layers = nn.ModuleList(
            SelfAttentionLayer(self.width, heads, mlp_dim, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(self.width)
        self.head = nn.Linear(self.width, num_outputs)

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and with a class token a score per instance and head."""
        ptr = batch.ptr
        if self.token is not None:
            x, ptr = self.token(x, ptr)
        scores = x
        for layer in self.layers:
            x, scores = layer(x, ptr)
        if self.token is None:
            return BagOutput(self.head(segment_mean(self.norm(x), ptr)))
        return BagOutput(self.head(self.norm(x[ptr[:-1]])), without_tokens(scores, ptr))

"""Additive attention-based MIL."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import segment_softmax, segment_sum
from milforge.models.feature_network import FeatureNetwork
from milforge.models.output import BagOutput
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads, MLPEncoder


class AdditiveABMIL(FeatureNetwork):
    r"""Each instance, weighted by its attention, has a say of its own; a bag is their sum.

    $$ \text{logits} = \sum_n g(s_n x_n) $$

    with the attention weights `s` of gated attention, and `g` an MLP (Javed et al. 2022,
    arXiv:2206.01794). So `contributions` are exact, of any `g`. Its biases are added for each
    instance, as in the paper, so the logits grow with the bag.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        att_dim: width of the projection of the attention.
        act: its activation: tanh, relu or gelu.
        gated: whether the attention has a gate.
        hidden: widths of the hidden layers of `g`, with ReLU; none: `g` is linear.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Attributes:
        offset: `(O,)`, what is added to the contributions: 0.
    """

    offset: Tensor

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        att_dim: int = 128,
        act: str = "tanh",
        gated: bool = True,
        hidden: Sequence[int] = (256,),
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
        self.attention = AttentionHeads(self.width, 1, att_dim, act, gated)
        self.hidden = MLPEncoder((self.width,), hidden) if hidden else nn.Identity()
        self.head = nn.Linear(hidden[-1] if hidden else self.width, num_outputs)
        self.register_buffer("offset", torch.zeros(num_outputs), persistent=False)

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and one attention score per instance."""
        scores = self.attention(x)[:, 0]
        said = self._said(x, scores, batch.ptr)
        return BagOutput(segment_sum(said, batch.ptr), scores)

    def contribute(self, x: Tensor, batch: BagBatch) -> Tensor:
        """`(N, O)`: what each instance adds to the logits of its bag."""
        return self._said(x, self.attention(x)[:, 0], batch.ptr)

    def _said(self, x: Tensor, scores: Tensor, ptr: Tensor) -> Tensor:
        weighted = x * segment_softmax(scores, ptr)[:, None].to(x.dtype)
        said: Tensor = self.head(self.hidden(weighted))
        return said

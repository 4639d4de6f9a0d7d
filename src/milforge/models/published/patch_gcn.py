"""Graph convolutions over the patches of a bag."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import attention_pool, segment_softmax, segment_sum
from milforge.models.feature_network import FeatureNetwork
from milforge.models.options import check_counts
from milforge.models.output import BagOutput
from milforge.models.streams import Encoder
from milforge.nn import AttentionHeads


class PatchGCN(FeatureNetwork):
    """Graph convolutions with dense connections, and gated attention over what all of them say.

    The vectors are those of a dense layer and of each graph layer, side by side (Chen et al. 2021,
    arXiv:2107.13048). The first layer is a convolution alone, each other `x + relu(LN(conv(x)))`.
    The weights of the edges are ignored, as in the paper. An instance without a neighbour is its
    own, as the 1 on the diagonal of a normalised adjacency has it.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        hidden: width of each layer.
        layers: number of graph layers.
        dropout: after the dense layers; that of the graph layers is 0.1 at most.
        att_dim: width of the projection of the attention.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Raises:
        ValueError: for numbers below 1.
    """

    needs_adjacency = True

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        hidden: int = 128,
        layers: int = 3,
        dropout: float = 0.25,
        att_dim: int = 512,
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
        check_counts(hidden=hidden, layers=layers)
        width = hidden * (layers + 1)
        self.first = _dense(self.width, hidden, dropout)
        self.convolutions = nn.ModuleList(GENConv(hidden) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers - 1))
        self.dropout = nn.Dropout(min(dropout, 0.1))
        self.phi = _dense(width, width, dropout)
        self.attention = AttentionHeads(width, 1, att_dim)
        self.rho = _dense(width, width, dropout)
        self.head = nn.Linear(width, num_outputs)

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and a score per instance.

        Raises:
            ValueError: where the batch has no adjacency.
        """
        if batch.adj is None:
            raise ValueError(
                "expected bags with an adjacency for PatchGCN, got none: choose graph=..., or "
                "build one per bag with milforge.graph.build_adjacency"
            )
        rows, columns = batch.adj.crow_indices(), batch.adj.col_indices()
        x = self.first(x)
        said = [x]
        for i, convolution in enumerate(self.convolutions):
            out = convolution(x, rows, columns)
            x = out if i == 0 else self.dropout(x + self.norms[i - 1](out).relu())
            said.append(x)
        x = self.phi(torch.cat(said, dim=1))
        scores = self.attention(x)[:, 0]
        z = attention_pool(x, scores, batch.ptr)
        return BagOutput(self.head(self.rho(z)), scores)


class GENConv(nn.Module):
    r"""Graph convolution with a softmax over the neighbours (Li et al. 2020, arXiv:2006.07739).

    $$ x_i' = \mathrm{MLP}\Big(x_i + \sum_j \mathrm{softmax}_j(\beta m_j) \odot m_j\Big)
       \qquad m_j = \mathrm{relu}(x_j) + 10^{-7} $$

    with a softmax of its own for each feature, and a learnt beta that starts at 1.

    Args:
        dim: width of the vectors.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(()))
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.LayerNorm(2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """`(N, D)` to the same; `rows` `(N + 1,)` and `columns` `(E,)` of the CSR adjacency."""
        messages = x.relu()[columns] + 1e-7
        weights = segment_softmax(self.beta * messages, rows)
        near = segment_sum(weights * messages, rows)
        out: Tensor = self.mlp(x + near.to(x.dtype))
        return out


def _dense(width: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out), nn.ReLU(), nn.Dropout(dropout))

"""Dual-stream MIL."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from milforge.data import BagBatch
from milforge.functional import (
    attention_pool,
    segment_argmax,
    segment_index,
    segment_max,
    segment_softmax,
)
from milforge.models.feature_network import FeatureNetwork
from milforge.models.output import Auxiliary, BagOutput
from milforge.models.streams import Encoder


class DSMIL(FeatureNetwork):
    r"""Attends to each instance by its likeness to the one that a classifier finds most telling.

    With instance logits `c = x W_0`, of each output the critical instance `m_c = argmax_i c_ic`,
    queries `q = Q(x)` and values `v = V(x)`,

    $$ A_{ic} = \mathrm{softmax}_i(q_i^\top q_{m_c} / \sqrt{d}) \qquad B_c = \sum_i A_{ic} v_i $$

    and the logits are linear in all rows of `B` (Li, Li and Eliceiri 2021, arXiv:2011.08939). The
    loss is the mean of those of the logits and of `max_i c`.

    Args:
        instance_shape: as in `FeatureNetwork`.
        num_outputs: number of logits of a bag.
        encoder: as in `FeatureNetwork`.
        fusion: as in `FeatureNetwork`.
        query_dim: `d`.
        nonlinear_query: whether `Q` has a hidden layer with ReLU, and tanh behind it.
        project_values: whether `V` is a layer with ReLU; otherwise it leaves instances as they are.
        dropout: probability of dropping a feature of what `V` sees.
        aem: as in `FeatureNetwork`.
        covariates: as in `FeatureNetwork`.
        num_covariates: as in `FeatureNetwork`.

    Attributes:
        loss_weight: of the bag's logits, one half.
    """

    loss_weight = 0.5

    def __init__(
        self,
        instance_shape: Sequence[int] | Mapping[str, Sequence[int]],
        num_outputs: int,
        *,
        encoder: Encoder,
        fusion: Callable[..., nn.Module] | None = None,
        query_dim: int = 128,
        nonlinear_query: bool = True,
        project_values: bool = False,
        dropout: float = 0.0,
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
        width = self.width
        self.instance_head = nn.Linear(width, num_outputs)
        query: list[nn.Module] = [nn.Linear(width, query_dim)]
        if nonlinear_query:
            query += [nn.ReLU(), nn.Linear(query_dim, query_dim), nn.Tanh()]
        self.query = nn.Sequential(*query)
        value: list[nn.Module] = [nn.Dropout(dropout)]
        if project_values:
            value += [nn.Linear(width, width), nn.ReLU()]
        self.value = nn.Sequential(*value)
        # A one-dimensional convolution over the rows of B, as wide as they are.
        self.head = nn.Linear(num_outputs * width, num_outputs)

    def pool(self, x: Tensor, batch: BagBatch) -> BagOutput:
        """Logits, and one attention score per instance and output."""
        each, scores = self._streams(x, batch.ptr)
        logits = self.head(attention_pool(self.value(x), scores, batch.ptr).flatten(1))
        bags = torch.arange(len(batch), device=x.device)
        largest = Auxiliary(segment_max(each, batch.ptr), bags, 0.5)
        return BagOutput(logits, scores, auxiliary=(largest,), scores_of="classes")

    def contribute(self, x: Tensor, batch: BagBatch) -> Tensor:
        """`(N, O)`: what each instance adds to the logits of its bag, given the attention."""
        weights = segment_softmax(self._streams(x, batch.ptr)[1], batch.ptr)
        weight = self.head.weight.reshape(weights.shape[1], weights.shape[1], -1)  # (O, C, D)
        return torch.einsum("nc,ocd,nd->no", weights, weight, self.value(x))

    @property
    def offset(self) -> Tensor:
        """`(O,)`: what is added to the contributions."""
        return self.head.bias

    def _streams(self, x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Instance logits and attention scores, `(N, O)` each."""
        each = self.instance_head(x)
        query = self.query(x)
        if not len(x):  # of bags without instances none is critical
            return each, each + 0 * query.sum()
        critical = query[segment_argmax(each, ptr)]  # (B, O, d)
        bag = segment_index(ptr, len(x))
        columns = [(query * of[bag]).sum(1) for of in critical.unbind(1)]
        return each, torch.stack(columns, dim=1) / query.shape[1] ** 0.5

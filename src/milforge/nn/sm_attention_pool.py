"""Attention pooling with the Sm operator."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as spectral

from milforge.functional.attention import ACTIVATIONS, check_projection
from milforge.functional.segment import segment_softmax, segment_weighted_sum
from milforge.nn.packing import Packed, check_instances, pack, pack_adjacency
from milforge.nn.sm import Sm

WHERE = ("early", "mid", "late", "none")


class SmAttentionPool(nn.Module):
    """Attention-based pooling whose attention is smoothed over a graph (arXiv:2410.03276).

    With `s = softmax(f)` within each bag and `z = sum_n s_n x_n`, where Sm acts

    - `early`, on the instances: `X' = Sm(X)`, `f = act(X' W1^T + b1) w`, and `z` pools `X'`;
    - `mid`: `f = act(Sm(X W1^T + b1)) w`;
    - `late`: `f = Sm(act(X W1^T + b1) w)`;
    - `none`: nowhere, plain attention.

    `gated` multiplies the activation by the sigmoid of a second projection, smoothed like the
    first. `early` never smooths `in_dim` columns: Sm is linear, so `Sm(X) W^T = Sm(X W^T)` and
    `Sm(X)^T s = X^T Sm^T(s)`.

    State dicts of torchmil's `SmAttentionPool` load.

    Args:
        in_dim: width D of an instance.
        att_dim: width A of the projection.
        act: activation of the projection: tanh, relu or gelu.
        sm_mode: `approx` or `exact`.
        sm_alpha: strength of smoothing in [0, 1), or `trainable`.
        sm_steps: steps of the approximate mode.
        sm_where: early, mid, late or none.
        spectral_norm: whether the layers after Sm are normalised to spectral norm 1: both in
            early and none, the second in mid, none in late.
        gated: whether a second projection gates the first.

    Raises:
        ValueError: for an unknown activation, mode or place, or a width below 1.

    Example:
        >>> pool = SmAttentionPool(in_dim=8)
        >>> adj = torch.eye(5).to_sparse_csr()
        >>> z, f = pool(torch.randn(5, 8), adj, ptr=torch.tensor([0, 2, 5]), return_att=True)
        >>> z.shape, f.shape
        (torch.Size([2, 8]), torch.Size([5]))
    """

    def __init__(
        self,
        in_dim: int,
        att_dim: int = 128,
        act: str = "gelu",
        sm_mode: Literal["approx", "exact"] = "approx",
        sm_alpha: float | Literal["trainable"] = "trainable",
        sm_steps: int = 10,
        sm_where: Literal["early", "mid", "late", "none"] = "early",
        spectral_norm: bool = False,
        *,
        gated: bool = False,
    ) -> None:
        super().__init__()
        check_projection(act, in_dim=in_dim, att_dim=att_dim)
        if sm_where not in WHERE:
            raise ValueError(f"expected sm_where to be one of {WHERE}, got {sm_where!r}")
        self.act = act
        self.sm_where = sm_where
        sm = Sm(sm_alpha, sm_steps, sm_mode)  # refuses what is wrong in `none` too
        self.sm = None if sm_where == "none" else sm
        self.proj1 = nn.Linear(in_dim, att_dim)
        self.proj_gated = nn.Linear(in_dim, att_dim) if gated else None
        self.proj2 = nn.Linear(att_dim, 1, bias=False)
        if spectral_norm and sm_where in ("early", "none"):
            spectral(self.proj1)
            if self.proj_gated is not None:
                spectral(self.proj_gated)
        if spectral_norm and sm_where != "late":
            spectral(self.proj2)

    def forward(
        self,
        X: Tensor,
        adj: Tensor,
        mask: Tensor | None = None,
        return_att: bool = False,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pools each bag into one vector.

        Args:
            X: `(B, M, D)` padded bags, or packed `(N, D)` with `ptr`.
            adj: `(B, M, M)` dense or sparse COO for padded bags, sparse CSR `(N, N)`, block
                diagonal, for packed ones; normalised.
            mask: `(B, M)` bool, True where there is an instance; padded bags only.
            return_att: whether to return the attention scores too.
            ptr: `(B + 1,)` int64, the boundaries of packed bags.

        Returns:
            `z` `(B, D)`; a bag without instances gives 0. With `return_att` also `f`, the scores
            before the softmax: `(B, M)`, -inf where masked, or packed `(N,)`; in `late` of at
            least float32, as Sm leaves them.

        Raises:
            ValueError: where the shapes, dtypes or devices do not fit each other.
        """
        x, bounds, _ = packed = pack(X, mask, ptr)
        # Not the weight: under spectral norm a look at it is a step of power iteration.
        check_instances(x, self.proj1.bias, self.proj1.in_features)
        if self.sm is not None:
            adj = self._fitting(adj, packed)
        f = self._scores(x, adj)
        z = segment_weighted_sum(x, self._weights(f, adj, bounds), bounds)
        if not torch.is_autocast_enabled(x.device.type):
            z = z.to(x.dtype)
        return (z, packed.restore(f)) if return_att else z

    def weights(self, x: Tensor, adj: Tensor, *, ptr: Tensor) -> Tensor:
        """`(N, 1)`: what each instance is multiplied by before bags are summed.

        In `early` the pooled vectors are smoothed ones, so that the weight of an instance comes
        from its neighbours too, and is not its attention weight.
        """
        return self._weights(self._scores(x, adj), adj, ptr)[:, None]

    def _weights(self, f: Tensor, adj: Tensor, ptr: Tensor) -> Tensor:
        weights = segment_softmax(f, ptr)
        if self.sm is not None and self.sm_where == "early":
            weights = self.sm.adjoint(weights, adj)
        return weights

    @staticmethod
    def _fitting(adj: Tensor, packed: Packed) -> Tensor:
        if packed.mask is not None:
            return pack_adjacency(adj, packed.mask)
        if adj.ndim != 2:
            size = len(packed.x)
            raise ValueError(
                f"expected adj as sparse CSR of shape {(size, size)} for packed bags, got "
                f"{adj.layout} of shape {tuple(adj.shape)}"
            )
        return adj

    def _scores(self, x: Tensor, adj: Tensor) -> Tensor:
        linears = [self.proj1] if self.proj_gated is None else [self.proj1, self.proj_gated]
        # One product with all projections reads the instances once.
        weight = torch.cat([linear.weight for linear in linears])
        bias = torch.cat([linear.bias for linear in linears])
        hidden = F.linear(x, weight, None if self.sm_where == "early" else bias)
        if self.sm is not None and self.sm_where in ("early", "mid"):
            hidden = self.sm(hidden, adj).to(hidden.dtype)
        if self.sm_where == "early":
            hidden = hidden + bias.to(hidden.dtype)
        value, *gates = hidden.chunk(len(linears), dim=1)
        hidden = ACTIVATIONS[self.act](value)
        for gate in gates:
            hidden = hidden * torch.sigmoid(gate)
        f = F.linear(hidden, self.proj2.weight)[:, 0]
        return self.sm(f, adj) if self.sm is not None and self.sm_where == "late" else f

"""Attention pooling."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from milforge.functional import segment_softmax
from milforge.functional.attention import attention_pool, attention_scores, check_projection
from milforge.nn.packing import check_instances, pack


class AttentionPool(nn.Module):
    """Attention-based pooling, plain or gated (Ilse, Tomczak and Welling 2018, arXiv:1802.04712).

    With `s = softmax(f)` within each bag, `z = sum_n s_n x_n`, and the attention scores
    `f = act(X W1^T + b1) w`, or gated `f = (act(X W1^T + b1) * sigmoid(X W2^T + b2)) w`.

    State dicts of torchmil's `AttentionPool` load.

    Args:
        in_dim: width D of an instance. None: taken from the first input.
        att_dim: width A of the projection.
        act: activation of the projection: tanh, relu or gelu.
        gated: whether a second projection gates the first.

    Raises:
        ValueError: for an unknown activation or a width below 1.

    Example:
        >>> pool = AttentionPool(in_dim=8, gated=True)
        >>> x, ptr = torch.randn(5, 8), torch.tensor([0, 2, 5])
        >>> z, f = pool(x, ptr=ptr, return_att=True)
        >>> z.shape, f.shape
        (torch.Size([2, 8]), torch.Size([5]))
    """

    def __init__(
        self, in_dim: int | None = None, att_dim: int = 128, act: str = "tanh", gated: bool = False
    ) -> None:
        super().__init__()
        check_projection(act, in_dim=in_dim, att_dim=att_dim)
        self.act = act
        self.gated = gated
        self.fc1 = _linear(in_dim, att_dim)
        self.fc_gated = _linear(in_dim, att_dim) if gated else None
        self.fc2 = nn.Linear(att_dim, 1, bias=False)
        self.register_load_state_dict_pre_hook(_rename_reference_keys)  # type: ignore[no-untyped-call]

    def forward(
        self,
        X: Tensor,
        mask: Tensor | None = None,
        return_att: bool = False,
        *,
        ptr: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Pools each bag into one vector.

        Args:
            X: `(B, M, D)` padded bags, or packed `(N, D)` with `ptr`.
            mask: `(B, M)` bool, True where there is an instance; padded bags only.
            return_att: whether to return the attention scores too.
            ptr: `(B + 1,)` int64, the boundaries of packed bags.

        Returns:
            `z` `(B, D)`; a bag without instances gives 0. With `return_att` also `f`, the scores
            before the softmax: `(B, M)`, -inf where masked, or packed `(N,)`.

        Raises:
            ValueError: where the shapes, dtypes or devices do not fit each other.
        """
        x, bounds, _ = packed = pack(X, mask, ptr)
        self._check(x)
        self._materialise(x)
        f = self._scores(x)
        z = attention_pool(x, f, bounds)
        if not torch.is_autocast_enabled(x.device.type):
            z = z.to(x.dtype)
        return (z, packed.restore(f)) if return_att else z

    def weights(self, x: Tensor, *, ptr: Tensor) -> Tensor:
        """`(N, 1)`: what each instance is multiplied by before bags are summed."""
        return segment_softmax(self._scores(x), ptr)[:, None]

    def _scores(self, x: Tensor) -> Tensor:
        gate = self.fc_gated
        return attention_scores(
            x,
            self.fc1.weight,
            self.fc1.bias,
            self.fc2.weight,
            None if gate is None else gate.weight,
            None if gate is None else gate.bias,
            self.act,
        )

    def _check(self, x: Tensor) -> None:
        lazy = is_lazy(self.fc1.weight)
        check_instances(x, self.fc2.weight, None if lazy else self.fc1.weight.shape[1])

    def _materialise(self, x: Tensor) -> None:
        """Gives lazy projections their width; a row is enough for that."""
        for linear in (self.fc1, self.fc_gated):
            if isinstance(linear, nn.LazyLinear):
                linear(x[:1])


def _linear(in_dim: int | None, out_dim: int) -> nn.Linear:
    return nn.LazyLinear(out_dim) if in_dim is None else nn.Linear(in_dim, out_dim)


def _rename_reference_keys(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    """The reference wraps its first layers: its `fc1.module.weight` is our `fc1.weight`."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        renamed = prefix + key[len(prefix) :].replace(".module.", ".", 1)
        state_dict[renamed] = state_dict.pop(key)

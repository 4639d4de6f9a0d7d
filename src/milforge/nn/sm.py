"""The Sm operator as a module."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from milforge.functional.sm import sm_approx, sm_exact, transpose
from milforge.nn.packing import pack_adjacency


class Sm(nn.Module):
    """Smooths values over a graph of the instances (arXiv:2410.03276).

    With the normalised adjacency `Â` and `L = I - Â`: exact `(I + γ L)^-1 f`, or approximate, T
    steps of `g = α Â g + (1 - α) f`. `α` in (0, 1) is the strength of smoothing in both modes,
    with `γ = α / (1 - α)`: the approximate mode tends to the exact one as steps grow.

    State dicts of torchmil's `Sm` load into a module of the same mode with a trainable alpha.

    Args:
        alpha: strength of smoothing in [0, 1), or `trainable`: then one parameter, the logit of
            alpha, which starts at 0.5. 0 is the identity.
        num_steps: steps of the approximate mode; 0 is the identity.
        mode: `approx` or `exact`.

    Raises:
        ValueError: for an alpha outside [0, 1), a negative number of steps, an unknown mode.

    Example:
        >>> adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
        >>> Sm(alpha=0.5, mode="exact")(torch.tensor([1.0, 0.0]), adj)
        tensor([0.6667, 0.3333])
    """

    def __init__(
        self,
        alpha: float | Literal["trainable"] = "trainable",
        num_steps: int = 10,
        mode: Literal["approx", "exact"] = "approx",
    ) -> None:
        super().__init__()
        if mode not in ("approx", "exact"):
            raise ValueError(f"expected mode to be approx or exact, got {mode!r}")
        if num_steps < 0:
            raise ValueError(f"expected num_steps of at least 0, got {num_steps}")
        trainable = alpha == "trainable"
        if not trainable and not (isinstance(alpha, int | float) and 0 <= alpha < 1):
            raise ValueError(f"expected alpha in [0, 1) or 'trainable', got {alpha!r}")
        self.mode = mode
        self.num_steps = num_steps
        self.identity = alpha == 0 or (mode == "approx" and num_steps == 0)
        self.alpha_logit: nn.Parameter | None = None
        self._alpha = 0.5 if trainable else float(alpha)
        if trainable and not self.identity:
            self.alpha_logit = nn.Parameter(torch.zeros(()))
        self.register_load_state_dict_pre_hook(_convert_reference)  # type: ignore[no-untyped-call]

    @property
    def alpha(self) -> Tensor:
        """Strength of smoothing, 0-dim, in [0, 1), of at least float32."""
        if self.alpha_logit is None:
            return torch.tensor(self._alpha, dtype=torch.float64)
        return self._logit(self.alpha_logit).sigmoid()

    def forward(self, f: Tensor, adj: Tensor) -> Tensor:
        """Smooths the values of the instances.

        Args:
            f: packed `(N,)` or `(N, D)`, or padded `(B, M)` or `(B, M, D)`.
            adj: sparse CSR `(N, N)` for packed values; dense or sparse COO `(B, M, M)` for padded
                ones. Normalised, as `milforge.graph.build_adjacency` gives it.

        Returns:
            Like `f`; in float32 where `f` is of half precision.

        Raises:
            ValueError: where shapes, layouts or devices do not fit each other.
        """
        if adj.ndim == 3 and f.shape[:2] != adj.shape[:2]:
            raise ValueError(
                f"expected values of shape {tuple(adj.shape[:2])} or with a further dimension, "
                f"to go with adj of shape {tuple(adj.shape)}, got {tuple(f.shape)}"
            )
        if adj.ndim == 3:
            return self._smooth(f.flatten(0, 1), pack_adjacency(adj)).reshape(f.shape)
        return self._smooth(f, adj)

    def adjoint(self, f: Tensor, adj: Tensor) -> Tensor:
        """Smooths over the transposed graph: `<Sm(u), v> = <u, Sm^T(v)>`.

        Forward hooks do not see it.

        Args:
            f: values of the instances, as `forward` takes them.
            adj: as `forward` takes it; over a symmetric one this is `forward`.

        Returns:
            Like `f`; in float32 where `f` is of half precision.

        Raises:
            ValueError: where shapes, layouts or devices do not fit each other.
        """
        if self.identity:
            return self.forward(f, adj)
        packed = adj.ndim == 2 and adj.layout == torch.sparse_csr
        return self.forward(f, transpose(adj) if packed else adj.transpose(-2, -1))

    def _smooth(self, f: Tensor, adj: Tensor) -> Tensor:
        if self.identity:
            return f
        alpha = self.alpha.to(f.device)
        if self.mode == "approx":
            return sm_approx(f, adj, alpha, self.num_steps)
        # In the logit a: γ = α / (1 - α) = exp(a), without the cancellation in 1 - α.
        logit = self.alpha_logit
        gamma = alpha / (1 - alpha) if logit is None else self._logit(logit).exp()
        return sm_exact(f, adj, gamma)

    @staticmethod
    def _logit(parameter: Tensor) -> Tensor:
        """In a half-precision module alpha itself is not of half precision."""
        return parameter.to(torch.promote_types(parameter.dtype, torch.float32))

    def extra_repr(self) -> str:
        """Mode, steps and alpha, for `print`."""
        alpha = "trainable" if self.alpha_logit is not None else self._alpha
        return f"alpha={alpha}, num_steps={self.num_steps}, mode={self.mode}"


def _convert_reference(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """The reference keeps a coefficient: alpha is 1 / (1 + c) in approx, c / (1 + c) in exact."""
    key = f"{prefix}sm.coef"
    if key not in state_dict:
        return
    coefficient = float(state_dict.pop(key))
    if not 0 < coefficient < math.inf:
        raise ValueError(
            f"{key}: expected a finite coefficient above 0, got {coefficient}: no alpha in (0, 1) "
            "fits it"
        )
    assert isinstance(module, Sm)
    logit = math.log(coefficient) * (1 if module.mode == "exact" else -1)
    state_dict[f"{prefix}alpha_logit"] = torch.tensor(logit, dtype=torch.float64)

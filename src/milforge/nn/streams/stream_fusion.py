"""Fusion of several streams of features of the same items."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MODES = ("scalar", "convex", "elementwise", "adaptive", "attention")


class StreamFusion(nn.Module):
    """Weighted sum of S streams that describe the same items, with learned weights.

    A stream `x_s` of width `D_s` becomes `x'_s` of the common width `dim`, and the fused value is
    `sum_s w_s * x'_s`, with weights by mode:

    - `scalar`: one number a stream, `(S,)`, in no way bound.
    - `convex`: one number a stream, `(S,)`, `w = softmax(logits)`: they sum to one.
    - `elementwise`: one number a stream and channel, `(S, dim)`.
    - `adaptive`: computed for each item from the stream itself, `w_s = MLP_w,s(x'_s)`,
      `(S, ..., dim)`, in no way bound.
    - `attention`: computed for each item from all streams, `(S, ...)`,
      `w = softmax(W tanh(V [x'_1, ..., x'_S] + b) + c)` over the streams: they sum to one.

    `x'_s` is a linear projection of `x_s`, in `adaptive` `MLP_s(x_s)`; where all widths agree and
    `dim` is None it is `x_s` itself. An MLP is two linear layers of width `dim` with a ReLU between
    them. At the start every weight is 1/S, so that no stream is preferred.

    Weights of different streams compare as far as the scales of `x'_s` do: give streams of like
    scale (standardised, say) where the weights are to show which one carries the information.

    Args:
        in_dims: widths `D_s` of the streams, in their order.
        dim: the common width. None: that of the streams, which then must agree.
        mode: scalar, convex, elementwise, adaptive or attention.

    Attributes:
        dim: width of the fused value.

    Raises:
        ValueError: for an unknown mode, no stream, a width below 1, or unequal widths without a
            `dim`.

    Example:
        Two branches of 17 and 3 channels, pooled to one number a channel:

        >>> heatmaps, rgb = torch.randn(1, 17, 1, 1, 1), torch.randn(1, 3, 1, 1, 1)
        >>> fusion = StreamFusion((17, 3), dim=8)
        >>> streams = [heatmaps.flatten(1), rgb.flatten(1)]
        >>> fused, weights = fusion(streams, return_weights=True)
        >>> fused.shape, weights.shape
        (torch.Size([1, 8]), torch.Size([2, 1, 8]))
    """

    def __init__(
        self, in_dims: Sequence[int], dim: int | None = None, mode: str = "adaptive"
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"expected mode to be one of {list(MODES)}, got {mode!r}")
        self.in_dims = tuple(in_dims)
        self.mode = mode
        self.dim = _common_width(self.in_dims, dim)
        count = len(self.in_dims)
        project = _mlp if mode == "adaptive" else nn.Linear
        self.projections = nn.ModuleList(
            nn.Identity() if dim is None else project(width, self.dim) for width in self.in_dims
        )
        if mode == "scalar":
            self.weights = nn.Parameter(torch.full((count,), 1 / count))
        elif mode == "elementwise":
            self.weights = nn.Parameter(torch.full((count, self.dim), 1 / count))
        elif mode == "convex":
            self.logits = nn.Parameter(torch.zeros(count))
        elif mode == "adaptive":
            self.weigh = nn.ModuleList(_mlp(self.dim, self.dim) for _ in self.in_dims)
            for mlp in self.weigh.children():
                _start_at(mlp.get_submodule("2"), 1 / count)
        else:
            self.hidden = nn.Linear(count * self.dim, self.dim)
            self.score = nn.Linear(self.dim, count)
            _start_at(self.score, 0.0)

    def forward(
        self, streams: Sequence[Tensor], return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Fuses the streams.

        Weights that sum to one, and the weighted sum, are computed in float32 or more, under
        autocast too.

        Args:
            streams: S tensors `(..., D_s)` of the same leading dimensions, which may be any.
            return_weights: whether to return the weights too.

        Returns:
            The fused value `(..., dim)`, of the dtype of the weights of this module, under autocast
            of float32 or more. With `return_weights` also the weights that made it, through which
            gradients flow: `(S,)` in scalar and convex, `(S, dim)` in elementwise,
            `(S, ..., dim)` in adaptive, `(S, ...)` in attention.

        Raises:
            ValueError: where the number of streams, a width, the leading dimensions, the dtype or
                the device does not fit.
        """
        self._check(streams)
        projected = [project(x) for project, x in zip(self.projections, streams, strict=True)]
        weights = self._weights(projected)
        fused: Tensor = _at_least_float32(weights[0]) * projected[0]
        for w, x in zip(weights[1:], projected[1:], strict=True):
            fused = fused + _at_least_float32(w) * x
        if not torch.is_autocast_enabled(fused.device.type):
            fused = fused.to(streams[0].dtype)
        if not return_weights:
            return fused
        stacked = torch.stack(weights)
        return fused, stacked if self.mode in ("elementwise", "adaptive") else stacked.squeeze(-1)

    def per_item(self, weights: Tensor, items: int) -> Tensor:
        """One weight a stream and item: where weights have channels, the mean over these.

        Args:
            weights: as `forward` returned them for streams `(items, D_s)`.
            items: number of the items.

        Returns:
            `(S, items)`.

        Example:
            >>> fusion = StreamFusion((17, 3), dim=8, mode="convex")
            >>> _, weights = fusion([torch.zeros(4, 17), torch.zeros(4, 3)], return_weights=True)
            >>> fusion.per_item(weights, 4)[0].tolist()
            [0.5, 0.5, 0.5, 0.5]
        """
        if self.mode in ("elementwise", "adaptive"):
            weights = weights.mean(-1)
        return weights if weights.ndim == 2 else weights[:, None].expand(-1, items)

    def extra_repr(self) -> str:
        """Widths and mode, for `print`."""
        return f"in_dims={self.in_dims}, dim={self.dim}, mode={self.mode}"

    def _weights(self, projected: list[Tensor]) -> list[Tensor]:
        """Weights of each stream, with a last dimension of `dim` or 1."""
        count = len(self.in_dims)
        if self.mode == "adaptive":
            return [weigh(x) for weigh, x in zip(self.weigh, projected, strict=True)]
        if self.mode == "attention":
            scores = self.score(self.hidden(torch.cat(projected, -1)).tanh())
            return list(_at_least_float32(scores).softmax(-1).chunk(count, -1))
        if self.mode == "elementwise":
            return list(self.weights.unbind())
        if self.mode == "scalar":
            return list(self.weights.chunk(count))
        return list(_at_least_float32(self.logits).softmax(0).chunk(count))

    def _check(self, streams: Sequence[Tensor]) -> None:
        if len(streams) != len(self.in_dims):
            raise ValueError(
                f"expected {len(self.in_dims)} streams, of widths {list(self.in_dims)} (in_dims), "
                f"got {len(streams)}"
            )
        parameter = next(self.parameters())
        leading = streams[0].shape[:-1]
        for s, (x, width) in enumerate(zip(streams, self.in_dims, strict=True)):
            if x.ndim == 0 or x.shape[-1] != width:
                raise ValueError(
                    f"expected stream {s} of shape (..., {width}) (in_dims), got {tuple(x.shape)}"
                )
            if x.shape[:-1] != leading:
                raise ValueError(
                    f"expected all streams to describe the same items, got leading shape "
                    f"{tuple(leading)} in stream 0 and {tuple(x.shape[:-1])} in stream {s}"
                )
            if x.device != parameter.device or not _suits(x, parameter):
                raise ValueError(
                    f"expected stream {s} as {parameter.dtype} on {parameter.device} like the "
                    f"weights, got {x.dtype} on {x.device}; move or convert one of them"
                )


def _common_width(in_dims: tuple[int, ...], dim: int | None) -> int:
    if not in_dims:
        raise ValueError("expected in_dims to hold the width of at least one stream, got none")
    if min(in_dims) < 1:
        raise ValueError(f"expected in_dims of at least 1, got {list(in_dims)}")
    if dim is None and len(set(in_dims)) > 1:
        raise ValueError(
            f"expected streams of equal width where dim is None, got in_dims {list(in_dims)}; "
            "give dim, the width to which all are projected"
        )
    if dim is not None and dim < 1:
        raise ValueError(f"expected dim of at least 1, got {dim}")
    return in_dims[0] if dim is None else dim


def _mlp(in_dim: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, dim), nn.ReLU(), nn.Linear(dim, dim))


def _start_at(linear: nn.Module, value: float) -> None:
    """Makes the layer give this value at first, for any input."""
    nn.init.zeros_(linear.get_parameter("weight"))
    nn.init.constant_(linear.get_parameter("bias"), value)


def _suits(x: Tensor, parameter: Tensor) -> bool:
    """Whether the two are of one dtype, or autocast will bring them to one: not from float64."""
    if x.dtype == parameter.dtype:
        return True
    autocast = torch.is_autocast_enabled(x.device.type)
    return autocast and x.is_floating_point() and torch.float64 not in (x.dtype, parameter.dtype)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

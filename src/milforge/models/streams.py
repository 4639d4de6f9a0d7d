"""Several streams of features of the same instances, made one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from milforge.functional import segment_softmax
from milforge.nn import EachStream

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Encoder = Callable[[Sequence[int]], nn.Module]


def build_encoder(
    instance_shape: Sequence[int] | Mapping[str, Sequence[int]], encoder: Encoder
) -> tuple[Shape | Shapes, nn.Module, dict[str, int]]:
    """The encoder of the instances, of each stream where there are several.

    Returns:
        The shape of the instances, by the names of the streams in their order; the encoder; and the
        width of what it makes of each stream, whose name is `x` where the instances have none.

    Raises:
        ValueError: where encoder and instances do not fit each other.
    """
    if isinstance(instance_shape, Mapping):
        shapes = {name: tuple(instance_shape[name]) for name in sorted(instance_shape)}
        each = stream_encoder(shapes, encoder)
        return shapes, each, {name: cast(int, each[name].out_dim) for name in shapes}
    module = encoder(instance_shape)
    return tuple(instance_shape), module, {"x": cast(int, module.out_dim)}


def stream_encoder(shapes: Shapes, encoder: Encoder) -> EachStream:
    """An encoder for each stream, built from the shape of its instances.

    Raises:
        ValueError: where an encoder and its stream do not fit each other; the message names it.
    """
    encoders = {}
    for name, shape in shapes.items():
        try:
            encoders[name] = encoder(shape)
        except ValueError as error:
            raise ValueError(f"stream {name!r}: {error}") from error
    return EachStream(encoders)


def build_fusion(fusion: Callable[..., nn.Module] | None, widths: Mapping[str, int]) -> nn.Module:
    """The module that makes one vector of those of the streams.

    Raises:
        ValueError: where there is none to be built.
    """
    if fusion is None:
        raise ValueError(
            f"expected model/fusion, such as model/fusion=adaptive, for the streams "
            f"{list(widths)}, got none; choose one, or read one stream by data.streams"
        )
    return fusion(in_dims=list(widths.values()))


def fuse_streams(
    fusion: nn.Module | None, streams: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor | None]:
    """One vector per item, made of those of its streams.

    Args:
        fusion: such as `StreamFusion`; None where there is one stream, which is left as it is.
        streams: `(items, D_s)` by their names.

    Returns:
        `(items, dim)`, and, where the fusion weighs the streams, its weights `(S, items)`: one
        number per stream and item, a mean over channels where these have weights of their own, with
        no gradient.
    """
    parts = list(streams.values())
    if fusion is None:
        (only,) = parts
        return only, None
    if not weighs(fusion):
        return fusion(parts), None
    fused, weights = fusion(parts, return_weights=True)
    weights = weights.detach().to(torch.promote_types(weights.dtype, torch.float32))
    return fused, cast(Any, fusion).per_item(weights, len(fused))


def weighs(fusion: nn.Module | None) -> bool:
    """Whether the fusion gives its weights: it has `per_item`, as `StreamFusion` does."""
    return hasattr(fusion, "per_item")


def mean_attention(scores: Sequence[Tensor], ptr: Tensor) -> Tensor:
    """Attention scores of bags that each stream attends to by itself.

    `f_n = log(1/S sum_s softmax(f_s)_n)`, so that the softmax of them is the mean over the streams
    of the attention weights. A mean that is 0 counts as the smallest number above it.

    Args:
        scores: S times `(N,)`.
        ptr: `(B + 1,)` int64, the bag boundaries.

    Returns:
        `(N,)`.
    """
    mean = torch.stack([segment_softmax(each, ptr) for each in scores]).mean(0)
    # A weight of 0 would give a gradient of infinity times 0.
    return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()


def check_instances(x: Tensor | Mapping[str, Tensor], expected: Shape | Shapes) -> None:
    """Checks that instances are those that a network was built for.

    Raises:
        ValueError: for other shapes or other streams.
    """
    built = "for which the network was built"
    if isinstance(expected, dict):
        if isinstance(x, Tensor):
            raise ValueError(
                f"expected the streams {list(expected)}, {built}, got a single one of instances of "
                f"shape {tuple(x.shape[1:])}"
            )
        if sorted(x) != sorted(expected):
            raise ValueError(f"expected the streams {list(expected)}, {built}, got {sorted(x)}")
        for name, shape in expected.items():
            if x[name].shape[1:] != shape:
                raise ValueError(
                    f"expected instances of shape {shape} in stream {name!r}, {built}, got "
                    f"{tuple(x[name].shape[1:])}"
                )
    elif not isinstance(x, Tensor):
        raise ValueError(
            f"expected instances of shape {expected}, got the streams {sorted(x)}; choose one of "
            "them when the bags are read"
        )
    elif x.shape[1:] != expected:
        raise ValueError(
            f"expected instances of shape {expected}, {built}, got {tuple(x.shape[1:])}"
        )

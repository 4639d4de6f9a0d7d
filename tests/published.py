"""Parts of the slow oracles of published models: one bag at a time, instance by instance."""

import math

import torch
from torch import Tensor, nn

import reference
from milforge.data import BagBatch
from milforge.nn import IdentityEncoder

SIZES = (9, 1, 2, 5, 40, 17)
WIDTH = 6


def build(model: type[nn.Module], num_outputs: int = 3, *, width: int = WIDTH, **options):
    """A network on vectors as they are, in float64 and in evaluation, with biases that count."""
    torch.manual_seed(0)
    network = model((width,), num_outputs, encoder=IdentityEncoder, **options).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return network.eval()


def batch_of(sizes=SIZES, width: int = WIDTH, coords=None, adj=None, seed: int = 0) -> BagBatch:
    """Bags of normal instances, with a seed of each."""
    x, ptr = reference.make_bags(sizes, width, seed)
    seeds = torch.arange(len(sizes)) * 7919 + 1
    names = [str(b) for b in range(len(sizes))]
    return BagBatch(x, ptr, adj, None, None, coords, names, None, seeds)


def bags_of(batch: BagBatch) -> list[Tensor]:
    return reference.split(batch.x, batch.ptr)


def affine(layer: nn.Linear, x: Tensor) -> Tensor:
    """`x W^T + b`, of one vector or of several."""
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def softmax(values: list[Tensor] | Tensor) -> list[Tensor]:
    """Of the numbers of one bag, by its definition."""
    exps = [math.e**v for v in values]
    return [e / sum(exps) for e in exps]


def gated(heads: nn.Module, x: Tensor, head: int = 0) -> list[Tensor]:
    """The scores of a bag for one head of `AttentionHeads`, whose projections are shared."""
    scores = []
    for instance in x:
        hidden = affine(heads.fc1, instance).tanh()
        if heads.fc_gated is not None:
            hidden = hidden * (1 / (1 + (-affine(heads.fc_gated, instance)).exp()))
        scores.append((hidden * heads.fc2.weight[head]).sum())
    return scores


def pooled(x: Tensor, weights: list[Tensor]) -> Tensor:
    return sum(w * instance for w, instance in zip(weights, x, strict=True))


def attended(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Multi-head attention of rows `(M, H d)` to `(K, H d)`, and the mean of its weights."""
    width = q.shape[1] // heads
    out, mean = torch.zeros_like(q), q.new_zeros(len(q), len(k))
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        for row in range(len(q)):
            weights = softmax([q[row, part] @ other[part] / math.sqrt(width) for other in k])
            out[row, part] = pooled(v[:, part], weights)
            mean[row] += torch.stack(weights) / heads
    return out, mean

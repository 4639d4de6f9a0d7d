"""Faults of published code, each with the number that shows it.

    OMP_NUM_THREADS=1 python scripts/benchmark/baseline_faults.py

What published code does wrong is done here to networks of MilForge: rows of 0 are handed over as
instances, an instance is hidden from no mask, a gradient is cut. Networks have random weights, bags
normal features. A change of a logit is given in standard deviations of the logits of the bags, the
median over networks and the largest one.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from milforge.data import Bag, BagBatch, collate_bags
from milforge.functional import segment_rank
from milforge.models import CLAM, DSMIL, DTFD, ILRA, RRT, MambaMIL, TransMIL, WiKG
from milforge.nn import MLPEncoder
from milforge.nn.blocks.nystrom_attention import pseudo_inverse

WIDTH, HIDDEN, SIZES, NETWORKS = 32, 64, (40, 12, 90, 25, 60, 33, 18, 75), 30


def encoder(shape: tuple[int, ...]) -> nn.Module:
    return MLPEncoder(shape, hidden=[HIDDEN])


def networks(model: type[nn.Module], outputs: int = 1, **options: object) -> Iterator[nn.Module]:
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        yield model((WIDTH,), outputs, encoder=encoder, **options).eval()


def bags(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, WIDTH, generator=generator) for size in SIZES]


def batch_of(tables: list[Tensor]) -> BagBatch:
    return collate_bags([Bag(table) for table in tables])


def changes(
    model: type[nn.Module], change: Callable[[Tensor], Tensor], **options: object
) -> tuple[float, float, float]:
    """How the logits change with the instances: median, largest, and share of bags that do."""
    found = []
    with torch.no_grad():
        for network in networks(model, **options):
            before = network(batch_of(bags())).logits
            after = network(batch_of([change(table) for table in bags()])).logits
            found.append(((after - before).abs() / before.std()).flatten())
    each = torch.cat(found)
    return each.median().item(), each.max().item(), (each > 1e-3).float().mean().item()


def padded(table: Tensor) -> Tensor:
    """Filled up to the largest bag by rows of 0, which no mask takes out again."""
    return torch.cat([table, table.new_zeros(max(SIZES) - len(table), WIDTH)])


def shuffled(table: Tensor) -> Tensor:
    return table[torch.randperm(len(table), generator=torch.Generator().manual_seed(1))]


def tell_changes(model: type[nn.Module], change: Callable[[Tensor], Tensor]) -> str:
    middle, largest, share = changes(model, change)
    return f"logits change by {middle:.2f} SD, at most {largest:.1f}; of {share:.0%} of the bags"


def neighbours() -> str:
    """The pseudo-inverse of a bag, scaled by the largest sums of a batch of two."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(NETWORKS):
        logits = torch.randn(2, 8, 32, 32, generator=generator)
        logits[1] *= 4  # the neighbour attends more sharply
        matrices = logits.softmax(-1)
        own = matrices.sum(-2).amax((1, 2))
        alone = pseudo_inverse(matrices[:1], own[:1])
        beside = pseudo_inverse(matrices, own.amax().expand(2))[:1]
        errors.append(((beside - alone).norm() / alone.norm()).item())
    return f"pseudo-inverse changes by {np.median(errors):.0%}, at most {max(errors):.0%}"


def both_kinds(size: int = 10, k: int = 8) -> str:
    """Instances that are among the k of highest and among the k of lowest attention."""
    rank = segment_rank(torch.randn(size), torch.tensor([0, size]))
    both = int(((rank < k) & (rank >= size - k)).sum())
    return f"{both} of {size} instances are held to both labels, with k = {k}"


def empty_rows(k: int = 8) -> str:
    """Rows of 0 among the k of highest and the k of lowest attention of padded bags."""
    counts, total = 0, 0
    with torch.no_grad():
        for network in networks(CLAM):
            for table in bags():
                x = network.encoder(padded(table))
                if len(table) == max(SIZES):
                    continue
                rank = segment_rank(network.attention(x)[:, 0], torch.tensor([0, len(x)]))
                chosen = (rank < k) | (rank >= len(x) - k)
                counts, total = counts + int(chosen[len(table) :].sum()), total + 2 * k
    return f"{counts / total:.0%} of the instances that are clustered do not exist"


def cut_gradient() -> str:
    """Share of the gradient of the encoder that reaches it through tier 2."""
    norms = []
    for network in networks(DTFD, distil="maxmins"):
        whole, tier1 = [], []
        for only_tier1, into in ((False, whole), (True, tier1)):
            network.zero_grad()
            output = network(batch_of(bags()))
            loss = output.auxiliary[0].logits.square().mean()
            (loss if only_tier1 else loss + output.logits.square().mean()).backward()
            into.extend(p.grad.flatten().clone() for p in network.encoder.parameters())
        full, part = torch.cat(whole), torch.cat(tier1)
        norms.append(((full - part).norm() / full.norm()).item())
    return f"{np.median(norms):.0%} of the encoder's gradient is missing"


def across_bags() -> str:
    """Rows of the regions of a bag that attend to those of all bags of its batch."""
    found = []
    with torch.no_grad():
        for network in networks(RRT):
            tables: list[Tensor] = []
            heads_of = network.across.heads_of

            def keep(qkv: Tensor, to: list[Tensor] = tables, of: Any = heads_of) -> Any:
                to.append(qkv)
                return of(qkv)

            def of_all(qkv: Tensor, seen: list[Tensor] = tables, of: Any = heads_of) -> Any:
                return of(qkv)[0], *of(torch.cat(seen, dim=1))[1:]

            network.across.heads_of = keep
            before = network(batch_of(bags())).logits
            network.across.heads_of = of_all
            after = network(batch_of(bags())).logits
            found.append(((after - before).abs() / before.std()).flatten())
    each = torch.cat(found)
    return f"logits change by {each.median():.3f} SD, at most {each.max():.2f}"


def interactions() -> str:
    """The published product of sums against the inner product, at equal weights."""
    pairs = []
    with torch.no_grad():
        for paper, published in zip(
            networks(WiKG), networks(WiKG, interaction="published"), strict=True
        ):
            batch = batch_of(bags())
            a, b = paper(batch), published(batch)
            pairs.append(((a.logits - b.logits).abs() / a.logits.std()).median().item())
    return f"logits differ by {np.median(pairs):.2f} SD at equal weights"


def one_element(size: int = 100) -> str:
    """A softmax over an axis of length 1 instead of the instances."""
    return f"the weights of {size} instances sum to {torch.zeros(size, 1).softmax(1).sum():.0f}"


def tuned_threshold(count: int = 100, repeats: int = 2000) -> str:
    """Accuracy of scores that know nothing, with the threshold that is best on the same bags."""
    rng, best = np.random.default_rng(0), []
    for _ in range(repeats):
        y = rng.permutation(np.arange(count) % 2)
        right = np.cumsum(np.where(y, -1, 1)) + count // 2  # the k lowest are called negative
        best.append(max(right.max(), count // 2) / count)
    return f"guessing on {count} bags has an accuracy of {np.mean(best):.3f} instead of .500"


def attention_tables(instances: int = 20_000, heads: int = 8, landmarks: int = 256) -> str:
    square, row = heads * instances**2 * 4 / 1e9, heads * instances * landmarks * 4 / 1e9
    return f"{square:.1f} GB for {instances:,} instances; the row of the class token {row:.2f} GB"


FAULTS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("`dsmil`", "empty rows of a padded batch are instances", lambda: tell_changes(DSMIL, padded)),
    ("`dtfd`", "the same", lambda: tell_changes(DTFD, padded)),
    ("`ilra`", "the same", lambda: tell_changes(ILRA, padded)),
    ("`transmil`", "the same", lambda: tell_changes(TransMIL, padded)),
    ("`rrt`", "the same", lambda: tell_changes(RRT, padded)),
    ("`clam_*`", "top-k over the empty rows of a padded batch", empty_rows),
    ("`clam_*`", "k is not held to half the bag", both_kinds),
    ("`transmil`", "scales the pseudo-inverse over the whole batch", neighbours),
    ("`transmil`", "order of the instances", lambda: tell_changes(TransMIL, shuffled)),
    ("`rrt`", "order of the instances", lambda: tell_changes(RRT, shuffled)),
    ("`mambamil`", "order of the instances", lambda: tell_changes(MambaMIL, shuffled)),
    ("`dsmil`", "order of the instances, for comparison", lambda: tell_changes(DSMIL, shuffled)),
    ("`mambamil`", "softmax over one element at batch size above 1", one_element),
    ("`dtfd`", "`maxmins` cuts the gradient of tier 2", cut_gradient),
    ("`rrt`", "attention across regions runs over all bags of a batch", across_bags),
    ("`wikg`", "the einsum is a product of two sums", interactions),
    ("`transmil`", "attention as heads x N x N", attention_tables),
    ("`dtfd`, `mhim`", "threshold tuned on the bags that are evaluated", tuned_threshold),
)


def main() -> None:
    """Prints the table."""
    print("| `model` | fault of published code | what it does |\n| --- | --- | --- |")
    for model, fault, show in FAULTS:
        print(f"| {model} | {fault} | {show()} |", flush=True)


if __name__ == "__main__":
    main()

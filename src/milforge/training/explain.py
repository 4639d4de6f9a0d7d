"""What the instances of a bag say, each for itself: contributions and probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from milforge.data import BagBatch
from milforge.functional import segment_index
from milforge.models import BagOutput
from milforge.tasks import Cox

MOST_AT_ONCE = 4096  # instances that are looked at as bags of their own


class Explained(NamedTuple):
    """What the instances of one bag say, on the CPU.

    Attributes:
        logits: `(O,)` float64, of the network; of several, their mean.
        contributions: `(N, O)` float64, signed; they sum with `offset` to `logits`. None where a
            network has none that are exact.
        offset: `(O,)` float64; None where there are no contributions.
        probability: `(N, C)` float32: what is predicted of a bag of that instance alone. None
            where the task has no probabilities, or a network looks at a graph.
    """

    logits: Tensor
    contributions: Tensor | None
    offset: Tensor | None
    probability: Tensor | None


def explain(members: Sequence[tuple[Any, BagBatch]]) -> Explained:
    """What the instances of a bag say to modules that predict it together.

    Their logits and contributions are averaged: the contributions sum to the mean logit, which is
    not the logit of the mean probability.

    Args:
        members: each a `MILModule` in evaluation with the batch, of one bag, as it is to see it.
    """
    outputs = [member(batch).logits[0].detach().double() for member, batch in members]
    logits = torch.stack(outputs).mean(0).cpu()
    found = [contributions_of(member.network, batch) for member, batch in members]
    parts = [each for each in found if each is not None]
    contributions = offset = None
    # The logits of members that scale their labels otherwise have no mean that means anything.
    tasks = [member.task for member, _ in members]
    alike = len(tasks) == 1 or all(each.class_names or isinstance(each, Cox) for each in tasks)
    if alike and len(parts) == len(members):
        contributions = torch.stack([each for each, _ in parts]).mean(0).cpu()
        offset = torch.stack([each for _, each in parts]).mean(0).cpu()
    alone = [probability_alone(member, batch) for member, batch in members]
    known = [each for each in alone if each is not None]
    probability = torch.stack(known).mean(0).cpu() if len(known) == len(members) else None
    return Explained(logits, contributions, offset, probability)


def contributions_of(network: Any, batch: BagBatch) -> tuple[Tensor, Tensor] | None:
    """The contributions `(N, O)` and the offset `(O,)`, float64; None where it has none."""
    if not hasattr(network, "contributions"):
        return None
    each = network.contributions(batch)
    return None if each is None else (each.detach().double(), network.offset.detach().double())


def probability_alone(module: Any, batch: BagBatch) -> Tensor | None:
    """`(N, C)`, see `Explained`."""
    if batch.adj is not None and getattr(module.network, "needs_adjacency", False):
        return None
    parts = []
    for start in range(0, batch.num_instances, MOST_AT_ONCE):
        alone = instances_as_bags(batch, start, start + MOST_AT_ONCE)
        output: BagOutput = module(alone)
        columns: Mapping[str, Tensor] = module.columns(output)
        if "probability" not in columns:
            return None
        parts.append(columns["probability"].float())
    return torch.cat(parts) if parts else None


def instances_as_bags(batch: BagBatch, start: int, stop: int) -> BagBatch:
    """Some instances of a batch, each as a bag of its own, without a graph.

    Example:
        >>> from milforge.data import Bag, collate_bags
        >>> batch = collate_bags([Bag(torch.arange(3.0)[:, None])])
        >>> instances_as_bags(batch, 1, 9).ptr
        tensor([0, 1, 2])
    """
    stop = min(stop, batch.num_instances)
    rows = slice(start, stop)
    bag = segment_index(batch.ptr, batch.num_instances)[rows]
    x = batch.x[rows] if isinstance(batch.x, Tensor) else {n: s[rows] for n, s in batch.x.items()}
    seeds = None if batch.seeds is None else batch.seeds[bag.cpu()]
    return replace(
        batch,
        x=x,
        ptr=torch.arange(stop - start + 1, device=batch.ptr.device),
        adj=None,
        y=None,
        y_inst=None,
        coords=None if batch.coords is None else batch.coords[rows],
        bag_id=[batch.bag_id[b] for b in bag.tolist()],
        covariates=None if batch.covariates is None else batch.covariates[bag],
        seeds=seeds,
        slide=None,
    )

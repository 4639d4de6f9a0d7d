"""What the instances of a bag say: contributions, and scores where there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from milforge.data import BagBatch
from milforge.models import BagOutput
from milforge.nn.blocks.self_attention import ClassToken
from milforge.tasks import Cox
from milforge.training.sub_bags import logits_of_parts, sub_bags

MOST_AT_ONCE = 4096  # instances that are looked at as bags of their own


class Explained(NamedTuple):
    """What the instances of one bag say, on the CPU.

    Attributes:
        logits: `(O,)` float64, of the network; of several, their mean.
        weights: `(N,)` float32 attention weights; None where a network has none.
        contributions: `(N, O)` float64, signed; they sum with `offset` to `logits`. None where a
            network has none that are exact.
        offset: `(O,)` float64; None where there are no contributions.
        probability: `(N, C)` float32: what is predicted of a bag of that instance alone. None
            where the task has no probabilities, or a network looks at a graph.
        gradient: `(N, O)` float64 gradient of the logit times the instance, summed over its
            features; None where it was not asked for.
        occlusion: `(N, O)` float64, by how much the logit falls without the block of the instance;
            None where it was not asked for.
        of_token: whether the attention is the row of a class token.
        members: what each of several modules says, in order; empty of one.
    """

    logits: Tensor
    weights: Tensor | None = None
    contributions: Tensor | None = None
    offset: Tensor | None = None
    probability: Tensor | None = None
    gradient: Tensor | None = None
    occlusion: Tensor | None = None
    of_token: bool = False
    members: tuple["Explained", ...] = ()


def explain(
    members: Sequence[tuple[Any, BagBatch]], *, gradient: bool = False, blocks: Tensor | None = None
) -> Explained:
    """What the instances of a bag say to modules that predict it together.

    All that they say is averaged. The contributions sum to the mean logit, which is not the logit
    of the mean probability. Of attention per class the weights are those of the class that they
    predict together.

    Args:
        members: each a `MILModule` in evaluation with the batch, of one bag, as it is to see it.
        gradient: whether to say the gradient times the input, which is not known in inference mode.
        blocks: `(N,)` int64, the number of the block of each instance: says what the logits are
            without each. None: nothing is taken out.

    Raises:
        ValueError: for a single block, without which nothing is left.
    """
    outputs: list[BagOutput] = [member(batch) for member, batch in members]
    together = outputs[0].logits
    if len(members) > 1:
        told = [member.columns(out) for (member, _), out in zip(members, outputs, strict=True)]
        together, _ = members[0][0].task.average(told)
    each = tuple(
        _explain_one(member, batch, output, together, gradient, blocks)
        for (member, batch), output in zip(members, outputs, strict=True)
    )
    if len(each) == 1:
        return each[0]
    # The logits of members that scale their labels otherwise have no mean that means anything.
    tasks = [member.task for member, _ in members]
    alike = all(task.class_names or isinstance(task, Cox) for task in tasks)
    of_logits = ("contributions", "offset", "gradient", "occlusion")

    def mean(name: str) -> Tensor | None:
        values = [getattr(one, name) for one in each]
        known = [value for value in values if value is not None]
        if len(known) < len(each) or (name in of_logits and not alike):
            return None
        return torch.stack(known).mean(0)

    logits = torch.stack([one.logits for one in each]).mean(0)
    names = ("weights", *of_logits, "probability")
    return Explained(
        logits,
        **{name: mean(name) for name in names},
        of_token=all(one.of_token for one in each),
        members=each,
    )


def _explain_one(
    member: Any,
    batch: BagBatch,
    output: BagOutput,
    together: Tensor,
    gradient: bool,
    blocks: Tensor | None,
) -> Explained:
    """What one says; of attention per class that of the class of the logits `together`."""
    found = contributions_of(member.network, batch)
    contributions, offset = (None, None) if found is None else (each.cpu() for each in found)
    alone = probability_alone(member, batch)
    shown = output._replace(logits=together)
    predicted = member.predictions(batch, shown, member.columns(output))
    logits = output.logits[0].detach().double().cpu()
    return Explained(
        logits,
        weights=predicted.get("weights"),
        contributions=contributions,
        offset=offset,
        probability=None if alone is None else alone.cpu(),
        gradient=gradient_times_input(member, batch) if gradient else None,
        occlusion=None if blocks is None else occlusion(member, batch, logits, blocks),
        of_token=any(isinstance(part, ClassToken) for part in member.network.modules()),
    )


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
    for rows in torch.split(torch.arange(batch.num_instances), MOST_AT_ONCE):
        alone = replace(sub_bags(batch, torch.split(rows, 1), graph=False), slide=None)
        output: BagOutput = module(alone)
        columns: Mapping[str, Tensor] = module.columns(output)
        if "probability" not in columns:
            return None
        parts.append(columns["probability"].float())
    return torch.cat(parts) if parts else None


def gradient_times_input(module: Any, batch: BagBatch) -> Tensor:
    """`(N, O)` float64, see `Explained`; that of several streams is summed."""
    streams = {"": batch.x} if isinstance(batch.x, Tensor) else dict(batch.x)
    with torch.enable_grad():
        leaves = {name: x.detach().clone().requires_grad_() for name, x in streams.items()}
        x: Any = leaves[""] if isinstance(batch.x, Tensor) else leaves
        logits = module(replace(batch, x=x)).logits[0]
        columns = []
        for logit in logits:
            found = torch.autograd.grad(logit, list(leaves.values()), retain_graph=True)
            each = zip(leaves.values(), found, strict=True)
            says = [(x.detach() * slope).double().flatten(1).sum(1) for x, slope in each]
            columns.append(torch.stack(says).sum(0))
    return torch.stack(columns, 1).cpu()


def occlusion(module: Any, batch: BagBatch, logits: Tensor, blocks: Tensor) -> Tensor:
    """`(N, O)` float64, see `Explained`.

    Args:
        module: a `MILModule` in evaluation.
        batch: of one bag, as the module sees it.
        logits: `(O,)` of the whole bag.
        blocks: `(N,)` int64, from 0 on.

    Raises:
        ValueError: for a single block, without which nothing is left.
    """
    count = int(blocks.max()) + 1
    if count < 2:
        raise ValueError("occlusion needs at least two tiles: nothing is left without the only one")
    left = [(blocks != number).nonzero()[:, 0] for number in range(count)]
    return (logits - logits_of_parts([(module, batch)], left))[blocks]

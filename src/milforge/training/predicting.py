"""What a module predicts of a batch, as Lightning asks for it and for explanations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from milforge.data import BagBatch, ImageBatch
from milforge.models import BagOutput
from milforge.tasks import Task
from milforge.training.explain import Explained, explain
from milforge.training.precision import single_batch
from milforge.training.predictions import BagPredictions, predictions_of
from milforge.training.resumable import Resumable
from milforge.training.seeds import draw_seed
from milforge.training.sub_bags import logits_of_parts

Batch = BagBatch | ImageBatch


class Predicting(Resumable):
    """A network with what is done to a batch before it, and what its outputs mean.

    Args:
        network: maps a batch to a `BagOutput`.
        task: what the labels mean; it has seen them.
        stored: plain data kept in every checkpoint under `milforge`.
        seed: seed of all that is drawn at random.
        standardise: what is done to the features before the network sees them.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        *,
        stored: Mapping[str, Any] | None = None,
        seed: int = 0,
        standardise: nn.Module | None = None,
    ) -> None:
        super().__init__(stored)
        self.network = network
        self.standardise = standardise
        self.task = task
        self.seed = seed

    def prepared(self, batch: Batch) -> Batch:
        """The batch as the network is to see it.

        Features are standardised; half and double precision, as files have them, and whole numbers
        are made single. What the network draws at random for a bag depends in training on the seed,
        the epoch and the name of the bag alone, out of it on the name alone: not on the process
        that looks at it, nor on the batch.
        """
        when = f"{self.seed} {self.current_epoch}" if self.training else "evaluation"
        drawn = [draw_seed(f"{when} {bag_id}") for bag_id in batch.bag_id]
        # Page-locked, they are copied to a GPU without waiting for it.
        pinned = self.device.type == "cuda"
        seeds = torch.tensor(drawn, dtype=torch.int64, pin_memory=pinned)
        return single_batch(replace(batch, seeds=seeds), self.standardise)

    def forward(self, batch: Batch) -> BagOutput:
        """The network's output."""
        output: BagOutput = self.network(batch)
        return output

    def predict_step(self, batch: Batch, batch_idx: int) -> BagPredictions:
        """Predictions and attention of a batch, which may have no labels."""
        batch = self.prepared(batch)
        output = self(batch)
        return self.predictions(batch, output, self.columns(output))

    def columns(self, output: BagOutput) -> dict[str, Tensor]:
        """What is predicted of each bag: the columns of the task, and the logits."""
        return self.task.columns(output.logits.detach().float())

    def explained(
        self, batch: BagBatch, *, gradient: bool = False, blocks: Tensor | None = None
    ) -> Explained:
        """What the instances of a batch of one bag say: see `milforge.training.explain`."""
        return explain(self.seen_by(batch), gradient=gradient, blocks=blocks)

    def logits_of_parts(self, batch: BagBatch, parts: Sequence[Tensor]) -> Tensor:
        """`(len(parts), O)` logits of parts of the only bag of a batch: see `sub_bags`."""
        return logits_of_parts(self.seen_by(batch), parts)

    def seen_by(self, batch: BagBatch) -> list[tuple[Any, BagBatch]]:
        """The modules that predict a batch together, each with the batch as it sees it."""
        return [(self, cast(BagBatch, self.prepared(batch)))]

    def predictions(
        self, batch: Batch, output: BagOutput, columns: Mapping[str, Tensor]
    ) -> BagPredictions:
        """What is predicted of the bags of a batch and of their instances."""
        return predictions_of(batch, output, columns)

"""A DataLoader that can go on in the middle of an epoch."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from milforge.data import TrainBatches

Item = TypeVar("Item")


class TrainLoader(DataLoader[Item]):
    """Batches of training bags, whose place in the epoch a checkpoint keeps.

    Args:
        dataset: the bags.
        batches: which of them make a batch.
        done: tells how many batches of this epoch the trainer has done; workers read ahead, so
            the sampler cannot know.
        options: see `torch.utils.data.DataLoader`.
    """

    def __init__(
        self, dataset: Any, batches: TrainBatches, done: Callable[[], int], **options: Any
    ) -> None:
        super().__init__(dataset, batch_sampler=batches, **options)
        self.batches = batches
        self.done = done

    def state_dict(self) -> dict[str, int]:
        """The place in the epoch."""
        return self.batches.state_dict(self.done())

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there."""
        self.batches.load_state_dict(state)

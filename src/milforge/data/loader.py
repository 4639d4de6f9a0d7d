"""How bags make batches, and how they are read."""

from dataclasses import dataclass
from typing import ClassVar

_MOST_WORKERS = 1024


@dataclass(frozen=True)
class Loader:
    """The sizes of batches, and the processes that read bags.

    Args:
        batch_size: most bags in an optimiser step, over all processes.
        max_instances: most instances in an optimiser step, over all processes; a larger bag is a
            step of its own. None: no limit but `batch_size`.
        balanced: whether training bags are drawn so that all classes are equally likely.
        eval_batch_size: bags in a batch of validation, test and prediction, on each process.
            Results do not depend on it; memory and time do. None: its share of `batch_size`.
        num_workers: processes that read bags; 0 reads in the training process.

    Raises:
        ValueError: for sizes below 1, a negative number of workers, or more than 1,024 of them.
    """

    # A run goes on with other values of these.
    changes_nothing: ClassVar[tuple[str, ...]] = ("eval_batch_size", "num_workers")

    batch_size: int = 1
    max_instances: int | None = None
    balanced: bool = False
    eval_batch_size: int | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("max_instances", 1),
            ("eval_batch_size", 1),
            ("num_workers", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"expected loader.{name} of at least {least}, got {value}")
        if self.num_workers > _MOST_WORKERS:
            raise ValueError(
                f"expected loader.num_workers of at most {_MOST_WORKERS}, got {self.num_workers}"
            )

"""How bags make batches, and how they are read."""

from dataclasses import dataclass
from typing import ClassVar, Literal

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
        threads: threads that read bags ahead, straight into the memory of their batch, where the
            data set has its bags in files of features and there are no such processes. Batches do
            not depend on either number.
        keep: `memory` or `device`: the features of training and validation bags in files stay there
            once they are read, each process keeping all of them; None reads them in each epoch.

    Raises:
        ValueError: for sizes or threads below 1, a negative number of workers, or more than 1,024
            of them, another word than `keep` takes, or processes that read bags that are kept by
            this one.
    """

    # A run goes on with other values of these.
    changes_nothing: ClassVar[tuple[str, ...]] = (
        "eval_batch_size",
        "num_workers",
        "threads",
        "keep",
    )

    batch_size: int = 1
    max_instances: int | None = None
    balanced: bool = False
    eval_batch_size: int | None = None
    num_workers: int = 0
    threads: int = 4
    keep: Literal["memory", "device"] | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("batch_size", 1),
            ("max_instances", 1),
            ("eval_batch_size", 1),
            ("num_workers", 0),
            ("threads", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"expected loader.{name} of at least {least}, got {value}")
        if self.num_workers > _MOST_WORKERS:
            raise ValueError(
                f"expected loader.num_workers of at most {_MOST_WORKERS}, got {self.num_workers}"
            )
        if self.keep not in (None, "memory", "device"):
            raise ValueError(
                f"expected loader.keep to be memory, device or null, got {self.keep!r}"
            )
        if self.keep is not None and self.num_workers:
            raise ValueError(
                f"expected loader.num_workers=0 with loader.keep={self.keep}, for which this "
                f"process reads, got {self.num_workers}"
            )

"""Bags of images of digits."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from milforge.data import BagSplits, digits_bags, mnist_bags
from milforge.graph import AdjacencyBuilder
from milforge.training.bag_datamodule import BagDataModule


class ImageBagsDataModule(BagDataModule):
    """Bags drawn from real images of digits; positive if a target digit is in the bag.

    Args:
        source: `digits`, scikit-learn's 1,797 images of 8 x 8, or `mnist`, 70,000 of 28 x 28.
        root: folder of the four MNIST IDX files; None fetches them from OpenML.
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        target: the digit to be found; with a list the task is multilabel, one label a digit.
        mean_size: mean number of instances in a bag.
        sd_size: standard deviation of that number; 0 gives bags of one size.
        sampling: `balanced`, half of the bags positive, or `plain`, images drawn uniformly.
        batch_size: see `BagDataModule`.
        eval_batch_size: see `BagDataModule`.
        num_workers: see `BagDataModule`.
        adjacency: see `BagDataModule`; images have no coords: chain or feature_knn.
        adjacency_cache: see `BagDataModule`.
        seed: of the bags and their order.
    """

    def __init__(
        self,
        source: Literal["digits", "mnist"],
        *,
        root: str | None = None,
        train: int = 200,
        val: int = 100,
        test: int = 200,
        target: int | Sequence[int] = 9,
        mean_size: float = 10,
        sd_size: float = 2,
        sampling: Literal["balanced", "plain"] = "balanced",
        batch_size: int = 1,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        adjacency: AdjacencyBuilder | None = None,
        adjacency_cache: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            adjacency=adjacency,
            adjacency_cache=adjacency_cache,
            seed=seed,
        )
        if source not in ("digits", "mnist"):
            raise ValueError(f"expected data.source to be digits or mnist, got {source!r}")
        if source == "digits" and root is not None:
            raise ValueError(f"expected no data.root for the digits, got {root!r}")
        self.source = source
        self.root = root
        self.counts = {"train": train, "val": val, "test": test}
        self.target = target if isinstance(target, int) else tuple(target)
        self.mean_size = mean_size
        self.sd_size = sd_size
        self.sampling: Literal["balanced", "plain"] = sampling

    def make_splits(self) -> BagSplits:
        """Draws the bags."""
        draw = digits_bags if self.source == "digits" else partial(mnist_bags, self.root)
        return draw(
            **self.counts,
            target=self.target,
            mean_size=self.mean_size,
            sd_size=self.sd_size,
            sampling=self.sampling,
            seed=self.seed,
        )

"""Bags of digits laid out on a grid, or in a row."""

from typing import Literal

from milforge.data import BagSplits, digits_grid
from milforge.graph import AdjacencyBuilder
from milforge.training.bag_datamodule import BagDataModule


class DigitsGridDataModule(BagDataModule):
    """Real digits on a grid with holes; positive if a connected blob of them is of the target.

    Args:
        layout: `grid`, the tiles of a slide, or `chain`, the slices of a scan.
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        target: the digit of the blob.
        mean_side: mean number of tiles along a side of the grid, or along the chain.
        sd_side: standard deviation of that number.
        holes: share of the tiles that are missing.
        mean_blob: mean number of tiles in a blob.
        sd_blob: standard deviation of that number.
        noise: standard deviation of the noise on pixels, whose values are from 0 to 1: the more,
            the less one tile alone tells.
        batch_size: see `BagDataModule`.
        eval_batch_size: see `BagDataModule`.
        num_workers: see `BagDataModule`.
        adjacency: see `BagDataModule`.
        adjacency_cache: see `BagDataModule`.
        seed: of the bags and their order.
    """

    def __init__(
        self,
        *,
        layout: Literal["grid", "chain"] = "grid",
        train: int = 200,
        val: int = 100,
        test: int = 200,
        target: int = 9,
        mean_side: float = 10,
        sd_side: float = 1,
        holes: float = 0.2,
        mean_blob: float = 8,
        sd_blob: float = 2,
        noise: float = 0.5,
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
        self.layout: Literal["grid", "chain"] = layout
        self.counts = {"train": train, "val": val, "test": test}
        self.target = target
        self.mean_side = mean_side
        self.sd_side = sd_side
        self.holes = holes
        self.mean_blob = mean_blob
        self.sd_blob = sd_blob
        self.noise = noise

    def make_splits(self) -> BagSplits:
        """Draws the bags."""
        return digits_grid(
            layout=self.layout,
            **self.counts,
            target=self.target,
            mean_side=self.mean_side,
            sd_side=self.sd_side,
            holes=self.holes,
            mean_blob=self.mean_blob,
            sd_blob=self.sd_blob,
            noise=self.noise,
            seed=self.seed,
        )

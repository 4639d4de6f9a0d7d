"""Bags of digits in two streams of features."""

from collections.abc import Sequence
from typing import Literal

from milforge.data import BagSplits, two_stream_digits
from milforge.graph import AdjacencyBuilder
from milforge.training.bag_datamodule import BagDataModule


class TwoStreamDigitsDataModule(BagDataModule):
    """Noisy digits as pixels and as gradients; positive if the target digit is in the bag.

    See `milforge.data.two_stream_digits`.

    Args:
        train: number of training bags.
        val: number of validation bags.
        test: number of test bags.
        target: the digit to be found.
        mean_size: mean number of instances in a bag.
        sd_size: standard deviation of that number; 0 gives bags of one size.
        sampling: `balanced`, half of the bags positive, or `plain`, images drawn uniformly.
        pixel_noise: standard deviation of the noise on the pixels, in that of the pixels.
        gradient_noise: standard deviation of the noise on the gradient, in that of the gradient.
        streams: `pixels` or `gradient` or both; one alone gives bags of plain features.
        batch_size: see `BagDataModule`.
        eval_batch_size: see `BagDataModule`.
        num_workers: see `BagDataModule`.
        adjacency: see `BagDataModule`; images have no coords: chain, or with one stream
            feature_knn.
        adjacency_cache: see `BagDataModule`.
        seed: of the bags, their noise and their order.
    """

    def __init__(
        self,
        *,
        train: int = 200,
        val: int = 100,
        test: int = 200,
        target: int = 9,
        mean_size: float = 10,
        sd_size: float = 2,
        sampling: Literal["balanced", "plain"] = "balanced",
        pixel_noise: float = 0.5,
        gradient_noise: float = 1.5,
        streams: Sequence[str] = ("pixels", "gradient"),
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
        self.counts = {"train": train, "val": val, "test": test}
        self.target = target
        self.mean_size = mean_size
        self.sd_size = sd_size
        self.sampling: Literal["balanced", "plain"] = sampling
        self.pixel_noise = pixel_noise
        self.gradient_noise = gradient_noise
        self.streams = tuple(streams)

    def make_splits(self) -> BagSplits:
        """Draws the bags."""
        return two_stream_digits(
            **self.counts,
            target=self.target,
            mean_size=self.mean_size,
            sd_size=self.sd_size,
            sampling=self.sampling,
            pixel_noise=self.pixel_noise,
            gradient_noise=self.gradient_noise,
            streams=self.streams,
            seed=self.seed,
        )

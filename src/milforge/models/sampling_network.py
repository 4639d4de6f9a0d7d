"""A whole network for large images: attention sampling and a linear head."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from torch import Tensor, nn

from milforge.data import ImageBatch
from milforge.data.images.sources.level import at_full_resolution
from milforge.models.output import BagOutput
from milforge.sampling import AttentionSampling, ImageSource, MultinomialEntropy, Tissue
from milforge.sampling.attention_sampling import Inference
from milforge.sampling.expectation import Estimator
from milforge.sampling.micrometres import window_size

_THREADS = 8  # files are waited for


class SamplingNetwork(nn.Module):
    """Looks at a few patches of each image, and predicts from their expected features.

    Args:
        instance_shape: `(C,)`, the number of channels.
        num_outputs: number of logits per image, as the task has it: 1 for a binary one, else the
            number of classes, or of numbers to be predicted.
        attention: builds the attention network from the number of channels.
        feature: builds the feature network from the number of channels; it states the width of its
            features as `out_dim`.
        patch_size: height and width of a patch; None: those of the low-resolution view.
        n_patches: patches to be drawn of each image.
        replace: whether a patch may be drawn again.
        entropy: strength of the term that keeps attention from collapsing.
        receptive_field: receptive field of the attention network where it does not pad.
        estimator: `unordered`, `ordered` or `published`; see `milforge.sampling.expectation`.
        inference: `sample`, `topk` or `full`; see `milforge.sampling.AttentionSampling`.
        dropout: probability of dropping a feature of the image.
        inside: whether patches at the edge are moved into the image.
        tissue: which patches of a slide may be looked at; None: all.
        patch_um: height of a patch in micrometres, scaled to `patch_size`; None: a pixel of a patch
            is one of the image.

    Attributes:
        batch_type: the kind of batch it takes.
        logged: the details that are logged.
    """

    batch_type = ImageBatch
    logged = ("attention_entropy",)

    def __init__(
        self,
        instance_shape: Sequence[int],
        num_outputs: int,
        *,
        attention: Callable[[int], nn.Module],
        feature: Callable[[int], nn.Module],
        patch_size: Sequence[int] | None = None,
        n_patches: int = 10,
        replace: bool = False,
        entropy: float = 0.0,
        receptive_field: int = 0,
        estimator: Estimator = "unordered",
        inference: Inference = "sample",
        dropout: float = 0.0,
        inside: bool = False,
        tissue: Tissue | None = None,
        patch_um: float | None = None,
    ) -> None:
        super().__init__()
        (channels,) = instance_shape
        features = feature(channels)
        self.channels = channels
        self.sampling = AttentionSampling(
            attention(channels),
            features,
            patch_size,
            n_patches,
            replace,
            MultinomialEntropy(entropy) if entropy else None,
            receptive_field,
            estimator=estimator,
            inference=inference,
            inside=inside,
            tissue=tissue,
            patch_um=patch_um,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(cast(int, features.out_dim), num_outputs)

    def forward(self, batch: ImageBatch) -> BagOutput:
        """Logits of each image of the batch.

        Returns:
            In the details: `attention` `(B, h, w)` probabilities, their `attention_entropy` `(B,)`
            in nats, and `patches` `(B, n, C, ph, pw)`, what was looked at. Out of training also
            where these lie, in the order drawn: `offsets` `(B, n, 2)` int64, row and column of
            their upper left corners, `windows` `(B, 2)` int64, the height and width of what they
            show, `coords` `(B, n, 2)`, x and y of the corners at full resolution, from any level,
            `weights` `(B, n)`, their probabilities under the attention, whose logarithms are the
            scores, and, where there may be glass, `allowed` `(B, h, w)` bool, the cells that may be
            looked at.

        Raises:
            ValueError: where the images have other channels than the network was built for, and as
                `AttentionSampling`; names the images.
        """
        if batch.x_low.shape[1] != self.channels:
            raise ValueError(
                f"expected images of {self.channels} channels, for which the network was built, "
                f"got {batch.x_low.shape[1]}"
            )
        try:
            z, attention, patches = self.sampling(batch.x_low, batch.x_high, seeds=batch.seeds)
        except ValueError as error:
            raise ValueError(f"batch of images {', '.join(batch.bag_id)}: {error}") from error
        logits = self.head(self.dropout(z.to(self.head.weight.dtype)))
        flat = attention.detach().flatten(1)
        entropy = torch.special.entr(flat / flat.sum(1, keepdim=True)).sum(1)
        details = {"attention": attention, "attention_entropy": entropy, "patches": patches}
        scores = None
        if not self.training:
            offsets, weights = self.places(batch, attention)
            pairs = zip(batch.x_high, offsets, strict=True)
            corners = torch.stack([at_full_resolution(source, each) for source, each in pairs])
            weights = weights.float()
            scores = weights.log().flatten()
            windows = torch.tensor(self.sampling.placement(batch.x_low).windows(batch.x_high))
            details |= {"offsets": offsets, "windows": windows}
            details |= {"coords": corners.flip(2).float(), "weights": weights}
            allowed = self.sampling.allowed(attention, batch.x_low, batch.x_high)
            if allowed is not None:
                details["allowed"] = allowed
        return BagOutput(logits, scores, self.sampling.penalty(attention), details=details)

    def check_sources(self, sources: Sequence[ImageSource]) -> None:
        """Checks that patches can be cut from images, of which only headers are read.

        Raises:
            ValueError: as `milforge.sampling.micrometres.window_size`.
        """
        size, patch_um = self.sampling.patch_size or (1, 1), self.sampling.patch_um
        if patch_um is not None:
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(lambda source: window_size(source, size, patch_um), sources))

    @torch.no_grad()
    def places(self, batch: ImageBatch, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Where the patches lie that `forward` looked at, out of training.

        Args:
            batch: the images.
            attention: their maps, as `forward` gave them.

        Returns:
            `offsets` `(B, n, 2)` int64, row and column of their upper left corners, and their
            probabilities `(B, n)`, in the order drawn.
        """
        indices, probabilities = self.sampling.locate(attention, seeds=batch.seeds)
        map_size = (attention.shape[1], attention.shape[2])
        placement = self.sampling.placement(batch.x_low)
        return placement.offsets(indices, map_size, batch.x_low, batch.x_high), probabilities

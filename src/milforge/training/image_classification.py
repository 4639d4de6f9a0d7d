"""Training and evaluation of a network that classifies large images by attention sampling."""

from dataclasses import replace

import torch
from torch import Tensor

from milforge.data import ImageBatch
from milforge.data.sources.level import at_full_resolution
from milforge.models import SamplingNetwork, SamplingOutput
from milforge.training.classification import Classification
from milforge.training.precision import single
from milforge.training.predictions import ImagePredictions
from milforge.training.seeds import draw_seed
from milforge.training.stage_metrics import StageMetrics


class ImageClassification(Classification[ImageBatch]):
    """Fits a network that maps an `ImageBatch` to a `SamplingOutput`; see `Classification`.

    In training the patches of an image depend on the seed, the epoch and the name of the image
    alone, out of it on the name alone: not on the process that looks at it, nor on the batch. The
    entropy of the attention, in nats, is measured beside the metrics.
    """

    means = ("attention_entropy",)
    network: SamplingNetwork

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """The batch with the seeds that its patches are drawn with; float images made single."""
        when = f"{self.seed} {self.current_epoch}" if self.training else "evaluation"
        seeds = [draw_seed(f"{when} {bag_id}") for bag_id in batch.bag_id]
        x_low = single(batch.x_low)  # the patches follow
        return replace(batch, x_low=x_low, seeds=torch.tensor(seeds, dtype=torch.int64))

    def measure(
        self, metrics: StageMetrics, batch: ImageBatch, output: SamplingOutput, losses: Tensor
    ) -> None:
        """Adds a batch of images."""
        assert batch.y is not None
        attention = output.attention.detach().flatten(1)
        entropy = torch.special.entr(attention / attention.sum(1, keepdim=True)).sum(1)
        probabilities = self.probabilities(output.logits)
        metrics.update(losses, probabilities, batch.y, attention_entropy=entropy)

    def predictions(self, batch: ImageBatch, output: SamplingOutput) -> ImagePredictions:
        """Probabilities of the images; the patches, where they lie and their attention.

        The instances of an image are its patches in the order drawn: `coords` are x and y of the
        upper left corner at full resolution, whatever level they were cut from, weights their
        probabilities under the attention, scores the logarithms of these.
        """
        offsets, weights = self.network.places(batch, output.attention)
        offsets, weights = offsets.cpu(), weights.float().cpu()
        pairs = zip(batch.x_high, offsets, strict=True)
        coords = torch.cat([at_full_resolution(source, each) for source, each in pairs])
        return ImagePredictions(
            probabilities=self.probabilities(output.logits).cpu(),
            sizes=torch.full((len(batch),), offsets.shape[1]),
            scores=weights.log().flatten(),
            weights=weights.flatten(),
            coords=coords.flip(1).float(),
            attention=output.attention.detach().float().cpu(),
            offsets=offsets,
            patches=output.patches.detach().cpu(),
        )

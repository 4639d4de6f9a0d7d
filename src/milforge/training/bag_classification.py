"""Training and evaluation of a network that classifies bags."""

from dataclasses import replace

from torch import Tensor

from milforge.data import BagBatch
from milforge.functional import segment_softmax
from milforge.models import BagOutput
from milforge.training.classification import Classification
from milforge.training.precision import single
from milforge.training.predictions import BagPredictions
from milforge.training.stage_metrics import StageMetrics


class BagClassification(Classification[BagBatch]):
    """Fits a network that maps a `BagBatch` to a `BagOutput`; see `Classification`.

    Of a network that names `weighed_streams`, as `BagNetwork` does where it fuses several, the
    mean over the bags of each stream's weight is measured as `weight_<stream>`.
    """

    @property
    def means(self) -> tuple[str, ...]:
        """The weights of the streams."""
        return tuple(map(_weight_of, getattr(self.network, "weighed_streams", ())))

    def prepared(self, batch: BagBatch) -> BagBatch:
        """The batch with standardised features; half and double, as files have it, made single."""
        if self.standardise is not None:
            return replace(batch, x=self.standardise(batch.x))
        if isinstance(batch.x, Tensor):
            return replace(batch, x=single(batch.x))
        return replace(batch, x={name: single(x) for name, x in batch.x.items()})

    def measure(
        self, metrics: StageMetrics, batch: BagBatch, output: BagOutput, losses: Tensor
    ) -> None:
        """Adds a batch of bags, and the localisation of its positive instances."""
        assert batch.y is not None
        metrics.update(
            losses,
            self.probabilities(output.logits),
            batch.y,
            scores=output.scores,
            y_inst=batch.y_inst,
            sizes=batch.ptr.diff(),
            **{_weight_of(name): w for name, w in (output.stream_weights or {}).items()},
        )

    def predictions(self, batch: BagBatch, output: BagOutput) -> BagPredictions:
        """Probabilities of the bags, attention of the instances."""
        told = BagPredictions(
            probabilities=self.probabilities(output.logits).cpu(), sizes=batch.ptr.diff().cpu()
        )
        if output.scores is not None:
            scores = output.scores.detach().float()
            told["scores"] = scores.cpu()
            told["weights"] = segment_softmax(scores, batch.ptr).cpu()
        if batch.y_inst is not None:
            told["y_inst"] = batch.y_inst.cpu()
        if batch.coords is not None:
            told["coords"] = batch.coords.cpu()
        return told


def _weight_of(stream: str) -> str:
    return f"weight_{stream}"
